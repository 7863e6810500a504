-- One clock for all leases: the server's, unless a test sets `now`.
local function read_clock()
  if settings.now then return settings.now end
  local reply = redis.call('TIME')
  return tonumber(reply[1]) + tonumber(reply[2]) / 1000000
end
local now = read_clock()
local function format_score(timestamp) return string.format('%.6f', timestamp) end
local function format_integer(number) return string.format('%.0f', number) end
