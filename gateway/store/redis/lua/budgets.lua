-- Reads the balances of teams and API keys in budget windows: four values for each, owner, window, held and spent.
local function read_budgets(prefix, owners, windows)
  local budgets = {}
  for _, owner in ipairs(owners) do
    for _, window in ipairs(windows) do
      local balance = redis.call('HMGET', prefix .. 'budget:' .. owner .. ':' .. window, 'held', 'spent')
      for _, field in ipairs({owner, window, balance[1] or '0', balance[2] or '0'}) do budgets[#budgets + 1] = field end
    end
  end
  return budgets
end
