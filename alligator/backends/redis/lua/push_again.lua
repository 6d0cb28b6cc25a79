#!lua
-- Push again after the reply got lost: the messages may be queued already, all or none of them.
-- include: pushes dependencies
-- ARGV: as for push
-- Returns: the position

-- Only a generated id proves that a message is there, as it is pushed only once.
local function is_there(id, data)
  return is_generated(id)
    and redis.call('HGET', DATA, id) == data
    and redis.call('HEXISTS', HELD, id) == 0
end

-- Some may have ended since.
for index = tonumber(ARGV[1]) + 3, #ARGV, 4 do
  if is_there(ARGV[index], ARGV[index + 1]) then return position() end
end
return push_all()
