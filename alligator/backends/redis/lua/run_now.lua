#!lua flags=allow-oom
-- idempotent
-- include: states
-- ARGV: 1 the id of a task
-- Returns: 1 if it is delayed, and due now; else 0
local id = ARGV[1]
local due = tonumber(redis.call('ZSCORE', DELAYED, id) or nil)
if not due then return 0 end
if due > now then
  redis.call('ZADD', DELAYED, whole(now), id)
  wake()
end
return 1
