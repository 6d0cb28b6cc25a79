#!lua flags=allow-oom
-- include: leases states dependencies
-- ARGV: 1 the id of the task to lease  2 lease  3 the name of this call  4... receipts to ack
-- Returns: as reserve.lua
local wanted, ends = ARGV[1], now + math.min(tonumber(ARGV[2]), MAX_LEASE)
call_name = ARGV[3]
local refused = ack(4, #ARGV)

for _, receipt in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', whole(now))) do
  local id, score, attempt, deaths = read_receipt(receipt)
  local ended = id == wanted and tonumber(redis.call('ZSCORE', LEASES, receipt))
  if ended and reclaim(receipt, id) then
    lease_out({ id }, { whole(score) }, ends, { attempt + 1 }, { deaths_after(deaths, ended) })
    break
  end
end
local function is_lost(id)
  return redis.call('HEXISTS', DATA, id) == 1
    and not redis.call('ZSCORE', DELAYED, id)
    and redis.call('HEXISTS', HELD, id) == 0
    and not is_leased(id)
end

if #leased == 0 then
  local priority, attempt, deaths = get_meta(wanted)
  local score = tonumber(redis.call('ZSCORE', READY, wanted) or nil)
  if not score and is_lost(wanted) then
    requeue(wanted)
    score = tonumber(redis.call('ZSCORE', READY, wanted) or nil)
  end
  if score then
    redis.call('ZREM', READY, wanted)
  elseif redis.call('ZREM', DELAYED, wanted) == 1 then
    score = next_score(priority, false)
  end
  if score then
    redis.call('HDEL', META, wanted)
    lease_out({ wanted }, { whole(score) }, ends, { attempt + 1 }, { deaths })
  end
end
wake_if_more()
return reply(refused, -1)
