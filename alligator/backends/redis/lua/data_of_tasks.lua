#!lua flags=no-writes
-- idempotent
-- include: header
-- ARGV: ids
-- Returns: of each its data, or nothing
return redis.call('HMGET', DATA, unpack(ARGV))
