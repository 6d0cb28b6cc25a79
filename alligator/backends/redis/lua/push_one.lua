#!lua
-- What is pushed most often, with nothing that the others need; common.lua does not precede it.
-- KEYS: 1 ready  2 data  3 seq  4 wake  5 waiting
-- ARGV: 1 id  2 data, to go at once and with priority 0
-- Returns: the position; or 0 where that id is there already, or the history of the queue is to
--          begin, and nothing was done
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 0 then return 0 end
local last = redis.call('INCR', KEYS[3])
if last == 1 then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('SET', KEYS[3], 0)
  return 0
end
local before = 100 * 35184372088832 + 17592186044416 -- see place()
redis.call('ZADD', KEYS[1], before + last, ARGV[1])
if redis.call('EXISTS', KEYS[5]) == 1 and redis.call('LLEN', KEYS[4]) == 0 then -- see wake()
  redis.call('LPUSH', KEYS[4], 1)
  redis.call('PEXPIRE', KEYS[4], 60000)
end
return last
