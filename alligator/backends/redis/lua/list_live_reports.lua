#!lua flags=allow-oom
-- idempotent
-- KEYS: 1 live, see worker_report.lua
-- Returns: the time, and names and signs of workers by turns
local clock = redis.call('TIME')
return { clock[1] * 1000000 + clock[2], redis.call('HGETALL', KEYS[1]) }
