-- Adds what the day totals gained since they were last counted to the lifetime totals of a partition, and returns these.
-- Each day total has beside it how much of it was counted, so a gain is counted once, whichever replica counts it.
-- ARGV: the prefix of the partition's keys, recent days, all days that may have totals. Replicas of an earlier version do
-- not mark the days that they change, so recent days are always counted, and all days if this partition was never counted.
-- Returns false if these are needed and missing.
local lifetime, uncounted, prefix = KEYS[1], KEYS[2], ARGV[1]
local recent_days, all_days = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
local function format_integer(number) return string.format('%.0f', number) end

local function count_totals(totals)
  local fields, values = redis.call('HGETALL', totals), {}
  for index = 1, #fields, 2 do values[fields[index]] = tonumber(fields[index + 1]) end
  for field, value in pairs(values) do
    local gain = value - (values['counted_' .. field] or 0)
    if string.sub(field, 1, 8) ~= 'counted_' and gain ~= 0 then
      -- Lifetime totals have no API key: it is between the name of the number and the account, a JSON array, and that of a
      -- balance is the last value of the array.
      local number, account = string.match(field, '^(%a+:)[^%[]*(.*)$')
      account = string.gsub(account, ',"[^"]*"%]$', ',""]')
      local name = (gain > 0 and 'charged_' or 'corrected_') .. number .. account
      redis.call('HINCRBY', lifetime, name, format_integer(math.abs(gain)))
      redis.call('HSET', totals, 'counted_' .. field, format_integer(value))
    end
  end
end

if redis.call('HEXISTS', lifetime, 'has_all_days') == 0 then
  if #all_days == 0 then return false end
  for _, day in ipairs(all_days) do count_totals(prefix .. 'totals:' .. day) end
  redis.call('HSET', lifetime, 'has_all_days', 1)
end
for _, day in ipairs(recent_days) do count_totals(prefix .. 'totals:' .. day) end
for _, day in ipairs(redis.call('SMEMBERS', uncounted)) do
  count_totals(prefix .. 'totals:' .. day)
  redis.call('SREM', uncounted, day)
end
return redis.call('HGETALL', lifetime)
