-- What the scripts that lease share; follows common.lua.

local leased = {}

local function lease_out(id, score, attempt, deaths, ends)
  local data = redis.call('HGET', DATA, id)
  if not data then return end
  local token = whole(now) .. '-' .. whole(redis.call('INCR', SEQ))
  local receipt = token .. ':' .. attempt .. ':' .. deaths .. ':' .. whole(score) .. ':' .. id
  redis.call('ZADD', LEASES, whole(ends), receipt)
  tell(id)
  for _, each in ipairs({ id, data, receipt, attempt, deaths }) do
    leased[#leased + 1] = each
  end
end

-- Take an expired lease away; true: its task is to be run again, false: it gave way.
local function reclaim(receipt, id)
  redis.call('ZREM', LEASES, receipt)
  if redis.call('HEXISTS', AFTER, id) == 1 then
    settle(id)
    return false
  end
  return true
end

local function acked(first, last)
  local refused = {}
  for index = first, last do
    if redis.call('ZREM', LEASES, ARGV[index]) == 1 then
      local id = read_receipt(ARGV[index])
      settle(id)
      release(id)
    else
      refused[#refused + 1] = index - first
    end
  end
  return refused
end
