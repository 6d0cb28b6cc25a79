-- include: keys_and_time scores
-- constants: FAILED CANCELED LONGEST_WAIT
-- The states of a task on its queue, and the moves between them; most scripts include this.

-- The text of an id: see encoding.py.
local function readable(id)
  if #id ~= 17 or string.byte(id) ~= 255 then return id end
  local digits = string.gsub(string.sub(id, 2), '.', function(byte)
    return string.format('%02x', string.byte(byte))
  end)
  return (string.gsub(digits, '^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)', '%1-%2-%3-%4-'))
end

-- Another key of this queue.
local function part_key(name) return (string.gsub(READY, 'ready$', name)) end

local function own_queue() return string.match(READY, '{(.*)}') end

-- The key of a record by id alone: of a generated id, or of Alligator 1.1.
local function old_record(id) return 'alligator:record:' .. id end

-- The key of a record by queue and id; the id may be such a key itself: see store.own_record_key.
local function own_record(queue, id)
  local text = readable(id) -- 16 raw bytes may be anything
  local named, own = string.match(text, '^([^\31]*)\31(.*)$')
  return 'alligator:records:{' .. (named or queue) .. '}:' .. (own or text)
end

local function record_of(queue, id)
  return is_generated(id) and old_record(id) or own_record(queue, id)
end

-- The state that a record says.
local function state_in(key)
  return tonumber(string.match(redis.call('GET', key) or '', '\n%[(%d+)'))
end

-- Forget a record. (A user that may only push needs no right to delete.)
local function forget_record(key) redis.call('PEXPIRE', key, 0) end

-- Whether an id is the key of a record: of a task that stands in for one on another backend, and
-- whose pushes and acks leave that record alone.
local function is_record_key(id) return string.find(readable(id), '\31', 1, true) ~= nil end

-- Tasks of this queue are acked: if the id is the user's own, a recorded failure was that of an
-- earlier push. Forget it.
function have_succeeded(ids)
  for index = 1, #ids do
    local id = ids[index]
    local own = not is_generated(id) and not is_record_key(id)
    if own and state_in(record_of(own_queue(), id)) == FAILED then
      forget_record(record_of(own_queue(), id))
    end
  end
end

local function priority_of(score) return 100 - math.floor(score / STEP) end

-- One section of INFO; '' where the user may not ask.
local function server_info(section)
  local text = redis.pcall('INFO', section)
  return type(text) == 'string' and text or ''
end

-- Text that changes with a restart, and when a replica takes over; '' where the user may not ask.
local function run_id()
  local run = string.match(server_info('server'), 'run_id:(%x+)')
  local data = string.match(server_info('replication'), 'master_replid:(%x+)')
  return run and data and run .. ':' .. data or ''
end

local function since_key() return (string.gsub(SEQ, 'seq$', 'since')) end

-- Milliseconds that the mark of a waiting client stands beyond its wait.
local WAIT_MARGIN = 1000

-- Begin the history of a queue without any keys: it is new, was emptied, or lost. Its positions
-- tell it from others: they begin anywhere between 2^40 (Alligator 1.1 begins at 1) and 2^43, so that an
-- old position is among a million new ones once in eight million times.
local function begin_history(count, first)
  local born = run_id()
  if not first then
    local digest = redis.sha1hex(whole(now) .. SEQ .. born)
    first = 1099511627776 + 7 * tonumber(string.sub(digest, 1, 10), 16)
  end
  redis.call('SET', SEQ, whole(first + count))
  -- For Client.queue_names. (Refused on a cluster, and perhaps to a user of few rights.)
  redis.pcall('SADD', 'alligator:queues', own_queue())
  redis.call('SET', since_key(), whole(first) .. ' ' .. born)
  redis.call('HSET', DATA, HISTORY, whole(first))
  -- A client may still wait whose mark went with all the rest. (The count is that of the server.)
  local blocked = string.match(server_info('clients'), 'blocked_clients:(%d+)')
  if blocked ~= '0' and redis.call('EXISTS', WAITING) == 0 then
    redis.call('SET', WAITING, 1, 'PX', LONGEST_WAIT + WAIT_MARGIN)
  end
  return first + count
end

-- How far the history of this queue has come.
local function position()
  local last = tonumber(redis.call('GET', SEQ) or nil) or 0
  return last > 0 and last or begin_history(0)
end

