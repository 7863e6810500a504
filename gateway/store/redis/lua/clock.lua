-- One clock for all leases: the server's own, unless a test brings another.
local function clock()
  if settings.now then return settings.now end
  local read = redis.call('TIME')
  return tonumber(read[1]) + tonumber(read[2]) / 1000000
end
local now = clock()
local function moment(at) return string.format('%.6f', at) end
local function whole(number) return string.format('%.0f', number) end
