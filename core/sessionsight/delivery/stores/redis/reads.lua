-- The methods of a store that change nothing. They are allowed on a full server and on a replica.
local reads = {}

function reads.ready()
  local found = {}
  for _, lane in ipairs(lanes()) do
    if number_ready(lane) > 0 then
      found[#found + 1] = lane
    end
  end
  return found
end

-- The lowest and the highest id.
function reads.unresolved(lane, owner)
  local ids = call('HKEYS', claims_key(lane, owner))
  for _, priority in ipairs(PRIORITIES) do
    for _, at in ipairs({ 0, -1 }) do
      ids[#ids + 1] = call('LINDEX', ready_key(lane, priority), at) or nil
    end
  end
  table.sort(ids, by_number)
  return { ids[1], ids[#ids] }
end

function reads.owned_or_ready(lane, owner, ids)
  local found = {}
  for _, id in ipairs(ids) do
    if call('HEXISTS', claims_key(lane, owner), id) == 1 or is_ready(lane, id) then
      found[#found + 1] = id
    end
  end
  return found
end

-- One part of all records: a cursor, and id and value of each that matches.
function reads.search(lane, cursor)
  local next_cursor, page = unpack(call('HSCAN', RECORDS, cursor, 'COUNT', 500))
  local found = {}
  for at = 1, #page, 2 do
    local id, value = page[at], page[at + 1]
    if body_of(value):find(ARGV[3], 1, true) then
      local queued = is_ready(lane, id)
      for _, owner in ipairs(owners()) do
        queued = queued or call('HEXISTS', claims_key(lane, owner), id) == 1
      end
      if queued then
        found[#found + 1] = { id, value }
      end
    end
  end
  return { next_cursor, found }
end

function reads.counts(lane)
  local found = call('HGETALL', prefix .. 'counts:' .. lane)
  local pending = number_ready(lane)
  for _, owner in ipairs(owners()) do
    pending = pending + call('HLEN', claims_key(lane, owner))
  end
  for _, each in ipairs({ 'pending', pending, 'dead', call('LLEN', dead_key(lane)) }) do
    found[#found + 1] = each
  end
  return found
end

function reads.overview()
  local counts, oldest = {}, nil
  local function consider(id)
    local value = id and call('HGET', RECORDS, id)
    if value then
      local _, at = struct.unpack(HEADER, value)
      oldest = math.min(oldest or at, at)
    end
  end
  for _, lane in ipairs(lanes()) do
    local claimed = 0
    for _, priority in ipairs(PRIORITIES) do
      consider(call('LINDEX', ready_key(lane, priority), 0))
    end
    for _, owner in ipairs(owners()) do
      for _, id in ipairs(call('HKEYS', claims_key(lane, owner))) do
        claimed = claimed + 1
        consider(id)
      end
    end
    counts[#counts + 1] = { lane, reads.counts(lane), claimed }
  end
  return { counts, oldest and string.format('%.17g', oldest) or false, bytes or 0, call('ZCARD', OWNERS), schema or SCHEMA }
end

function reads.find(query, limit)
  local found = {}
  for _, each in ipairs(select_letters(query, limit)) do
    found[#found + 1] = { each.letter, each.id, each.lane, each.at, each.failure, each.value }
  end
  return found
end

return { epoch or '0', reads[ARGV[1]](unpack(cmsgpack.unpack(ARGV[2]))) }
