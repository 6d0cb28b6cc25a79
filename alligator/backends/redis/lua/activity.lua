#!lua flags=allow-oom
-- idempotent
-- KEYS: minutes, one HASH each; see worker_report.lua
-- Returns: of each its fields and values by turns
local found = {}
for index, key in ipairs(KEYS) do found[index] = redis.call('HGETALL', key) end
return found
