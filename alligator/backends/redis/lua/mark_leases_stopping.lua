#!lua flags=allow-oom
-- idempotent
-- include: keys_and_time
-- ARGV: receipts of leases whose worker is being stopped; lost leases are skipped
for _, receipt in ipairs(ARGV) do
  local score = redis.call('ZSCORE', LEASES, receipt)
  if score then redis.call('ZADD', LEASES, whole(math.floor(tonumber(score))) .. '.5', receipt) end
end
return {}
