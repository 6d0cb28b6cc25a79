#!lua flags=allow-oom
-- include: keys_and_time
-- ARGV: ids of dead letters
-- Returns: how many of them were deleted
local deleted = 0
for _, id in ipairs(ARGV) do
  redis.call('HDEL', DEAD, id)
  deleted = deleted + redis.call('ZREM', GRAVES, id)
end
return deleted
