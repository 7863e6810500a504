-- Which jobs of a partition have had their time, soonest first, and when that was: those that may be claimed together,
-- and those that are tried out alone, since their last owners died early. The due set is read page by page.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local due, prefix, most, suspects = KEYS[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local together, alone, first, last, page = {}, {}, 0, 1000, nil
repeat
  page = redis.call('ZRANGEBYSCORE', due, '-inf', moment(now), 'WITHSCORES', 'LIMIT', first, 100)
  for number = 1, #page, 2 do
    local rescues = tonumber(redis.call('HGET', prefix .. 'job:' .. page[number], 'rescues') or 0)
    local is_suspect = rescues >= settings.early_deaths
    local list, room = is_suspect and alone or together, is_suspect and suspects or most
    if #list < room * 2 then
      list[#list + 1] = page[number]
      list[#list + 1] = page[number + 1]
    end
  end
  first = first + 100
until #page < 200 or first >= last or (#together >= most * 2 and #alone >= suspects * 2)
return {together, alone}
