-- Sums totals of a partition over days or hours, in groups. ARGV: the prefix of the partition's keys, the periods, how many
-- characters of a period are kept apart, the dimensions of a group besides the period, the only team or ''. Returns for each
-- such beginning that has totals: the beginning, and a list of groups, each with its amount and its number of images. A
-- group is a packed list of its line and its values.
local prefix, periods, length, only_team = ARGV[1], cmsgpack.unpack(ARGV[2]), tonumber(ARGV[3]), ARGV[5]
local dimensions = cmsgpack.unpack(ARGV[4])
local groups = {}

-- Returns the group of a field, and whether the field is a number of images; false for a field that is not summed.
local function find_group(field)
  local name, key_id, account = string.match(field, '^(%a+):([^%[]*)(%[.*)$')
  if name ~= 'amount' and name ~= 'images' then return {false} end
  local team, seller, model, cell, line = unpack(cjson.decode(account))
  if only_team ~= '' and team ~= only_team then return {false} end
  local values = {team = team, key = key_id, seller = seller, model = model, cell = table.concat(cell, '/')}
  local group = {line}
  for _, dimension in ipairs(dimensions) do group[#group + 1] = values[dimension] end
  return {cmsgpack.pack(group), name == 'images' and 2 or 1}
end

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
    local found = groups[field]
    if not found then
      found = find_group(field)
      groups[field] = found
    end
    if found[1] then
      local sum = sums_of_period[found[1]]
      if not sum then
        sum = {0, 0}
        sums_of_period[found[1]] = sum
      end
      sum[found[2]] = sum[found[2]] + fields[index + 1]
    end
  end
end
local reply = {}
for _, beginning in ipairs(beginnings) do
  local found = {}
  for group, sum in pairs(sums[beginning]) do
    found[#found + 1] = group
    found[#found + 1] = string.format('%.0f', sum[1])
    found[#found + 1] = string.format('%.0f', sum[2])
  end
  if #found > 0 then
    reply[#reply + 1] = beginning
    reply[#reply + 1] = found
  end
end
return reply
