-- Reads a page of the open or due jobs. KEYS: audit, open, the list. ARGV: the audit's token, its time to live, the prefix of
-- the partition's keys, the command, the cursor, the size of a page. Returns false if the audit has expired.
local audit, open, list, token, ttl_seconds, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3]
if redis.call('SISMEMBER', audit, token) == 0 then return false end
redis.call('EXPIRE', audit, ttl_seconds)
local page = redis.call(ARGV[4], list, ARGV[5], 'COUNT', ARGV[6])
local jobs = {}
-- ZSCAN returns a score after each job.
for index = 1, #page[2], ARGV[4] == 'ZSCAN' and 2 or 1 do
  local job_id = page[2][index]
  -- Jobs that are due and open were read as open jobs, or change during the audit and are read again at its end.
  local is_read = list ~= open and redis.call('SISMEMBER', open, job_id) == 1
  jobs[#jobs + 1] = job_id
  jobs[#jobs + 1] = not is_read and redis.call('HGET', prefix .. 'job:' .. job_id, 'encoded_job')
end
return {page[1], jobs}
