-- Ends the leases of killed replicas: their jobs are due now. Suspects keep theirs, since each of these jobs may be what
-- crashes its workers. Returns how many leases ended.
-- ARGV: the settings, the prefix of the partition's keys, then the ids of the replicas.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local due, prefix, is_killed, count = KEYS[1], ARGV[2], {}, 0
for index = 3, #ARGV do is_killed[ARGV[index]] = true end
for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', due, '(' .. format_score(now), '+inf')) do
  local fields = redis.call('HMGET', prefix .. 'job:' .. job_id, 'owner', 'reclaims')
  if is_killed[fields[1]] and tonumber(fields[2] or 0) < settings.max_early_crashes then
    redis.call('ZADD', due, 'XX', format_score(now), job_id)
    count = count + 1
  end
end
return count
