#!lua flags=allow-oom
-- KEYS: those of the queue, and the record
-- ARGV: 1 id  2 why  3... as note.lua
-- Returns: 1, or 0 if that task is not held
if not drop_held(ARGV[1]) then return 0 end
note(KEYS[#KEYS], unpack(ARGV, 3))
cancel(ARGV[1], because(ARGV[1], 'was canceled', ARGV[2]))
return 1
