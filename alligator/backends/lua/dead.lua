#!lua flags=no-writes
-- ARGV: 1 limit
-- Returns: of each dead letter, newest first: id, time of death, data, error, traceback, attempts
local letters = {}
local graves = redis.call('ZREVRANGE', GRAVES, 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
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
