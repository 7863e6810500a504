-- Finishes the snapshot of an audit: reads what changed since its pages were read, and all derived numbers, in one step.
-- KEYS: audit, due, open, owners. ARGV: the audit's token, its time to live, the prefix of the partition's keys, the days,
-- how many ledger entries of each were read, the periods of the totals, the budget windows, owners of balances. The script
-- builds all key names from the prefix, so that it does not miss an owner that was added a moment ago.
--include budgets
local audit, due, open, owners_key, token, ttl_seconds, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2], ARGV[3]
local days, read_counts, periods = cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5]), cmsgpack.unpack(ARGV[6])
local windows, extra_owners = cmsgpack.unpack(ARGV[7]), cmsgpack.unpack(ARGV[8])
if redis.call('SISMEMBER', audit, token) == 0 then return false end
local changed_jobs, ledgers, totals = {}, {}, {}
for _, job_id in ipairs(redis.call('SMEMBERS', audit)) do
  if job_id ~= token then
    local is_due = redis.call('ZSCORE', due, job_id) and 1 or 0
    local job = redis.call('HGET', prefix .. 'job:' .. job_id, 'encoded_job')
    changed_jobs[#changed_jobs + 1] = {job_id, job, redis.call('SISMEMBER', open, job_id), is_due}
  end
end
redis.call('EXPIRE', audit, ttl_seconds)
for index, day in ipairs(days) do
  ledgers[#ledgers + 1] = redis.call('LRANGE', prefix .. 'ledger:' .. day, read_counts[index], -1)
end
for _, period in ipairs(periods) do totals[#totals + 1] = redis.call('HGETALL', prefix .. 'totals:' .. period) end
local owners = redis.call('SMEMBERS', owners_key)
for _, owner in ipairs(extra_owners) do
  if redis.call('SISMEMBER', owners_key, owner) == 0 then owners[#owners + 1] = owner end
end
return {changed_jobs, ledgers, totals, read_budgets(prefix, owners, windows)}
