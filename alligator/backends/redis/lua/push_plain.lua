#!lua
-- The most frequent push: one message with a generated id, to go at once and with priority 0. It
-- includes little and asks for no time, which halves the time that the server spends on it.
-- KEYS: 1 ready  2 data  3 seq  4 wake  5 waiting
-- ARGV: 1 id  2 data
-- Returns: the position; 0 and nothing is done if that id is there already, or the history of the
--          queue is to begin
local READY, DATA, SEQ, WAKE, WAITING = unpack(KEYS)
-- include: scores
if redis.call('HSETNX', DATA, ARGV[1], ARGV[2]) == 0 then return 0 end
local last = redis.call('INCR', SEQ)
if last == 1 then
  redis.call('HDEL', DATA, ARGV[1])
  redis.call('SET', SEQ, 0)
  return 0
end
redis.call('ZADD', READY, 100 * STEP + TAIL + last, ARGV[1]) -- see next_score()
-- include: wake
return last
