#!lua
-- ARGV: as begin_pushes() says; of each message its id, data, priority, due time (0: now)
-- Returns: the position
for index = begin_pushes(), #ARGV, 4 do
  put(ARGV[index], ARGV[index + 1], tonumber(ARGV[index + 2]), tonumber(ARGV[index + 3]))
end
local last = position()
wake()
return last
