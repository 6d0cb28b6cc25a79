#!lua flags=no-writes
-- idempotent
-- include: states
-- ARGV: 1 limit  2 how many of the oldest to leave out; given: oldest first  3 the id of one,
--       given: that one alone  4 how many of the newest to leave out ('': as not given)
-- Returns: of each dead letter, newest first: id, time of death, data, error, traceback, attempts
local letters, graves = {}, nil
local limit = tonumber(ARGV[1])
if ARGV[3] and ARGV[3] ~= '' then
  local died_at = redis.call('ZSCORE', GRAVES, ARGV[3])
  graves = died_at and { ARGV[3], died_at } or {}
elseif ARGV[2] ~= '' then
  local first = tonumber(ARGV[2])
  graves = redis.call('ZRANGE', GRAVES, first, first + limit - 1, 'WITHSCORES')
else
  local first = tonumber(ARGV[4])
  graves = redis.call('ZREVRANGE', GRAVES, first, first + limit - 1, 'WITHSCORES')
end
for index = 1, #graves, 2 do
  local packed = redis.call('HGET', DEAD, graves[index])
  if packed then
    local data, err, traceback, attempts = unpack(unpacked(packed))
    letters[#letters + 1] = {
      graves[index], tonumber(graves[index + 1]), tostring(data or packed),
      tostring(err or 'It cannot be read.'), tostring(traceback or ''), tonumber(attempts) or 0
    }
  end
end
return letters
