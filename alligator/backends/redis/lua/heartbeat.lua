#!lua flags=allow-oom
-- idempotent
-- include: keys_and_time
-- KEYS: of each queue its workers: HASH of name to 'seen until queues'; under '' the last seen
-- ARGV: 1 name  2 microseconds that the worker counts as alive; 0: it has ended  3 its queues
-- Killed workers are dropped when a new one comes.
local DAY = 86400000000
local ends = now + tonumber(ARGV[2])

local function drop_killed(key)
  local all = redis.call('HGETALL', key)
  for index = 1, #all, 2 do
    local alive_until = tonumber(string.match(all[index + 1], '^%d+ (%d+)'))
    if alive_until and alive_until < now then redis.call('HDEL', key, all[index]) end
  end
end

for _, key in ipairs(KEYS) do
  if ends == now then
    redis.call('HSET', key, '', whole(now))
    redis.call('HDEL', key, ARGV[1])
  else
    local sign = whole(now) .. ' ' .. whole(ends) .. ' ' .. ARGV[3]
    if redis.call('HSET', key, '', whole(now), ARGV[1], sign) > 0 then drop_killed(key) end
  end
  redis.call('PEXPIRE', key, whole(math.max(DAY, tonumber(ARGV[2])) / 1000))
end
return 1
