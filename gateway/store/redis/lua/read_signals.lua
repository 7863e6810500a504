-- Reads the signals of the last seconds and deletes older ones.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local signals, ttl_seconds = KEYS[1], tonumber(ARGV[2])
local stored, fresh = redis.call('HGETALL', signals), {}
for index = 1, #stored, 2 do
  local signal = cmsgpack.unpack(stored[index + 1])
  if now - signal[1] <= ttl_seconds then
    fresh[#fresh + 1] = stored[index]
    fresh[#fresh + 1] = signal[2]
  else
    redis.call('HDEL', signals, stored[index])
  end
end
return fresh
