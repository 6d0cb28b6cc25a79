#!lua
-- include: push_arguments dependencies
-- KEYS: the keys of the queue, and the mark
-- ARGV: see begin_pushes(); milliseconds that the mark stands, id, data, priority, due time, and
--       controls ('': none)
-- Returns: 1, or 0 if the mark stands
local keep, id, data, priority, due, controls = unpack(ARGV, #ARGV - 5)
if not redis.call('SET', KEYS[#KEYS], '1', 'NX', 'PX', keep) then return 0 end
local function overrules()
  if ARGV[1] ~= '0' then overrule(id, ARGV[2] == '1') end
end
if controls == '' then overrules() end
push_controlled(id, data, tonumber(priority), tonumber(due), controls, controls ~= '' and overrules)
end_pushes()
return 1
