-- What is done in the Redis server: operations on one queue, a batch of them in one call, in their order.
--
-- ARGV: the owner who asks (8 bytes, see below), the seconds that its ended tasks are kept ("-1": for ever) as success,
-- failed, stopped; the number of its connection; "!" if nothing is added; then each operation: its letter and its arguments. The
-- answer has an element for each.
--
-- Nothing here looks at more than some hundred tasks: what is left goes on with the next call. Time is the server's own.
-- All that is checked comes before the first write of an operation, since nothing is rolled back.
--
-- An owner is one scheduler's stay on the queue, by 8 random letters. A task is a field of one hash, its record:
--
--       1      status, as a digit                        53-60   the owner that added it
--       2      flags, see below                          61-66   a random name of that add: so that it can be repeated
--       3-4    how often it was lost                     67-74   added at
--       5-8    attempts                                  75-82   not before
--       9      snoozes in a row                          83-90   started at
--      10-15   place: the order of adding                91-98   ended at
--      16-30   order: in which it may start              99-106  to have begun by
--      31-36   run                                      107-108  length of the key, and the key
--      37-44   token of that run                                 length of the host's name, and that
--      45-52   owner of that run                                 what only hosts read: options, a small item
--
-- What may start stands in `ready` by its order (a class: those that were lost before come last; priority, turn). Tasks with
-- a key stand in `lines`, a line for each key, and only the first of each in `ready`, unless its key is full: then it is set
-- aside. So no claim ever looks at a task that may not start. Slots are what is in `index` as running, those of a key what
-- is in `busy`: there is no counter that could drift. The score in `index` is the status times 2^48, and the place.

local meta, tasks, items, outputs, more, ready, delayed, expiring, index, lines, heads, aside, busy, own, hosts, names, idle,
  kept, once, news, claims, watchers, stops = unpack(KEYS)

if redis.replicate_commands then redis.replicate_commands() end -- servers before 7: what is written depends on the time

local call, byte, char, sub = redis.call, string.byte, string.char, string.sub
local pack, read = struct.pack, struct.unpack

local LINE, LATER, LARGE, MORE, OUTPUT, PAST, WATCHED = 1, 2, 4, 8, 16, 32, 64 -- flags
local STOP = 128 -- also a flag: somebody asked to stop it
local WAITING, RUNNING, EXPORTING, SUCCESS, FAILED, STOPPED, DELETED = "1", "2", "3", "4", "5", "6", "7"
local NOTHING8, NOTHING6 = ("\0"):rep(8), ("\0"):rep(6)
local LAST = ("\255"):rep(16) -- behind every order
local BATCH = 100
local ONCE_KEPT = 7 * 24 * 3600
local RUNS_KEPT = 100

local clock = call("TIME")
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local NOW = pack(">d", now)

local me = ARGV[1]
local keep_seconds = { [SUCCESS] = tonumber(ARGV[2]), [FAILED] = tonumber(ARGV[3]), [STOPPED] = tonumber(ARGV[4]) }
-- What an earlier connection of the owner carried, and arrives only now, is done already, or asked anew: nobody hears the
-- answer. No number: the owner has left, or was taken for dead; it may join again.
local connection, joined = ARGV[5], call("HGET", names, me .. "#")
if joined and tonumber(connection) < tonumber(joined) then return {} end

local at = 5
local function arg()
  at = at + 1
  return ARGV[at]
end
local function number_arg()
  return tonumber(arg())
end

-- Numbers: used once, for places, turns and runs.

local last_number, first_number
local function next_number()
  if not last_number then
    first_number = tonumber(call("HGET", meta, "number") or 0)
    last_number = first_number
  end
  last_number = last_number + 1
  return pack(">I6", last_number)
end

-- What is written at the end, or before it is read: records, and members of sorted sets.

local records, changed = {}, {}

