-- Lists due jobs of a partition with their due times, soonest first: those that may be claimed together, and the
-- suspects, which run alone because their last owners crashed early. The due set is read page by page.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local due, limit, max_suspects = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local batch, suspects, offset, max_offset, page = {}, {}, 0, 1000, nil
repeat
  page = redis.call('ZRANGEBYSCORE', due, '-inf', format_score(now), 'WITHSCORES', 'LIMIT', offset, 100)
  for index = 1, #page, 2 do
    local reclaims = tonumber(redis.call('HGET', prefix .. 'job:' .. page[index], 'reclaims') or 0)
    local is_suspect = reclaims >= settings.max_early_crashes
    local list, capacity = is_suspect and suspects or batch, is_suspect and max_suspects or limit
    if #list < capacity * 2 then
      list[#list + 1] = page[index]
      list[#list + 1] = page[index + 1]
    end
  end
  offset = offset + 100
until #page < 200 or offset >= max_offset or (#batch >= limit * 2 and #suspects >= max_suspects * 2)
return {batch, suspects}
