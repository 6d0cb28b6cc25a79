-- include: leases states dependencies

-- Ack again after the reply got lost; return the indices of the receipts refused whose tasks are
-- still there: the others are acked.
local function ack_again(first, last)
  local refused = {}
  for _, index in ipairs(ack(first, last)) do
    local id = read_receipt(ARGV[first + index])
    if id and redis.call('HEXISTS', DATA, id) == 1 then refused[#refused + 1] = index end
  end
  return refused
end
