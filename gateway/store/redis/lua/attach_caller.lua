-- Attaches a repeated request to the job that it belongs to. Returns the job's id, or false.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
--include repeated_request_matching
local record_key, request = KEYS[1], cmsgpack.unpack(ARGV[2])
return (attach_caller(record_key, request)) or false
