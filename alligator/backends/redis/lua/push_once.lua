#!lua
-- include: pushes dependencies
-- KEYS: the keys of the queue, and the mark
-- ARGV: see begin_pushes(); milliseconds that the mark stands, id, data, priority, due time
-- Returns: 1, or 0 if the mark stands
local keep, id, data, priority, due = unpack(ARGV, #ARGV - 4)
if not redis.call('SET', KEYS[#KEYS], '1', 'NX', 'PX', keep) then return 0 end
begin_pushes()
enqueue(id, data, tonumber(priority), tonumber(due))
end_pushes()
return 1
