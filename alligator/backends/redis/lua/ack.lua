#!lua flags=allow-oom
-- ARGV: receipts of tasks that are done
-- Returns: indices of those refused
local refused = acked(1, #ARGV)
wake_if_more()
return refused