-- The next score of a priority, or (front) the next among its due tasks; of a count, the last one.
local function next_score(priority, front, count)
  count = count or 1
  local last = redis.call('INCRBY', SEQ, count)
  if last == count then last = begin_history(count) end
  return (100 - priority) * STEP + (front and 0 or TAIL) + last
end

-- Unpack a value; {} where another program wrote it and it cannot be read: other tasks must go on.
local function unpacked(packed)
  local fine, value = pcall(cmsgpack.unpack, packed)
  return fine and type(value) == 'table' and value or {}
end

-- priority (of a delayed task), attempt, deaths
local function get_meta(id)
  local packed = redis.call('HGET', META, id)
  if not packed then return 0, 0, 0 end
  local meta = unpacked(packed)
  return tonumber(meta[1]) or 0, tonumber(meta[2]) or 0, tonumber(meta[3]) or 0
end

local function set_meta(id, priority, attempt, deaths)
  if priority == 0 and attempt == 0 and deaths == 0 then
    redis.call('HDEL', META, id)
  else
    redis.call('HSET', META, id, cmsgpack.pack({ priority, attempt, deaths }))
  end
end

local function put_at_tail(id, priority, due, attempt, deaths)
  if due > now then
    redis.call('ZADD', DELAYED, whole(due), id)
    set_meta(id, priority, attempt, deaths)
  else
    redis.call('ZADD', READY, whole(next_score(priority, false)), id)
    set_meta(id, 0, attempt, deaths)
  end
end

-- A receipt describes its lease: token:attempt:deaths:(spaces)score:id
function read_receipt(receipt)
  local attempt, deaths, score, id = string.match(receipt, '^[^:]*:(%d+):(%d+): *([^:]*):(.*)$')
  return id, tonumber(score), tonumber(attempt), tonumber(deaths)
end

-- How many tasks have data but no place: their keys were evicted, or deleted by hand. Below 0:
-- there are places without data. (0 where the user may not ask.)
local function count_lost()
  local function count(command, key)
    local found = redis.pcall(command, key)
    return type(found) == 'number' and found
  end
  local all, held = count('HLEN', DATA), count('HLEN', HELD)
  local ready, delayed = count('ZCARD', READY), count('ZCARD', DELAYED)
  local leased, marked = count('ZCARD', LEASES), redis.call('HEXISTS', DATA, HISTORY)
  if not (all and held and ready and delayed and leased) then return 0 end
  return all - marked - held - ready - delayed - leased
end

-- Search the leases for a task; nil: the user may not.
local function has_lease(id)
  local pattern = '*:' .. string.gsub(id, '[%*%?%[%]\\]', '\\%0')
  local cursor = '0'
  repeat
    local found = redis.pcall('ZSCAN', LEASES, cursor, 'MATCH', pattern, 'COUNT', 1000)
    if found.err then return nil end
    cursor = found[1]
    for index = 1, #found[2], 2 do
      if read_receipt(found[2][index]) == id then return true end
    end
  until cursor == '0'
  return false
end

-- Whether a task that has data, and neither waits nor is held, is on lease. It is, unless something
-- was lost; only then the leases are searched.
local function is_leased(id) return count_lost() == 0 or has_lease(id) ~= false end

-- The unique key in controls as text (nil: none), whether it is free once the task has started, and
-- debounce and debounce_max in microseconds; see backends/task_controls.py.
local function unique_in(controls)
  if not controls or controls == '' then return nil end
  local fine, asked = pcall(cjson.decode, controls)
  if not fine or type(asked) ~= 'table' or type(asked[6]) ~= 'string' or asked[6] == '' then
    return nil
  end
  return asked[6], asked[7], (tonumber(asked[8]) or 0) * 1000000, (tonumber(asked[9]) or 0) * 1000000
end

-- Who has a unique key: since when, the attempts at the task by then, and its id.
local function read_key(key)
  local since, attempt, id = string.match(
    redis.call('HGET', CONTROLS, 'unique:' .. key) or '', '^(%d+) (%d+) (.*)$')
  return id, tonumber(since), tonumber(attempt)
end

local function free_key(key, id)
  if key and read_key(key) == id then redis.call('HDEL', CONTROLS, 'unique:' .. key) end
end

local function take_key(key, id)
  local _, attempt = get_meta(id)
  local owner, since = read_key(key)
  if owner ~= id then since = now end
  redis.call('HSET', CONTROLS, 'unique:' .. key, whole(since) .. ' ' .. attempt .. ' ' .. id)
