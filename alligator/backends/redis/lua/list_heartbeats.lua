#!lua flags=allow-oom
-- idempotent
-- include: keys_and_time
-- KEYS: 1 the workers of a queue, see heartbeat.lua
-- Returns: the time, and names and values by turns
return { now, redis.call('HGETALL', KEYS[1]) }
