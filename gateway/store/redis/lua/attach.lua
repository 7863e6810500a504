-- A request that repeats another becomes a caller of the job that it belongs to.
local settings = cmsgpack.unpack(ARGV[1])
--include time
--include bodies
return (attach_caller(KEYS[1], cmsgpack.unpack(ARGV[2]))) or false
