#!lua
-- ARGV: of each child its id, data, priority, due time (0: now), how many parents; of each of
--       these its id, how many queues it may be on, and their names
-- Returns: of each child the new status, or -1 where its id is that of a running task, -2 where
--          one of its parents waits for it
local family = children()
local part, because, link = family.part, family.because, family.link
local position = 0
local function take()
  position = position + 1
  return ARGV[position]
end

local function take_parents()
  local parents = {}
  for index = 1, tonumber(take()) do
    local parent = { id = take(), queues = {} }
    for place = 1, tonumber(take()) do parent.queues[place] = take() end
    parents[index] = parent
  end
  return parents
end

local function where(parent)
  for _, queue in ipairs(parent.queues) do
    if redis.call('HEXISTS', part(queue, 'data'), parent.id) == 1 then return queue end
  end
end

local function failure(parent)
  for _, queue in ipairs(parent.queues) do
    local letter = redis.call('HGET', part(queue, 'dead'), parent.id)
    if letter then return because(parent.id, 'failed', unpacked(letter)[2]) end
  end
  local record = redis.call('GET', 'alligator:record:' .. parent.id)
  local fine, found = pcall(cjson.decode, record and string.match(record, '\n(.*)$') or '[]')
  if not fine or type(found) ~= 'table' then return end
  local how = ({ [2] = 'failed', [family.CANCELED] = 'was canceled' })[found[1]]
  return how and because(parent.id, how, found[3])
end

-- Take a task of that id off the queue; false: it runs, and stays.
local function removed(id)
  if redis.call('HEXISTS', DATA, id) == 0 or family.drop_held(id) then return true end
  if redis.call('ZREM', READY, id) + redis.call('ZREM', DELAYED, id) == 0 then return false end
  redis.call('HDEL', DATA, id)
  redis.call('HDEL', META, id)
  return true
end

-- Whether one of these waits for a task of that id, be it by way of others.
local function waits_for_itself(id, waits)
  local above = {}
  for _, parent in ipairs(waits) do above[link('', parent.queue, parent.id)] = true end
  local seen, pending = {}, { { queue = family.own_queue(), id = id } }
  while #pending > 0 do
    local task = table.remove(pending)
    for _, child in ipairs(family.linked(part(task.queue, 'children'), task.id)) do
      local name = link('', child.queue, child.id)
      if above[name] then return true end
      if not seen[name] then pending[#pending + 1] = child end
      seen[name] = true
    end
  end
  return false
end

local function hold(id, data, priority, due, parents)
  local waits = {}
  for _, parent in ipairs(parents) do
    local queue = where(parent)
    local why = not queue and failure(parent)
    if why then
      removed(id)
      family.note_canceled(id, why)
      family.cancel(id, because(id, 'was canceled', why))
      return family.CANCELED
    end
    if queue then waits[#waits + 1] = { queue = queue, id = parent.id } end
  end
  if #waits == 0 then
    put(id, data, priority, due)
    return 0
  end
  if family.any() and waits_for_itself(id, waits) then return -2 end
  if not removed(id) then return -1 end
  redis.call('HSET', DATA, id, data)
  redis.call('HSET', HELD, id, cmsgpack.pack({ priority, whole(due) }))
  for _, parent in ipairs(waits) do
    redis.call('ZADD', WAITS, 0, link(id, parent.queue, parent.id))
    redis.call('ZADD', part(parent.queue, 'children'), 0, link(parent.id, family.own_queue(), id))
  end
  return 0
end

local states = {}
while position < #ARGV do
  local id, data, priority, due = take(), take(), tonumber(take()), tonumber(take())
  states[#states + 1] = hold(id, data, priority, due, take_parents())
end
wake()
return states
