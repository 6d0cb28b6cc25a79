#!lua flags=allow-oom
-- include: leases states dependencies
-- ARGV: 1 the id of the task to lease  2 lease  3 whether it is not to run, so that no limit and no
--       rate keeps it back (1)  4 the name of this call  5... receipts to ack
-- Returns: as reserve.lua
local wanted, ends = ARGV[1], now + math.min(tonumber(ARGV[2]), MAX_LEASE)
call_name = ARGV[4]
local refused = ack(5, #ARGV)

local asked = limits().of(wanted)
if ARGV[3] == '1' then asked = nil end
local function lease_wanted(score, attempt, deaths)
  lease_out({ wanted }, { whole(score) }, ends, { attempt + 1 }, { deaths })
  if asked and #leased > 0 then limits().start(asked, leased[#leased - 1]) end
end

for _, receipt in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', whole(now))) do
  local id, score, attempt, deaths = read_receipt(receipt)
  local ended = id == wanted and tonumber(redis.call('ZSCORE', LEASES, receipt))
  if ended and reclaim(receipt, id) then
    local line, turn
    if asked then line, turn = limits().kept_by(asked) end
    if line then
      set_meta(id, 0, attempt, deaths_after(deaths, ended))
      limits().keep(id, score, line, turn, asked)
      limits().promote_next(asked)
    else
      lease_wanted(score, attempt, deaths_after(deaths, ended))
    end
    break
  end
end
local function is_lost(id)
  return redis.call('HEXISTS', DATA, id) == 1
    and not redis.call('ZSCORE', DELAYED, id)
    and redis.call('HEXISTS', HELD, id) == 0
    and not is_leased(id)
end

if #leased == 0 and not (asked and limits().kept_by(asked)) then
  local priority, attempt, deaths = get_meta(wanted)
  local score = tonumber(redis.call('ZSCORE', READY, wanted) or nil)
  if not score and is_lost(wanted) then
    requeue(wanted)
    score = tonumber(redis.call('ZSCORE', READY, wanted) or nil)
  end
  local kept = not score and limits().drop(wanted)
  if score then
    redis.call('ZREM', READY, wanted)
    if not asked then limits().promote_next(limits().of(wanted)) end
  elseif kept then
    score = kept
  elseif redis.call('ZREM', DELAYED, wanted) == 1 then
    score = next_score(priority, false)
  end
  if score then
    redis.call('HDEL', META, wanted)
    lease_wanted(score, attempt, deaths)
  end
end
wake_if_more()
return reply(refused, -1)