end

-- The task that has a unique key: its id, since when it has the key, and whether a push may take its
-- place (it has debounce and did not start). nil: the key is free. Who has it is only looked up by
-- the key; whether that task has it still depends on the task, as it may have started, or a worker
-- of version 1.1 may have ended it.
local function with_key(key)
  local id, since, attempt = nil, nil, nil
  if key then id, since, attempt = read_key(key) end
  if not id then return nil end
  if redis.call('HEXISTS', DATA, id) == 1 then
    local packed = redis.call('HGET', AFTER, id)
    local behind, _, delay = unique_in(packed and unpacked(packed)[4])
    if behind == key then return id, since, delay > 0 end
    local own, until_start, debounce = unique_in(redis.call('HGET', CONTROLS, ':' .. id))
    if own == key then
      local waits = redis.call('ZSCORE', READY, id)
        or redis.call('ZSCORE', DELAYED, id)
        or redis.call('ZSCORE', part_key('kept'), id)
      local _, attempts = get_meta(id)
      local fresh = waits and attempts <= attempt
      local held = not waits and redis.call('HEXISTS', HELD, id) == 1
      if fresh or held or not until_start then
        return id, since, fresh and debounce > 0
      end
    end
  end
  redis.call('HDEL', CONTROLS, 'unique:' .. key)
end

-- Keep what a task asks of its queue, as text (nil or '': nothing), until it has left. It takes its
-- unique key, and frees the one that it had, unless what follows it has that.
local function keep_controls(id, controls, key_behind)
  local before, key = redis.call('HGET', CONTROLS, ':' .. id), unique_in(controls)
  local key_before = unique_in(before)
  if key_before ~= key and key_before ~= key_behind then free_key(key_before, id) end
  if controls and controls ~= '' then
    redis.call('HSET', CONTROLS, ':' .. id, controls)
    if key then take_key(key, id) end
  elseif before then
    redis.call('HDEL', CONTROLS, ':' .. id)
  end
end

local function enqueue(id, data, priority, due, controls)
  if redis.call('HSETNX', DATA, id, data) == 1 then
    if controls and controls ~= '' then
      keep_controls(id, controls)
      if due <= now then
        local score = next_score(priority, false)
        local line = limits().line_ahead(controls, score)
        if line then return limits().keep(id, score, line) end
        redis.call('ZADD', READY, whole(score), id)
        return
      end
    end
    if due > now or priority ~= 0 then
      put_at_tail(id, priority, due, 0, 0)
    else -- the common case: no meta to write or clear
      redis.call('ZADD', READY, whole(next_score(0, false)), id)
    end
    return
  end
  local score = tonumber(redis.call('ZSCORE', READY, id) or nil)
  local old_due = not score and tonumber(redis.call('ZSCORE', DELAYED, id) or nil)
  local before = redis.call('HGET', CONTROLS, ':' .. id)
  if before and not score and not old_due then
    local line
    score, line = limits().drop(id)
    if score and before == controls and priority == priority_of(score) and due <= now then
      redis.call('HSET', DATA, id, data)
      limits().keep(id, score, line)
      return
    end
    if score then redis.call('ZADD', READY, whole(score), id) end
  end
  if not score and not old_due then
    if redis.call('HDEL', HELD, id) == 1 then
      dependencies().forget(id)
    elseif is_leased(id) then
      due = whole(due > now and due or 0)
      local before, key = redis.call('HGET', AFTER, id), unique_in(controls)
      local key_before = before and unique_in(unpacked(before)[4])
      if key_before ~= key then free_key(key_before, id) end
      redis.call('HSET', AFTER, id, cmsgpack.pack({ data, priority, due, controls or '' }))
      if key then take_key(key, id) end
      return
    else -- its place was lost
      redis.call('HDEL', AFTER, id)
    end
    redis.call('HSET', DATA, id, data)
    keep_controls(id, controls)
    put_at_tail(id, priority, due, 0, 0)
    return
  end
  redis.call('HSET', DATA, id, data)
  keep_controls(id, controls)
  local old_priority, attempt, deaths = get_meta(id)
  if score then old_priority = priority_of(score) end
  if old_priority ~= priority or (old_due or 0) ~= (due > now and due or 0) then
    redis.call('ZREM', score and READY or DELAYED, id)
    put_at_tail(id, priority, due, attempt, deaths)
  end
  if before then limits().promote_next(limits().read(before)) end
