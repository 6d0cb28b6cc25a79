#!lua flags=allow-oom
-- KEYS: those of the queue, and the record
-- ARGV: 1 id  2 why  3... as note.lua
-- Returns: 1, or 0 if that task is not held
local family = children()
if not family.drop_held(ARGV[1]) then return 0 end
note(KEYS[#KEYS], unpack(ARGV, 3))
family.cancel(ARGV[1], family.because(ARGV[1], 'was canceled', ARGV[2]))
return 1
