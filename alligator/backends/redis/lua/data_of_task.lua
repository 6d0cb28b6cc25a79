#!lua flags=no-writes
-- idempotent
-- include: states
-- ARGV: 1 id
-- Returns: its data, or nil
local data = redis.call('HGET', DATA, ARGV[1])
if data then return data end
local packed = redis.call('HGET', DEAD, ARGV[1])
return packed and (unpacked(packed)[1] or packed)
