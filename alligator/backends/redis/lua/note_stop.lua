#!lua flags=allow-oom
-- ARGV: receipts of leases whose holder is being stopped; those that were lost are passed over
for _, receipt in ipairs(ARGV) do
  local score = redis.call('ZSCORE', LEASES, receipt)
  if score then redis.call('ZADD', LEASES, whole(math.floor(tonumber(score))) .. '.5', receipt) end
end
return {}
