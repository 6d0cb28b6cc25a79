#!lua flags=no-writes
-- idempotent
-- include: keys_and_time
-- Returns: when a pause of the queue ends; -1: by a call; 0: it is not paused
local ends = redis.call('HGET', CONTROLS, 'paused')
if not ends then return 0 end
if ends == '' then return -1 end
local time = tonumber(ends) or 0
return time > now and time or 0
