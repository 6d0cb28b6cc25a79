#!lua
-- include: push_arguments dependencies
-- ARGV: see begin_pushes(); of each message its id and data. No id occurs twice, and all go at once
--       with priority 0
-- Returns: the position

local function is_new(ids)
  for _, data in ipairs(redis.call('HMGET', DATA, unpack(ids))) do
    if data then return false end
  end
  return true
end

local function enqueue_some(first, last)
  local ids, placed = {}, {}
  for index = first, last, 2 do ids[#ids + 1] = ARGV[index] end
  if not is_new(ids) then
    for index = first, last, 2 do enqueue(ARGV[index], ARGV[index + 1], 0, 0) end
    return
  end
  redis.call('HSET', DATA, unpack(ARGV, first, last))
  local before = next_score(0, false, #ids) - #ids
  for index, id in ipairs(ids) do
    placed[2 * index - 1], placed[2 * index] = before + index, id
  end
  redis.call('ZADD', READY, unpack(placed))
end

for first = begin_pushes(), #ARGV, 1000 do enqueue_some(first, math.min(first + 999, #ARGV)) end
return end_pushes()
