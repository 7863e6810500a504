-- One moment of a partition for the auditor: its jobs and all that was derived from them.
-- KEYS: lock, due, open, teams. ARGV: the lock's token, the prefix of this partition's keys, and which days, days of
-- their months, windows, further jobs and further teams are wanted. All names are made here of the partition's own prefix,
-- so that no job or team that comes in meanwhile is missed.
local token, prefix = ARGV[1], ARGV[2]
local days, all_days, windows = cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4]), cmsgpack.unpack(ARGV[5])
local also = cmsgpack.unpack(ARGV[6])
redis.call('SET', KEYS[1], token, 'EX', 60)
local opened, due = redis.call('SMEMBERS', KEYS[3]), redis.call('ZRANGE', KEYS[2], 0, -1)

local names, seen = {}, {}
for _, list in ipairs({opened, due, also}) do
  for _, id in ipairs(list) do
    if not seen[id] then
      seen[id] = true
      names[#names + 1] = id
    end
  end
end
local jobs, ledgers, totals, budgets = {}, {}, {}, {}
for _, id in ipairs(names) do
  jobs[#jobs + 1] = id
  jobs[#jobs + 1] = redis.call('HGET', prefix .. 'job:' .. id, 'blob')
end
for _, day in ipairs(days) do ledgers[#ledgers + 1] = redis.call('LRANGE', prefix .. 'ledger:' .. day, 0, -1) end
for _, day in ipairs(all_days) do totals[#totals + 1] = redis.call('HGETALL', prefix .. 'totals:' .. day) end
local teams = redis.call('SMEMBERS', KEYS[4])
for _, team in ipairs(cmsgpack.unpack(ARGV[7])) do
  if redis.call('SISMEMBER', KEYS[4], team) == 0 then teams[#teams + 1] = team end
end
for _, team in ipairs(teams) do
  for _, window in ipairs(windows) do
    local balance = redis.call('HMGET', prefix .. 'budget:' .. team .. ':' .. window, 'held', 'spent')
    for _, part in ipairs({team, window, balance[1] or '0', balance[2] or '0'}) do budgets[#budgets + 1] = part end
  end
end
return {opened, due, jobs, ledgers, totals, budgets}
