#!lua flags=allow-oom
-- KEYS: those of the queue  13 the record
-- ARGV: 1 receipt  2... as note.lua
-- Returns: 1, or 0 if the lease was overtaken
-- The outcome goes first, in case that the server refuses it.
if not redis.call('ZSCORE', LEASES, ARGV[1]) then return 0 end
note(KEYS[13], unpack(ARGV, 2))
acked(1, 1)
wake_if_more()
return 1
