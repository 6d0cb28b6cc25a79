-- Wake one waiting client. Plain code rather than a function: to make one costs push_plain.lua 5 %.
if redis.call('EXISTS', WAITING) == 1 and redis.call('LLEN', WAKE) == 0 then
  redis.call('LPUSH', WAKE, 1)
  redis.call('PEXPIRE', WAKE, 60000)
end
