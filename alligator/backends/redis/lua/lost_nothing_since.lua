#!lua flags=allow-oom
-- idempotent
-- include: states
-- Tells whether a queue may have lost tasks since a position.
-- ARGV: 1 a position  2 microseconds since then, at least
-- Returns: 1: each task that left the queue since was taken off it; 0: some may have been lost;
--          -1: this user may not ask, or keys were evicted
-- Where the history does not reach back, it begins now, for later positions: above all positions
-- that may have been given out and lost, as long as they stay below 2^44.
local function begin(last)
  if last < 0.75 * TAIL then begin_history(0, last + 4294967296) end
end

local wanted, age = tonumber(ARGV[1]), tonumber(ARGV[2])
local last = tonumber(redis.call('GET', SEQ) or nil) or 0
if last == 0 then return 0 end
local first, born = string.match(redis.call('GET', since_key()) or '', '^(%d+) (%S*)$')
first = tonumber(first)
if not first or last < first then -- by Alligator 1.1, which keeps no history
  begin(last)
  return 0
end
if wanted < first or wanted > last then return 0 end
if tonumber(redis.call('HGET', DATA, HISTORY) or nil) ~= first then -- data was lost
  begin(last)
  return 0
end
if count_lost() ~= 0 then return 0 end
local here = run_id()
if here == '' or string.match(server_info('stats'), 'evicted_keys:(%d+)') ~= '0' then return -1 end
if here == born then return 1 end
-- The server restarted, or it is another one. A restart before that position lost nothing since.
local uptime = tonumber(string.match(server_info('server'), 'uptime_in_seconds:(%d+)')) or 0
local server = server_info('replication')
local alone = string.find(server, 'role:master') and string.find(server, 'master_replid2:0+%s')
if alone and uptime * 1000000 >= age + 2000000 then return 1 end
begin(last)
return born == '' and -1 or 0
