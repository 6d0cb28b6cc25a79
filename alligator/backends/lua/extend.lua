#!lua flags=allow-oom
-- ARGV: 1 lease  2... receipts
-- Returns: indices of the leases that are lost
local ends, lost = whole(now + math.min(tonumber(ARGV[1]), MAX_LEASE)), {}
for index = 2, #ARGV do
  if redis.call('ZSCORE', LEASES, ARGV[index]) then
    redis.call('ZADD', LEASES, ends, ARGV[index])
  else
    lost[#lost + 1] = index - 2
  end
end
wake_if_more()
return lost
