-- Saves a record of a team if the stored one has the previous version. Returns 1 if it is saved, otherwise 0.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local key, list, due = KEYS[1], KEYS[2], KEYS[3]
local record = cmsgpack.unpack(ARGV[2])
if tonumber(redis.call('HGET', key, 'version') or 0) ~= record.version - 1 then
  return 0
end
redis.call('HSET', key, 'version', record.version, 'kind', record.kind, 'team', record.team,
  'created_at', record.created_at, 'content', ARGV[3])
redis.call('ZADD', list, 0, record.member)
if record.due_in_seconds == '' then
  redis.call('ZREM', due, record.id)
else
  redis.call('ZADD', due, format_score(now + tonumber(record.due_in_seconds)), record.id)
end
return 1
