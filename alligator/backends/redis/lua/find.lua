#!lua flags=no-writes
-- idempotent
-- include: states
-- ARGV: 1 id
-- Returns: the state ('waiting', 'delayed', 'running', 'dead', or ''), how many go first or
--          the due time
local ahead = redis.call('ZRANK', READY, ARGV[1])
if ahead then return { 'waiting', ahead } end
local due = redis.call('ZSCORE', DELAYED, ARGV[1])
if due then return { 'delayed', tonumber(due) } end
if redis.call('HEXISTS', HELD, ARGV[1]) == 1 then return { 'waiting', -1 } end
if redis.call('HEXISTS', DATA, ARGV[1]) == 1 then
  if is_leased(ARGV[1]) then return { 'running', 0 } end
  return { 'waiting', -1 } -- it has lost its place, and gets another one
end
return { dead_letter(DEAD, ARGV[1]) and 'dead' or '', 0 }
