#!lua flags=no-writes
-- idempotent
-- include: states
-- Returns: how many wait, are delayed, run, are dead; the first id in line; now; how many are held
-- A task that has lost its place counts as waiting: it gets another one.
local kept = redis.call('ZCARD', part_key('kept'))
local waiting =
  redis.call('ZCARD', READY) + kept + redis.call('HLEN', AFTER) + math.max(0, count_lost())
local first, best = '', nil
for _, key in ipairs({ READY, part_key('kept') }) do
  local found = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if found[2] and (not best or tonumber(found[2]) < best) then
    first, best = found[1], tonumber(found[2])
  end
end
return {
  waiting,
  redis.call('ZCARD', DELAYED),
  redis.call('ZCARD', LEASES),
  redis.call('ZCARD', GRAVES),
  first,
  now,
  redis.call('HLEN', HELD) - kept,
}
