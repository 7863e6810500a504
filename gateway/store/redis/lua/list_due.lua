-- Lists the due members of a partition's sorted set with their due times, soonest first.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local index, limit = KEYS[1], ARGV[2]
return redis.call('ZRANGEBYSCORE', index, '-inf', format_score(now), 'WITHSCORES', 'LIMIT', 0, limit)
