#!lua flags=allow-oom
-- Ack again after the reply got lost: the tasks may be acked already.
-- include: ack_again
-- ARGV: receipts of tasks that are done
-- Returns: see ack_again()
local refused = ack_again(1, #ARGV)
wake_if_more()
return refused
