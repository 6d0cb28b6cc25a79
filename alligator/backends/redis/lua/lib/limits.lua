-- include: states
-- Tasks that a limit or a rate keeps back. Their keys are named here alone, as most queues have none:
--   kept     ZSET id, score = that in READY
--   lines    ZSET of each line (a limit or a rate, with its key) its tasks, in order
--   holders  ZSET of each limit key the receipts on lease; one that is no lease any more is dropped
--            when they are counted, so that no place is lost
--   rates    ZSET rate key, score = when its bucket will be full again (see backends/task_controls.py)
--   turns    ZSET rate key with a line, score = when that has a token
-- A task that is kept back is in HELD, too, which tells Alligator 1.1 that it has a place; the third
-- value there is its line. All members of 'lines' and 'holders' that begin alike are a range.

local built_limits

-- Return the functions. They are made at the first call, as most runs of a script need none.
function limits()
  if built_limits then return built_limits end
  local SLACK = 1000 -- microseconds: floating point may be off by less
  local TURNS_AT_ONCE = 100

  local function line_of(kind, key) return kind .. ' ' .. #key .. ':' .. key .. ':' end

  local function range(line) return '[' .. line, '(' .. line .. '\255' end

  -- What a task asks for, from text; nil: neither a limit nor a rate.
  local function read(text)
    local fine, values = pcall(cjson.decode, text or '')
    if not fine or type(values) ~= 'table' then return nil end
    local limit, rate = tonumber(values[2]) or 0, tonumber(values[4]) or 0
    local seconds = (tonumber(values[5]) or 0) * 1000000
    if limit <= 0 and (rate <= 0 or seconds <= 0) then return nil end
    return {
      limit = limit > 0 and limit, limit_line = line_of('limit', tostring(values[1])),
      rate = rate > 0 and seconds > 0 and rate, rate_key = tostring(values[3]),
      rate_line = line_of('rate', tostring(values[3])),
      seconds = seconds, interval = rate > 0 and seconds / rate,
    }
  end

  local function of(id) return read(redis.call('HGET', CONTROLS, ':' .. id) or nil) end

  -- The line of a task that is kept back; nil: it is not.
  local function kept_line(id)
    local packed = redis.call('HGET', HELD, id)
    return packed and unpacked(packed)[3]
  end

  local function member(line, score, id) return line .. string.format('%016.0f', score) .. ':' .. id end

  -- The id and the score of the first task in a line, and its member there; nil: it is empty.
  local function first_in(line)
    local low, high = range(line)
    local found = redis.call('ZRANGEBYLEX', part_key('lines'), low, high, 'LIMIT', 0, 1)[1]
    if not found then return nil end
    return string.sub(found, #line + 18), tonumber(string.sub(found, #line + 1, #line + 16)), found
  end

  -- Let the first task of a line try; false: there is none.
  local function promote(line)
    while true do
      local id, score, found = first_in(line)
      if not id then return false end
      redis.call('ZREM', part_key('lines'), found)
      if kept_line(id) == line then -- else a worker of Alligator 1.1 has moved it
        redis.call('HDEL', HELD, id)
        redis.call('ZREM', part_key('kept'), id)
        redis.call('ZADD', READY, whole(score), id)
        return true
      end
    end
  end

  -- A task with these controls has left its place, or will not take the one that it could have.
  local function promote_next(asked)
    return asked and asked.limit and promote(asked.limit_line)
  end

  -- Keep a task back; asked is given where it is not known that its line has a turn.
  local function keep(id, score, line, turn, asked)
    redis.call('ZREM', READY, id)
    redis.call('ZADD', part_key('kept'), whole(score), id)
    redis.call('ZADD', part_key('lines'), 0, member(line, score, id))
    redis.call('HSET', HELD, id, cmsgpack.pack({ priority_of(score), '0', line }))
    if turn then
      redis.call('ZADD', part_key('turns'), 'NX', whole(turn), asked.rate_key)
      promote_next(asked) -- it leaves its place to one that has a token
    end
  end

  -- Take a task out of its line; return its score and the line, or nil: it is not kept back.
  local function drop(id)
    local line = kept_line(id)
    if not line then return nil end
    local score = tonumber(redis.call('ZSCORE', part_key('kept'), id) or nil)
    redis.call('HDEL', HELD, id)
    redis.call('ZREM', part_key('kept'), id)
    if score then redis.call('ZREM', part_key('lines'), member(line, score, id)) end
    return score or next_score(0, false), line
  end

  local verified = {} -- keys of holders, and lines, that have none but leases

  local count_holders
  function count_holders(line, limit)
    local holders, low, high = part_key('holders'), range(line)
    local found = redis.call('ZRANGEBYLEX', holders, low, high, 'LIMIT', 0, limit)
    if #found < limit or verified[holders .. line] then return #found end
    local stale = {}
    for _, each in ipairs(redis.call('ZRANGEBYLEX', holders, low, high)) do
      if not redis.call('ZSCORE', LEASES, string.sub(each, #line + 1)) then
        stale[#stale + 1] = each
      end
    end
    for _, each in ipairs(stale) do redis.call('ZREM', holders, each) end
    verified[holders .. line] = true
    return #stale == 0 and #found or count_holders(line, limit)
  end

  -- When the next task of a rate may start; nil: now.
  local function next_start(asked, arrival)
    local at = math.min(arrival, now + asked.seconds) - asked.seconds + asked.interval
    if at > now + math.min(asked.interval / 2, SLACK) then return at end
  end

  local function after_start(asked, arrival)
    return math.max(math.min(arrival, now + asked.seconds), now) + asked.interval
  end

  local function arrival_of(key)
    return tonumber(redis.call('ZSCORE', part_key('rates'), key) or nil) or 0
  end

  -- The line that a task has to join, and when that has a token, if it is that of a rate; nil: it
  -- may start.
  local function kept_by(asked)
    if asked.limit and count_holders(asked.limit_line, asked.limit) >= asked.limit then
      return asked.limit_line
    end
    local at = asked.rate and next_start(asked, arrival_of(asked.rate_key))
    if at then return asked.rate_line, at end
  end

  -- Note that a task was leased.
  local function start(asked, receipt)
    if asked.limit then
      redis.call('ZADD', part_key('holders'), 0, asked.limit_line .. receipt)
    end
    if asked.rate then
      local rates, arrival = part_key('rates'), arrival_of(asked.rate_key)
      local full_ones = redis.call('ZRANGEBYSCORE', rates, '-inf', whole(now), 'LIMIT', 0, 3)
      for _, key in ipairs(full_ones) do redis.call('ZREM', rates, key) end
      local full = string.format('%.17g', after_start(asked, arrival))
      redis.call('ZADD', rates, full, asked.rate_key)
    end
  end

  -- Note that a task was not run after all.
  local function give_back(asked)
    local arrival = asked.rate and arrival_of(asked.rate_key)
    if not arrival or arrival == 0 then return end
    local full = string.format('%.17g', arrival - asked.interval)
    redis.call('ZADD', part_key('rates'), full, asked.rate_key)
  end

  -- A lease has ended: its task holds no place any more. Return what the task asks for.
  local function drop_holder(receipt, id)
    local asked = id and of(id)
    if asked and asked.limit then
      redis.call('ZREM', part_key('holders'), asked.limit_line .. receipt)
    end
    return asked
  end

  -- The line in which tasks are kept that go before a new one of that score.
  local function line_ahead(text, score)
    local asked = read(text)
    for _, line in ipairs(asked and { asked.limit_line, asked.rate_line } or {}) do
      local id, first = first_in(line)
      if id and first <= score then return line end
    end
  end

  -- Let as many tasks that a rate keeps back try as there are tokens for.
  local function promote_turns()
    local turns = part_key('turns')
    local due = redis.call('ZRANGEBYSCORE', turns, '-inf', whole(now), 'LIMIT', 0, TURNS_AT_ONCE)
    local last = redis.call('ZREVRANGE', turns, 0, 0, 'WITHSCORES')
    local latest = last[1] and first_in(line_of('rate', last[1]))
    local asks = latest and of(latest)
    if last[1] and (not asks or tonumber(last[2]) > now + asks.seconds) then
      due[#due + 1] = last[1] -- the clock was set back
    end
    for _, key in ipairs(due) do
      local line, arrival, turn = line_of('rate', key), arrival_of(key), nil
      for _ = 1, TURNS_AT_ONCE do
        local id = first_in(line)
        local asked = id and of(id)
        turn = asked and asked.rate and next_start(asked, arrival)
        if not id or turn then break end
        if asked and asked.rate then arrival = after_start(asked, arrival) end
        promote(line)
        turn = now
      end
      if turn then
        redis.call('ZADD', turns, whole(turn), key)
      else
        redis.call('ZREM', turns, key)
      end
    end
  end

  built_limits = {
    read = read, of = of, kept_line = kept_line, keep = keep, drop = drop, kept_by = kept_by,
    start = start, give_back = give_back, drop_holder = drop_holder, line_ahead = line_ahead,
    promote_next = promote_next, promote_turns = promote_turns,
  }
  return built_limits
end
