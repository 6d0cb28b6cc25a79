#!lua flags=allow-oom
-- idempotent
-- include: states
-- ARGV: 1 lease  2... receipts
-- Returns: indices of the leases that are lost
local ends, lost = whole(now + math.min(tonumber(ARGV[1]), MAX_LEASE)), {}
for index = 2, #ARGV do
  local score = redis.call('ZSCORE', LEASES, ARGV[index])
  if score then
    redis.call('ZADD', LEASES, with_stop_mark(ends, tonumber(score)), ARGV[index])
  else
    lost[#lost + 1] = index - 2
  end
end
wake_if_more()
return lost
