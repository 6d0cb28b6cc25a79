#!lua flags=allow-oom
-- include: states dependencies records
-- KEYS: the keys of the queue, and the record
-- ARGV: 1 id  2 why  3... as save_record.lua
-- Returns: 1, or 0 if that task is not held
local deps = dependencies()
if not deps.drop_held(ARGV[1]) then return 0 end
save_record(KEYS[#KEYS], unpack(ARGV, 3))
deps.cancel(ARGV[1], deps.because(ARGV[1], 'was canceled', ARGV[2]))
return 1