end

-- A task with an id of the user's own is pushed to this queue: forget its record if it ended badly,
-- and mark its dead letter as overruled, by a sixth value. (On a cluster the old record is on
-- another node.)
local function overrule(id, with_old)
  local keys = { own_record(own_queue(), id), with_old and old_record(id) or nil }
  for _, key in ipairs(is_record_key(id) and {} or keys) do
    local state = state_in(key)
    if state == FAILED or state == CANCELED then forget_record(key) end
  end
  local packed = redis.call('HGET', DEAD, id)
  local letter = packed and unpacked(packed)
  if letter and letter[1] and not letter[6] then
    for index = 2, 5 do letter[index] = letter[index] or false end
    letter[6] = 1
    redis.call('HSET', DEAD, id, cmsgpack.pack(letter))
  end
end

-- The dead letter of an id, unpacked; nil: there is none, or a later push has overruled it.
local function dead_letter(key, id)
  local packed = redis.call('HGET', key, id)
  local letter = packed and unpacked(packed)
  return letter and not letter[6] and letter or nil
end

local watched -- nil: not asked yet

-- Tell watching clients that a task starts, or is no longer on lease.
function notify(id)
  if watched == nil then watched = redis.call('EXISTS', WATCHED) == 1 end
  if watched then redis.pcall('PUBLISH', 'alligator:done:' .. id, '') end
end

-- Take a task that is no longer leased off the queue; a push that came meanwhile takes over.
function remove_task(id)
  notify(id)
  redis.call('HDEL', DATA, id)
  local controls = redis.call('HGET', CONTROLS, ':' .. id)
  local packed = redis.call('HGET', AFTER, id)
  local after = packed and unpacked(packed)
  if controls then
    keep_controls(id, nil, after and unique_in(after[4]))
    limits().promote_next(limits().read(controls))
  end
  if after then
    redis.call('HDEL', AFTER, id)
    overrule(id)
    enqueue(id, after[1] or packed, tonumber(after[2]) or 0, tonumber(after[3]) or 0, after[4])
  end
end

-- Give a task that has lost its place a new one: at the tail, as neither its due time nor its
-- attempts are known. A push that came behind its lost lease takes over.
local function requeue(id)
  if redis.call('HEXISTS', AFTER, id) == 1 then return remove_task(id) end
  for _, parent in ipairs(dependencies().linked(WAITS, id, 2)) do
    if parent.queue ~= '' then -- not just the guard of hold.lua
      redis.call('HSET', HELD, id, cmsgpack.pack({ (get_meta(id)), '0' }))
      return
    end
  end
  local priority, attempt, deaths = get_meta(id)
  put_at_tail(id, priority, 0, attempt, deaths)
end

-- The end of a lease is a whole number of microseconds. If its worker is being stopped, it has half
-- a microsecond more: when it runs out, that adds no death. Alligator 1.1 counts one all the same.
local function with_stop_mark(ends, score) return score % 1 > 0 and ends .. '.5' or ends end

-- The deaths of a task whose lease ran out, with the score of that.
local function deaths_after(deaths, score) return deaths + (score % 1 > 0 and 0 or 1) end

-- Microseconds until the next delay or lease ends, or a rate has a token; -1: there is none.
local function next_change()
  local soonest
  for _, key in ipairs({ DELAYED, LEASES, part_key('turns') }) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] and (not soonest or tonumber(first[2]) < soonest) then
      soonest = tonumber(first[2])
    end
  end
  return soonest and math.max(soonest - now, 0) or -1
end

-- Wake one waiting client. A client that takes something wakes the next one.
local function wake()
-- include: wake
end

local function wake_if_more()
  local left = redis.call('PTTL', WAITING)
  if left <= 0 then return end
  local soon = next_change()
  if redis.call('EXISTS', READY) == 1 or (soon >= 0 and soon < left * 1000) then wake() end
end

-- Take an expired lease away; true: its task is to be run again, false: a later push replaced it.
local function reclaim(receipt, id)
  redis.call('ZREM', LEASES, receipt)
  if not id then return false end -- another program's
  limits().drop_holder(receipt, id)
  if redis.call('HEXISTS', AFTER, id) == 1 then
    remove_task(id)
    return false
  end
  return true
end
