#!lua flags=allow-oom
-- include: leases states dependencies records
-- KEYS: the keys of the queue, and the record
-- ARGV: 1 receipt  2 why its children cannot run ('': they can)  3... as save_record.lua
-- Returns: 1, or 0 if the lease was overtaken
-- The outcome is saved first, as the server may refuse it.
if not redis.call('ZSCORE', LEASES, ARGV[1]) then return 0 end
save_record(KEYS[#KEYS], unpack(ARGV, 3))
if ARGV[2] ~= '' then dependencies().cancel((read_receipt(ARGV[1])), ARGV[2]) end
ack(1, 1)
wake_if_more()
return 1
