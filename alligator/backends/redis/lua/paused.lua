#!lua flags=no-writes
-- idempotent
-- include: header
-- Returns: microseconds until a pause of the queue ends by itself (-1: it does not; 0: it is not
--          paused), and the time
local ends = redis.call('HGET', CONTROLS, 'paused')
if not ends then return { 0, now } end
return { ends == '' and -1 or math.max(0, (tonumber(ends) or 0) - now), now }
