#!lua flags=no-writes
-- ARGV: 1 id of a child that is held  2 how many of those it waits for to name
-- Returns: how many these are; and of the first queue and id by turns
local reply = { 0 }
for index, parent in ipairs(children().linked(WAITS, ARGV[1])) do
  reply[1] = index
  if index <= tonumber(ARGV[2]) then
    reply[#reply + 1] = parent.queue
    reply[#reply + 1] = parent.id
  end
end
return reply
