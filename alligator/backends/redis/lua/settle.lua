#!lua flags=allow-oom
-- KEYS: those of the queue, and the record
-- ARGV: 1 receipt  2 why its children cannot run ('': they can)  3... as note.lua
-- Returns: 1, or 0 if the lease was overtaken
-- The outcome goes first, in case that the server refuses it.
if not redis.call('ZSCORE', LEASES, ARGV[1]) then return 0 end
note(KEYS[#KEYS], unpack(ARGV, 3))
if ARGV[2] ~= '' then children().cancel((read_receipt(ARGV[1])), ARGV[2]) end
acked(1, 1)
wake_if_more()
return 1
