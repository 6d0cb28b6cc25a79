-- include: states
-- Pushing several messages; the scripts that push include this.

-- Read how the ARGV of a push begins: how many of the ids are the user's own, whether old records
-- can be reached (1), and these ids. Overrule all that is known of them; return where the rest
-- begins.
local function begin_pushes()
  local count = tonumber(ARGV[1])
  for index = 3, count + 2 do overrule(ARGV[index], ARGV[2] == '1') end
  return count + 3
end

-- Read the position, which may begin the history of the queue, and then wake a client.
local function end_pushes()
  local last = position()
  wake()
  return last
end

-- Push all messages: of each its id, data, priority, due time (0: now), and, if there are five
-- values, its controls ('': none). Return the position.
local function push_all(values)
  values = values or 4
  for index = begin_pushes(), #ARGV, values do
    local id, data, priority, due, controls = unpack(ARGV, index, index + values - 1)
    enqueue(id, data, tonumber(priority), tonumber(due), controls)
  end
  return end_pushes()
end
