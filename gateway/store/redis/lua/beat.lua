-- Renews leases; answers with the jobs that are not the caller's any more.
local settings = cmsgpack.unpack(ARGV[1])
--include time
local lost = {}
for number = 2, #KEYS do
  local id, fence = ARGV[number * 2 - 2], ARGV[number * 2 - 1]
  local seen = redis.call('HMGET', KEYS[number], 'fence', 'owner')
  if seen[1] == fence and seen[2] ~= '' and redis.call('ZSCORE', KEYS[1], id) then
    redis.call('ZADD', KEYS[1], 'XX', moment(now + settings.lease), id)
    -- Whoever lives this long with it does not die of it.
    redis.call('HSET', KEYS[number], 'rescues', 0)
  else
    lost[#lost + 1] = id
  end
end
return lost
