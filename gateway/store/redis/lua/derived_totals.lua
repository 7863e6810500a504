-- Numbers that are derived from the ledger and the holds of the jobs. The auditor can repair them.

-- `day`: nil for the total of an hour, which no lifetime total counts.
local function add_to_total(totals, account, amount, images, uncounted, day)
  -- First, so that a total that was changed is always listed.
  if day then redis.call('SADD', uncounted, day) end
  redis.call('HINCRBY', totals, 'amount:' .. account, format_integer(amount))
  redis.call('HINCRBY', totals, 'images:' .. account, format_integer(images))
end

local function add_to_budget(budget, held, spent, expires_at)
  redis.call('HINCRBY', budget, 'held', format_integer(held))
  redis.call('HINCRBY', budget, 'spent', format_integer(spent))
  -- Months do not expire, since lifetime budgets are their sums.
  if expires_at then redis.call('EXPIREAT', budget, format_integer(expires_at)) end
end
