#!lua flags=allow-oom
-- ARGV: 1 limit  2 lease  3 whether nothing was taken elsewhere yet (1)
--       4 milliseconds that the caller is willing to wait  5... receipts to ack
-- Returns: indices of refused acks; id, data, receipt, attempt, deaths of each task leased;
--          microseconds until the next change (-1: none in sight; -2: a task that has to go
--          alone comes next, so that later queues have to wait for it as well)
local limit, ends = tonumber(ARGV[1]), now + math.min(tonumber(ARGV[2]), MAX_LEASE)
local alone, wait = ARGV[3] == '1', tonumber(ARGV[4])
local refused = acked(5, #ARGV)
local held_up = false

local function expired()
  -- A clock that was set back must not make a lease immortal.
  local far = redis.call('ZRANGEBYSCORE', LEASES, '(' .. whole(now + MAX_LEASE), '+inf')
  for _, receipt in ipairs(far) do
    redis.call('ZADD', LEASES, whole(now + MAX_LEASE), receipt)
  end
  while true do
    local receipt = redis.call('ZRANGEBYSCORE', LEASES, '-inf', whole(now), 'LIMIT', 0, 1)[1]
    if not receipt then return false end
    local id, score, attempt, deaths = read_receipt(receipt)
    if reclaim(receipt, id) then
      lease_out(id, score, attempt + 1, deaths + 1, ends)
      if #leased > 0 then return true end
    end
  end
end

local function promote_due()
  local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', whole(now), 'LIMIT', 0, 1000)
  for _, id in ipairs(due) do
    local priority, attempt, deaths = get_meta(id)
    redis.call('ZREM', DELAYED, id)
    redis.call('ZADD', READY, whole(place(priority, true)), id)
    set_meta(id, 0, attempt, deaths)
  end
end

local function take_ready()
  local first = redis.call('ZRANGE', READY, 0, limit - 1, 'WITHSCORES')
  local has_meta = redis.call('EXISTS', META) == 1
  local taken = 0
  for index = 1, #first, 2 do
    local id, score, attempt, deaths = first[index], tonumber(first[index + 1]), 0, 0
    if has_meta then
      local _
      _, attempt, deaths = get_meta(id)
      held_up = deaths > 0 and (taken > 0 or not alone)
      if held_up then break end
      redis.call('HDEL', META, id)
    end
    taken = taken + 1
    lease_out(id, score, attempt + 1, deaths, ends)
    if deaths > 0 then break end
  end
  if taken > 0 then redis.call('ZREMRANGEBYRANK', READY, 0, taken - 1) end
end

if not (alone and redis.call('EXISTS', LEASES) == 1 and expired()) then
  if redis.call('EXISTS', DELAYED) == 1 then promote_due() end
  take_ready()
end
if #leased > 0 or #ARGV > 4 then wake_if_more() end
local soon = -1
if #leased == 0 and wait > 0 then
  soon = next_change()
  if redis.call('PTTL', WAITING) < wait then
    redis.call('SET', WAITING, 1, 'PX', whole(wait + 1000))
  end
end
return { refused, leased, held_up and -2 or soon }
