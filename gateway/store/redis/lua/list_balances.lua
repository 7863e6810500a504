-- Lists the balances of all teams of a partition. ARGV: the budget windows, and what the names of owners that are API keys
-- contain.
--include budgets
local teams = {}
for _, owner in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if not string.find(owner, ARGV[2], 1, true) then teams[#teams + 1] = owner end
end
return read_budgets(prefix, teams, cmsgpack.unpack(ARGV[1]))
