#!lua flags=no-writes
-- idempotent
-- include: states dependencies
-- ARGV: 1 id of a child that is held  2 how many of its parents to name
-- Returns: how many parents it waits for; and of the first ones queue and id by turns
local reply = { 0 }
for index, parent in ipairs(dependencies().linked(WAITS, ARGV[1])) do
  reply[1] = index
  if index <= tonumber(ARGV[2]) then
    reply[#reply + 1] = parent.queue
    reply[#reply + 1] = parent.id
  end
end
return reply
