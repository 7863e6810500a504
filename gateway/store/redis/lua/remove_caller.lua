-- A caller has left without an answer, whichever job of this body it was waiting for.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
--include body_deduplication
remove_callers(KEYS[1], function(name) return name == ARGV[2] end)
return 1
