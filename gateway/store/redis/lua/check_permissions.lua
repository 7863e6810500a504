-- Returns those of the commands in ARGV that the user may not execute. They are not executed.
local denied = {}
for _, line in ipairs(ARGV) do
    local words = {}
    for word in line:gmatch('%S+') do
        words[#words + 1] = word
    end
    if not redis.acl_check_cmd(unpack(words)) then
        denied[#denied + 1] = line
    end
end
return denied
