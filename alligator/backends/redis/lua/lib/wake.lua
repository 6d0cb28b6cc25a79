-- Wake one waiting client. A client that takes something wakes the next one.
local function wake()
  if redis.call('EXISTS', WAITING) == 1 and redis.call('LLEN', WAKE) == 0 then
    redis.call('LPUSH', WAKE, 1)
    redis.call('PEXPIRE', WAKE, 60000)
  end
end
