-- Removes a caller whose client disconnected, from whichever job of the body it waited for.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
--include repeated_request_matching
local record_key, disconnected_id = KEYS[1], ARGV[2]
remove_callers(record_key, function(caller_id) return caller_id == disconnected_id end)
return 1
