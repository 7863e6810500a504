-- Books the entries of a correction and their totals, once. KEYS: the booked corrections of the day, its entries, its
-- irregular entries, its totals, the totals of the hour, uncounted days. ARGV: the settings, the correction.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
--include derived_totals
local corrections, ledger, irregular, totals, hour_totals, uncounted = unpack(KEYS)
local correction = cmsgpack.unpack(ARGV[2])
if redis.call('SADD', corrections, correction.id) == 0 then return 0 end
for _, entry in ipairs(correction.entries) do
  redis.call('RPUSH', ledger, entry.data)
  redis.call('RPUSH', irregular, entry.data)
  add_to_total(totals, entry.account, entry.amount, entry.images, uncounted, correction.day)
  if correction.has_hour then add_to_total(hour_totals, entry.account, entry.amount, entry.images) end
end
for _, key in ipairs({corrections, ledger, irregular, hour_totals}) do
  redis.call('EXPIREAT', key, format_integer(correction.entries_expire_at))
end
redis.call('EXPIREAT', totals, format_integer(correction.totals_expire_at))
return 1
