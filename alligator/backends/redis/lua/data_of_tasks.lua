#!lua flags=no-writes
-- idempotent
-- include: keys_and_time
-- ARGV: ids
-- Returns: of each its data, or nothing
return redis.call('HMGET', DATA, unpack(ARGV))
