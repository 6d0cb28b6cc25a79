#!lua flags=allow-oom
-- Removes all of a queue, but not the marks of those who wait for it, or watch.
local family = children()
if redis.call('EXISTS', HELD) == 1 then
  for _, id in ipairs(redis.call('HKEYS', HELD)) do family.drop_held(id) end
end
if family.any() then
  for _, member in ipairs(redis.call('ZRANGE', CHILDREN, 0, -1)) do
    local length, rest = string.match(member, '^(%d+):(.*)$')
    local id = string.sub(rest, 1, tonumber(length))
    family.cancel(id, family.because(id, 'was canceled', 'its queue was emptied'))
  end
end
redis.call('UNLINK', since_key())
for _, key in ipairs(KEYS) do
  if key ~= WAITING and key ~= WATCHED then redis.call('UNLINK', key) end
end
return 0
