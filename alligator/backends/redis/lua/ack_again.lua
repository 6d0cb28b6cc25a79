#!lua flags=allow-oom
-- ARGV: receipts of tasks that are done, and that may have been acked: the reply got lost
-- Returns: indices of those refused whose tasks are still there; the others were acked before
local refused = {}
for _, index in ipairs(acked(1, #ARGV)) do
  local id = read_receipt(ARGV[index + 1])
  if id and redis.call('HEXISTS', DATA, id) == 1 then refused[#refused + 1] = index end
end
wake_if_more()
return refused
