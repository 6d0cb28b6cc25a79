#!lua
-- The first push of a process.
-- include: push_arguments dependencies
-- ARGV: as for push
-- Returns: the position; and what the server does when its memory is full ('': it does not say)
local last = push_all()
return { last, string.match(server_info('memory'), 'maxmemory_policy:(%S+)') or '' }
