#!lua flags=allow-oom
-- Ack again after the reply got lost: the tasks may be acked already.
-- include: leases queue dependencies
-- ARGV: receipts of tasks that are done
-- Returns: indices of the receipts refused whose tasks are still there: the others are acked
local refused = {}
for _, index in ipairs(ack(1, #ARGV)) do
  local id = read_receipt(ARGV[index + 1])
  if id and redis.call('HEXISTS', DATA, id) == 1 then refused[#refused + 1] = index end
end
wake_if_more()
return refused
