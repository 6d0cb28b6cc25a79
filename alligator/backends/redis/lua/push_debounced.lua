#!lua
-- Push a message whose data name the id that its task is to have: its own, or that of the pending
-- task whose place it takes. Running it twice does no harm.
-- include: push_arguments dependencies
-- ARGV: see begin_pushes(); id, data, priority, due time, controls, and the id in the data
-- Returns: the position, an outcome and an id: 0: queued; 1: the task of that id is pending, and may
--          have got the data; 2: nothing was done, as the data have to name that id
local at = tonumber(ARGV[1]) + 3
local id, data, priority, due, controls, named = unpack(ARGV, at, at + 5)
local pending, _, replaces = with_key((unique_in(controls)))
local wanted = replaces and pending or id
if (replaces or not pending) and named ~= wanted then return { 0, 2, wanted } end
local function overrules()
  if at > 3 then overrule(id, ARGV[2] == '1') end
end
push_controlled(id, data, tonumber(priority), tonumber(due), controls, overrules)
local last = end_pushes()
if pending and (pending ~= id or not is_generated(id)) then return { last, 1, pending } end
return { last, 0, id }
