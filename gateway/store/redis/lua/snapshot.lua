-- One moment of a partition for the auditor: its jobs and all that was derived from them.
-- KEYS: lock, due, open, teams, then as many of each as ARGV[3] to ARGV[6] say: jobs, ledgers, totals, budgets.
-- Answers 'again' if jobs were opened or teams came since their names were read.
local token, ids = ARGV[1], cmsgpack.unpack(ARGV[2])
redis.call('SET', KEYS[1], token, 'EX', 60)
local listed = redis.call('SMEMBERS', KEYS[3])
local due = redis.call('ZRANGE', KEYS[2], 0, -1)
local known = {}
for _, id in ipairs(ids) do known[id] = true end
for _, id in ipairs(listed) do if not known[id] then return 'again' end end
for _, id in ipairs(due) do if not known[id] then return 'again' end end
if redis.call('SCARD', KEYS[4]) ~= tonumber(ARGV[7]) then return 'again' end

local found, at = {listed, due, {}, {}, {}, {}}, 4
for _ = 1, tonumber(ARGV[3]) do at = at + 1; table.insert(found[3], redis.call('HGET', KEYS[at], 'blob')) end
for _ = 1, tonumber(ARGV[4]) do at = at + 1; table.insert(found[4], redis.call('LRANGE', KEYS[at], 0, -1)) end
for _ = 1, tonumber(ARGV[5]) do at = at + 1; table.insert(found[5], redis.call('HGETALL', KEYS[at])) end
for _ = 1, tonumber(ARGV[6]) do at = at + 1; table.insert(found[6], redis.call('HMGET', KEYS[at], 'held', 'spent')) end
return found