-- What is no whole record was not written here, and is as if it were not there: so it holds up no other task.
local function sound(record)
  if not record or #record < 109 or not sub(record, 1, 1):find "[1-6]" then return false end
  local behind = 109 + byte(record, 107) * 256 + byte(record, 108)
  return #record >= behind and #record >= behind + byte(record, behind) and record
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

local function fetch_records(ids)
  if #ids == 0 then return end
  local found = call("HMGET", tasks, unpack(ids))
  for i = 1, #ids do
    if records[ids[i]] == nil then records[ids[i]] = sound(found[i]) end
  end
end

local pending = {}

local function put(set, member, score)
  local members = pending[set]
  if not members then
    members = {}
    pending[set] = members
  end
  members[member] = score
end

local function flush_set(set)
  local gone, added = {}, {}
  for member, score in pairs(pending[set]) do
    if score then
      added[#added + 1] = score
      added[#added + 1] = member
    else
      gone[#gone + 1] = member
    end
    if #gone >= 1000 then
      call("ZREM", set, unpack(gone))
      gone = {}
    end
    if #added >= 1000 then
      call("ZADD", set, unpack(added))
      added = {}
    end
  end
  pending[set] = nil
  if #gone > 0 then call("ZREM", set, unpack(gone)) end
  if #added > 0 then call("ZADD", set, unpack(added)) end
end

local function flush()
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
  for set in pairs(pending) do sets[#sets + 1] = set end
  for i = 1, #sets do flush_set(sets[i]) end
  if last_number ~= first_number then
    call("HSET", meta, "number", last_number)
    first_number = last_number
  end
end

-- Records.

local function has(record, flag)
  return math.floor(byte(record, 2) / flag) % 2 == 1
end

local function with(record, flag, set)
  if has(record, flag) == set then return record end
  return sub(record, 1, 1) .. char(byte(record, 2) + (set and flag or -flag)) .. sub(record, 3)
end

local function key_of(record)
  return sub(record, 109, 108 + byte(record, 107) * 256 + byte(record, 108))
end

local PLACES = 2 ^ 48 -- of a status in the index

local function score_text(score)
  return string.format("%.0f", score)
end

-- In the order of places within a status, or out of it (no status).
local function set_index(id, record, status)
  put(index, id, status and status * PLACES + read(">I6", record, 10) or false)
end

local function prefix_of(key)
  return pack(">I2", #key) .. key
end

-- Lines of tasks with a key. A head is the member of `ready` that stands for a line: "o" and it, or "a": it is set aside.

local function first_in(prefix)
  if pending[lines] then flush_set(lines) end
  local found = call("ZRANGEBYLEX", lines, "[" .. prefix, "[" .. prefix .. LAST, "LIMIT", 0, 1)[1]
  return found and sub(found, #prefix + 1)
end

local function set_head(key, member)
  local head = call("HGET", heads, key)
  local is_aside = head and sub(head, 1, 1) == "a"
  if head and not is_aside then put(ready, sub(head, 2), false) end
  if not member then
    call("HDEL", heads, key)
    if is_aside then put(aside, key, false) end
  elseif is_aside then
    call("HSET", heads, key, "a" .. member)
  else
    put(ready, member, 0)
    call("HSET", heads, key, "o" .. member)
  end
end

local function set_aside(key, member)
  put(ready, member, false)
  put(aside, key, now + 5) -- to be looked at again then, whatever happened to who was to say that there is room
  call("HSET", heads, key, "a" .. member)
end

local function open_key(key)
  local head = call("HGET", heads, key)
  if not head or sub(head, 1, 1) ~= "a" then return false end
  put(aside, key, false)
  put(ready, sub(head, 2), 0)
  call("HSET", heads, key, "o" .. sub(head, 2))
  return true
end

-- Waiting.

local something_new = false -- there is more to start than before

local function make_ready(id, record)
  local key, member = key_of(record), sub(record, 16, 30) .. id
  something_new = true
  if key == "" then
    put(ready, member, 0)
    return with(with(record, LATER, false), LINE, false)
  end
  local prefix = prefix_of(key)
  put(lines, prefix .. member, 0)
  if first_in(prefix) == member then set_head(key, member) end
  return with(with(record, LATER, false), LINE, true)
end

local function put_waiting(id, record, run_at)
  if run_at > now then
    put(delayed, id, run_at)
    return with(record, LATER, true)
  end
  return make_ready(id, record)
end

local function take_waiting(id, record)
  if has(record, LATER) then
    put(delayed, id, false)
    return
  end
  local member = sub(record, 16, 30) .. id
  if not has(record, LINE) then
    put(ready, member, false)
    return
  end
  local key = key_of(record)
  local prefix = prefix_of(key)
  local first = first_in(prefix)
  put(lines, prefix .. member, false)
  if first == member then set_head(key, first_in(prefix)) end
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
    call("HSET", outputs, id, value)
  elseif has(record, OUTPUT) then
    call("HDEL", outputs, id)
  end
  return with(record, OUTPUT, value ~= false)
end

-- The run that is over goes to the history: the length, the run, start, end, and reason, version, host with their lengths.
local function remember_run(id, record, ended_at, reason, version)
  local field = id .. "\0k"
  local past = has(record, PAST) and call("HGET", more, field) or ""
  local behind = 109 + #key_of(record)
  local host = sub(record, behind + 1, behind + byte(record, behind))
  local entry = sub(record, 31, 36) .. sub(record, 83, 90) .. ended_at .. pack(">I4", #reason) .. reason ..
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
  set_index(id, record)
  put(kept, id, false)
  put(expiring, id, false)
  if has(record, LARGE) then call("HDEL", items, id) end
  if has(record, OUTPUT) then call("HDEL", outputs, id) end
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
  local output = has(record, OUTPUT) and call("HGET", outputs, id)
  local fields = has(record, MORE) and
    call("HMGET", more, id .. "\0r", id .. "\0v", id .. "\0p", id .. "\0h") or { false, false, false, false }
  local past = with_past and has(record, PAST) and call("HGET", more, id .. "\0k")
  local stop = has(record, STOP) and call("HGET", stops, id)
  return { id, record, large, output, fields[1], fields[2], fields[3], fields[4], past, stop }
end

-- News for other owners: what it is about is read from the queue, and that there is some is said on their channel.

local hints = {}

local function tell(owner, kind, id)
  if owner == me or not call("ZSCORE", hosts, owner) then return end
  put(news, owner .. next_number() .. kind .. id, 0)
  hints[owner] = true
end

local function hint(owner, what)
  return call("PUBLISH", KEYS[1] .. ":" .. owner, what)
end

-- Wakes one that is idle: an add wakes one, and who has claimed as much as it can, and left some, the next.
local claimed = false -- by a claim in this batch: this owner has as much as it can have
local function wake_one()
  if not claimed and call("ZREM", idle, me) == 1 then return end -- it looks by itself after what it did
  for _ = 1, 20 do
    local first = call("ZRANGE", idle, 0, 0)[1]
    if not first then return end
    call("ZREM", idle, first)
    if first == me or hint(first, "w") > 0 then return end
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

local something_ended = false

local function tell_end(id, record, kind)
  local adder = sub(record, 53, 60)
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

local freed = 0 -- slots, by ends before a claim in the same batch

local function free_key(id, record)
  local key = key_of(record)
  if key == "" then return end
  put(busy, prefix_of(key) .. id, false)
  if open_key(key) then something_new = true end
end

local function leave_run(id, record)
  put(own, sub(record, 45, 52) .. id, false)
  free_key(id, record)
  if not has(record, STOP) then return record end
  call("HDEL", stops, id)
  return with(record, STOP, false)
end

local function put_ended(id, record, to, reason, version, progress, output)
  record = set_fields(id, record, { reason or false, version, progress })
  record = set_output(id, record, output)
  record = to .. sub(record, 2, 90) .. NOW .. NOTHING8 .. sub(record, 107)
  set_index(id, record, to)
  if keep_seconds[to] >= 0 then put(kept, id, now + keep_seconds[to]) end
  tell_end(id, record, "e")
  put_record(id, with(record, WATCHED, false))
end

-- Operations.

local operations = {}

-- a: count, name; of each: id, once, priority as 8 bytes in order, key, when ("", "+" seconds, "=" time), seconds to begin
-- within or "", what only hosts read, item if that is large. All or none.
function operations.a()
  local count, name = number_arg(), arg()
  local list, ids, seen = {}, {}, {}
  for i = 1, count do
    list[i] = { id = arg(), once = arg() == "1", priority = arg(), key = arg(), when = arg(), within = arg(),
                rest = arg(), large = arg() }
    ids[i] = list[i].id
  end
  fetch_records(ids)
  for i = 1, count do
    local task = list[i]
    local record = record_of(task.id)
    if record and sub(record, 53, 66) == me .. name then
      task.done = true
    elseif record and (task.once or sub(record, 1, 1) < SUCCESS) then
      return { "exists", task.id, sub(record, 1, 1) }
    elseif task.once and call("ZSCORE", once, task.id) then
      return { "exists", task.id, "" }
    elseif seen[task.id] then
      return { "exists", task.id, "twice" }
    end
    seen[task.id] = true
  end
  for i = 1, count do
    local task = list[i]
    if not task.done then
      local record = record_of(task.id)
      if record then remove_task(task.id, record) end
      if task.once then put(once, task.id, now + ONCE_KEPT) end
      if task.large ~= "" then call("HSET", items, task.id, task.large) end
      local run_at = task.when == "" and now or tonumber(sub(task.when, 2)) + (sub(task.when, 1, 1) == "+" and now or 0)
      local expires = task.within ~= "" and now + tonumber(task.within) or 0
      local place = next_number()
      record = WAITING .. char(task.large ~= "" and LARGE or 0) .. "\0\0\0\0\0\0\0" .. place .. "\0" .. task.priority ..
        place .. NOTHING6 .. NOTHING8 .. NOTHING8 .. me .. name .. NOW .. pack(">ddd", run_at, 0, 0) ..
        pack(">d", expires) .. prefix_of(task.key) .. "\0" .. task.rest
      if expires > 0 then put(expiring, task.id, expires) end
      set_index(task.id, record, WAITING)
      put_record(task.id, put_waiting(task.id, record, run_at))
    end
  end
  return { "ok", NOW }
end

local LEGAL = {
  [WAITING] = "567", [RUNNING] = "34561", [EXPORTING] = "4561", [SUCCESS] = "17", [FAILED] = "17", [STOPPED] = "17",
}

local function wait_after_run(id, record, when, wishes, reason, version)
  local attempts, lost, snoozes = read(">I4", record, 5), read(">I2", record, 3), byte(record, 9)
  local uncounted, was_lost, not_begun = wishes:find("u", 1, true), wishes:find("l", 1, true), wishes:find("n", 1, true)
  if not not_begun then record = remember_run(id, record, NOW, reason or "", version or "") end
  record = set_fields(id, set_output(id, record, false), { reason or false, version, false, false })
  if uncounted and attempts > 0 then attempts = attempts - 1 end
  if was_lost and lost < 65535 then lost = lost + 1 end
  if not not_begun then snoozes = uncounted and not was_lost and math.min(snoozes + 1, 255) or 0 end
  local order = sub(record, 16, 30)
  if not not_begun then order = (lost > 0 and "\1" or "\0") .. sub(order, 2, 9) .. next_number() end
  local as_before = not_begun and attempts == 0 and lost == 0 and snoozes == 0
  local run_at = when == "" and now or tonumber(sub(when, 2)) + (sub(when, 1, 1) == "+" and now or 0)
  record = WAITING .. sub(record, 2, 2) .. pack(">I2I4B", lost, attempts, snoozes) .. sub(record, 10, 15) .. order ..
    (as_before and NOTHING6 or sub(record, 31, 36)) .. sub(record, 37, 74) .. pack(">d", run_at) ..
    (as_before and NOTHING8 or sub(record, 83, 90)) .. sub(record, 91)
  set_index(id, record, WAITING)
  put_record(id, put_waiting(id, record, run_at))
end

local function wait_after_end(id, record, reason)
  if sub(record, 31, 36) ~= NOTHING6 then
    local was = has(record, MORE) and call("HMGET", more, id .. "\0r", id .. "\0v") or {}
    record = remember_run(id, record, sub(record, 91, 98), was[1] or "", was[2] or "")
  end
  record = set_fields(id, set_output(id, record, false), { reason or false, false, false, false })
  local key = key_of(record)
  local behind = 109 + #key
  record = WAITING .. sub(record, 2, 2) .. "\0\0\0\0\0\0\0" .. sub(record, 10, 15) .. "\0" .. sub(record, 17, 24) ..
    next_number() .. sub(record, 31, 74) .. NOW .. NOTHING8 .. NOTHING8 .. NOTHING8 .. prefix_of(key) .. "\0" ..
    sub(record, behind + 1 + byte(record, behind))
  put(kept, id, false)
  set_index(id, record, WAITING)
  put_record(id, put_waiting(id, record, now))
end

-- The records of all changes from here on in a row, by one call.
local CHANGE = 13 -- arguments of one, with its letter
local fetched_to = 0
local function fetch_changed()
  local ids = {}
  while ARGV[at] == "c" do
    ids[#ids + 1] = ARGV[at + 1]
    at = at + CHANGE
  end
  fetched_to = at - 1
  at = at - #ids * CHANGE
  fetch_records(ids)
end

-- c: id, run, token, to, "1" if it comes again, "1" if it frees a slot for the claim behind it, wishes (u: uses no attempt,
-- l: lost with its host, n: never begun), when, reason, version, progress, output; the last four each with "+" before, or "".
function operations.c()
  if at > fetched_to then fetch_changed() end
  local id, run, token, to, again, frees, wishes, when = arg(), arg(), arg(), arg(), arg() == "1", arg() == "1", arg(), arg()
  local values = {}
  for i = 1, 4 do
    local value = arg()
    values[i] = value ~= "" and sub(value, 2)
  end
  local reason, version, progress, output = values[1], values[2] or nil, values[3] or nil, values[4]
  local record = record_of(id)
  if not record then
    put(own, me .. id, false)
    if not again or to < SUCCESS then return "unknown" end
    if frees then freed = freed + 1 end -- it was done, and is forgotten by now
    return "ok"
  end
  local status, at_run, at_token = sub(record, 1, 1), sub(record, 31, 36), sub(record, 37, 44)
  local under_way = status == RUNNING or status == EXPORTING
  if again and status == to and at_run == run and (token == NOTHING8 or at_token == token) then
    if frees then freed = freed + 1 end
    return "ok"
  end
  if under_way and at_token ~= token then return "stale" end
  if token ~= NOTHING8 and not under_way then return { "moved", status, at_run } end -- that run is over
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
    put(expiring, id, false)
  end
  if to == WAITING then
    if under_way then
      wait_after_run(id, record, when, wishes, reason, version)
    else
      wait_after_end(id, record, reason)
    end
  elseif to == DELETED then
    put(once, id, false)
    tell_end(id, record, "d")
    remove_task(id, record)
  else
    put_ended(id, record, to, reason, version, progress, output)
  end
  return "ok"
end

-- u: id, run, token, handle, progress; each with "+" before, or "".
function operations.u()
  local id, run, token, handle, progress = arg(), arg(), arg(), arg(), arg()
  local record = record_of(id)
  local status = record and sub(record, 1, 1)
  if (status ~= RUNNING and status ~= EXPORTING) or sub(record, 31, 44) ~= run .. token then return "stale" end
  put_record(id, set_fields(id, record, {
    nil, nil, progress ~= "" and sub(progress, 2) or nil, handle ~= "" and sub(handle, 2) or nil,
  }))
  return "ok"
end

-- Claims.

local function count_status(from, to)
  if pending[index] then flush_set(index) end
  return call("ZCOUNT", index, score_text(from * PLACES), score_text(to * PLACES - 1))
end

local function wake_delayed()
  local ids = call("ZRANGEBYSCORE", delayed, "-inf", now, "LIMIT", 0, BATCH)
  fetch_records(ids)
  for i = 1, #ids do
    local id = ids[i]
    local record = record_of(id)
    put(delayed, id, false)
    if record and sub(record, 1, 1) == WAITING then
      -- behind those that could begin before
      record = sub(record, 1, 24) .. next_number() .. sub(record, 31)
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
    put(expiring, id, false)
    if record and sub(record, 1, 1) == WAITING and sub(record, 31, 36) == NOTHING6 then
      take_waiting(id, record)
      put_ended(id, record, FAILED, "expired")
      expired[#expired + 1] = task_of(id, record_of(id))
    end
  end
  return #ids == BATCH
end

local function open_aside()
  local keys = call("ZRANGEBYSCORE", aside, "-inf", now, "LIMIT", 0, BATCH)
  for i = 1, #keys do
    put(aside, keys[i], false)
    open_key(keys[i])
  end
end

local function claim_task(id, record, run, token, host)
  local key = key_of(record)
  local behind = 109 + #key
  if has(record, LINE) then take_waiting(id, record) end
  if key ~= "" then put(busy, prefix_of(key) .. id, 0) end
  if sub(record, 99, 106) ~= NOTHING8 then put(expiring, id, false) end
  put(own, me .. id, 0)
  set_index(id, record, RUNNING)
  if has(record, MORE) then record = set_fields(id, record, { nil, false }) end
  record = RUNNING .. sub(record, 2, 4) .. pack(">I4", read(">I4", record, 5) + 1) .. sub(record, 9, 30) .. run .. token ..
    me .. sub(record, 53, 82) .. NOW .. NOTHING8 .. NOTHING8 .. sub(record, 107, behind - 1) .. char(#host) .. host ..
    sub(record, behind + 1 + byte(record, behind))
  put_record(id, record)
  return record
end

local function key_has_room(key, limits, taken)
  if limits.full[key] or (limits.key_once and taken[key]) then return false end
  if limits.key == 0 then return true end
  if pending[busy] then flush_set(busy) end
  local prefix = prefix_of(key)
  return call("ZLEXCOUNT", busy, "[" .. prefix, "(" .. prefix .. "\255") < limits.key
end

-- One that was lost before runs while no other such one of this owner does.
local function suspect_runs()
  local id = call("HGET", meta, "suspect:" .. me)
  local record = id and record_of(id)
  return record and (sub(record, 1, 1) == RUNNING or sub(record, 1, 1) == EXPORTING) and sub(record, 45, 52) == me
end

local function claim_ready(room, limits, token, host, answer, ids)
  local run, taken, looked, size = nil, {}, 0, math.min(room, BATCH)
  while room > 0 and looked < 2 * BATCH do
    if pending[ready] then flush_set(ready) end
    local members = call("ZRANGE", ready, 0, math.min(size, room) - 1)
    if #members == 0 then break end
    local list = {}
    for i = 1, #members do list[i] = sub(members[i], 16) end
    fetch_records(list)
    local restart = false
    for i = 1, #members do
      local id = list[i]
      local record = record_of(id)
      looked = looked + 1
      if not record or sub(record, 1, 1) ~= WAITING then
        put(ready, members[i], false)
      else
        local key = key_of(record)
        if key ~= "" and not key_has_room(key, limits, taken) then
          set_aside(key, members[i])
        elseif byte(members[i]) > 0 and suspect_runs() then
          return room, true -- it is the last in the order: nothing behind it may start either
        else
          if byte(members[i]) > 0 then call("HSET", meta, "suspect:" .. me, id) end
          run = run or next_number()
          put(ready, members[i], false)
          record = claim_task(id, record, run, token, host)
          answer[#answer + 1] = task_of(id, record)
          ids[#ids + 1] = id
          room = room - 1
          if key ~= "" then
            taken[key] = true
            restart = true -- the next of this key may come before those that were fetched
            break
          end
        end
      end
    end
    size = restart and 1 or math.min(size * 2, BATCH)
  end
  return room, false
end

local function tell_stop(id)
  put(news, me .. next_number() .. "s" .. id, 0)
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
  if pending[own] then flush_set(own) end
  local members = call("ZRANGEBYLEX", own, "[" .. dead, "(" .. dead .. "\255", "LIMIT", 0, math.min(room, BATCH))
  for i = 1, #members do
    local id = sub(members[i], 9)
    local record = record_of(id)
    put(own, members[i], false)
    if record and (sub(record, 1, 1) == RUNNING or sub(record, 1, 1) == EXPORTING) and sub(record, 45, 52) == dead then
      record = sub(record, 1, 36) .. token .. me .. sub(record, 53)
      put_record(id, record)
      put(own, me .. id, 0)
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
    if record and (sub(record, 1, 1) == RUNNING or sub(record, 1, 1) == EXPORTING) and
      sub(record, 37, 44) == sub(before, 9, 16) then
      answer[#answer + 1] = task_of(id, record)
      if has(record, STOP) then tell_stop(id) end -- it was told of that before it knew of the task
    end
  end
  return sub(before, 17, 17)
end

local function spend_tokens(limits, count)
  if limits.per > 0 and count > 0 then
    call("HSET", meta, "tokens", string.format("%.6f", limits.tokens - count), "tokens_at", string.format("%.6f", now))
  end
end

-- How many tokens there are; and the seconds until there is one.
local function fill_tokens(limits)
  if limits.per == 0 then return math.huge, 0 end
  local had = call("HMGET", meta, "tokens", "tokens_at")
  local tokens = tonumber(had[1] or limits.burst)
  local passed = math.max(0, now - tonumber(had[2] or now))
  tokens = math.min(limits.burst, tokens + passed * limits.burst / limits.per)
  limits.tokens = tokens
  return math.floor(tokens + 1e-9), tokens >= 1 and 0 or (1 - tokens) * limits.per / limits.burst
end

-- The limits of the queue: what a host was given first, unless it was set since. Then: where this host's are others.
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

-- m: global limit, key limit, burst and seconds of the rate: each as it is to be from now on, 0: none, or "".
function operations.m()
  for i = 1, 4 do
    local value = arg()
    if value ~= "" then call("HSET", meta, "limit:" .. LIMITS[i], value) end
  end
  call("PUBLISH", KEYS[1], "w")
  return "ok"
end

-- q: number (8 bytes), token, host, room, global limit (0: none), key limit, "1" if a key may come once in a claim, burst and
-- seconds of the rate, count of full keys and these.
function operations.q()
  local number, token, host, room = arg(), arg(), arg(), number_arg()
  local limits = { global = number_arg(), key = number_arg(), key_once = arg() == "1", burst = number_arg(),
                   per = number_arg(), full = {} }
  for _ = 1, number_arg() do limits.full[arg()] = true end
  local answer, expired, ids, next_in = {}, {}, {}, 0
  local left -- something to be done at once
  local kind = "0" -- "1": the tasks were taken over
  if not joined then return { "ok", "0", "1", "-1", "0", {}, {}, "0", "", -1 } end
  local differ = take_limits(limits)
  local paused = call("HGET", meta, "paused")
  room = room + freed
  freed, claimed = 0, true
  flush()
  call("ZREM", idle, me)
  if sub(call("HGET", claims, me) or "", 1, 8) == number then
    kind = claim_again(answer)
    left = true
  else
    left = expire_due(expired)
    left = wake_delayed() or left
    open_aside()
    flush()
    if not paused then
      if room > 0 and take_over(room, token, answer, ids) then
        left, kind = true, "1"
      elseif room > 0 then
        local wanted = room
        if limits.global > 0 then room = math.min(room, limits.global - count_status(RUNNING, SUCCESS)) end
        local tokens, token_in = fill_tokens(limits)
        next_in = token_in
        room = math.max(0, math.min(room, tokens))
        local held = room < wanted
        local before = room
        if room > 0 then
          local some_may_not
          room, some_may_not = claim_ready(room, limits, token, host, answer, ids)
          held = held or some_may_not
          spend_tokens(limits, before - room)
        end
        if wanted > before - room then call("ZADD", idle, now, me) end
        if before > 0 and room == 0 then something_new = true end -- others may have room for more
        flush()
        left = left or (not held and call("ZCARD", ready) > 0)
      else
        left = left or call("ZCARD", ready) > 0
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
  local waits = count_status(WAITING, RUNNING) > 0 or count_status(RUNNING, SUCCESS) > mine
  if waits then wait_for_all() end
  if not waits then waits = call("ZLEXCOUNT", news, "[" .. me, "(" .. me .. "\255") > 0 end
  return { "ok", left and "1" or "0", waits and "1" or "0", string.format("%.6f", seconds), paused and "1" or "0", answer,
           expired, kind, differ, mine }
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
  if pending[own] then flush_set(own) end
  local members = call("ZRANGEBYLEX", own, "(" .. me .. after, "(" .. me .. "\255", "LIMIT", 0, BATCH)
  local list = {}
  for i = 1, #members do
    local id = sub(members[i], 9)
    local record = record_of(id)
    list[i] = (record and sub(record, 31, 44) or NOTHING6 .. NOTHING8) .. id
  end
  return { "ok", list }
end

-- Questions.

-- This owner is told when the task ends.
local function watch(id, record)
  if sub(record, 1, 1) >= SUCCESS or sub(record, 53, 60) == me then return record end
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
  local record = first and record_of(sub(first, 16))
  counts[7] = call("ZCARD", delayed)
  counts[8] = record and sub(record, 67, 82) or ""
  return counts
end

-- s: id, run, reason ("+" before, or ""). Who runs it is asked to stop it.
function operations.s()
  local id, run, reason = arg(), arg(), arg()
  local record = record_of(id)
  local status = record and sub(record, 1, 1)
  if (status ~= RUNNING and status ~= EXPORTING) or sub(record, 31, 36) ~= run then return "stale" end
  call("HSET", stops, id, run .. reason)
  put_record(id, with(watch(id, record), STOP, true))
  tell(sub(record, 45, 52), "s", id)
  return "ok"
end

-- p: "1" or "0". The queue is paused, or goes on.
function operations.p()
  if arg() == "1" then
    call("HSET", meta, "paused", 1)
  else
    call("HDEL", meta, "paused")
  end
  call("PUBLISH", KEYS[1], "p")
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
    put(kept, ids[i], false)
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

-- A server whose memory is full refuses what grows, unless the script has given something back before. That is so for what
-- adds nothing, so that what runs can end, and lives on.
if ARGV[at + 1] == "!" then
  at = at + 1
  call("HDEL", meta, "")
end

local answers = {}
while at < #ARGV do
  answers[#answers + 1] = operations[arg()]()
end
flush()

for owner in pairs(hints) do hint(owner, "n") end
if something_new and call("ZCARD", idle) > 0 and call("ZCARD", ready) > 0 then wake_one() end
if something_ended and call("ZCARD", hosts) > 1 and count_status(WAITING, SUCCESS) == 0 then tell_nothing_waits() end
return answers
