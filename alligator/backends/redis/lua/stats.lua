#!lua flags=no-writes
-- idempotent
-- include: states
-- Returns: how many wait, are delayed, run, are dead; the first id in line; now; how many are held
-- A task that has lost its place counts as waiting: it gets another one.
local waiting = redis.call('ZCARD', READY) + redis.call('HLEN', AFTER) + math.max(0, count_lost())
local first = redis.call('ZRANGE', READY, 0, 0)[1] or ''
return {
  waiting,
  redis.call('ZCARD', DELAYED),
  redis.call('ZCARD', LEASES),
  redis.call('ZCARD', GRAVES),
  first,
  now,
  redis.call('HLEN', HELD),
}
