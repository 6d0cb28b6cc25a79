#!lua
-- KEYS: those of the queue, and the mark
-- ARGV: 1 milliseconds that the mark stands  2 id  3 data  4 priority  5 due time (0: now)
-- Returns: 1, or 0 if the mark stands
if not redis.call('SET', KEYS[#KEYS], '1', 'NX', 'PX', ARGV[1]) then return 0 end
put(ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
position() -- it may begin now, and then somebody is to be woken
wake()
return 1
