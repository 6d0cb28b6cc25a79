#!lua flags=allow-oom
-- include: keys_and_time
-- ARGV: 1 age in microseconds  2 how many at most
-- Returns: how many dead letters were deleted
local limit = whole(now - tonumber(ARGV[1]))
local old = redis.call('ZRANGEBYSCORE', GRAVES, '-inf', limit, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(old) do
  redis.call('HDEL', DEAD, id)
  redis.call('ZREM', GRAVES, id)
end
return #old
