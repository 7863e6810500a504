-- Which of an index have had their time, soonest first, and when that was.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', moment(now), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
