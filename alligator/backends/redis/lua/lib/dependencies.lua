-- include: states limits
-- constants: KEEP_FAILED
-- Children that wait for their parents. A held child has its data in DATA and the rest in HELD.
-- Each link between a child and a parent is in two places: in WAITS of the child's queue, and in
-- CHILDREN of the parent's. Members there begin with an id and its length, so that the links of one
-- id are a range.

local built

-- Return the functions. They are made at the first call, as most runs of a script need none.
function dependencies()
  if built then return built end

  local function range(id)
    local prefix = #id .. ':' .. id .. ':'
    return prefix, '[' .. prefix, '(' .. prefix .. '\255'
  end

  local function link(id, queue, other) return (range(id)) .. queue .. ':' .. other end

  local function linked(key, id, limit)
    local prefix, low, high = range(id)
    local found = redis.call('ZRANGEBYLEX', key, low, high, 'LIMIT', 0, limit or -1)
    for index, member in ipairs(found) do
      local queue, other = string.match(string.sub(member, #prefix + 1), '^([^:]*):(.*)$')
      found[index] = { queue = queue, id = other, member = member }
    end
    return found
  end

  local function part(queue, name) return 'alligator:{' .. queue .. '}:' .. name end

  -- Do some work as if the script had been called for another queue.
  local function on_queue(queue, work)
    if queue == own_queue() then return work() end
    local ready, data, leases, delayed, meta, after = READY, DATA, LEASES, DELAYED, META, AFTER
    local dead, graves, seq, wakes, waiting = DEAD, GRAVES, SEQ, WAKE, WAITING
    local held, waits, children, controls = HELD, WAITS, CHILDREN, CONTROLS
    READY, DATA, LEASES = part(queue, 'ready'), part(queue, 'data'), part(queue, 'leases')
    DELAYED, META, AFTER = part(queue, 'delayed'), part(queue, 'meta'), part(queue, 'after')
    DEAD, GRAVES, SEQ = part(queue, 'dead'), part(queue, 'graves'), part(queue, 'seq')
    WAKE, WAITING = part(queue, 'wake'), part(queue, 'waiting')
    HELD, WAITS, CHILDREN = part(queue, 'held'), part(queue, 'waits'), part(queue, 'children')
    CONTROLS = part(queue, 'controls')
    local result = work()
    READY, DATA, LEASES, DELAYED, META, AFTER = ready, data, leases, delayed, meta, after
    DEAD, GRAVES, SEQ, WAKE, WAITING = dead, graves, seq, wakes, waiting
    HELD, WAITS, CHILDREN, CONTROLS = held, waits, children, controls
    return result
  end

  -- Remove all links of a child of this queue to its parents.
  local function forget(id)
    for _, parent in ipairs(linked(WAITS, id)) do
      redis.call('ZREM', WAITS, parent.member)
      redis.call('ZREM', part(parent.queue, 'children'), link(parent.id, own_queue(), id))
    end
  end

  local function any() return redis.call('EXISTS', CHILDREN) == 1 end

  -- Remove the link of a child to a parent of this queue.
  local function unlink(id, child)
    redis.call('ZREM', CHILDREN, child.member)
    redis.call('ZREM', part(child.queue, 'waits'), link(child.id, own_queue(), id))
  end

  -- A parent of this queue has ended: queue the child if it waits for no other one.
  local function release_one(id, child)
    unlink(id, child)
    on_queue(child.queue, function()
      local _, low, high = range(child.id)
      if #redis.call('ZRANGEBYLEX', WAITS, low, high, 'LIMIT', 0, 1) > 0 then return end
      local held = unpacked(redis.call('HGET', HELD, child.id) or '')
      redis.call('HDEL', HELD, child.id)
      put_at_tail(child.id, tonumber(held[1]) or 0, tonumber(held[2]) or 0, 0, 0)
      wake()
    end)
  end

  -- A parent of this queue has succeeded: queue the children that wait for no other parent.
  local function release(id)
    if not any() then return end
    for _, child in ipairs(linked(CHILDREN, id)) do release_one(id, child) end
  end

  -- Whether a held child runs even if a parent did not succeed.
  local function is_unconditional(child)
    local held = redis.call('HGET', part(child.queue, 'held'), child.id)
    return held and unpacked(held)[4] == 1
  end

  -- The reason why a child cannot run.
  local function because(id, how, error)
    error = string.gsub(error or '', '^Canceled: ', '')
    local name = string.gsub(readable(id), '^.*\31', '')
    if error == '' then return 'its parent ' .. name .. ' ' .. how .. '.' end
    return 'its parent ' .. name .. ' ' .. how .. ': ' .. string.sub(error, 1, 500)
  end

  -- Save the record of a child of this queue that was canceled.
  local function record_canceled(id, why)
    local at = string.format('%.6f', now / 1000000)
    local error = cjson.encode('Canceled: ' .. why)
    local value = at .. ' 0\n[' .. CANCELED .. ',null,' .. error .. ',"",' .. at .. ',""]'
    redis.call('SET', record_of(own_queue(), id), value, 'PX', KEEP_FAILED)
    local own = readable(id) == id and string.match(id, '\31(.*)$')
    redis.call('PUBLISH', 'alligator:done:' .. (own or id), '')
  end

  local function drop_held(id)
    if limits().kept_line(id) or redis.call('HDEL', HELD, id) == 0 then return false end
    forget(id)
    redis.call('HDEL', DATA, id)
    keep_controls(id)
    return true
  end

  -- A parent of this queue will not succeed: cancel its children, their children, and so on.
  local function cancel(id, why)
    local pending = { { queue = own_queue(), id = id, why = why } }
    while #pending > 0 do
      local lost = table.remove(pending)
      on_queue(lost.queue, function()
        for _, child in ipairs(linked(CHILDREN, lost.id)) do
          if is_unconditional(child) then
            release_one(lost.id, child)
          else
            on_queue(child.queue, function()
              drop_held(child.id)
              record_canceled(child.id, lost.why)
            end)
            unlink(lost.id, child) -- if it is being held in several steps, it has the link still
            local reason = because(child.id, 'was canceled', lost.why)
            pending[#pending + 1] = { queue = child.queue, id = child.id, why = reason }
          end
        end
      end)
    end
  end

  built = {
    any = any, forget = forget, release = release, cancel = cancel, because = because,
    drop_held = drop_held, record_canceled = record_canceled, link = link, linked = linked,
    part = part,
  }
  return built
end
