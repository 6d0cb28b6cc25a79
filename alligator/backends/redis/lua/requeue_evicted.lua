#!lua flags=allow-oom
-- include: states dependencies
-- Looks through a part of the tasks of a queue; a task with data but no place gets a new one.
-- ARGV: 1 where to go on (0: at the beginning)  2 how many to look at, about
-- Returns: where to go on, 0: nothing is lost any more, or all were looked at; how many got a place
if count_lost() <= 0 then return { '0', 0 } end
local cursor, found = unpack(redis.call('HSCAN', DATA, ARGV[1], 'COUNT', ARGV[2]))
local leased -- ids on lease; read when needed
local count = 0

local function runs(id)
  if not leased then
    leased = {}
    for _, receipt in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do
      leased[read_receipt(receipt) or ''] = true
    end
  end
  return leased[id]
end

for index = 1, #found, 2 do
  local id = found[index]
  local waits = redis.call('ZSCORE', READY, id) or redis.call('ZSCORE', DELAYED, id)
  if id ~= HISTORY and not waits and redis.call('HEXISTS', HELD, id) == 0 and not runs(id) then
    requeue(id)
    count = count + 1
  end
end
position()
wake()
return { cursor, count }
