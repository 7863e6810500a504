-- Records when API keys were last used. Skips keys that were deleted, and times before the recorded ones.
local keys, uses = KEYS[1], KEYS[2]
for id, used_at in pairs(cmsgpack.unpack(ARGV[1])) do
  local recorded = tonumber(redis.call('HGET', uses, id) or '0')
  if used_at > recorded and redis.call('HEXISTS', keys, id) == 1 then
    redis.call('HSET', uses, id, string.format('%.3f', used_at))
  end
end
return 1
