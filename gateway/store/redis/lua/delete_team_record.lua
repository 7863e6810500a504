-- Deletes a record of a team, and its places in the lists.
local key, list, due, id, member = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
redis.call('DEL', key)
redis.call('ZREM', list, member)
redis.call('ZREM', due, id)
return 1
