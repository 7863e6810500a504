-- Publishes a replica's signal with its time.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local signals, name, value = KEYS[1], ARGV[2], ARGV[3]
redis.call('HSET', signals, name, cmsgpack.pack({now, value}))
return 1
