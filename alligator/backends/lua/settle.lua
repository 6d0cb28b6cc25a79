#!lua flags=allow-oom
-- KEYS: those of the queue  12 the record
-- ARGV: 1 receipt  2... as note.lua
-- Returns: 1, or 0 if the lease was overtaken
local refused = acked(1, 1)
if #refused == 0 then note(KEYS[12], unpack(ARGV, 2)) end
wake_if_more()
return 1 - #refused
