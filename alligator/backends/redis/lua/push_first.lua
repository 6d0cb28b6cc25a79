#!lua
-- The first push of a process.
-- ARGV: as for push
-- Returns: the position; and what the server does when its memory is full ('': it does not say)
for index = begin_pushes(), #ARGV, 4 do
  put(ARGV[index], ARGV[index + 1], tonumber(ARGV[index + 2]), tonumber(ARGV[index + 3]))
end
local last = position()
wake()
return { last, string.match(info('memory'), 'maxmemory_policy:(%S+)') or '' }
