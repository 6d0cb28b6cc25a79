#!lua
-- ARGV: as for push, of messages that may have been pushed already: the reply got lost
-- Returns: the position

-- Whether a message is there: an id of Alligator's own making, a UUID of version 7 after its mark,
-- comes but once.
local function is_there(id, data)
  return made(id) and redis.call('HGET', DATA, id) == data and redis.call('HEXISTS', HELD, id) == 0
end

-- All were pushed or none, and some may have ended since.
for index = tonumber(ARGV[1]) + 3, #ARGV, 4 do
  if is_there(ARGV[index], ARGV[index + 1]) then return position() end
end
for index = begin_pushes(), #ARGV, 4 do
  put(ARGV[index], ARGV[index + 1], tonumber(ARGV[index + 2]), tonumber(ARGV[index + 3]))
end
local last = position()
wake()
return last
