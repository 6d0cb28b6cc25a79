#!lua flags=no-writes
-- idempotent
-- include: keys_and_time
-- ARGV: 1 where to go on (0: at the beginning)
-- Returns: where to go on (0: that was all), and receipts and ends of leases by turns
return redis.call('ZSCAN', LEASES, ARGV[1], 'COUNT', 1000)
