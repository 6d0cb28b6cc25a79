#!lua flags=allow-oom
-- ARGV: ids of the dead letters to put back; none: all of them
-- Returns: how many were put back
local chosen = #ARGV > 0 and ARGV or redis.call('ZRANGE', GRAVES, 0, -1)
local revived = 0
for _, id in ipairs(chosen) do
  local packed = redis.call('HGET', DEAD, id)
  if packed and redis.call('HEXISTS', DATA, id) == 0 then
    local letter = unpacked(packed)
    redis.call('HDEL', DEAD, id)
    redis.call('ZREM', GRAVES, id)
    put(id, letter[1] or packed, tonumber(letter[5]) or 0, 0)
    revived = revived + 1
  end
end
if revived > 0 then wake() end
return revived
