-- Runs the included script on several partitions, and returns their replies. KEYS: those of the first partition, then those
-- of the next one, and so on.
local function run_on_partition(KEYS, prefix)
--include partition_script
end

-- Returns what the keys of a partition begin with.
local function read_prefix(key) return key and string.match(key, '^.-}:') end

local replies, position = {}, 1
while KEYS[position] do
  local prefix, keys = read_prefix(KEYS[position]), {}
  repeat
    keys[#keys + 1] = KEYS[position]
    position = position + 1
  until read_prefix(KEYS[position]) ~= prefix
  replies[#replies + 1] = run_on_partition(keys, prefix)
end
return replies
