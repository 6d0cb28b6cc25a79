#!lua flags=allow-oom
-- include: states dependencies
-- constants: PUT_ASIDE
-- ARGV: 1 receipt  2 due time (0: now)  3 new data
--       4 given: the task was not run, and keeps its deaths
-- Returns: 1, or 0 if the lease was overtaken
if redis.call('ZREM', LEASES, ARGV[1]) == 0 then return 0 end
local id, score, attempt, deaths = read_receipt(ARGV[1])
local due = tonumber(ARGV[2])
local asked = limits().drop_holder(ARGV[1], id)
if redis.call('HEXISTS', AFTER, id) == 1 then
  remove_task(id)
elseif not ARGV[3] and due <= now then
  redis.call('ZADD', READY, whole(score), id)
  set_meta(id, 0, attempt, deaths)
else
  if ARGV[3] then
    redis.call('HSET', DATA, id, ARGV[3])
    if not ARGV[4] then deaths = 0 end
  end
  put_at_tail(id, priority_of(score), due, attempt, deaths)
end
if asked then
  if not ARGV[3] or ARGV[4] then limits().give_back(asked) end
  -- A suspect that is put aside finds its place free.
  local aside = not ARGV[3] and deaths > 0 and due > now and due - now <= PUT_ASIDE
  if not aside then limits().promote_next(asked) end
end
wake()
return 1
