#!lua flags=allow-oom
-- idempotent
-- include: states dependencies
-- Removes all of a queue, but not the marks of clients that wait for it, or watch, nor its pause.
-- Links between children and parents go first, some in each call.
-- ARGV: 1 how many links
-- Returns: 1: call it again; 0: all is gone
local deps = dependencies()
local limit = tonumber(ARGV[1])

-- A member of WAITS or CHILDREN: an id; the queue and the id that it is linked to.
local function parse(member)
  local length, rest = string.match(member, '^(%d+):(.*)$')
  length = tonumber(length)
  local queue, other = string.match(string.sub(rest, length + 2), '^([^:]*):(.*)$')
  return string.sub(rest, 1, length), queue, other
end

local waits = redis.call('ZRANGE', WAITS, 0, limit - 1)
for _, member in ipairs(waits) do
  local id, queue, parent = parse(member)
  redis.call('HDEL', HELD, id)
  redis.call('HDEL', DATA, id) -- else it could run if its other parents succeed
  redis.call('ZREM', WAITS, member)
  local link = deps.link(parent, own_queue(), id)
  redis.call('ZREM', deps.part(queue, 'children'), link)
end
if #waits == limit then return 1 end

local links = redis.call('ZRANGE', CHILDREN, 0, limit - 1)
for _, member in ipairs(links) do
  local id = parse(member)
  deps.cancel(id, deps.because(id, 'was canceled', 'its queue was emptied'))
  redis.call('ZREM', CHILDREN, member)
end
if #links == limit then return 1 end

local paused = redis.call('HGET', CONTROLS, 'paused')
redis.call('UNLINK', since_key())
redis.pcall('SREM', 'alligator:queues', own_queue())
for _, name in ipairs({ 'kept', 'lines', 'holders', 'rates', 'turns' }) do
  redis.call('UNLINK', part_key(name))
end
for _, key in ipairs(KEYS) do
  if key ~= WAITING and key ~= WATCHED then redis.call('UNLINK', key) end
end
if paused then redis.call('HSET', CONTROLS, 'paused', paused) end
return 0
