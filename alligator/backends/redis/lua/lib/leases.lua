-- include: keys_and_time
-- Leasing tasks and ending leases. Includes little, as reserve.lua mostly needs no more than this.

local AT_ONCE = 1000 -- values in one call; Lua takes some thousands
local LONG = 262144 -- bytes that are joined into one string
local HEAD_LENGTH = 54 -- bytes of a receipt before its score; receipt_head() fills them up
local HEAD_FORMAT = '%-54s'

local leased, sizes, length = {}, {}, 0 -- receipts and data by turns, their sizes, all of them
local call_name = '' -- of this call, in its receipts, for reserve_again.lua: 20 characters or fewer

-- How a receipt begins. No other ever has the same time, score and id: each push has a new score,
-- and each lease between two pushes a higher attempt. With a score it is longer than 64 bytes; the
-- server would keep shorter members in a list, and walk through it for each lease.
local function receipt_head(attempt, deaths)
  local head = whole(now) .. call_name .. ':' .. attempt .. ':' .. deaths .. ':'
  return string.format(HEAD_FORMAT, head)
end

-- Lease tasks that are off the queue; their scores are text. The receipts say the attempts (nil:
-- all are 1) and deaths (nil: none).
local function lease_out(ids, scores, ends, attempts, deaths)
  local found = redis.call('HMGET', DATA, unpack(ids))
  local usual, until_then, adding = receipt_head(1, 0), whole(ends), {}
  for index, data in ipairs(found) do
    if data then
      local attempt, died = attempts and attempts[index] or 1, deaths and deaths[index] or 0
      local begins = attempt == 1 and died == 0 and usual or receipt_head(attempt, died)
      local receipt = begins .. scores[index] .. ':' .. ids[index]
      local last = #adding
      adding[last + 1], adding[last + 2] = until_then, receipt
      last = #leased
      leased[last + 1], leased[last + 2] = receipt, data
      sizes[#sizes + 1] = struct.pack('>I4I4', #receipt, #data)
      length = length + #receipt + #data
      if notify then notify(ids[index]) end -- nil before states.lua: no client watches then
    else -- it is lost
      redis.call('HDEL', DATA, HISTORY)
    end
  end
  if #adding > 0 then redis.call('ZADD', LEASES, unpack(adding)) end
end

-- Whether there may be tasks.
local function any_data()
  local count = redis.pcall('HLEN', DATA)
  if type(count) ~= 'number' or count > 1 then return true end -- or the user may not ask
  return count == 1 and redis.call('HEXISTS', DATA, HISTORY) == 0
end

-- The reply of a script that leased: how many acks were refused and their indices, how many tasks
-- were leased, microseconds until the next change; then sizes, receipts and data. One string costs
-- a client much less than many do, unless it is so long that copying costs more.
local function reply(refused, soon)
  local begins = struct.pack('>i8I4I4', soon, #refused, #leased)
  for _, each in ipairs(refused) do begins = begins .. struct.pack('>I4', each) end
  if length > LONG then
    table.insert(leased, 1, begins)
    return leased
  end
  return begins .. table.concat(sizes) .. table.concat(leased)
end

-- End the leases of tasks that are done. Return the indices of the overtaken ones; the ids; whether
-- ids of the user's own are among them; and whether the queue has anything but ordinary tasks.
local function end_leases(first, last)
  local refused, ids, own = {}, {}, false
  for index = first, last do
    local receipt = ARGV[index]
    local ends = redis.call('ZREM', LEASES, receipt) == 1 and string.find(receipt, ':', HEAD_LENGTH + 1, true)
    if ends then
      local id = string.sub(receipt, ends + 1)
      ids[#ids + 1], own = id, own or not is_generated(id)
    else
      refused[#refused + 1] = index - first
    end
  end
  local special = own
    or redis.call('EXISTS', DELAYED, META, AFTER, WATCHED, CHILDREN, WAITING, CONTROLS) > 0
  return refused, ids, own, special
end

-- Take tasks off the queue whose leases have ended, with the receipts from one argument on.
local function remove_done(ids, own, special, first)
  if own then have_succeeded(ids) end
  if special and redis.call('EXISTS', AFTER, WATCHED, CHILDREN, CONTROLS) > 0 then
    if redis.call('EXISTS', CONTROLS) == 1 then
      for index = first, #ARGV do limits().drop_holder(ARGV[index], (read_receipt(ARGV[index]))) end
    end
    for _, id in ipairs(ids) do
      remove_task(id)
      dependencies().release(id)
    end
    return
  end
  for start = 1, #ids, AT_ONCE do
    redis.call('HDEL', DATA, unpack(ids, start, math.min(start + AT_ONCE - 1, #ids)))
  end
end

local function ack(first, last)
  local refused, ids, own, special = end_leases(first, last)
  remove_done(ids, own, special, first)
  return refused
end
