#!lua
-- include: push_arguments dependencies
-- Hold children in one step; a child of many parents in several, since the server does nothing else
-- meanwhile. Before the last step there is no child, but links to its parents, and one to a guard
-- that never ends: so no end of a parent releases the child. If the last step never comes, the
-- links go as parents end, and the guard stays, which does no harm.
-- ARGV: 1 'whole'  2... of each child its id, data, priority, due time (0: now), controls ('':
--       none), whether the id is the user's own (1), whether it is unconditional (1), how many
--       parents; of each of these its id, how many queues it may be on, and their names
--       1 'first' or 'more'  2 id  3 guard  4 whether it is unconditional (1)  5... how many
--       parents, and of each as above
--       1 'last'  2 id  3 guard  4 when the first step was (its reply)  5 data  6 priority  7 due
--       8 controls  9 whether the id is the user's own (1)  10 whether it is unconditional (1)
--       1 'undo'  2 id  3 guard  4 how many links to remove
-- Returns: whole: of each child the new status, or the id of the task that has its unique key, or
--          -1 where its id is that of a running task, -2 where one of its parents waits for it
--          first: the time; more: 0; last: as whole; undo: how many links are left, or 0
--          all of these: -3 where there is a task of that id, -4 where the guard is gone,
--          -10 - n where the parent number n has failed
local deps = dependencies()
local part, because, link = deps.part, deps.because, deps.link
local taken = 0
local function take()
  taken = taken + 1
  return ARGV[taken]
end

