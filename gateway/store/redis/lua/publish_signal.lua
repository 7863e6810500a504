-- What one replica tells the others, and when it did.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
redis.call('HSET', KEYS[1], ARGV[2], cmsgpack.pack({now, ARGV[3]}))
return 1
