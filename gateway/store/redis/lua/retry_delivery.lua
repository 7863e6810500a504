-- A webhook that did not arrive is tried again later, unless it has arrived meanwhile.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
redis.call('ZADD', KEYS[1], 'XX', moment(now + tonumber(ARGV[3])), ARGV[2])
return 1
