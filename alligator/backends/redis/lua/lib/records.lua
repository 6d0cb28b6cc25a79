-- Save a record unless that of a later run stands; tell watching clients.
local function save_record(key, pushed, attempt, value, keep, channel)
  local standing = redis.call('GET', key)
  if standing then
    local own_pushed, own_attempt = string.match(standing, '^(%S+) (%S+)\n')
    own_pushed, own_attempt = tonumber(own_pushed) or 0, tonumber(own_attempt) or 0
    local mine = tonumber(pushed)
    if own_pushed > mine or (own_pushed == mine and own_attempt > tonumber(attempt)) then
      return 0
    end
  end
  if tonumber(keep) > 0 then
    redis.call('SET', key, value, 'PX', keep)
  else
    redis.call('UNLINK', key)
  end
  redis.pcall('PUBLISH', channel, '') -- a user that may not publish: they look by themselves
  return 1
end

