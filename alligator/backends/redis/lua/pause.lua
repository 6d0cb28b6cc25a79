#!lua flags=allow-oom
-- include: states
-- ARGV: 1 when the pause ends ('': by a call; 0: now, the queue is resumed)
-- Returns: 1 if it was paused, else 0
local ends = redis.call('HGET', CONTROLS, 'paused')
local was_paused = ends and (ends == '' or (tonumber(ends) or 0) > now) and 1 or 0
if ARGV[1] ~= '0' then
  redis.call('HSET', CONTROLS, 'paused', ARGV[1])
else
  redis.call('HDEL', CONTROLS, 'paused')
  redis.call('SET', WAITING, 1, 'PX', LONGEST_WAIT + WAIT_MARGIN) -- clients wait unmarked
  wake()
end
return was_paused
