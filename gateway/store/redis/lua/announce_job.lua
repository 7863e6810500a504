-- A job that may never be accepted is listed as one to be forgotten, later.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
redis.call('ZADD', KEYS[1], moment(now + tonumber(ARGV[3])), ARGV[2])
return 1
