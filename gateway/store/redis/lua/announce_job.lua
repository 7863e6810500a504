-- Registers a job that may never be created, so that its inputs are deleted later.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local retention, job_id, timeout = KEYS[1], ARGV[2], tonumber(ARGV[3])
redis.call('ZADD', retention, format_score(now + timeout), job_id)
return 1
