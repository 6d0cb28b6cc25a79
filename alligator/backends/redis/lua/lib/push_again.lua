-- include: push_arguments dependencies

-- Only a generated id proves that a message is there, as it is pushed only once.
local function is_there(id, data)
  return is_generated(id)
    and redis.call('HGET', DATA, id) == data
    and (redis.call('HEXISTS', HELD, id) == 0 or limits().kept_line(id))
end

-- The reply of a push that was done before: of the messages that are not there, some were not
-- queued, since a task had their key. (Others have ended since.)
local function reply_of_push(values, begin)
  local found = { position() }
  for index = begin, #ARGV, values do
    if not is_there(ARGV[index], ARGV[index + 1]) then
      local pending = values == 5 and with_key((unique_in(ARGV[index + 4])))
      if pending and pending ~= ARGV[index] then
        found[#found + 1] = (index - begin) / values
        found[#found + 1] = pending
      end
    end
  end
  return #found > 1 and found or found[1]
end

-- Push again after the reply got lost: the messages, of so many values, may be queued already, all
-- or none of them. Some may have ended since.
local function push_again(values)
  local begin = tonumber(ARGV[1]) + 3
  for index = begin, #ARGV, values do
    if is_there(ARGV[index], ARGV[index + 1]) then return reply_of_push(values, begin) end
  end
  return push_all(values)
end