local function take_parents()
  local parents = {}
  for index = 1, tonumber(take()) do
    local parent = { id = take(), queues = {} }
    for number = 1, tonumber(take()) do parent.queues[number] = take() end
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
    local letter = dead_letter(part(queue, 'dead'), parent.id)
    if letter then return because(parent.id, 'failed', letter[2]) end
  end
  local keys = { old_record(parent.id) }
  for _, queue in ipairs(parent.queues) do keys[#keys + 1] = own_record(queue, parent.id) end
  for _, key in ipairs(keys) do
    local how = ({ [FAILED] = 'failed', [CANCELED] = 'was canceled' })[state_in(key)]
    local record = how and redis.call('GET', key)
    local fine, found = pcall(cjson.decode, record and string.match(record, '\n(.*)$') or '')
    if fine and type(found) == 'table' then return because(parent.id, how, found[3]) end
  end
end

local function keep_held(id, data, priority, due, controls, unconditional)
  redis.call('HSET', DATA, id, data)
  keep_controls(id, controls)
  local held = { priority, whole(due) }
  if unconditional then held[3], held[4] = false, 1 end -- the third: see limits.lua
  redis.call('HSET', HELD, id, cmsgpack.pack(held))
end

-- Take a task off the queue; false: it runs, and stays.
local function removed(id)
  if redis.call('HEXISTS', DATA, id) == 0 or deps.drop_held(id) then return true end
  local asked = limits().of(id)
  if limits().drop(id) then
    asked = nil -- it could take no place
  elseif redis.call('ZREM', READY, id) + redis.call('ZREM', DELAYED, id) == 0 then
    if is_leased(id) then return false end
    redis.call('HDEL', AFTER, id) -- its place was lost
  end
  redis.call('HDEL', DATA, id)
  redis.call('HDEL', META, id)
  keep_controls(id)
  limits().promote_next(asked)
  return true
end

-- Whether one of these parents waits for the task, directly or by way of others.
local function waits_for_itself(id, waits)
  local above = {}
  for _, parent in ipairs(waits) do above[link('', parent.queue, parent.id)] = true end
  local seen, pending = {}, { { queue = own_queue(), id = id } }
  while #pending > 0 do
    local task = table.remove(pending)
    for _, child in ipairs(deps.linked(part(task.queue, 'children'), task.id)) do
      local name = link('', child.queue, child.id)
      if above[name] then return true end
      if not seen[name] then pending[#pending + 1] = child end
      seen[name] = true
    end
  end
  return false
end

local function hold(id, data, priority, due, controls, own, unconditional, parents)
  local pending = with_key((unique_in(controls)))
  if pending then return pending end
  local waits = {}
  for _, parent in ipairs(parents) do
    local queue = where(parent)
    local why = not queue and not unconditional and failure(parent)
    if why then
      removed(id)
      if own then overrule(id, true) end
      deps.record_canceled(id, why)
      deps.cancel(id, because(id, 'was canceled', why))
      return CANCELED
    end
    if queue then waits[#waits + 1] = { queue = queue, id = parent.id } end
  end
  if #waits == 0 then
    if own then overrule(id, true) end
    enqueue(id, data, priority, due, controls)
    return 0
  end
  if deps.any() and waits_for_itself(id, waits) then return -2 end
  if not removed(id) then return -1 end
  if own then overrule(id, true) end
  keep_held(id, data, priority, due, controls, unconditional)
  for _, parent in ipairs(waits) do
    redis.call('ZADD', WAITS, 0, link(id, parent.queue, parent.id))
    redis.call('ZADD', part(parent.queue, 'children'), 0, link(parent.id, own_queue(), id))
  end
  return 0
end

local step = take()

if step == 'first' or step == 'more' then
  local id, token, unconditional = take(), take(), take() == '1'
  local guard = link(id, '', token)
  if redis.call('HEXISTS', DATA, id) == 1 then return -3 end
  if step == 'first' then
    deps.forget(id) -- links of an earlier hold that did not come to the last step
    redis.call('ZADD', WAITS, 0, guard)
  elseif not redis.call('ZSCORE', WAITS, guard) then
    return -4
  end
  for index, parent in ipairs(take_parents()) do
    local queue = where(parent)
    if queue then
      redis.call('ZADD', WAITS, 0, link(id, queue, parent.id))
      redis.call('ZADD', part(queue, 'children'), 0, link(parent.id, own_queue(), id))
    elseif not unconditional and failure(parent) then
      return -10 - index
    end
  end
  return step == 'first' and now or 0
end

if step == 'last' then
  local id, token, began = take(), take(), tonumber(take())
  if redis.call('HEXISTS', DATA, id) == 1 then return -3 end
  local pending = with_key((unique_in(ARGV[8])))
  if pending then return pending end
  if redis.call('ZREM', WAITS, link(id, '', token)) == 0 then return -4 end
  local at, state = string.match(
    redis.call('GET', record_of(own_queue(), id)) or '', '^(%S+) %d+\n%[(%d+),')
  local unconditional = ARGV[10] == '1'
  if tonumber(state) == CANCELED and tonumber(at) * 1000000 >= began - 1 then
    -- A parent ended badly meanwhile, and left that record.
    if not unconditional then
      redis.call('ZADD', WAITS, 0, link(id, '', token))
      return CANCELED
    end
    forget_record(record_of(own_queue(), id))
  end
  local data, priority, due, controls = take(), tonumber(take()), tonumber(take()), take()
  if take() == '1' then overrule(id, true) end
  if #deps.linked(WAITS, id, 1) == 0 then
    enqueue(id, data, priority, due, controls)
    end_pushes()
  else
    keep_held(id, data, priority, due, controls, unconditional)
  end
  return 0
end

if step == 'undo' then
  local id, guard = take(), nil
  guard = link(id, '', take())
  if redis.call('HEXISTS', HELD, id) == 0 then -- else links of another hold are among them
    local limit = tonumber(take())
    local some = deps.linked(WAITS, id, limit)
    for _, parent in ipairs(some) do
      if parent.member ~= guard then
        redis.call('ZREM', WAITS, parent.member)
        local key = part(parent.queue, 'children')
        redis.call('ZREM', key, link(parent.id, own_queue(), id))
      end
    end
    if #some == limit then return limit end
  end
  redis.call('ZREM', WAITS, guard)
  return 0
end

local states = {}
while taken < #ARGV do
  local id, data, priority, due = take(), take(), tonumber(take()), tonumber(take())
  local controls, own, unconditional = take(), take() == '1', take() == '1'
  local parents = take_parents()
  states[#states + 1] = hold(id, data, priority, due, controls, own, unconditional, parents)
end
end_pushes()
return states
