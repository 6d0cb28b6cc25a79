#!lua flags=allow-oom
-- include: leases
-- ARGV: 1 limit  2 lease  3 whether nothing was taken elsewhere yet (1)
--       4 milliseconds that the client is willing to wait  5 the name of this call
--       6... receipts to ack
-- Returns: see reply(); where nothing was leased, microseconds until the next change (0: call it
--          again, as there are more tasks to be looked at; -1: none in
--          sight; -2: a task that has to go alone comes next, so that later queues have to wait
--          for it as well; -3 or less: there are tasks that have lost their place, and this is
--          -4 minus the time)
local limit, ends = tonumber(ARGV[1]), now + math.min(tonumber(ARGV[2]), MAX_LEASE)
local alone, wait = ARGV[3] == '1', tonumber(ARGV[4])
call_name = ARGV[5]
local refused, done, own, special = end_leases(6, #ARGV)

-- The ids and scores in a reply by turns.
local function split_pairs(found)
  local ids, scores = {}, {}
  for index = 1, #found, 2 do
    local last = #ids + 1
    ids[last], scores[last] = found[index], found[index + 1]
  end
  return ids, scores
end

local FAR = whole(now + MAX_LEASE)

-- Whether a lease has run out, or never would as the clock was set back.
local function any_stray_lease()
  return redis.call('EXISTS', LEASES) == 1
    and (redis.call('ZRANGEBYSCORE', LEASES, '-inf', whole(now), 'LIMIT', 0, 1)[1]
      or redis.call('ZRANGEBYSCORE', LEASES, '(' .. FAR, '+inf', 'LIMIT', 0, 1)[1])
end

-- Mostly there is nothing but waiting tasks. Then all is done before the other functions are made.
if not (special or any_stray_lease()) then
  remove_done(done, own, special, 6)
  done = {}
  local ids, scores = split_pairs(redis.call('ZPOPMIN', READY, limit))
  if #ids > 0 then lease_out(ids, scores, ends) end
  if #leased > 0 then return reply(refused, -1) end
  if wait == 0 and not any_data() then return reply(refused, -1) end
end
-- include: states dependencies
remove_done(done, own, special, 6)

-- Microseconds until a pause of the queue ends by itself (-1: it does not); nil: it is not paused.
local function pause_left()
  local ends = redis.call('HGET', CONTROLS, 'paused')
  if not ends then return nil end
  local left = ends == '' and -1 or math.max(0, (tonumber(ends) or 0) - now)
  if left ~= 0 then return left end
  redis.call('HDEL', CONTROLS, 'paused')
  redis.call('SET', WAITING, 1, 'PX', LONGEST_WAIT + WAIT_MARGIN) -- clients wait since before
end

local paused = pause_left()
if paused then
  redis.call('UNLINK', WAITING) -- else each push would wake a client
  return reply(refused, paused)
end
local held_up = false
local MOST_KEPT = 1000 -- tasks that one call keeps back, as it blocks the server
local has_controls = redis.call('EXISTS', CONTROLS) == 1
local more = false -- whether there are more tasks to be looked at

local function expired()
  for _, receipt in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '(' .. FAR, '+inf')) do
    local score = tonumber(redis.call('ZSCORE', LEASES, receipt))
    redis.call('ZADD', LEASES, with_stop_mark(FAR, score), receipt)
  end
  while true do
    local receipt, ended = unpack(
      redis.call('ZRANGEBYSCORE', LEASES, '-inf', whole(now), 'WITHSCORES', 'LIMIT', 0, 1)
    )
    if not receipt then return false end
    local id, score, attempt, deaths = read_receipt(receipt)
    if reclaim(receipt, id) then
      local dead = deaths_after(deaths, tonumber(ended))
      local asked = has_controls and limits().of(id)
      local line, turn
      if asked then line, turn = limits().kept_by(asked) end
      if line then
        set_meta(id, 0, attempt, dead)
        limits().keep(id, score, line, turn, asked)
        limits().promote_next(asked)
      else
        lease_out({ id }, { whole(score) }, ends, { attempt + 1 }, { dead })
        if asked and #leased > 0 then limits().start(asked, leased[#leased - 1]) end
        if #leased > 0 then return true end
      end
    end
  end
