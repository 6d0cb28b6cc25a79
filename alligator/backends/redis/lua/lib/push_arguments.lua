-- include: states
-- Read the arguments of a push of several messages, and push them; the scripts that push include
-- this.

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

-- Push a message with controls. Return the id of the pending task if its unique key is taken; a
-- debounced message may have taken the place of that task.
local function push_controlled(id, data, priority, due, controls, overrules)
  local key, _, debounce, longest = unique_in(controls)
  local pending, since, replaces = with_key(key)
  if pending and not (replaces and debounce > 0) then return pending end
  if key and debounce > 0 then
    due = math.max(due, math.min(now + debounce, (since or now) + longest))
  end
  if overrules and not pending then overrules(id) end
  enqueue(pending or id, data, priority, due, controls)
  return pending
end

-- Push all messages: of each its id, data, priority, due time (0: now), and, if there are five
-- values, its controls ('': none). Return the position; or, if some are pending already, a list of
-- it, and of each of these its index and the id of the pending task.
local function push_all(values)
  if values ~= 5 then
    for index = begin_pushes(), #ARGV, 4 do
      local id, data, priority, due = unpack(ARGV, index, index + 3)
      enqueue(id, data, tonumber(priority), tonumber(due))
    end
    return end_pushes()
  end
  local own, begin = {}, tonumber(ARGV[1]) + 3
  for index = 3, begin - 1 do own[ARGV[index]] = true end
  local function overrules(id)
    if own[id] then overrule(id, ARGV[2] == '1') end
  end
  local found = { 0 }
  for index = begin, #ARGV, values do
    local id, data, priority, due, controls = unpack(ARGV, index, index + 4)
    local pending =
      push_controlled(id, data, tonumber(priority), tonumber(due), controls, overrules)
    if pending then
      found[#found + 1] = (index - begin) / values
      found[#found + 1] = pending
    end
  end
  found[1] = end_pushes()
  return #found > 1 and found or found[1]
end
