-- Reads a consistent snapshot of a partition for the auditor: its jobs and all numbers derived from them.
-- KEYS: lock, due, open, teams. ARGV: the lock's token, the prefix of the partition's keys, the days, the days of their
-- months, the budget windows, extra jobs, extra teams. The script builds all key names from the prefix, so that it does
-- not miss a job or team that was added a moment ago.
local lock, due, open, teams_key, token, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2]
local days, days_of_months, windows = cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5])
local extra_jobs, extra_teams = cmsgpack.unpack(ARGV[6]), cmsgpack.unpack(ARGV[7])
redis.call('SET', lock, token, 'EX', 60)
local open_jobs, due_jobs = redis.call('SMEMBERS', open), redis.call('ZRANGE', due, 0, -1)

local job_ids, is_listed = {}, {}
for _, list in ipairs({open_jobs, due_jobs, extra_jobs}) do
  for _, job_id in ipairs(list) do
    if not is_listed[job_id] then
      is_listed[job_id] = true
      job_ids[#job_ids + 1] = job_id
    end
  end
end
local jobs, ledgers, totals, budgets = {}, {}, {}, {}
for _, job_id in ipairs(job_ids) do
  jobs[#jobs + 1] = job_id
  jobs[#jobs + 1] = redis.call('HGET', prefix .. 'job:' .. job_id, 'encoded_job')
end
for _, day in ipairs(days) do ledgers[#ledgers + 1] = redis.call('LRANGE', prefix .. 'ledger:' .. day, 0, -1) end
for _, day in ipairs(days_of_months) do totals[#totals + 1] = redis.call('HGETALL', prefix .. 'totals:' .. day) end
local teams = redis.call('SMEMBERS', teams_key)
for _, team in ipairs(extra_teams) do
  if redis.call('SISMEMBER', teams_key, team) == 0 then teams[#teams + 1] = team end
end
for _, team in ipairs(teams) do
  for _, window in ipairs(windows) do
    local balance = redis.call('HMGET', prefix .. 'budget:' .. team .. ':' .. window, 'held', 'spent')
    for _, field in ipairs({team, window, balance[1] or '0', balance[2] or '0'}) do budgets[#budgets + 1] = field end
  end
end
return {open_jobs, due_jobs, jobs, ledgers, totals, budgets}
