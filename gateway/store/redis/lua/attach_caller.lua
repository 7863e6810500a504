-- A request that repeats another becomes a caller of the job that it belongs to.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
--include body_deduplication
return (attach_caller(KEYS[1], cmsgpack.unpack(ARGV[2]))) or false
