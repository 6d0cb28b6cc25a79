#!lua flags=allow-oom
-- Take the report of a worker. All these keys share a hash tag, apart from those of queues.
-- KEYS: 1 live (HASH worker to 'seen until' and its view)  2 ends (ZSET worker)
--       3 recent (LIST, the newest first)  4 minutes (ZSET of those with activity)
--       then one HASH per minute; documents to set; documents to return
-- ARGV: 1 worker  2 microseconds that it counts as alive, or 0  3 its view, after 'v'; '': as it
--       was  4 how many minutes  5 how many rows  6 how many tasks have ended  7 how many
--       documents to set  8 what separates queue and function  9 the name for other functions
--       10 places of maxima: ' 8 10 '
--       then of each minute its Unix seconds; of each row the number of its minute, queue,
--       function and numbers; the tasks, oldest first; of each document milliseconds and text
-- Returns: the documents asked for
-- constants: KEEP_ACTIVITY KEEP_LOST MAX_RECENT MAX_ROWS SINGLE_ROWS
local LIVE, ENDS, RECENT, MINUTES = unpack(KEYS)
local worker, minutes, rows, tasks, documents =
  ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local separator, others, maxima = ARGV[8], ARGV[9], ARGV[10]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local at = 11

local function whole(number) return string.format('%.0f', number) end

local function take()
  at = at + 1
  return ARGV[at - 1]
end

local function list()
  for _, lost in ipairs(redis.call('ZRANGEBYSCORE', ENDS, '-inf', whole(now - KEEP_LOST))) do
    redis.call('HDEL', LIVE, lost)
    redis.call('ZREM', ENDS, lost)
  end
  local length = tonumber(ARGV[2])
  if length == 0 then
    redis.call('HDEL', LIVE, worker)
    redis.call('ZREM', ENDS, worker)
    return
  end
  local view = string.sub(ARGV[3], 2)
  if ARGV[3] == '' then
    local known = redis.call('HGET', LIVE, worker)
    if not known then return end
    view = string.match(known, '\n(.*)')
  end
  redis.call('HSET', LIVE, worker, whole(now) .. ' ' .. whole(now + length) .. '\n' .. view)
  redis.call('ZADD', ENDS, whole(now + length), worker)
  local longest = redis.call('ZREVRANGE', ENDS, 0, 0, 'WITHSCORES')[2]
  local keep = whole((tonumber(longest) - now + KEEP_LOST) / 1000)
  redis.call('PEXPIRE', LIVE, keep)
  redis.call('PEXPIRE', ENDS, keep)
end

-- The row under which something is added up in a minute: see row_for() in activity_sums.py.
local function field_for(key, queue, name)
  local own, rest = queue .. separator .. name, queue .. separator .. others
  if redis.call('HEXISTS', key, own) == 1 then return own end
  local count = redis.call('HLEN', key)
  if count < SINGLE_ROWS then return own end
  if redis.call('HEXISTS', key, rest) == 1 or count < MAX_ROWS - 1 then return rest end
  return separator .. others
end

local function added(standing, numbers)
  local total, place = {}, 0
  for each in string.gmatch(standing, '%S+') do total[#total + 1] = tonumber(each) end
  for each in string.gmatch(numbers, '%S+') do
    place = place + 1
    local one, other = total[place] or 0, tonumber(each)
    local largest = string.find(maxima, ' ' .. place .. ' ', 1, true)
    total[place] = largest and math.max(one, other) or one + other
  end
  for index, each in ipairs(total) do total[index] = string.format('%.17g', each) end
  return table.concat(total, ' ')
end

list()
for index = 1, minutes do
  local minute = take()
  if minute * 1000000 + KEEP_ACTIVITY * 1000 > now then
    redis.call('ZADD', MINUTES, minute, minute)
  end
end
for _ = 1, rows do
  local number = tonumber(take())
  local key, minute = KEYS[4 + number], tonumber(ARGV[10 + number])
  local queue, name, numbers = take(), take(), take()
  if minute * 1000000 + KEEP_ACTIVITY * 1000 > now then
    local field = field_for(key, queue, name)
    redis.call('HSET', key, field, added(redis.call('HGET', key, field) or '', numbers))
    redis.call('PEXPIREAT', key, whole(minute * 1000 + KEEP_ACTIVITY))
  end
end
if rows > 0 then
  redis.call('ZREMRANGEBYSCORE', MINUTES, '-inf', whole((now / 1000 - KEEP_ACTIVITY) / 1000))
  redis.call('PEXPIRE', MINUTES, KEEP_ACTIVITY)
end
for _ = 1, tasks do redis.call('LPUSH', RECENT, take()) end
if tasks > 0 then
  redis.call('LTRIM', RECENT, 0, MAX_RECENT - 1)
  redis.call('PEXPIRE', RECENT, KEEP_ACTIVITY)
end
local first = 4 + minutes
for index = 1, documents do
  local keep, text = take(), take()
  if text == '' then
    redis.call('UNLINK', KEYS[first + index])
  else
    redis.call('SET', KEYS[first + index], text, 'PX', keep)
  end
end
local found = {}
for index = first + documents + 1, #KEYS do
  found[#found + 1] = redis.call('GET', KEYS[index])
end
return found
