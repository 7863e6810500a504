-- Reads the balances of teams in budget windows: four values for each, team, window, held and spent.
local function read_budgets(prefix, teams, windows)
  local budgets = {}
  for _, team in ipairs(teams) do
    for _, window in ipairs(windows) do
      local balance = redis.call('HMGET', prefix .. 'budget:' .. team .. ':' .. window, 'held', 'spent')
      for _, field in ipairs({team, window, balance[1] or '0', balance[2] or '0'}) do budgets[#budgets + 1] = field end
    end
  end
  return budgets
end
