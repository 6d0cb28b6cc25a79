#!lua flags=allow-oom
-- idempotent
-- include: states
-- ARGV: 1 when the pause ends ('': by a call; 0: now, the queue is resumed)
-- Returns: 1
if ARGV[1] ~= '0' then
  redis.call('HSET', CONTROLS, 'paused', ARGV[1])
else
  redis.call('HDEL', CONTROLS, 'paused')
  redis.call('SET', WAITING, 1, 'PX', LONGEST_WAIT + WAIT_MARGIN)
  wake()
end
return 1
