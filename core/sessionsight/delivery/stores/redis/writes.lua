-- The methods of a store that change something.
local writes = {}

-- Drop the oldest ready records, events before goals, until the store is small enough. Returns lanes and numbers.
local function evict(max_bytes)
  local evicted, names = {}, nil
  for _ = 1, MAX_EVICTIONS do
    if (tonumber(bytes) or 0) + grown <= max_bytes then
      break
    end
    names = names or lanes()
    local oldest, from, lane
    for at = #PRIORITIES, 1, -1 do
      for _, name in ipairs(names) do
        local key = ready_key(name, PRIORITIES[at])
        local head = call('LINDEX', key, 0)
        if head and (not oldest or by_number(head, oldest)) then
          oldest, from, lane = head, key, name
        end
      end
      if oldest then
        break
      end
    end
    if not oldest then
      break
    end
    call('LPOP', from)
    call('HDEL', takeovers_key(lane), oldest)
    local value = call('HGET', RECORDS, oldest)
    if value and key_of(value) ~= '' then
      call('DEL', dedupe_key(lane, key_of(value))) -- so that a repeated call is not a duplicate
    end
    release_record(oldest)
    evicted[lane] = (evicted[lane] or 0) + 1
  end
  local found = {}
  for lane, number in pairs(evicted) do
    increment(lane, 'queue_full', number)
    found[#found + 1] = { lane, number }
  end
  return found
end

-- Records are {priority, lanes, key, failure}; their values are ARGV[3] and the following. The result: the first id,
-- index and lane of each duplicate, and what was evicted. It is kept until this owner says that it has it.
function writes.enqueue(owner, batch, answered, records, counts, options)
  local batches = prefix .. 'batches:' .. owner
  for _, id in ipairs(answered) do
    call('HDEL', batches, id)
  end
  local done = call('HGET', batches, batch)
  if done then
    return cmsgpack.unpack(done)
  end
  local names, first = {}, nil
  for _, count in ipairs(counts) do
    names[#names + 1] = count[1]
    increment(unpack(count))
  end
  if #names > 0 then
    call('SADD', LANES, unpack(names))
  end
  local duplicates, buried = {}, {}
  for at, record in ipairs(records) do
    local priority, wanted, key, failure = unpack(record)
    local id, refs = next_id(), 0
    first = first or id
    for _, lane in ipairs(wanted) do
      if failure then
        add_letter(lane, id, failure)
        buried[lane] = true
        refs = refs + 1
      elseif key == '' or options.window <= 0
        or call('SET', dedupe_key(lane, key), '', 'NX', 'PX', text(options.window)) then
        call('RPUSH', ready_key(lane, priority), id)
        refs = refs + 1
      else
        increment(lane, 'duplicate', 1)
        duplicates[#duplicates + 1] = { at - 1, lane }
      end
    end
    if refs > 0 then
      add_record(id, ARGV[at + 2], refs)
    end
  end
  for lane in pairs(buried) do
    trim_letters(lane, options.keep)
  end
  local result = { first or '0', duplicates, evict(options.max_bytes) }
  call('HSET', batches, batch, cmsgpack.pack(result))
  call('EXPIRE', batches, BATCHES_EXPIRE)
  return result
end

-- The result: ids and lengths as msgpack, all values in one string, and whether more are ready.
local function packed(ids, values, more)
  local index = {}
  for at, id in ipairs(ids) do
    index[#index + 1] = id
    index[#index + 1] = #values[at]
  end
  return { cmsgpack.pack(index), table.concat(values), more and 1 or 0 }
end

-- A claim is the priority, '1' if it is in flight, and the number of takeovers.
local function read_claim(claim)
  return claim:sub(1, 1), claim:sub(2, 2) == '1', tonumber(claim:sub(3))
end

function writes.claim(owner, lease, lane, max_records, max_bytes)
  local ids, values, claims, total, full, lost, suspect = {}, {}, {}, 0, false, 0, false
  for _, priority in ipairs(PRIORITIES) do
    local key = ready_key(lane, priority)
    local page = (full or #ids == max_records) and {} or call('LRANGE', key, 0, max_records - #ids - 1)
    local found = #page > 0 and call('HMGET', RECORDS, unpack(page)) or {}
    local takeovers = #page > 0 and call('HMGET', takeovers_key(lane), unpack(page)) or {}
    local taken = 0
    for at, id in ipairs(page) do
      local value = found[at]
      if not value then
        lost = lost + 1 -- evicted by the server
        call('HDEL', takeovers_key(lane), id)
      else
        total = total + struct.unpack(HEADER, value)
        local is_suspect = tonumber(takeovers[at] or 0) >= SUSPECT_TAKEOVERS
        full = #ids > 0 and (total > max_bytes or suspect or is_suspect)
        if full then
          break
        end
        suspect = is_suspect
        ids[#ids + 1], values[#values + 1] = id, value
        claims[#claims + 1] = id
        claims[#claims + 1] = priority .. '0' .. (takeovers[at] or '0')
        if takeovers[at] then
          call('HDEL', takeovers_key(lane), id)
        end
      end
      taken = taken + 1
    end
    if taken > 0 then
      call('LPOP', key, taken)
    end
  end
  if #claims > 0 then
    call('HSET', claims_key(lane, owner), unpack(claims))
  end
  if suspect then
    call('HSET', TRIALS, owner, lane .. ':' .. ids[1])
  end
  increment(lane, 'store_emptied', lost)
  renew(owner, lease)
  return packed(ids, values, number_ready(lane) > 0)
end

-- What the owner has claimed and that is not in flight.
function writes.claimed(lane, owner)
  local ids, values, claims = {}, {}, call('HGETALL', claims_key(lane, owner))
  for at = 1, #claims, 2 do
    local _, in_flight = read_claim(claims[at + 1])
    if not in_flight and call('HEXISTS', RECORDS, claims[at]) == 1 then
      ids[#ids + 1] = claims[at]
    end
  end
  table.sort(ids, by_number)
  for at, id in ipairs(ids) do
    values[at] = call('HGET', RECORDS, id)
  end
  return packed(ids, values, true)
end

local function set_flag(lane, owner, id, flag)
  local claim = call('HGET', claims_key(lane, owner), id)
  if claim then
    call('HSET', claims_key(lane, owner), id, claim:sub(1, 1) .. flag .. claim:sub(3))
  end
  return claim
end

function writes.mark_in_flight(owner, lease, lane, ids)
  local marked = {}
  for _, id in ipairs(ids) do
    if set_flag(lane, owner, id, '1') then
      marked[#marked + 1] = id
    end
  end
  renew(owner, lease)
  return marked
end

-- Outcomes are {ids, counter, failure}.
function writes.settle(lane, owner, outcomes, keep)
  for _, outcome in ipairs(outcomes) do
    local ids, counter, failure = unpack(outcome)
    local resolved = 0
    for _, id in ipairs(ids) do
      if not counter and not failure then
        set_flag(lane, owner, id, '0')
        if call('HGET', TRIALS, owner) == lane .. ':' .. id then
          call('HDEL', TRIALS, owner)
        end
      elseif call('HDEL', claims_key(lane, owner), id) == 1 then
        resolved = resolved + 1
        if failure then
          add_letter(lane, id, failure)
        else
          release_record(id)
        end
      end
    end
    if counter then
      increment(lane, counter, resolved)
    end
  end
  trim_letters(lane, keep)
end

function writes.discard(lane, ids, counter)
  local dropped = 0
  for _, id in ipairs(ids) do
    for _, priority in ipairs(PRIORITIES) do
      if call('LREM', ready_key(lane, priority), 1, id) == 1 then
        call('HDEL', takeovers_key(lane), id)
        release_record(id)
        dropped = dropped + 1
      end
    end
  end
  increment(lane, counter, dropped)
  return dropped
end

-- Move the claims of an owner to the ready lists, with the number of takeovers that `release` returns; nil to leave one.
local function release_claims(owner, release)
  for _, lane in ipairs(lanes()) do
    local key, released = claims_key(lane, owner), {}
    local claims = call('HGETALL', key)
    for at = 1, #claims, 2 do
      local id, priority, in_flight, takeovers = claims[at], read_claim(claims[at + 1])
      takeovers = release(lane, id, in_flight, takeovers)
      if takeovers then
        released[#released + 1] = { id, priority }
        call('HDEL', key, id)
        if takeovers > 0 then
          call('HSET', takeovers_key(lane), id, takeovers)
        end
      end
    end
    put_back(lane, released)
  end
end

-- Owners whose lease is over have ended. If it is this one whose lease is over, the server or this process was out of
-- reach for a while, and the others get time to renew theirs.
function writes.recover(owner, lease, unknown, poison, keep)
  local expires, number_unknown, number_poison = call('ZSCORE', OWNERS, owner), 0, 0
  renew(owner, lease)
  if expires and tonumber(expires) < now then
    return { 0, 0 }
  end
  for _, ended in ipairs(call('ZRANGEBYSCORE', OWNERS, '-inf', text(now))) do
    local on_trial = call('HGET', TRIALS, ended)
    release_claims(ended, function(lane, id, in_flight, takeovers)
      local failure = in_flight and unknown
      if failure then
        number_unknown = number_unknown + 1
      elseif takeovers < SUSPECT_TAKEOVERS then
        return takeovers + 1
      elseif on_trial ~= lane .. ':' .. id then
        return takeovers
      elseif takeovers + 1 < MAX_TAKEOVERS then
        return takeovers + 1
      else
        failure = poison
        number_poison = number_poison + 1
      end
      call('HDEL', claims_key(lane, ended), id)
      add_letter(lane, id, failure)
      trim_letters(lane, keep)
    end)
    call('ZREM', OWNERS, ended)
    call('HDEL', TRIALS, ended)
  end
  return { number_unknown, number_poison }
end

-- Claims in flight stay, and are recovered at once by another owner.
function writes.release_owner(owner)
  local left = false
  release_claims(owner, function(_, _, in_flight, takeovers)
    left = left or in_flight
    return not in_flight and takeovers or nil
  end)
  if left then
    call('ZADD', OWNERS, 0, owner)
  else
    call('ZREM', OWNERS, owner)
  end
  call('HDEL', TRIALS, owner)
end

function writes.prune(max_age)
  for _, lane in ipairs(lanes()) do
    local expired = 0
    local oldest = call('LINDEX', dead_key(lane), 0)
    while oldest do
      local found = read_letter(oldest)
      if found and tonumber(found.at) >= now - max_age then
        break
      end
      remove_letter(lane, oldest)
      expired = expired + 1
      oldest = call('LINDEX', dead_key(lane), 0)
    end
    increment(lane, 'dead_letters_expired', expired)
  end
end

function writes.requeue(query)
  local found = select_letters(query, -1)
  for _, each in ipairs(found) do
    local size, _, priority = struct.unpack(HEADER, each.value)
    local id = next_id()
    add_record(id, struct.pack(HEADER, size, now / 1000000, priority, 0) .. body_of(each.value), 1)
    call('RPUSH', ready_key(each.lane, text(priority)), id)
    remove_letter(each.lane, each.letter)
  end
  return #found
end

function writes.delete(query, counter)
  local found = select_letters(query, -1)
  for _, each in ipairs(found) do
    increment(each.lane, counter, 1)
    remove_letter(each.lane, each.letter)
  end
  return #found
end

local result = writes[ARGV[1]](unpack(cmsgpack.unpack(ARGV[2])))
if not epoch then
  epoch = text(now)
  call('HSET', META, 'schema', SCHEMA, 'epoch', epoch)
end
if text(last_id) ~= last then
  call('HSET', META, 'last', text(last_id))
end
if grown ~= 0 then
  call('HINCRBY', META, 'bytes', text(grown))
end
return { epoch, result or 0 }
