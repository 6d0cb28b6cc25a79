#!lua flags=allow-oom
-- include: states dependencies
-- ARGV: of each dead letter to put back: id, time of death and the data to queue; or the last two
--       empty: whenever it died, with its own data. Or two numbers: how many of the oldest, and how
--       many of these to leave out
-- Returns: how many were put back; how many were looked at
local chosen = ARGV
if #chosen == 2 then
  chosen = {}
  local first = tonumber(ARGV[2])
  for _, id in ipairs(redis.call('ZRANGE', GRAVES, first, first + tonumber(ARGV[1]) - 1)) do
    local last = #chosen
    chosen[last + 1], chosen[last + 2], chosen[last + 3] = id, '', ''
  end
end
local revived = 0
for index = 1, #chosen, 3 do
  local id, died_at = chosen[index], chosen[index + 1]
  local packed = redis.call('HGET', DEAD, id)
  -- Not a later letter of the same id.
  local died = tonumber(redis.call('ZSCORE', GRAVES, id) or nil)
  local same = died_at == '' or died == tonumber(died_at)
  if packed and same and redis.call('HEXISTS', DATA, id) == 0 then
    local letter = unpacked(packed)
    if not with_key((unique_in(letter[7]))) then
      redis.call('HDEL', DEAD, id)
      redis.call('ZREM', GRAVES, id)
      local data = died_at == '' and (letter[1] or packed) or chosen[index + 2]
      enqueue(id, data, tonumber(letter[5]) or 0, 0, letter[7])
      revived = revived + 1
    end
  end
end
if revived > 0 then wake() end
return { revived, #chosen / 3 }
