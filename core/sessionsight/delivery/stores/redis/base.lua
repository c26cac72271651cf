-- What reads and writes have in common; `reads.lua` or `writes.lua` follows in the same script, which is atomic.
-- KEYS: the store's `meta`; all other keys are in the same slot. ARGV: a method's name, its arguments as msgpack, and
-- byte strings.
--
-- A record is one value, shared by its lanes: a header (size, time, priority, length of its key), the key, the body.
-- Ids are texts, because Lua would round long numbers. They ascend, also after a server has lost its last writes,
-- because none is below the server's clock. Lists of ready ids are sorted.
local SCHEMA = 1
local HEADER, HEADER_SIZE = '>I4dBI2', 15
local RECORD_OVERHEAD = 350 -- bytes of a record besides its value; an estimate
local BATCHES_EXPIRE = 600 -- seconds
local MAX_EVICTIONS = 1000 -- in one call
local PRIORITIES = { '0', '1' }
local MAX_TAKEOVERS, SUSPECT_TAKEOVERS = 5, 2 -- as in `stores/base.py`

local META = KEYS[1]
local prefix = META:sub(1, -#'meta' - 1)
local RECORDS, REFS, LANES = prefix .. 'records', prefix .. 'refs', prefix .. 'lanes'
local OWNERS, LETTERS = prefix .. 'owners', prefix .. 'letters'
local TRIALS = prefix .. 'trials' -- owner to the suspect that it has claimed last
local call = redis.call

local function text(number)
  return string.format('%.0f', number)
end

local time = call('TIME')
local now = time[1] * 1000000 + time[2] -- microseconds
local schema, epoch, last, bytes = unpack(call('HMGET', META, 'schema', 'epoch', 'last', 'bytes'))
if schema and tonumber(schema) > SCHEMA then
  return redis.error_reply('NEWERSCHEMA ' .. schema)
end
local last_id = tonumber(last) or 0
local grown = 0 -- change of `bytes`

local function ready_key(lane, priority)
  return prefix .. 'ready:' .. lane .. ':' .. priority
end

local function claims_key(lane, owner)
  return prefix .. 'claims:' .. lane .. ':' .. owner
end

-- Ready ids that were taken over, to how often.
local function takeovers_key(lane)
  return prefix .. 'takeovers:' .. lane
end

local function dead_key(lane)
  return prefix .. 'dead:' .. lane
end

local function dedupe_key(lane, key)
  return prefix .. 'key:' .. lane .. ':' .. key
end

local function by_number(one, other)
  return tonumber(one) < tonumber(other)
end

local function lanes()
  return call('SMEMBERS', LANES)
end

local function owners()
  return call('ZRANGE', OWNERS, 0, -1)
end

local function increment(lane, counter, number)
  if number ~= 0 then
    call('HINCRBY', prefix .. 'counts:' .. lane, counter, number)
  end
end

local function next_id()
  last_id = math.max(last_id + 1, now)
  return text(last_id)
end

local function add_record(id, value, refs)
  call('HSET', RECORDS, id, value)
  call('HSET', REFS, id, refs)
  grown = grown + #value + RECORD_OVERHEAD
end

-- Remove a record when no other lane needs it.
local function release_record(id)
  if call('HINCRBY', REFS, id, -1) <= 0 then
    grown = grown - call('HSTRLEN', RECORDS, id) - RECORD_OVERHEAD
    call('HDEL', REFS, id)
    call('HDEL', RECORDS, id)
  end
end

local function key_of(value)
  local _, _, _, length = struct.unpack(HEADER, value)
  return value:sub(HEADER_SIZE + 1, HEADER_SIZE + length)
end

local function body_of(value)
  return value:sub(HEADER_SIZE + 1 + #key_of(value))
end

-- Say that an owner is alive. `lease` is in microseconds.
local function renew(owner, lease)
  call('ZADD', OWNERS, text(now + lease), owner)
end

-- Make ids ready again; each is a pair of id and priority. What was claimed after them stays behind them.
local function put_back(lane, claims)
  for _, priority in ipairs(PRIORITIES) do
    local key, ids = ready_key(lane, priority), {}
    for _, claim in ipairs(claims) do
      if claim[2] == priority then
        ids[#ids + 1] = claim[1]
      end
    end
    if #ids > 0 then
      table.sort(ids, by_number)
      local highest, head = ids[#ids], call('LINDEX', key, 0)
      while head and by_number(head, highest) do
        ids[#ids + 1] = call('LPOP', key)
        head = call('LINDEX', key, 0)
      end
      table.sort(ids, by_number)
      for at = #ids, 1, -1 do
        call('LPUSH', key, ids[at])
      end
    end
  end
end

local function is_ready(lane, id)
  local wanted = tonumber(id)
  for _, priority in ipairs(PRIORITIES) do
    local key = ready_key(lane, priority)
    local low, high = 0, call('LLEN', key) - 1
    while low <= high do
      local middle = math.floor((low + high) / 2)
      local found = tonumber(call('LINDEX', key, middle))
      if found == wanted then
        return true
      elseif found < wanted then
        low = middle + 1
      else
        high = middle - 1
      end
    end
  end
  return false
end

local function number_ready(lane)
  return call('LLEN', ready_key(lane, '0')) + call('LLEN', ready_key(lane, '1'))
end

-- --- dead letters ---------------------------------------------------------------------------------

-- The lane's reference to the record becomes the letter's. `failure` is a JSON array that begins with the reason.
local function add_letter(lane, id, failure)
  local letter = text(call('HINCRBY', META, 'letters', 1)) -- people type it
  call('HSET', LETTERS, letter, cmsgpack.pack({ lane, id, text(now), failure }))
  call('RPUSH', dead_key(lane), letter)
end

local function read_letter(letter)
  local raw = call('HGET', LETTERS, letter)
  if not raw then
    return nil
  end
  local lane, id, at, failure = unpack(cmsgpack.unpack(raw))
  return { letter = letter, lane = lane, id = id, at = at, failure = failure, value = call('HGET', RECORDS, id) }
end

local function remove_letter(lane, letter)
  local found = read_letter(letter)
  call('LREM', dead_key(lane), 1, letter)
  if found then
    call('HDEL', LETTERS, letter)
    release_record(found.id)
  end
end

local function trim_letters(lane, keep)
  local excess = call('LLEN', dead_key(lane)) - keep
  for _ = 1, excess do
    remove_letter(lane, call('LINDEX', dead_key(lane), 0))
  end
  increment(lane, 'dead_letters_full', math.max(excess, 0))
end

local function select_letters(query, limit)
  local letters, found = query.ids, {}
  if #letters == 0 then
    for _, lane in ipairs(query.lane and { query.lane } or lanes()) do
      for _, letter in ipairs(call('LRANGE', dead_key(lane), 0, -1)) do
        letters[#letters + 1] = letter
      end
    end
  end
  table.sort(letters, by_number)
  for _, letter in ipairs(letters) do
    if #found == limit then
      break
    end
    local each = read_letter(letter)
    if each and each.value
      and (not query.lane or each.lane == query.lane)
      and (not query.reason or cjson.decode(each.failure)[1] == query.reason)
      and (not query.died_before or tonumber(each.at) < query.died_before)
      and (not query.died_after or tonumber(each.at) > query.died_after)
      and (not query.contains or body_of(each.value):find(ARGV[3], 1, true)) then
      found[#found + 1] = each
    end
  end
  return found
end
