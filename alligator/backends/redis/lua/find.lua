#!lua flags=no-writes
-- idempotent
-- include: states
-- ARGV: 1 id
-- Returns: the state ('waiting', 'delayed', 'running', 'dead', or ''), how many go first or
--          the due time, the attempts (-1: not looked up; the receipt has them) and the deaths; and if
--          the queue holds it, what keeps it back ('limit', 'rate', or ''), and when that rate has a token
local _, attempts, deaths = get_meta(ARGV[1])
local ahead = redis.call('ZRANK', READY, ARGV[1])
if ahead then return { 'waiting', ahead, attempts, deaths } end
local due = redis.call('ZSCORE', DELAYED, ARGV[1])
if due then return { 'delayed', tonumber(due), attempts, deaths } end
local held = redis.call('HGET', HELD, ARGV[1])
if held then
  local kind, key = string.match(unpacked(held)[3] or '', '^(%a+) %d+:(.*):$')
  local turn = kind == 'rate' and redis.call('ZSCORE', part_key('turns'), key)
  return { 'waiting', -1, attempts, deaths, kind or '', tonumber(turn or nil) or 0 }
end
if redis.call('HEXISTS', DATA, ARGV[1]) == 1 then
  if is_leased(ARGV[1]) then return { 'running', 0, -1, 0 } end
  return { 'waiting', -1, attempts, deaths } -- it has lost its place, and gets another one
end
-- Its data was lost; its worker may end it all the same.
if redis.call('EXISTS', LEASES) == 1 and has_lease(ARGV[1]) then return { 'running', 0, -1, 0 } end
local letter = dead_letter(DEAD, ARGV[1])
return { letter and 'dead' or '', 0, letter and tonumber(letter[4]) or 0, 0 }
