-- include: pushes dependencies

-- Only a generated id proves that a message is there, as it is pushed only once.
local function is_there(id, data)
  return is_generated(id)
    and redis.call('HGET', DATA, id) == data
    and redis.call('HEXISTS', HELD, id) == 0
end

-- Push again after the reply got lost: the messages, of so many values, may be queued already, all
-- or none of them. Some may have ended since.
local function push_again(values)
  for index = tonumber(ARGV[1]) + 3, #ARGV, values do
    if is_there(ARGV[index], ARGV[index + 1]) then return position() end
  end
  return push_all(values)
end
