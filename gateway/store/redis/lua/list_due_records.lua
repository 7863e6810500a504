-- Lists the due records with their content, soonest first. In one step: a record that another replica claims in between
-- would be listed as it is then, and could be claimed again.
-- ARGV: the settings, the prefix of the records' keys, how many at most, then the fields.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local due, prefix, limit, fields, records = KEYS[1], ARGV[2], ARGV[3], {unpack(ARGV, 4)}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', format_score(now), 'LIMIT', 0, limit)) do
  records[#records + 1] = {id, redis.call('HMGET', prefix .. id, unpack(fields))}
end
return records