end

local function promote_due()
  local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', whole(now), 'LIMIT', 0, 1000)
  for _, id in ipairs(due) do
    local priority, attempt, deaths = get_meta(id)
    redis.call('ZREM', DELAYED, id)
    redis.call('ZADD', READY, whole(next_score(priority, true)), id)
    set_meta(id, 0, attempt, deaths)
  end
end

-- Attempts and deaths of tasks, and how many of these go together: a task with deaths goes alone.
local function attempts_of(ids)
  local attempts, deaths = {}, {}
  for index, packed in ipairs(redis.call('HMGET', META, unpack(ids))) do
    local meta = packed and unpacked(packed) or {}
    attempts[index], deaths[index] = (tonumber(meta[2]) or 0) + 1, tonumber(meta[3]) or 0
    if deaths[index] > 0 then
      held_up = index > 1 or not alone
      return attempts, deaths, held_up and index - 1 or 1
    end
  end
  return attempts, deaths, #ids
end

-- Take tasks one by one, as some have a limit or a rate, and keep those back that may not start.
local function take_controlled()
  local kept = 0
  while #leased < 2 * limit do
    local first = math.max(limit - #leased / 2, 50)
    local ids, scores = split_pairs(redis.call('ZRANGE', READY, 0, first - 1, 'WITHSCORES'))
    if #ids == 0 then return end
    local fields = {}
    for index, id in ipairs(ids) do fields[index] = ':' .. id end
    local texts, metas = redis.call('HMGET', CONTROLS, unpack(fields)), redis.call('HMGET', META, unpack(ids))
    for index, id in ipairs(ids) do
      local asked, line, turn = texts[index] and limits().read(texts[index]), nil, nil
      if asked then line, turn = limits().kept_by(asked) end
      if line then
        limits().keep(id, tonumber(scores[index]), line, turn, asked)
        kept = kept + 1
      else
        local meta = metas[index] and unpacked(metas[index]) or {}
        local attempt, deaths = (tonumber(meta[2]) or 0) + 1, tonumber(meta[3]) or 0
        if deaths > 0 and (#leased > 0 or not alone) then
          held_up = true
          return
        end
        redis.call('ZREM', READY, id)
        redis.call('HDEL', META, id)
        local before = #leased
        lease_out({ id }, { scores[index] }, ends, { attempt }, { deaths })
        if asked and #leased > before then limits().start(asked, leased[#leased - 1]) end
        if deaths > 0 or #leased >= 2 * limit then return end
      end
    end
    if kept >= MOST_KEPT then
      more = true
      return
    end
  end
end

local function take_ready()
  if has_controls then
    limits().promote_turns()
    return take_controlled()
  end
  local ids, scores = split_pairs(redis.call('ZRANGE', READY, 0, limit - 1, 'WITHSCORES'))
  if #ids == 0 then return end
  local attempts, deaths
  if redis.call('EXISTS', META) == 1 then
    local count
    attempts, deaths, count = attempts_of(ids)
    if count == 0 then return end
    for index = #ids, count + 1, -1 do ids[index] = nil end
    redis.call('HDEL', META, unpack(ids))
  end
  redis.call('ZREMRANGEBYRANK', READY, 0, #ids - 1)
  lease_out(ids, scores, ends, attempts, deaths)
end

if not (alone and redis.call('EXISTS', LEASES) == 1 and expired()) then
  if redis.call('EXISTS', DELAYED) == 1 then promote_due() end
  take_ready()
end
if #leased > 0 or #ARGV > 5 then wake_if_more() end
local soon = -1
if #leased == 0 and wait > 0 then
  soon = next_change()
  if soon == 0 then soon = 1 end
  if redis.call('PTTL', WAITING) < wait then
    redis.call('SET', WAITING, 1, 'PX', whole(wait + WAIT_MARGIN))
  end
end
if #leased == 0 and more then return reply(refused, 0) end
if #leased == 0 and not held_up and any_data() and count_lost() > 0 then
  soon = -4 - soon
end
return reply(refused, held_up and -2 or soon)
