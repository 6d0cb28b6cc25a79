#!lua flags=allow-oom
-- Reply again to a call of reserve.lua whose reply got lost. It leases nothing more.
-- include: ack_again
-- ARGV: 1 the name of that call  2... the receipts that it was to ack
-- Returns: as reserve.lua, with what that call leased and is still on lease; an error if there is
--          nothing: the call never reached the server, or found nothing
local refused = ack_again(2, #ARGV)
wake_if_more()

local found, scores, cursor = {}, {}, '0'
repeat
  local pattern = '*' .. ARGV[1] .. ':*'
  local page = redis.call('ZSCAN', LEASES, cursor, 'MATCH', pattern, 'COUNT', 1000)
  cursor = page[1]
  for index = 1, #page[2], 2 do
    local receipt, ends = page[2][index], tonumber(page[2][index + 1])
    if ends > now and not scores[receipt] then -- a scan may name one twice
      local _, score = read_receipt(receipt)
      found[#found + 1], scores[receipt] = receipt, score
    end
  end
until cursor == '0'
table.sort(found, function(one, other) return scores[one] < scores[other] end)

for _, receipt in ipairs(found) do
  local data = redis.call('HGET', DATA, (read_receipt(receipt)))
  if data then
    local last = #leased
    leased[last + 1], leased[last + 2] = receipt, data
    sizes[#sizes + 1] = struct.pack('>I4I4', #receipt, #data)
    length = length + #receipt + #data
  end
end
if #leased == 0 then
  return redis.error_reply('NOREPLY The reply to a reserve got lost, and it leased nothing.')
end
return reply(refused, -1)
