#!lua flags=allow-oom
-- Ack tasks, and nothing else. Most acks ride with the next reserve instead: see reserve.lua.
-- include: leases states dependencies
-- ARGV: receipts of tasks that are done
-- Returns: indices of the receipts refused
local refused = ack(1, #ARGV)
wake_if_more()
return refused
