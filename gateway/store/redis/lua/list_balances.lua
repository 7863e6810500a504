-- Lists the balances of all teams and API keys of a partition. ARGV: the prefix of the partition's keys, the budget windows.
--include budgets
return read_budgets(ARGV[1], redis.call('SMEMBERS', KEYS[1]), cmsgpack.unpack(ARGV[2]))
