#!lua flags=allow-oom
-- include: states dependencies
-- ARGV: 1 receipt  2 error  3 traceback  4 attempts  5 data, if not that of the delivery
-- Returns: 1, or 0 if the lease was overtaken
if redis.call('ZREM', LEASES, ARGV[1]) == 0 then return 0 end
local id, score = read_receipt(ARGV[1])
limits().drop_holder(ARGV[1], id)
local data = ARGV[5] or redis.call('HGET', DATA, id) or ''
local letter = { data, ARGV[2], ARGV[3], tonumber(ARGV[4]), priority_of(score) }
local controls = redis.call('HGET', CONTROLS, ':' .. id)
if controls then letter[6], letter[7] = false, controls end -- the sixth: see overrule()
redis.call('HSET', DEAD, id, cmsgpack.pack(letter))
redis.call('ZADD', GRAVES, whole(now), id)
remove_task(id)
local deps = dependencies()
if deps.any() then deps.cancel(id, deps.because(id, 'failed', ARGV[2])) end
wake_if_more()
return 1
