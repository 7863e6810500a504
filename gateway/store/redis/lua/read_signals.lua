-- What all replicas told within the last seconds; what is older is forgotten.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local told, fresh = redis.call('HGETALL', KEYS[1]), {}
for number = 1, #told, 2 do
  local value = cmsgpack.unpack(told[number + 1])
  if now - value[1] <= tonumber(ARGV[2]) then
    fresh[#fresh + 1] = told[number]
    fresh[#fresh + 1] = value[2]
  else
    redis.call('HDEL', KEYS[1], told[number])
  end
end
return fresh
