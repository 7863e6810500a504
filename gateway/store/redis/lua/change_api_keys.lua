-- Changes the table of API keys, and adds the event, if the table has the expected version. Returns 1 if so.
local keys, version_key, uses, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local change = cmsgpack.unpack(ARGV[1])
if (redis.call('GET', version_key) or '') ~= change.expected_version then
  return 0
end
redis.call('SET', version_key, change.version)
for id, entry in pairs(change.keys) do
  redis.call('HSET', keys, id, entry)
end
for _, id in ipairs(change.deleted_ids) do
  redis.call('HDEL', keys, id)
  redis.call('HDEL', uses, id)
end
if change.event ~= '' then
  redis.call('ZADD', events, 0, change.event)
end
return 1
