-- Releases a job until its next due time.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local job, due, job_id, fence, delay = KEYS[1], KEYS[2], ARGV[2], ARGV[3], tonumber(ARGV[4])
local fields = redis.call('HMGET', job, 'fence', 'owner', 'reclaims')
if fields[1] ~= fence or fields[2] ~= settings.replica_id or not redis.call('ZSCORE', due, job_id) then return 0 end
-- An owner that releases the job did not crash: its claim does not count.
redis.call('HSET', job, 'owner', '', 'reclaims', math.max(0, tonumber(fields[3] or 0) - 1))
redis.call('HDEL', job, 'claimed_at', 'owned_seconds')
redis.call('ZADD', due, 'XX', format_score(now + delay), job_id)
return 1
