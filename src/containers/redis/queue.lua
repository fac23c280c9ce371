-- What is done in the Redis server: operations on one queue, a batch of them in one call, in their order.
--
-- ARGV: the owner who asks (8 bytes, see below), the seconds that its ended tasks are kept ("-1": for ever) as success,
-- failed, stopped; the number of its connection; "!" to a script, if nothing is added; then each operation: its letter and its
-- arguments. The answer has an element for each.
--
-- Nothing here looks at more than some hundred tasks: what is left goes on with the next call. Time is the server's own.
-- All that is checked comes before the first write of an operation, since nothing is rolled back.
--
-- An owner is one scheduler's stay on the queue, by 8 random letters. A task is a field of one hash, its record:
--
--       1      status, as a digit                        behind that, from `b` on:
--       2      flags, see below                           1-6    place: the order of adding
--       3      how often it was lost                      7-14   waiting: to have begun by; ended: when
--       4      snoozes in a row                          15-22   added at
--       5-8    attempts                                  23-30   not before
--       9      how long the part of its run is           31-38   the owner that added it
--    then, unless it never began,                        39-44   a random name of that add: so that it can be repeated
--       1-6    run                                       then    order: in which it may start
--       7-14   token of that run                                 length of the key, and the key
--      15-22   owner of that run                                 what only hosts read: options, a small item
--      23-30   started at
--      31-36   fair: the turn of its key then
--      then    the host's name
--
-- The order is the priority, as a byte that tells how many more there are of it and these, and a number: the place, at first.
-- What was lost before has 128 more in that byte, and so comes last.
--
-- What may start stands in `ready` by its order. Tasks with a key stand in `lines`, a line for each key, and only the first of
-- each in `ready`, unless its key is full: then it is set aside. So no claim ever looks at a task that may not start. Where
-- keys take turns, all have one (those without a key are one, too), and the first of each stands in `ready` by its turn.
-- Slots are what is in `index` as running, those of a key what is in `busy`: there is no counter that could drift. The score
-- in `index` is the status times 2^48, and the place.

-- It is a library of functions (servers from 7 on), so that it is not made anew with each call; or a script. Either way all that
-- is of one call is set by `begin`.
local meta, tasks, items, outputs, more, ready, delayed, expiring, index, lines, heads, aside, busy, own, hosts, names, idle,
  kept, once, news, claims, watchers, stops -- names of keys

local call, byte, char, sub, pack, read, band -- a library gets at them when it is called, and not before

local LINE, LATER, LARGE, MORE, OUTPUT, PAST, WATCHED = 1, 2, 4, 8, 16, 32, 64 -- flags
local STOP = 128 -- also a flag: somebody asked to stop it
local WAITING, RUNNING, EXPORTING, SUCCESS, FAILED, STOPPED, DELETED = "1", "2", "3", "4", "5", "6", "7"
local NOTHING8, NOTHING6 = "\0\0\0\0\0\0\0\0", "\0\0\0\0\0\0"
local LAST = "\255" -- behind every order
local WAS_LOST = 128 -- more in the first byte of an order
local TURN = 32 -- the first byte of a head that stands in `ready` by its turn
local BATCH = 100
local ONCE_KEPT = 7 * 24 * 3600
local RUNS_KEPT = 100

local now, NOW -- seconds, and as their bytes
local me, keep_seconds -- who asks; by status
local connection, joined -- the number of the owner's connection, and that of which it joined

local argv, at
local function arg()
  at = at + 1
  return argv[at]
end
local function number_arg()
  return tonumber(arg())
end

-- Numbers: used once, for places, turns and runs.

local last_number, first_number -- nil: not asked yet
local function next_number()
  if not last_number then
    first_number = tonumber(call("HGET", meta, "number") or 0)
    last_number = first_number
  end
  last_number = last_number + 1
  return pack(">I6", last_number)
end

-- What is written at the end, or before it is read: records, and members of sorted sets.

local records, changed

-- Of an order, from its first byte.
local function order_length(first)
  local kind = first % WAS_LOST
  return 7 + (kind > 64 and kind - 64 or kind == TURN and 0 or 64 - kind)
end

-- What is no whole record was not written here, and is as if it were not there: so it holds up no other task.
local function sound(record)
  if not record or #record < 62 then return false end
  local status, run_length = byte(record), byte(record, 9)
  if status < 49 or status > 54 or (run_length > 0 and run_length < 36) then return false end -- "1" to "6"
  local at_order = 54 + run_length
  local first = byte(record, at_order)
  local at_key = first and at_order + order_length(first)
  if not at_key or at_key > at_order + 15 or #record <= at_key then return false end
  return #record >= at_key + 1 + byte(record, at_key) * 256 + byte(record, at_key + 1) and record
end

local function record_of(id)
  local record = records[id]
  if record == nil then
    record = sound(call("HGET", tasks, id))
    records[id] = record
  end
  return record
end

local function put_record(id, record)
  records[id] = record
  changed[id] = true
end

-- Some hundreds.
local function fetch_records(ids)
  if #ids == 0 then return end
  local found = call("HMGET", tasks, unpack(ids))
  for i = 1, #ids do
    if records[ids[i]] == nil then records[ids[i]] = sound(found[i]) end
  end
end

-- Of each set what comes and what goes, in that order of writing: one of both at a time.
local coming, going

local function flush_set(set)
  local added, gone = coming[set], going[set]
  if gone then
    going[set] = nil
    call("ZREM", set, unpack(gone))
  end
  if added then
    coming[set] = nil
    call("ZADD", set, unpack(added))
  end
end

local function put(set, member, score)
  if going[set] then flush_set(set) end
  local list = coming[set]
  if not list then
    coming[set] = { score, member }
    return
  end
  local n = #list
  list[n + 1] = score
  list[n + 2] = member
  if n >= 1000 then flush_set(set) end
end

local function take(set, member)
  if coming[set] then flush_set(set) end
  local list = going[set]
  if not list then
    going[set] = { member }
    return
  end
  local n = #list
  list[n + 1] = member
  if n >= 1000 then flush_set(set) end
end

local function is_pending(set)
  return coming[set] or going[set]
end

local new_outputs -- ids and outputs

local function flush_outputs()
  if #new_outputs == 0 then return end
  local list = new_outputs
  new_outputs = {}
  for i = 1, #list, 1000 do call("HSET", outputs, unpack(list, i, math.min(i + 999, #list))) end
end

