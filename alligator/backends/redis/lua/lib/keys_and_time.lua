-- The keys of one queue, and the time. All sixteen keys share a hash tag.
-- KEYS: 1 ready (ZSET id, see scores.lua)  2 data (HASH id; and HISTORY)  3 leases (ZSET member = receipt,
--       score = end; half a microsecond more if the worker is being stopped: see states.lua)
--       4 delayed (ZSET id, score = due)  5 meta (HASH id, only where not the default)
--       6 after (HASH id, pushed while that id was running)  7 dead (HASH id)
--       8 graves (ZSET id, score = time of death)  9 seq (counter)  10 wake (LIST of tokens)
--       11 waiting (exists while a client waits)  12 watched (exists while a client watches
--       tasks of this queue)  13 held (HASH id, of children that wait)  14 waits (ZSET, of each
--       such child its parents)  15 children (ZSET, of each parent on this queue)
--       16 controls (HASH, only while something steers the queue; a field of each feature:
--       'paused', when the pause ends, '': by a call; and ':' with the id of each task that has
--       controls: see backends/task_controls.py; and 'unique:' with each unique key: see with_key())
-- Times are whole microseconds of the server's clock.
-- constants: MAX_LEASE
local READY, DATA, LEASES, DELAYED, META, AFTER, DEAD, GRAVES, SEQ, WAKE, WAITING, WATCHED =
  unpack(KEYS)
local HELD, WAITS, CHILDREN, CONTROLS = KEYS[13], KEYS[14], KEYS[15], KEYS[16]
local notify, remove_task, have_succeeded, read_receipt -- defined in states.lua
local dependencies -- defined in dependencies.lua
local limits -- defined in limits.lua

-- The field of DATA, no id, that has the position where the history of the queue begins: so it is
-- lost together with the tasks, and goes when one of them is found to be lost. Alligator 1.1 sets none.
local HISTORY = '\252'

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- Whether Alligator generated an id: a UUID of version 7, after its mark. It is pushed only once.
local function is_generated(id)
  if #id ~= 17 or string.byte(id) ~= 255 then return false end
  local kind = string.byte(id, 8)
  return kind >= 112 and kind < 128
end

local function whole(number) return string.format('%.0f', number) end
