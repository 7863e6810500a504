-- Lists the balances of all teams and API keys of a partition. ARGV: the budget windows.
--include budgets
return read_budgets(prefix, redis.call('SMEMBERS', KEYS[1]), cmsgpack.unpack(ARGV[1]))
