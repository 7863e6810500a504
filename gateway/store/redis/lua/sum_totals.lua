-- Sums totals of a partition over days or hours, by account and API key. ARGV: the prefix of the partition's keys, the
-- periods, how many characters of a period are kept apart. Returns for each such beginning that has totals: the beginning,
-- and a list of fields with their sums.
local prefix, periods, length = ARGV[1], cmsgpack.unpack(ARGV[2]), tonumber(ARGV[3])
local beginnings, sums = {}, {}
for _, period in ipairs(periods) do
  local beginning = string.sub(period, 1, length)
  if not sums[beginning] then
    sums[beginning] = {}
    beginnings[#beginnings + 1] = beginning
  end
  local sums_of_period, fields = sums[beginning], redis.call('HGETALL', prefix .. 'totals:' .. period)
  for index = 1, #fields, 2 do
    local field = fields[index]
    if string.sub(field, 1, 8) ~= 'counted_' then
      sums_of_period[field] = (sums_of_period[field] or 0) + tonumber(fields[index + 1])
    end
  end
end
local reply = {}
for _, beginning in ipairs(beginnings) do
  local fields = {}
  for field, sum in pairs(sums[beginning]) do
    fields[#fields + 1] = field
    fields[#fields + 1] = string.format('%.0f', sum)
  end
  if #fields > 0 then
    reply[#reply + 1] = beginning
    reply[#reply + 1] = fields
  end
end
return reply
