#!lua flags=allow-oom
-- KEYS: 1 the workers of a queue: HASH of name to 'seen until queues'; under '' the last seen
-- ARGV: 1 name  2 microseconds that it counts as alive; 0: it says goodbye  3 its queues
-- Killed workers are dropped when a new one comes.
local DAY = 86400000000
local ends = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], '', whole(now))
if ends == now then
  redis.call('HDEL', KEYS[1], ARGV[1])
elseif redis.call('HSET', KEYS[1], ARGV[1], whole(now) .. ' ' .. whole(ends) .. ' ' .. ARGV[3]) == 1 then
  local all = redis.call('HGETALL', KEYS[1])
  for index = 1, #all, 2 do
    local theirs = tonumber(string.match(all[index + 1], '^%d+ (%d+)'))
    if theirs and theirs < now then redis.call('HDEL', KEYS[1], all[index]) end
  end
end
redis.call('PEXPIRE', KEYS[1], whole(math.max(DAY, tonumber(ARGV[2])) / 1000))
return 1