local function flush()
  flush_outputs()
  local list = {}
  for id in pairs(changed) do
    list[#list + 1] = id
    list[#list + 1] = records[id]
    if #list >= 1000 then
      call("HSET", tasks, unpack(list))
      list = {}
    end
  end
  changed = {}
  if #list > 0 then call("HSET", tasks, unpack(list)) end
  local sets = {}
  for set in pairs(coming) do sets[#sets + 1] = set end
  for set in pairs(going) do sets[#sets + 1] = set end
  for i = 1, #sets do flush_set(sets[i]) end
  if last_number ~= first_number then
    call("HSET", meta, "number", last_number)
    first_number = last_number
  end
end

-- Records.

local function has(record, flag)
  return band(byte(record, 2), flag) ~= 0
end

local function with(record, flag, set)
  if has(record, flag) == set then return record end
  return sub(record, 1, 1) .. char(byte(record, 2) + (set and flag or -flag)) .. sub(record, 3)
end

-- What is in it, by name. Those of a run: only of one that has begun.
local function behind_run(record)
  return 9 + byte(record, 9)
end
local function run_of(record)
  return byte(record, 9) > 0 and sub(record, 10, 15) or NOTHING6
end
local function token_of(record)
  return byte(record, 9) > 0 and sub(record, 16, 23) or NOTHING8
end
local function owner_of(record)
  return sub(record, 24, 31)
end
local function host_of(record)
  return sub(record, 46, behind_run(record))
end
local function is_under_way(record)
  local status = byte(record)
  return status == 50 or status == 51 -- RUNNING, EXPORTING
end

local function order_of(record, behind)
  local at_order = (behind or behind_run(record)) + 45
  return sub(record, at_order, at_order - 1 + order_length(byte(record, at_order)))
end
local function key_of(record)
  local at_key = behind_run(record) + 45
  at_key = at_key + order_length(byte(record, at_key))
  local high, low = byte(record, at_key, at_key + 1)
  if high + low == 0 then return "" end
  return sub(record, at_key + 2, at_key + 1 + high * 256 + low)
end
local function id_in(member)
  return sub(member, order_length(byte(member)) + 1)
end
local function with_number(order, number, was_lost)
  local first = byte(order) % WAS_LOST
  return char(first + (was_lost and WAS_LOST or 0)) .. sub(order, 2, -7) .. number
end

local PLACES = 2 ^ 48 -- of a status in the index

local function score_text(score)
  return string.format("%.0f", score)
end

-- In the order of places within a status.
local function set_index(id, record, status)
  put(index, id, status * PLACES + read(">I6", record, behind_run(record) + 1))
end

local function prefix_of(key)
  return pack(">I2", #key) .. key
end

-- Whether keys take turns. It begins with the first host that says so; what waits by then gets turns step by step.
local turns -- nil: not asked yet
local function has_turns()
  if turns == nil then turns = call("HGET", meta, "fair") end
  return turns
end

-- Lines of tasks with a key. A head is the member of `ready` that stands for a line: "o" and it, or "a": it is set aside.

-- The first, or the next behind another one.
local function first_in(prefix, other)
  if is_pending(lines) then flush_set(lines) end
  local from = other and "(" .. prefix .. other or "[" .. prefix
  local found = call("ZRANGEBYLEX", lines, from, "[" .. prefix .. LAST, "LIMIT", 0, 1)[1]
  return found and sub(found, #prefix + 1)
end

local function has_turn(head)
  return head and byte(head, 2) % WAS_LOST == TURN
end

-- In the order of sorted sets: text is compared as the server's language does.
local function comes_before(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = byte(one, i), byte(other, i)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- `first` is the first of the line, nil: there is none. `turn`: fair, the one that the key has from now on; else it keeps its
-- own, and one that comes new gets the last.
local function set_head(key, first, turn)
  local head = call("HGET", heads, key)
  local is_aside = head and byte(head) == 97 -- "a"
  if head and not is_aside then take(ready, sub(head, 2)) end
  if not first then
    call("HDEL", heads, key)
    if is_aside then take(aside, key) end
    return
  end
  local member = first
  if has_turns() then
    turn = turn or (has_turn(head) and sub(head, 3, 8)) or next_number()
    member = char(TURN + (byte(first) >= WAS_LOST and WAS_LOST or 0)) .. turn .. id_in(first)
  end
  if is_aside then
    call("HSET", heads, key, "a" .. member)
  else
    put(ready, member, "0")
    call("HSET", heads, key, "o" .. member)
  end
end

local function set_aside(key, member)
  take(ready, member)
  put(aside, key, now + 5) -- to be looked at again then, whatever happened to who was to say that there is room
  call("HSET", heads, key, "a" .. member)
end

local function open_key(key)
  local head = call("HGET", heads, key)
  if not head or byte(head) ~= 97 then return false end
  take(aside, key)
  put(ready, sub(head, 2), "0")
  call("HSET", heads, key, "o" .. sub(head, 2))
  return true
end

-- Waiting.

local something_new -- there is more to start than before

-- `turn`: fair, it gives this one back to its key.
local function make_ready(id, record, turn)
  local key, order = key_of(record), order_of(record)
  something_new = true
  if key == "" and not has_turns() then
    put(ready, order .. id, "0")
    return with(with(record, LATER, false), LINE, false)
  end
  local prefix = prefix_of(key)
  put(lines, prefix .. order .. id, "0")
  local first = first_in(prefix)
  if turn then
    local head = call("HGET", heads, key)
    local now_has = has_turn(head) and sub(head, 3, 8)
    set_head(key, first, now_has and comes_before(now_has, turn) and now_has or turn)
  elseif first == order .. id then
    set_head(key, first)
  end
  return with(with(record, LATER, false), LINE, true)
end

local function put_waiting(id, record, run_at, turn)
  if run_at > now then
    put(delayed, id, run_at)
    return with(record, LATER, true)
  end
  return make_ready(id, record, turn)
end

-- `turn`: fair, its key's turn is over, and this is the next one.
local function take_waiting(id, record, turn)
  if has(record, LATER) then
    take(delayed, id)
    return
  end
  local member = order_of(record) .. id
  if not has(record, LINE) then
    take(ready, member)
    return
  end
  local key = key_of(record)
  local prefix = prefix_of(key)
  local first = first_in(prefix)
  take(lines, prefix .. member)
  if first == member or turn then set_head(key, first_in(prefix), turn) end
end

-- What a task has beside its record.

local FIELDS = { "\0r", "\0v", "\0p", "\0h" } -- reason, version, progress, handle

local function set_fields(id, record, values)
  local list, gone = {}, {}
  for i = 1, 4 do
    local value = values[i]
    if value then
      list[#list + 1] = id .. FIELDS[i]
      list[#list + 1] = value
    elseif value == false and has(record, MORE) then
      gone[#gone + 1] = id .. FIELDS[i]
    end
  end
  if #gone > 0 then call("HDEL", more, unpack(gone)) end
  if #list == 0 then return record end
  call("HSET", more, unpack(list))
  return with(record, MORE, true)
end

local function set_output(id, record, value)
  if value then
    new_outputs[#new_outputs + 1] = id
    new_outputs[#new_outputs + 1] = value
  elseif has(record, OUTPUT) then
    flush_outputs()
    call("HDEL", outputs, id)
  end
  return with(record, OUTPUT, value ~= false)
end

-- The run that is over goes to the history: the length, the run, start, end, and reason, version, host with their lengths.
local function remember_run(id, record, ended_at, reason, version)
  local field = id .. "\0k"
  local past = has(record, PAST) and call("HGET", more, field) or ""
  local host = host_of(record)
  local entry = run_of(record) .. sub(record, 32, 39) .. ended_at .. pack(">I4", #reason) .. reason ..
    pack(">I4", #version) .. version .. char(#host) .. host
  past = past .. pack(">I4", #entry) .. entry
  local count, place = 0, 1
  while place <= #past do
    place = place + 4 + read(">I4", past, place)
    count = count + 1
  end
  if count > RUNS_KEPT + RUNS_KEPT / 2 then
    place = 1
    for _ = 1, count - RUNS_KEPT do place = place + 4 + read(">I4", past, place) end
    past = sub(past, place)
  end
  call("HSET", more, field, past)
  return with(record, PAST, true)
end

local function remove_task(id, record)
  take(index, id)
  take(kept, id)
  take(expiring, id)
  if has(record, LARGE) then call("HDEL", items, id) end
  if has(record, OUTPUT) then
    flush_outputs()
    call("HDEL", outputs, id)
  end
  if has(record, MORE) or has(record, PAST) then
    call("HDEL", more, id .. "\0r", id .. "\0v", id .. "\0p", id .. "\0h", id .. "\0k")
  end
  if has(record, WATCHED) then call("HDEL", watchers, id) end
  call("HDEL", tasks, id)
  records[id] = false
  changed[id] = nil
end

-- A task for the answer: { id, record } or all of it.
local function task_of(id, record, with_past)
  local flags = byte(record, 2)
  if flags < LARGE and not with_past then return { id, record } end
  local large = has(record, LARGE) and call("HGET", items, id)
  if #new_outputs > 0 then flush_outputs() end
  local output = has(record, OUTPUT) and call("HGET", outputs, id)
  local fields = has(record, MORE) and
    call("HMGET", more, id .. "\0r", id .. "\0v", id .. "\0p", id .. "\0h") or { false, false, false, false }
  local past = with_past and has(record, PAST) and call("HGET", more, id .. "\0k")
  local stop = has(record, STOP) and call("HGET", stops, id)
  return { id, record, large, output, fields[1], fields[2], fields[3], fields[4], past, stop }
end

-- News for other owners: what it is about is read from the queue, and that there is some is said on their channel.

local hints -- by owner

local function tell(owner, kind, id)
  if owner == me or not call("ZSCORE", hosts, owner) then return end
  put(news, owner .. next_number() .. kind .. id, "0")
  hints[owner] = true
end

local function hint(owner, what)
  return call("PUBLISH", meta .. ":" .. owner, what)
end

-- Wakes one that is idle: an add wakes one, and who has claimed as much as it can, and left some, the next.
local claimed -- by a claim in this batch: this owner has as much as it can have
local function wake_one()
  -- it looks by itself after what it added
  if something_new and not claimed and call("ZREM", idle, me) == 1 then return end
  for _ = 1, 20 do
    local first = call("ZRANGE", idle, 0, 0)[1]
    if not first then return end
    call("ZREM", idle, first)
    local looks_itself = first == me and something_new
    if looks_itself or (first ~= me and hint(first, "w") > 0) then return end
  end
end

-- Who was told with a claim that there is something to wait for is told when there is nothing any more; the others need not know,
-- so a queue that is empty again and again wakes only who had to do with it. They stand in a field that is no task's.
local function wait_for_all()
  local waiting = call("HGET", watchers, "") or ""
  if not waiting:find("," .. me, 1, true) then call("HSET", watchers, "", waiting .. "," .. me) end
end

local function tell_nothing_waits()
  local waiting = call("HGET", watchers, "")
  if not waiting then return end
  call("HDEL", watchers, "")
  for owner in waiting:gmatch "[^,]+" do hint(owner, "w") end
end

local something_ended

local function tell_end(id, record, kind)
  local behind = behind_run(record)
  local adder = sub(record, behind + 31, behind + 38)
  something_ended = true
  tell(adder, kind, id)
  if not has(record, WATCHED) then return end
  local waiting = call("HGET", watchers, id) or ""
  for i = 1, #waiting, 8 do
    local owner = sub(waiting, i, i + 7)
    if owner ~= adder then tell(owner, kind, id) end
  end
  call("HDEL", watchers, id)
end

-- Ends.

local freed -- slots, by ends before a claim in the same batch

local function free_key(id, record)
  local key = key_of(record)
  if key == "" then return end
  take(busy, prefix_of(key) .. id)
  if open_key(key) then something_new = true end
end

local something_free -- a slot, that may be the one for which others wait

local function leave_run(id, record)
  something_free = true
  take(own, owner_of(record) .. id)
  free_key(id, record)
  if not has(record, STOP) then return record end
  call("HDEL", stops, id)
  return with(record, STOP, false)
end

local function put_ended(id, record, to, reason, version, progress, output)
  if reason or version or progress or byte(record, 2) ~= 0 then
    record = set_fields(id, record, { reason or false, version, progress })
  end
  record = set_output(id, record, output)
  local behind = behind_run(record)
  record = to .. sub(record, 2, behind + 6) .. NOW .. sub(record, behind + 15)
  set_index(id, record, to)
  if keep_seconds[to] >= 0 then put(kept, id, now + keep_seconds[to]) end
  tell_end(id, record, "e")
  put_record(id, with(record, WATCHED, false))
end

-- Operations.

local operations = {}

-- a: count, name; of each: id, a byte of bits (see below) and the priority as in an order, key (with its length before) and
-- what only hosts read; and if the bit says so, when ("+" seconds, "=" time), seconds to begin within, an item that is large.
-- No two have the same id. All or none.
local ONCE, WHEN, WITHIN, ITEM = 1, 2, 4, 8

-- That it cannot be added, or nil; `name`: of an add that may have added it before, which is told as true.
local function refuse_added(id, once_only, name)
  local record = record_of(id)
  if record then
    local behind = behind_run(record)
    if name and sub(record, behind + 31, behind + 44) == name then return nil, true end
    if once_only or sub(record, 1, 1) < SUCCESS then return { "exists", id, sub(record, 1, 1) } end
  elseif once_only and call("ZSCORE", once, id) then
    return { "exists", id, "" }
  end
end

-- How many arguments an added task has behind its first three.
local function count_more(bits)
  return (band(bits, WHEN) ~= 0 and 1 or 0) + (band(bits, WITHIN) ~= 0 and 1 or 0) + (band(bits, ITEM) ~= 0 and 1 or 0)
end

-- The next one that is to be added; `usual`: its times and who adds it, if it may start at once and at any time.
local function add_next(usual, adder)
  local id, head, tail = argv[at + 1], argv[at + 2], argv[at + 3]
  local bits, run_at, expires, place = byte(head), now, 0, next_number()
  local priority, times, old = sub(head, 2), usual, record_of(id)
  at = at + 3
  if old then remove_task(id, old) end
  if bits > 0 then
    if band(bits, ONCE) ~= 0 then put(once, id, now + ONCE_KEPT) end
    if band(bits, WHEN) ~= 0 then
      local when = arg()
      run_at = tonumber(sub(when, 2)) + (byte(when) == 43 and now or 0) -- "+"
    end
    if band(bits, WITHIN) ~= 0 then
      expires = now + tonumber(arg())
      put(expiring, id, expires)
    end
    if band(bits, ITEM) ~= 0 then call("HSET", items, id, arg()) end
    times = (expires > 0 and pack(">d", expires) or NOTHING8) .. NOW .. pack(">d", run_at) .. adder
  end
  local record = (band(bits, ITEM) ~= 0 and "1\4\0\0\0\0\0\0\0" or "1\0\0\0\0\0\0\0\0") .. place .. times .. priority ..
    place .. tail
  put(index, id, PLACES + last_number)
  if run_at <= now and not has_turns() and byte(tail) + byte(tail, 2) == 0 then
    put(ready, priority .. place .. id, "0")
    something_new = true
  else
    record = put_waiting(id, record, run_at)
  end
  put_record(id, record)
end

function operations.a()
  local count, adder = number_arg(), me .. arg()
  local first, ids, done = at, {}, nil
  for i = 1, count do
    ids[i] = argv[at + 1]
    at = at + 3 + count_more(byte(argv[at + 2]))
  end
  local last = at
  at = first
  fetch_records(ids)
  for i = 1, count do
    local bits = byte(argv[at + 2])
    local refused, is_done = refuse_added(ids[i], band(bits, ONCE) ~= 0, adder)
    if refused then
      at = last
      return refused
    end
    if is_done then
      done = done or {}
      done[i] = true
    end
    at = at + 3 + count_more(bits)
  end
  at = first
  local usual = NOTHING8 .. NOW .. NOW .. adder
  for i = 1, count do
    if done and done[i] then
      at = at + 3 + count_more(byte(argv[at + 2]))
    else
      add_next(usual, adder)
    end
  end
  return { "ok", NOW }
end

-- b: count, of each the id and "1" if it is to be added once. Whether all of them could be added.
function operations.b()
  local count = number_arg()
  local first, ids = at, {}
  for i = 1, count do ids[i] = argv[first + 2 * i - 1] end
  at = first + 2 * count
  fetch_records(ids)
  for i = 1, count do
    local refused = refuse_added(ids[i], argv[first + 2 * i] == "1")
    if refused then return refused end
  end
  return { "ok", NOW }
end

local LEGAL = {
  [WAITING] = "567", [RUNNING] = "34561", [EXPORTING] = "4561", [SUCCESS] = "17", [FAILED] = "17", [STOPPED] = "17",
}

local UNCOUNTED, LOST, NOT_BEGUN = 4, 8, 16 -- see `c`

local function wait_after_run(id, record, when, bits, reason, version)
  local attempts, lost, snoozes = read(">I4", record, 5), byte(record, 3), byte(record, 4)
  local uncounted, was_lost, not_begun = band(bits, UNCOUNTED) ~= 0, band(bits, LOST) ~= 0, band(bits, NOT_BEGUN) ~= 0
  if not not_begun then record = remember_run(id, record, NOW, reason or "", version or "") end
  record = set_fields(id, set_output(id, record, false), { reason or false, version, false, false })
  if uncounted and attempts > 0 then attempts = attempts - 1 end
  if was_lost and lost < 255 then lost = lost + 1 end
  if not not_begun then snoozes = uncounted and not was_lost and math.min(snoozes + 1, 255) or 0 end
  local behind = behind_run(record)
  local order, turn = order_of(record, behind), not_begun and sub(record, 40, 45)
  local rest = sub(record, behind + 45 + #order)
  if not not_begun then order = with_number(order, next_number(), lost > 0) end
  local as_before = not_begun and attempts == 0 and lost == 0 and snoozes == 0
  local run_at = when and tonumber(sub(when, 2)) + (sub(when, 1, 1) == "+" and now or 0) or now
  record = WAITING .. sub(record, 2, 2) .. char(lost, snoozes) .. pack(">I4", attempts) ..
    (as_before and "\0" or sub(record, 9, behind)) .. sub(record, behind + 1, behind + 6) .. NOTHING8 ..
    sub(record, behind + 15, behind + 22) .. pack(">d", run_at) .. sub(record, behind + 31, behind + 44) .. order .. rest
  set_index(id, record, WAITING)
  put_record(id, put_waiting(id, record, run_at, turn and turn ~= NOTHING6 and turn))
end

local function wait_after_end(id, record, reason)
  local behind, began = behind_run(record), byte(record, 9) > 0
  if began and sub(record, 32, 39) ~= NOTHING8 then
    local was = has(record, MORE) and call("HMGET", more, id .. "\0r", id .. "\0v") or {}
    record = remember_run(id, record, sub(record, behind + 7, behind + 14), was[1] or "", was[2] or "")
  end
  record = set_fields(id, set_output(id, record, false), { reason or false, false, false, false })
  local order = order_of(record, behind)
  -- of the run its number is kept, and who had it
  record = WAITING .. sub(record, 2, 2) .. "\0\0\0\0\0\0" ..
    (began and char(36) .. sub(record, 10, 31) .. NOTHING8 .. NOTHING6 or "\0") .. sub(record, behind + 1, behind + 6) ..
    NOTHING8 .. sub(record, behind + 15, behind + 22) .. NOW .. sub(record, behind + 31, behind + 44) ..
    with_number(order, next_number(), false) .. sub(record, behind + 45 + #order)
  take(kept, id)
  set_index(id, record, WAITING)
  put_record(id, put_waiting(id, record, now))
end

-- The records of all changes from here on in a row, by one call.
local VALUES = { 1, 2, 4, 8, 16 } -- bits, of what a change comes with, in that order
local fetched_to -- an argument
local function fetch_changed()
  local ids, place = {}, at
  while argv[place] == "c" do
    ids[#ids + 1] = argv[place + 1]
    local values = byte(argv[place + 2], 17)
    place = place + 3
    for i = 1, values > 0 and 5 or 0 do
      if band(values, VALUES[i]) ~= 0 then place = place + 1 end
    end
  end
  fetched_to = place - 1
  fetch_records(ids)
end

-- c: id; and in one: run, token, to, bits, values. Bits: 1: it comes again, 2: it frees a slot for the claim behind it, 4: it
-- uses no attempt, 8: it was lost with its host, 16: it never began. Values: when, reason, version, progress, output; those of
-- which the bit is set follow.
local AGAIN, FREES = 1, 2
function operations.c()
  if at > fetched_to then fetch_changed() end
  local id, packed = argv[at + 1], argv[at + 2]
  at = at + 2
  local run, token, to = sub(packed, 1, 6), sub(packed, 7, 14), sub(packed, 15, 15)
  local bits, values = byte(packed, 16, 17)
  local when, reason, version, progress, output
  if values > 0 then
    when = band(values, 1) ~= 0 and arg()
    reason = band(values, 2) ~= 0 and arg()
    version = band(values, 4) ~= 0 and arg() or nil
    progress = band(values, 8) ~= 0 and arg() or nil
    output = band(values, 16) ~= 0 and arg()
  end
  local again, frees = band(bits, AGAIN) ~= 0, band(bits, FREES) ~= 0
  local record = record_of(id)
  if not record then
    take(own, me .. id)
    if not again or to < SUCCESS then return "unknown" end
    if frees then freed = freed + 1 end -- it was done, and is forgotten by now
    return "ok"
  end
  local status, at_run, at_token = sub(record, 1, 1), run_of(record), token_of(record)
  local under_way = is_under_way(record)
  if again and status == to and at_run == run and (token == NOTHING8 or at_token == token) then
    if frees then freed = freed + 1 end
    return "ok"
  end
  -- Who has a token speaks of a run that it has: that is over, or another's. Elsewhere it could pass for somebody who has none,
  -- and wants an ended task to be run again, or one that waits to be ended.
  if token ~= NOTHING8 and not under_way then return "stale" end
  if under_way and at_token ~= token then return "stale" end
  if at_run ~= run or not LEGAL[status]:find(to, 1, true) then return { "moved", status, at_run } end
  if frees then freed = freed + 1 end
  if to == EXPORTING then
    set_index(id, record, to)
    put_record(id, to .. sub(record, 2))
    return "ok"
  end
  if under_way then
    record = leave_run(id, record)
  elseif status == WAITING then
    take_waiting(id, record)
    take(expiring, id)
  end
  if to == WAITING then
    if under_way then
      wait_after_run(id, record, when, bits, reason, version)
    else
      wait_after_end(id, record, reason)
    end
  elseif to == DELETED then
    take(once, id)
    tell_end(id, record, "d")
    remove_task(id, record)
  else
    put_ended(id, record, to, reason, version, progress, output or false)
  end
  return "ok"
end

-- u: id, run, token, handle, progress; each with "+" before, or "".
function operations.u()
  local id, run, token, handle, progress = arg(), arg(), arg(), arg(), arg()
  local record = record_of(id)
  if not record or not is_under_way(record) or sub(record, 10, 23) ~= run .. token then return "stale" end
  put_record(id, set_fields(id, record, {
    nil, nil, progress ~= "" and sub(progress, 2) or nil, handle ~= "" and sub(handle, 2) or nil,
  }))
  return "ok"
end

-- Claims.

local function count_status(from, to)
  if is_pending(index) then flush_set(index) end
  return call("ZCOUNT", index, score_text(from * PLACES), score_text(to * PLACES - 1))
end

local function wake_delayed()
  local ids = call("ZRANGEBYSCORE", delayed, "-inf", now, "LIMIT", 0, BATCH)
  fetch_records(ids)
  for i = 1, #ids do
    local id = ids[i]
    local record = record_of(id)
    take(delayed, id)
    if record and sub(record, 1, 1) == WAITING then
      -- behind those that could begin before
      local behind = behind_run(record)
      local order = order_of(record, behind)
      record = sub(record, 1, behind + 44 + #order - 6) .. next_number() .. sub(record, behind + 45 + #order)
      put_record(id, make_ready(id, record))
    end
  end
  return #ids == BATCH
end

local function expire_due(expired)
  local ids = call("ZRANGEBYSCORE", expiring, "-inf", now, "LIMIT", 0, BATCH)
  fetch_records(ids)
  for i = 1, #ids do
    local id = ids[i]
    local record = record_of(id)
    take(expiring, id)
    if record and sub(record, 1, 1) == WAITING and byte(record, 9) == 0 then
      take_waiting(id, record)
      put_ended(id, record, FAILED, "expired", nil, nil, false)
      expired[#expired + 1] = task_of(id, record_of(id))
    end
  end
  return #ids == BATCH
end

local function open_aside()
  local keys = call("ZRANGEBYSCORE", aside, "-inf", now, "LIMIT", 0, BATCH)
  for i = 1, #keys do
    take(aside, keys[i])
    open_key(keys[i])
  end
end

-- A step of giving turns to what waits since before there were any, in its order. Whether there may be more.
local function give_turns()
  if call("HGET", meta, "fair") ~= "begins" then return false end
  if is_pending(ready) then flush_set(ready) end
  local members = call("ZRANGEBYLEX", ready, "[" .. char(TURN + 1), "(" .. char(TURN + WAS_LOST), "LIMIT", 0, BATCH)
  if #members == 0 then
    members = call("ZRANGEBYLEX", ready, "[" .. char(TURN + WAS_LOST + 1), "+", "LIMIT", 0, BATCH)
  end
  for i = 1, #members do
    local id = id_in(members[i])
    local record = record_of(id)
    take(ready, members[i])
    if record and sub(record, 1, 1) == WAITING then
      local key, behind = key_of(record), behind_run(record)
      local prefix = prefix_of(key)
      put(lines, prefix .. members[i], "0")
      if not has_turn(call("HGET", heads, key)) then
        set_head(key, first_in(prefix), sub(record, behind + 1, behind + 6))
      end
      put_record(id, with(record, LINE, true))
    end
  end
  if #members == 0 then call("HSET", meta, "fair", "1") end
  return #members > 0
end

-- `begun`: see begin_run.
local function claim_task(id, record, begun, host)
  local key, behind, turn = key_of(record), behind_run(record), NOTHING6
  if has(record, LINE) then
    if has_turns() then
      local head = call("HGET", heads, key)
      turn = has_turn(head) and sub(head, 3, 8) or NOTHING6
      take_waiting(id, record, next_number())
    else
      take_waiting(id, record)
    end
  end
  if key ~= "" then put(busy, prefix_of(key) .. id, "0") end
  if sub(record, behind + 7, behind + 14) ~= NOTHING8 then take(expiring, id) end
  put(own, me .. id, "0")
  set_index(id, record, RUNNING)
  if has(record, MORE) then record = set_fields(id, record, { nil, false }) end
  record = RUNNING .. sub(record, 2, 4) .. pack(">I4", read(">I4", record, 5) + 1) .. begun .. turn .. host ..
    sub(record, behind + 1, behind + 6) .. NOTHING8 .. sub(record, behind + 15)
  put_record(id, record)
  return record
end

-- What the records of all tasks of one claim have of their run, up to the turn.
local function begin_run(run, token, host)
  return char(36 + #host) .. run .. token .. me .. NOW
end

local function key_has_room(key, limits, taken)
  if limits.full[key] or (limits.key_once and taken[key]) then return false end
  if limits.key == 0 then return true end
  if is_pending(busy) then flush_set(busy) end
  local prefix = prefix_of(key)
  return call("ZLEXCOUNT", busy, "[" .. prefix, "(" .. prefix .. "\255") < limits.key
end

-- What was lost before runs while no other such one of this owner does.
local function suspect_may_start(id)
  local other = call("HGET", meta, "suspect:" .. me)
  local record = other and record_of(other)
  if record and is_under_way(record) and owner_of(record) == me then return false end
  call("HSET", meta, "suspect:" .. me, id)
  return true
end

-- Takes the first ones. How much room is left, and whether some may not start for now.
local function claim_ready(room, limits, token, host, answer, ids)
  local taken, looked, size, begun = {}, 0, math.min(room, BATCH), nil
  while room > 0 and looked < 2 * BATCH do
    if is_pending(ready) then flush_set(ready) end
    local members = call("ZRANGE", ready, 0, math.min(size, room) - 1)
    if #members == 0 then break end
    local list = {}
    for i = 1, #members do list[i] = id_in(members[i]) end
    fetch_records(list)
    local restart = false
    for i = 1, #members do
      local id, member = list[i], members[i]
      local record = record_of(id)
      looked = looked + 1
      if not record or sub(record, 1, 1) ~= WAITING then
        take(ready, member)
      else
        local key = key_of(record)
        if key ~= "" and not key_has_room(key, limits, taken) then
          set_aside(key, member)
        elseif byte(member) >= WAS_LOST and not suspect_may_start(id) then
          return room, true -- it is the last in the order: nothing behind it may start either
        else
          begun = begun or begin_run(next_number(), token, host)
          take(ready, member)
          record = claim_task(id, record, begun, host)
          answer[#answer + 1] = task_of(id, record)
          ids[#ids + 1] = id
          room = room - 1
          if key ~= "" then
            taken[key] = true
            restart = not has_turns() -- the next of this key may come before those that were fetched
            if restart then break end
          end
        end
      end
    end
    size = restart and 1 or math.min(size * 2, BATCH)
  end
  return room, false
end

-- Takes those that another container has chosen. A letter for each: "t": it was taken, "w": it waits on, there is no room for
-- it, "g": it does not wait any more, or not yet, or after another run; and behind a "t" the turn that its key has now.
local function claim_choices(room, limits, token, host, choices, ids)
  local states, taken, begun, held = {}, {}, nil, false
  local list = {}
  for i = 1, #choices do list[i] = choices[i][1] end
  fetch_records(list)
  for i = 1, #choices do
    local id, run = choices[i][1], choices[i][2]
    local record = record_of(id)
    local gone = not record or sub(record, 1, 1) ~= WAITING or has(record, LATER) or run_of(record) ~= run
    local key = not gone and key_of(record)
    if gone then
      states[i] = "g"
    elseif room <= 0 then
      states[i] = "w"
    else
      local order = order_of(record)
      if key ~= "" and not key_has_room(key, limits, taken) then
        local head = call("HGET", heads, key)
        if head and byte(head) ~= 97 then set_aside(key, sub(head, 2)) end
        states[i], held = "w", true
      elseif byte(order) >= WAS_LOST and not suspect_may_start(id) then
        states[i], held = "w", true
      else
        begun = begun or begin_run(next_number(), token, host)
        if not has(record, LINE) then take(ready, order .. id) end
        claim_task(id, record, begun, host)
        ids[#ids + 1] = id
        room = room - 1
        if key ~= "" then taken[key] = true end
        local next_head = has_turns() and call("HGET", heads, key)
        states[i] = "t" .. (has_turn(next_head) and sub(next_head, 3, 8) or NOTHING6)
      end
    end
  end
  return room, held, table.concat(states), begun and sub(begun, 2, 7) or NOTHING6
end

-- Whether the first one is one that the owner cannot know of: since it was told the last number, somebody else has added it or
-- let it wait again, or it was delayed until now.
local function first_is_unknown(known)
  if has_turns() then return false end
  if is_pending(ready) then flush_set(ready) end
  local member = call("ZRANGE", ready, 0, 0)[1]
  local record = member and record_of(id_in(member))
  if not record or read(">I6", member, order_length(byte(member)) - 5) <= known then return false end
  local behind = behind_run(record)
  if byte(record, 9) > 0 then return owner_of(record) ~= me end
  local was_delayed = sub(record, behind + 15, behind + 22) ~= sub(record, behind + 23, behind + 30)
  return was_delayed or sub(record, behind + 31, behind + 38) ~= me
end

-- Whether the one of which this is the head may be shown; and its key, if it has one.
local function may_be_shown(member, limits)
  local record = record_of(id_in(member))
  local key = record and has(record, LINE) and key_of(record)
  if not key or key == "" or key_has_room(key, limits, {}) then return record ~= false, key end
  set_aside(key, member)
  return false
end

local function show_by_turns(members, count, limits)
  local shown, keys, others = {}, {}, {}
  for i = 1, #members do
    local may, key = may_be_shown(members[i], limits)
    if may then
      shown[#shown + 1] = { id_in(members[i]), sub(members[i], 2, 7) }
      keys[#shown] = key
    end
  end
  local heads_shown = #shown
  for i = 1, heads_shown do
    local left = count - heads_shown - #others
    if left <= 0 then break end
    local id, prefix, share = shown[i][1], prefix_of(keys[i]), math.ceil(left / (heads_shown - i + 1))
    local found = call("ZRANGEBYLEX", lines, "(" .. prefix .. order_of(record_of(id)) .. id,
      "[" .. prefix .. char(WAS_LOST), "LIMIT", 0, share)
    for k = 1, #found do others[#others + 1] = { id_in(sub(found[k], #prefix + 1)), NOTHING6 } end
  end
  for i = 1, #others do shown[#shown + 1] = others[i] end
  return shown
end

-- Puts it where its order says, the last first.
local function insert_by_order(list, member, key)
  local from, to = 1, #list + 1
  while from < to do
    local middle = math.floor((from + to) / 2)
    if comes_before(member, list[middle][1]) then from = middle + 1 else to = middle end
  end
  table.insert(list, from, { member, key })
end

local function show_by_order(members, count, limits)
  local shown, next_ones, i = {}, {}, 1 -- of each line of which one was shown, the next
  while #shown < count do
    local member, may, key = members[i], true
    local other = next_ones[#next_ones]
    if other and (not member or comes_before(other[1], member)) then
      member, key = other[1], other[2]
      next_ones[#next_ones] = nil
    elseif member then
      may, key = may_be_shown(member, limits)
      i = i + 1
    else
      break
    end
    if may then shown[#shown + 1] = { id_in(member), NOTHING6 } end
    local following = key and first_in(prefix_of(key), member)
    if following and byte(following) < WAS_LOST then insert_by_order(next_ones, following, key) end
  end
  return shown
end

-- The first that are due and may start, at most so many: of each the task, and the turn of its key if it is the first of that.
-- Those of a line come where their order says; where keys take turns, one of each first.
local function show_due(count, limits)
  flush()
  count = math.min(count, 2 * BATCH)
  if count == 0 then return {} end
  local members = call("ZRANGEBYLEX", ready, "-", "(" .. char(WAS_LOST), "LIMIT", 0, count)
  local list = {}
  for i = 1, #members do list[i] = id_in(members[i]) end
  fetch_records(list)
  local shown = (has_turns() and show_by_turns or show_by_order)(members, count, limits)
  for i = 1, #shown do
    local record = record_of(shown[i][1])
    shown[i] = record and { task_of(shown[i][1], record), shown[i][2] } or false
  end
  return shown
end

local function tell_stop(id)
  put(news, me .. next_number() .. "s" .. id, "0")
  hints[me] = true
end

-- An outage ends no leases: who was not there itself for the time of one, or is not now, cannot say that another is gone. It is
-- the server that knows: what was asked before the outage may arrive behind it.
local function is_there_for(seconds)
  local lease_end, since = call("ZSCORE", hosts, me), call("HGET", names, me .. "@")
  return lease_end and since and tonumber(lease_end) >= now and now - read(">d", since) >= seconds
end

local function lease_of(owner)
  local said = call("HGET", names, owner)
  return said and #said >= 16 and read(">d", said, 9) or 0
end

-- What a host that died, or cannot be reached any more, was running: one whose lease is over, or which is known to be dead.
local function take_over(room, token, answer, ids, only_known)
  local found = call("ZRANGEBYSCORE", hosts, "-inf", "(" .. now, "WITHSCORES", "LIMIT", 0, 1)
  local dead, is_known = found[1], tonumber(found[2]) == 0
  if not dead or dead == me or (not is_known and (only_known or not is_there_for(lease_of(dead)))) then return false end
  if is_pending(own) then flush_set(own) end
  local members = call("ZRANGEBYLEX", own, "[" .. dead, "(" .. dead .. "\255", "LIMIT", 0, math.min(room, BATCH))
  for i = 1, #members do
    local id = sub(members[i], 9)
    local record = record_of(id)
    take(own, members[i])
    if record and is_under_way(record) and owner_of(record) == dead then
      record = sub(record, 1, 15) .. token .. me .. sub(record, 32)
      put_record(id, record)
      put(own, me .. id, "0")
      answer[#answer + 1] = task_of(id, record)
      ids[#ids + 1] = id
      if has(record, STOP) then -- somebody has asked for that
        tell_stop(id)
      else
        tell(dead, "l", id)
      end
    end
  end
  if #members < math.min(room, BATCH) then
    call("ZREM", hosts, dead)
    call("ZREM", idle, dead)
    call("HDEL", names, dead, dead .. "#", dead .. "@")
    call("HDEL", claims, dead)
    call("HDEL", meta, "suspect:" .. dead, "freed:" .. dead)
    local old = call("ZRANGEBYLEX", news, "[" .. dead, "(" .. dead .. "\255", "LIMIT", 0, 5 * BATCH)
    if #old > 0 then call("ZREM", news, unpack(old)) end
  end
  return true
end

local function claim_again(answer)
  local before = call("HGET", claims, me) or ""
  local place = 18
  while place <= #before do
    local len = byte(before, place)
    local id = sub(before, place + 1, place + len)
    local record = record_of(id)
    place = place + 1 + len
    if record and is_under_way(record) and token_of(record) == sub(before, 9, 16) then
      answer[#answer + 1] = task_of(id, record)
      if has(record, STOP) then tell_stop(id) end -- it was told of that before it knew of the task
    end
  end
  return sub(before, 17, 17)
end

-- Then: the seconds until there is one.
local function spend_tokens(limits, count)
  if limits.per == 0 then return 0 end
  local left = limits.tokens - count
  if count > 0 then
    call("HSET", meta, "tokens", string.format("%.6f", left), "tokens_at", string.format("%.6f", now))
  end
  return left < 1 and (1 - left) * limits.per / limits.burst or 0
end

-- How many there are.
local function fill_tokens(limits)
  if limits.per == 0 then return math.huge end
  local had = call("HMGET", meta, "tokens", "tokens_at")
  local before = tonumber(had[2] or now)
  if before > now then call("HSET", meta, "tokens_at", string.format("%.6f", now)) end -- the clock was set back
  limits.tokens = tonumber(had[1] or limits.burst) + math.max(0, now - before) * limits.burst / limits.per
  limits.tokens = math.min(limits.burst, limits.tokens)
  return math.floor(limits.tokens + 1e-9)
end

-- The limits of the queue: what was set; else what the first of those at work was given, as long as some are. Then: where
-- this host's are others.
local LIMITS = { "global", "key", "burst", "per" }
local LIMIT_NAMES = { "global_limit", "key_limit", "rate", "rate per" }

local function take_limits(limits)
  local had, differ = call("HMGET", meta, "limit:global", "limit:key", "limit:burst", "limit:per"), ""
  for i = 1, 4 do
    local name = LIMITS[i]
    if not had[i] then
      if limits[name] > 0 then call("HSET", meta, "limit:" .. name, limits[name]) end
    else
      local value = tonumber(had[i])
      if limits[name] > 0 and value ~= limits[name] then
        differ = differ .. (differ == "" and "" or ", ") ..
          string.format("%s %.14g instead of %.14g", LIMIT_NAMES[i], value, limits[name])
      end
      limits[name] = value
    end
  end
  return differ
end

local function forget_given_limits()
  for i = 1, 4 do
    if not call("HGET", meta, "set:" .. LIMITS[i]) then call("HDEL", meta, "limit:" .. LIMITS[i]) end
  end
end

-- m: global limit, key limit, burst and seconds of the rate: each as it is to be from now on, 0: none, or "".
function operations.m()
  for i = 1, 4 do
    local value = arg()
    if value ~= "" then call("HSET", meta, "limit:" .. LIMITS[i], value, "set:" .. LIMITS[i], "1") end
  end
  call("PUBLISH", meta, "w")
  return "ok"
end

-- q: number (8 bytes), token, host, room, global limit (0: none), key limit, "1" if a key may come once in a claim, burst and
-- seconds of the rate, "1" if keys are to take turns, count of full keys and these; "0", or "1": by choice, the last number that
-- the owner was told, how many of the first are to be shown, count of choices, of each its id and run. They are not
-- taken if there is something that comes first and the owner cannot know: it is shown instead.
local function read_choices()
  local choices, known, look = {}, number_arg(), number_arg()
  for i = 1, number_arg() do choices[i] = { arg(), arg() } end
  return choices, look, known
end

function operations.q()
  local number, token, host, room = arg(), arg(), arg(), number_arg()
  local limits = { global = number_arg(), key = number_arg(), key_once = arg() == "1", burst = number_arg(),
                   per = number_arg(), full = {} }
  local fair = arg() == "1"
  for _ = 1, number_arg() do limits.full[arg()] = true end
  local choices, look, known
  if arg() == "1" then choices, look, known = read_choices() end
  local answer, expired, ids, next_in, full = {}, {}, {}, 0, 0
  local states, run = "", NOTHING6 -- of the choices
  local left -- something to be done at once
  local kind = "0" -- "1": the tasks were taken over
  if not joined then return { "ok", "0", "1", "-1", "0", {}, {}, "0", "", -1, "", NOTHING6, {}, 0 } end
  local differ = take_limits(limits)
  local paused = call("HGET", meta, "paused")
  room = room + freed
  freed, claimed = 0, true
  if fair and not has_turns() then
    turns = "begins"
    call("HSET", meta, "fair", turns)
  end
  flush()
  call("ZREM", idle, me)
  if sub(call("HGET", claims, me) or "", 1, 8) == number then
    kind = claim_again(answer)
    left = true
  else
    left = expire_due(expired)
    left = wake_delayed() or left
    open_aside()
    left = give_turns() or left
    flush()
    if not paused then
      if room > 0 and take_over(room, token, answer, ids) then
        left, kind = true, "1"
      elseif room > 0 then
        local wanted = room
        if limits.global > 0 then room = math.min(room, limits.global - count_status(RUNNING, SUCCESS)) end
        local left_to_all = room
        room = math.max(0, math.min(room, fill_tokens(limits)))
        local held = room < wanted
        local before = room
        if choices and first_is_unknown(known) then
          left = true
        elseif choices then
          local some_may_not
          room, some_may_not, states, run = claim_choices(room, limits, token, host, choices, ids)
          held = held or some_may_not
        end
        -- what comes last is claimed here also where another container chooses: that does not know of it
        if room > 0 and (not choices or call("ZLEXCOUNT", ready, "-", "(" .. char(WAS_LOST)) == 0) then
          local some_may_not
          room, some_may_not = claim_ready(room, limits, token, host, answer, ids)
          held = held or some_may_not
        end
        next_in = spend_tokens(limits, before - room)
        if left_to_all < wanted and left_to_all <= before - room then full = limits.global end
        if wanted > before - room then call("ZADD", idle, now, me) end
        if before > 0 and room == 0 then something_new = true end -- others may have room for more
        flush()
        left = left or (not held and not choices and call("ZCARD", ready) > 0)
      else
        left = left or (not choices and call("ZCARD", ready) > 0)
      end
    end
    if #ids > 0 then
      local list = {}
      for i = 1, #ids do list[i] = char(#ids[i]) .. ids[i] end
      call("HSET", claims, me, number .. token .. kind .. table.concat(list))
    end
  end
  flush()
  local soonest = call("ZRANGE", delayed, 0, 0, "WITHSCORES")[2]
  local expiry = call("ZRANGE", expiring, 0, 0, "WITHSCORES")[2]
  local seconds = soonest and math.max(0, tonumber(soonest) - now) or -1
  if expiry then
    local until_then = math.max(0, tonumber(expiry) - now)
    seconds = seconds < 0 and until_then or math.min(seconds, until_then)
  end
  if next_in > 0 and call("ZCARD", ready) > 0 then
    seconds = seconds < 0 and next_in or math.min(seconds, next_in)
  end
  local mine = call("ZLEXCOUNT", own, "[" .. me, "(" .. me .. "\255")
  local waiting = count_status(WAITING, RUNNING)
  local waits = waiting > 0 or count_status(RUNNING, SUCCESS) > mine
  if waits then wait_for_all() end
  if not waits then waits = call("ZLEXCOUNT", news, "[" .. me, "(" .. me .. "\255") > 0 end
  local seen = look and show_due(look, limits) or {}
  return { "ok", left and "1" or "0", waits and "1" or "0", string.format("%.6f", seconds), paused and "1" or "0", answer,
           expired, kind, differ, mine, states, run .. NOW, seen, waiting - call("ZCARD", delayed),
           choices and (last_number or tonumber(call("HGET", meta, "number") or 0)) or 0,
           string.format("%.6f", next_in), full }
end

-- o: key. It has room again.
function operations.o()
  if open_key(arg()) then something_new = true end
  return "ok"
end

-- Joining, living, leaving.

-- j: seconds of the lease, name of the host, what is shown of it.
function operations.j()
  local lease, name, about = number_arg(), arg(), arg()
  if call("ZCARD", hosts) == 0 then forget_given_limits() end
  call("ZADD", hosts, now + lease, me)
  call("HSET", names, me .. "#", connection, me .. "@", NOW, me, pack(">dd", now, lease) .. char(#name) .. name .. about)
  return { "ok", call("HGET", meta, "paused") and "1" or "0" }
end

-- k: seconds of the lease. It lives. "lost": it was taken for dead.
function operations.k()
  local lease = number_arg()
  local lease_end = call("ZSCORE", hosts, me)
  if not lease_end then return "lost" end
  if tonumber(lease_end) < now then call("HSET", names, me .. "@", NOW) end -- it was away
  call("ZADD", hosts, now + lease, me)
  local dead = call("ZRANGEBYSCORE", hosts, "-inf", "(" .. now, "LIMIT", 0, 1)[1]
  local due = call("ZCARD", ready) > 0 or call("ZCOUNT", delayed, "-inf", now) > 0
  local some = call("ZLEXCOUNT", news, "[" .. me, "(" .. me .. "\255") > 0
  return { "ok", call("HGET", meta, "paused") and "1" or "0", (dead or due) and "1" or "0", some and "1" or "0" }
end

-- x: an owner that is known to be dead: its lease is over.
function operations.x()
  local owner = arg()
  if call("ZSCORE", hosts, owner) then call("ZADD", hosts, 0, owner) end
  return "ok"
end

-- h: all owners.
function operations.h()
  local found = call("ZRANGE", hosts, 0, 10 * BATCH - 1, "WITHSCORES")
  local list = {}
  for i = 1, #found, 2 do
    local owner = found[i]
    list[#list + 1] = { owner, string.format("%.6f", tonumber(found[i + 1]) - now), call("HGET", names, owner) or "",
                        call("ZLEXCOUNT", own, "[" .. owner, "(" .. owner .. "\255") }
  end
  return { "ok", string.format("%.6f", now), list }
end

-- t: token. Takes over a step of what those left that are known to be dead: the tasks; none: nothing is left.
function operations.t()
  local token, answer = arg(), {}
  local some = take_over(BATCH, token, answer, {}, true)
  return { "ok", some and "1" or "0", answer }
end

-- e: it leaves; what it still runs is whose who looks next.
function operations.e()
  call("ZREM", idle, me)
  if call("ZSCORE", hosts, me) then call("ZADD", hosts, 0, me) end
  if call("ZLEXCOUNT", own, "[" .. me, "(" .. me .. "\255") == 0 then
    call("ZREM", hosts, me)
    call("HDEL", names, me, me .. "#", me .. "@")
    call("HDEL", claims, me)
    call("HDEL", meta, "suspect:" .. me, "freed:" .. me)
    local old = call("ZRANGEBYLEX", news, "[" .. me, "(" .. me .. "\255", "LIMIT", 0, 5 * BATCH)
    if #old > 0 then call("ZREM", news, unpack(old)) end
  end
  something_new = true
  return "ok"
end

-- n: the last that was taken note of, or "". What is new for this owner.
function operations.n()
  local last = arg()
  if last ~= "" then
    local old = call("ZRANGEBYLEX", news, "[" .. me, "[" .. last, "LIMIT", 0, 5 * BATCH)
    if #old > 0 then call("ZREM", news, unpack(old)) end
  end
  flush()
  local found = call("ZRANGEBYLEX", news, "[" .. me, "(" .. me .. "\255", "LIMIT", 0, BATCH)
  local list = {}
  for i = 1, #found do
    local kind, id = sub(found[i], 15, 15), sub(found[i], 16)
    local record = record_of(id)
    list[i] = { kind, id, record and task_of(id, record) or false }
  end
  return { "ok", found[#found] or "", list }
end

-- v: an id, or "". What this owner runs, a step, from behind that id on: of each the run and the token, and the id.
function operations.v()
  local after = arg()
  if is_pending(own) then flush_set(own) end
  local members = call("ZRANGEBYLEX", own, "(" .. me .. after, "(" .. me .. "\255", "LIMIT", 0, BATCH)
  local list = {}
  for i = 1, #members do
    local id = sub(members[i], 9)
    local record = record_of(id)
    list[i] = (record and run_of(record) .. token_of(record) or NOTHING6 .. NOTHING8) .. id
  end
  return { "ok", list }
end

-- Questions.

-- This owner is told when the task ends.
local function watch(id, record)
  local behind = behind_run(record)
  if sub(record, 1, 1) >= SUCCESS or sub(record, behind + 31, behind + 38) == me then return record end
  local others = call("HGET", watchers, id) or ""
  for i = 1, #others, 8 do
    if sub(others, i, i + 7) == me then return record end
  end
  call("HSET", watchers, id, others .. me)
  if not has(record, WATCHED) then
    record = with(record, WATCHED, true)
    put_record(id, record)
  end
  return record
end

-- g: id, "1" if its end is waited for.
function operations.g()
  local id, waits = arg(), arg() == "1"
  local record = record_of(id)
  if not record then return "unknown" end
  if waits then record = watch(id, record) end
  return { "ok", task_of(id, record, true) }
end

-- l: status or "", key ("+" before) or "", text or "", after (a place, 0: from the beginning), limit, "1" for the newest first.
-- One step: the tasks, and the place up to which was looked; 0: to the end.
function operations.l()
  local status, key, text, after, limit, newest = arg(), arg(), arg(), number_arg(), number_arg(), arg() == "1"
  flush()
  local found = {}
  local cut -- up to which place all statuses have been looked at
  for digit = 1, 6 do
    if status == "" or status == tostring(digit) then
      local first, members = digit * PLACES
      if newest then
        members = call("ZREVRANGEBYSCORE", index, score_text(first + (after > 0 and after - 1 or PLACES - 1)),
          score_text(first), "WITHSCORES", "LIMIT", 0, BATCH)
      else
        members = call("ZRANGEBYSCORE", index, score_text(first + (after > 0 and after + 1 or 0)),
          score_text(first + PLACES - 1), "WITHSCORES", "LIMIT", 0, BATCH)
      end
      for i = 1, #members, 2 do found[#found + 1] = { place = members[i + 1] - first, id = members[i] } end
      if #members == 2 * BATCH then
        local last = found[#found].place
        if not cut or (newest and last > cut) or (not newest and last < cut) then cut = last end
      end
    end
  end
  table.sort(found, function(a, b)
    if newest then return a.place > b.place end
    return a.place < b.place
  end)
  local list, last = {}, 0
  for i = 1, #found do
    local place, id = found[i].place, found[i].id
    if cut and ((newest and place < cut) or (not newest and place > cut)) then break end
    if #list == limit then return { "ok", tostring(last), list } end
    local record = (text == "" or id:find(text, 1, true)) and record_of(id)
    if record and (key == "" or key_of(record) == sub(key, 2)) then list[#list + 1] = task_of(id, record) end
    last = place
  end
  return { "ok", tostring(cut and last or 0), list }
end

-- i: how many there are.
function operations.i()
  flush()
  local counts = {}
  for digit = 1, 6 do counts[digit] = count_status(tostring(digit), tostring(digit + 1)) end
  local first = call("ZRANGE", ready, 0, 0)[1]
  local record = first and record_of(id_in(first))
  local behind = record and behind_run(record)
  counts[7] = call("ZCARD", delayed)
  counts[8] = record and sub(record, behind + 15, behind + 30) or ""
  return counts
end

-- s: id, run, reason ("+" before, or ""). Who runs it is asked to stop it.
function operations.s()
  local id, run, reason = arg(), arg(), arg()
  local record = record_of(id)
  if not record or not is_under_way(record) or run_of(record) ~= run then return "stale" end
  call("HSET", stops, id, run .. reason)
  put_record(id, with(watch(id, record), STOP, true))
  tell(owner_of(record), "s", id)
  return "ok"
end

-- p: "1" or "0". The queue is paused, or goes on.
function operations.p()
  if arg() == "1" then
    call("HSET", meta, "paused", 1)
  else
    call("HDEL", meta, "paused")
  end
  call("PUBLISH", meta, "p")
  return "ok"
end

-- f: a step of forgetting what is old: the tasks that go.
function operations.f()
  flush()
  local ids = call("ZRANGEBYSCORE", kept, "-inf", now, "LIMIT", 0, BATCH)
  fetch_records(ids)
  local list = {}
  for i = 1, #ids do
    local record = record_of(ids[i])
    take(kept, ids[i])
    if record and sub(record, 1, 1) >= SUCCESS then
      list[#list + 1] = task_of(ids[i], record)
      remove_task(ids[i], record)
    end
  end
  local old = call("ZRANGEBYSCORE", once, "-inf", now, "LIMIT", 0, BATCH)
  if #old > 0 then call("ZREM", once, unpack(old)) end
  return { "ok", (#ids == BATCH or #old == BATCH) and "1" or "0", list }
end

-- + and -: slots that were freed are left for, and come from, another part of the same batch.
operations["+"] = function()
  call("HSET", meta, "freed:" .. me, freed)
  return "ok"
end
operations["-"] = function()
  freed = tonumber(call("HGET", meta, "freed:" .. me) or 0)
  call("HDEL", meta, "freed:" .. me)
  return "ok"
end

-- A call.

local function begin(keys, arguments)
  call, byte, char, sub = redis.call, string.byte, string.char, string.sub
  pack, read, band = struct.pack, struct.unpack, bit.band
  meta, tasks, items, outputs, more, ready, delayed, expiring, index, lines, heads, aside, busy, own, hosts, names, idle, kept,
    once, news, claims, watchers, stops = unpack(keys)
  local clock = call("TIME")
  now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
  NOW = pack(">d", now)
  argv, at = arguments, 5
  me, connection, joined = argv[1], argv[5], call("HGET", names, argv[1] .. "#")
  keep_seconds = { [SUCCESS] = tonumber(argv[2]), [FAILED] = tonumber(argv[3]), [STOPPED] = tonumber(argv[4]) }
  last_number, first_number, turns = nil, nil, nil
  records, changed, coming, going, hints, new_outputs = {}, {}, {}, {}, {}, {}
  something_new, something_ended, something_free, claimed = false, false, false, false
  freed, fetched_to = 0, 0
end

local function run()
  -- What an earlier connection of the owner carried, and arrives only now, is done already, or asked anew: nobody hears the
  -- answer. No number: the owner has left, or was taken for dead; it may join again.
  if joined and tonumber(connection) < tonumber(joined) then return {} end
  -- A server whose memory is full refuses what grows, unless the script has given something back before. That is so for what
  -- adds nothing, so that what runs can end, and lives on.
  if argv[at + 1] == "!" then
    at = at + 1
    call("HDEL", meta, "")
  end
  local answers = {}
  while at < #argv do
    answers[#answers + 1] = operations[arg()]()
  end
  flush()
  for owner in pairs(hints) do hint(owner, "n") end
  if (something_new or (something_free and not claimed)) and call("ZCARD", idle) > 0 and call("ZCARD", ready) > 0 then
    wake_one()
  end
  if something_ended and call("ZCARD", hosts) > 1 and count_status(WAITING, SUCCESS) == 0 then tell_nothing_waits() end
  return answers
end

if not redis.register_function then
  if redis.replicate_commands then redis.replicate_commands() end -- servers before 7: what is written depends on the time
  begin(KEYS, ARGV)
  return run()
end

-- What adds nothing is done also when memory is full.
local function answer(keys, arguments)
  begin(keys, arguments)
  return run()
end
redis.register_function(LIBRARY .. "_adds", answer)
redis.register_function { function_name = LIBRARY, callback = answer, flags = { "allow-oom" } }
