#!lua flags=no-writes
-- idempotent
-- include: states dependencies
-- ARGV: 1 the part of the queue: 'ready', 'kept', 'following', 'delayed', 'held' or 'dead'
--       2 how many tasks at most  3 the score and  4 the id after which to go on; 3 is '' for: from
--       the beginning
-- Returns: 1 if there are more, else 0; and of each task its id, score (text), data, priority,
--          attempts, error and deaths. Fewer than asked for if they have many megabytes of data
local MOST_DATA = 4194304
local part, limit, last_score, last_id = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local found, size = {}, 0

-- Whether one text comes before another on the server. (Lua would ask the locale.)
local function comes_before(one, other)
  for index = 1, math.min(#one, #other) do
    local left, right = string.byte(one, index), string.byte(other, index)
    if left ~= right then return left < right end
  end
  return #one < #other
end

-- How many members of a sorted set come before those to list.
local function rank_after(key)
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. last_score)
  local high = redis.call('ZCOUNT', key, '-inf', last_score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if comes_before(last_id, redis.call('ZRANGE', key, middle, middle)[1]) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- How many come before those to list, in a set that is listed backwards.
local function reverse_rank_after(key)
  local low = redis.call('ZCOUNT', key, '(' .. last_score, '+inf')
  local high = redis.call('ZCOUNT', key, last_score, '+inf')
  while low < high do
    local middle = math.floor((low + high) / 2)
    if comes_before(redis.call('ZREVRANGE', key, middle, middle)[1], last_id) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- Add a task; false: the page is full.
local function add(id, score, data, priority, attempts, error, deaths)
  if #found == limit or size > MOST_DATA then return false end
  found[#found + 1] = { id, score, data, priority, attempts, error or '', deaths or 0 }
  size = size + #data
  return true
end

local function list_set(key, describe)
  local first = last_score == '' and 0 or rank_after(key)
  local some = redis.call('ZRANGE', key, first, first + limit, 'WITHSCORES')
  for index = 1, #some, 2 do
    local id, score = some[index], some[index + 1]
    local priority, attempts, deaths = describe(id, tonumber(score))
    local data = redis.call('HGET', DATA, id) or ''
    if not add(id, score, data, priority, attempts, '', deaths) then return 1 end
  end
  return 0
end

local function list_by_priority(key)
  return list_set(key, function(id, score)
    local _, attempts, deaths = get_meta(id)
    return priority_of(score), attempts, deaths
  end)
end

local function list_ready() return list_by_priority(READY) end

local function list_kept() return list_by_priority(part_key('kept')) end

local function list_delayed() return list_set(DELAYED, get_meta) end

local function list_following()
  local ids = redis.call('HKEYS', AFTER)
  table.sort(ids, comes_before)
  for _, id in ipairs(ids) do
    if last_score == '' or comes_before(last_id, id) then
      local packed = redis.call('HGET', AFTER, id)
      local after = unpacked(packed)
      if not add(id, '0', tostring(after[1] or packed), tonumber(after[2]) or 0, 0) then return 1 end
    end
  end
  return 0
end

-- In the order of the links of children to their parents: that of the lengths of ids, and of ids.
local function list_held()
  local low = '-'
  if last_score ~= '' then low = '(' .. #last_id .. ':' .. last_id .. ':\255' end
  while true do
    local link = redis.call('ZRANGEBYLEX', WAITS, low, '+', 'LIMIT', 0, 1)[1]
    if not link then return 0 end
    local length, rest = string.match(link, '^(%d+):(.*)$')
    local id = string.sub(rest or '', 1, tonumber(length) or 0)
    local packed = redis.call('HGET', HELD, id)
    if packed then
      local priority = tonumber(unpacked(packed)[1]) or 0
      if not add(id, '0', redis.call('HGET', DATA, id) or '', priority, 0) then return 1 end
    end
    low = length and '(' .. length .. ':' .. id .. ':\255' or '(' .. link
  end
end

local function list_dead()
  local first = last_score == '' and 0 or reverse_rank_after(GRAVES)
  local graves = redis.call('ZREVRANGE', GRAVES, first, first + limit, 'WITHSCORES')
  for index = 1, #graves, 2 do
    local id, score = graves[index], graves[index + 1]
    local packed = redis.call('HGET', DEAD, id) or ''
    local letter = unpacked(packed)
    local priority, attempts = tonumber(letter[5]) or 0, tonumber(letter[4]) or 0
    local data, error = tostring(letter[1] or packed), tostring(letter[2] or 'It cannot be read.')
    if not add(id, score, data, priority, attempts, error) then return 1 end
  end
  return 0
end

local list = {
  ready = list_ready, following = list_following, delayed = list_delayed, held = list_held,
  dead = list_dead, kept = list_kept,
}
local more = list[part]()
return { more, found }
