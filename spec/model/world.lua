--- The world of the model: a server that runs the real script, hosts (host.lua), and what can befall them. It knows
--- which steps can be taken, takes one, and says what is wrong with what came of it.
---
---     a call    sent -> done by the server -> heard. A fault may come behind each of these; what others do meanwhile
---     may as
---               well be done before or after, since who asked sees nothing of it: so without a fault it is one step
---     cut       nothing passes any more. What was sent and not done may arrive late, at any time, or never; the host
---               notices, at once or with the next tick
---     tick      a second passes: not before all calls on live connections are answered (an answer that takes so long
---     is a
---               cut), and every host that is connected and not frozen renews its lease
---     failover  the server is as it was before its last call: what a replica may know that takes over
---
--- What must hold is in `check_*`; each gives what is wrong in words.
local host = require "spec.model.host"
local Redis = require "spec.model.redis"
local queue_words = require "spec.model.words"

local World = {}
World.__index = World

local KEYS = { "q" }
local NAMES = { "meta", "tasks", "items", "outputs", "more", "ready", "delayed", "expiring", "index", "lines", "heads",
                "aside", "busy", "own", "hosts", "names", "idle", "kept", "once", "news", "claims", "watchers",
                "stops" }
for i = 2, #NAMES do KEYS[i] = "q:" .. NAMES[i] end
local KEY = {}
for i, name in ipairs(NAMES) do KEY[name] = KEYS[i] end
World.KEYS, World.NAMES = KEYS, NAMES

local NO_TOKEN = ("\0"):rep(8)
local BASE = 1000000 -- the server's clock at the beginning

--- Faults, and what people do: so many of each may come in a case.
World.FAULTS = { "cut", "freeze", "kill", "failover", "outage", "fail", "stop", "delete", "pause", "restart" }

local script_text

local function text_of_script()
  if not script_text then
    local file = assert(io.open("src/containers/redis/queue.lua", "rb"))
    script_text = file:read "a"
    file:close()
  end
  return script_text
end

World.text_of_script = text_of_script

--- A case: `hosts` (1 or 2), `limit` of each, `global_limit`, `key_limit`, `tasks` (1 or 2), `key`: they have the same,
--- `on_lease_lost`, `max_lost`, `prompt` (hosts reconnect within a tick), and how many of each fault. `changes` of the
--- script and `rules` that are turned off are what a mutation does.
function World.new(case)
  local world = setmetatable({
    case = case, server = Redis.script(Redis.changed(text_of_script(), case.changes)), rules = {}, db = {}, now = 0,
    tokens = 0, hosts = {}, late = {}, left = {}, added = {}, acked = {}, deleted = {}, applied = {}, outage = false,
    lossy = false, to_add = {}, story = {},
  }, World)
  for rule in pairs(host.RULES) do world.rules[rule] = true end
  for _, rule in ipairs(case.without or {}) do
    assert(host.RULES[rule], rule)
    world.rules[rule] = false
  end
  for _, fault in ipairs(World.FAULTS) do world.left[fault] = case[fault] or 0 end
  for i = 1, case.tasks do world.to_add[i] = "t" .. i end
  for i = 1, case.hosts do
    local h = host.new(("ABC"):sub(i, i), 1, { limit = case.limit, goes_on = case.on_lease_lost == "continue" })
    h.recovered = true
    world.hosts[i] = h
    host.join(world, h)
  end
  world:settle()
  world.now = 10 -- all have been there for long
  for _, h in ipairs(world.hosts) do
    world:serve_now(h, { { kind = "k" } })
    h.renewed = world.now
    host.send(h, { host.claim_op(world, h) }) -- and have asked for tasks in vain
  end
  world:settle()
  return world
end

-- Copies.

-- What never changes is shared.
local SHARED = { case = true, server = true, rules = true, db = true, before = true, ops = true, answer = true }

local function copy(value)
  local other = {}
  for k, v in next, value do
    if type(v) == "table" and not SHARED[k] then v = copy(v) end
    other[k] = v
  end
  return other
end

function World:copy() return setmetatable(copy(self), World) end

-- Records.

local function record_of(db, id) return (db[KEY.tasks] or {})[id] end

local records_read = {} -- by their bytes

local function read_record(record)
  if records_read[record] then return records_read[record] end
  local found = queue_words.read(record)
  found.class, found.turn, found.run = found.order:byte(), string.unpack(">I6", found.order, -6),
    string.unpack(">I6", found.run)
  records_read[record] = found
  return found
end

local function is_under_way(record) return record ~= nil and (record.status == "2" or record.status == "3") end
local function has_ended(record) return record ~= nil and record.status >= "4" end

function World:records(db)
  local list = {}
  for i = 1, self.case.tasks do
    local record = record_of(db or self.db, "t" .. i)
    list["t" .. i] = record and read_record(record)
  end
  return list
end

function World:paused_is() return (self.db[KEY.meta] or {}).paused ~= nil end

function World:token()
  self.tokens = self.tokens + 1
  return string.pack(">I8", self.tokens)
end

-- Faults: what is said first stays.
function World:wrong(what) self.fault = self.fault or what end

-- The server.

local function find_op(call, kind, fits)
  for _, op in ipairs(call.ops) do
    if op.kind == kind and (not fits or fits(op)) then return op end
  end
end

-- What a call has done to a task: each transition has somebody who may make it.
function World:check_transition(h, call, id, was, is)
  local said = h.name .. "'s call"
  if not was then
    if not is then return end
    self.added[id] = (self.added[id] or 0) + 1
    if not find_op(call, "a") then self:wrong(id .. " comes of nothing by " .. said) end
    -- who has not heard yet that it was added asks again, and somebody may have deleted it by then
    if self.added[id] > 1 and self.acked[id] and not self.lossy then self:wrong(id .. " was added twice") end
  elseif not is then
    if not find_op(call, "c", function(op) return op.to == "7" and op.id == id end) then
      self:wrong(id .. " is gone by " .. said)
    end
    self.deleted[id] = true
  elseif has_ended(was) then
    if is.status ~= was.status then self:wrong(id .. " had ended and does not stay so") end
  elseif is_under_way(was) and (was.token ~= is.token or not is_under_way(is)) then
    local op = find_op(call, "c", function(op) return op.id == id and op.token == was.token end)
    if not op and is_under_way(is) then
      self:check_take_over(h, id, was, is)
    elseif not op then
      self:wrong(("the end of %s is not from who has its token, but %s"):format(id, said))
    else
      self.applied[was.token] = op.to
    end
  elseif not is_under_way(was) and is_under_way(is) and is.owner ~= h.owner then
    self:wrong(id .. " was claimed for another")
  end
end

function World:owner(name)
  for _, h in ipairs(self.hosts) do
    if h.owner == name then return h end
  end
end

-- Who lives and can be heard of loses nothing. Where all reconnect at once, that is everybody who is not frozen.
function World:check_take_over(h, id, was, is)
  local other = self:owner(was.owner)
  if is.owner ~= h.owner or was.owner == h.owner then
    self:wrong(id .. " was taken over from " .. was.owner .. " for " .. is.owner)
  elseif other and not other.dead and not other.frozen and not other.suspect and
    ((other.up and not other.broken) or self.case.prompt) and not self.lossy then
    self:wrong(("%s takes %s over from %s, which lives"):format(h.name, id, other.name))
  end
end

function World:serve(h, call)
  local hints, before = {}, self:records()
  local function publish(channel, message)
    local heard = 0
    for _, other in ipairs(self.hosts) do
      local his = channel == KEYS[1] or channel == KEYS[1] .. ":" .. other.owner
      if his and other.up and not other.broken and not other.dead then
        hints[#hints + 1] = { other, message }
        heard = heard + 1
      end
    end
    return heard
  end
  local argv = host.arguments(self, h, call)
  local ok, db, answer = pcall(self.server, self.db, KEYS, argv, BASE + self.now, publish)
  if not ok then
    self:wrong("the script raises: " .. tostring(db))
    call.answer = {}
    return
  end
  self.before = self.left.failover > 0 and self.db or nil
  self.db, call.answer = db, answer
  local after = self:records()
  for i = 1, self.case.tasks do
    local id = "t" .. i
    if before[id] or after[id] then self:check_transition(h, call, id, before[id], after[id]) end
  end
  self:check_slots(after)
  for _, hint in ipairs(hints) do
    local other = hint[1]
    if other.frozen then
      other.hints = other.hints or {}
      other.hints[hint[2]] = true
    else
      host.hint(self, other, hint[2])
    end
  end
end

--- At once, and the answer: what a host's thread does with its lease.
function World:serve_now(h, ops)
  local call = { connection = h.connection, ops = ops }
  self:serve(h, call)
  return call.answer
end

-- What hosts hear.

function World:heard_add(op, code)
  if code == "ok" then self.acked[op.id] = true end
end

-- An end that counts is told as one, and one that is told does. But of a task that waits again another host may have
-- the next run by the time that its end is asked again.
function World:heard_end(h, op, code)
  if self.lossy then return end
  local applied = self.applied[op.token]
  if code == "ok" and applied ~= op.to and not self.deleted[op.id] then -- of what is gone nobody knows the end
    self:wrong(("%s is told that its end of %s is stored, and it is not"):format(h.name, op.id))
  elseif code ~= "ok" and applied == op.to and op.to ~= "1" then
    self:wrong(("%s is told that its end of %s does not count, and it does"):format(h.name, op.id))
  end
end

-- What must hold in every state.

function World:check_slots(records)
  local case, running, of_key = self.case, 0, 0
  for _, record in pairs(records) do
    if is_under_way(record) then running = running + 1 end
    if is_under_way(record) and record.key ~= "" then of_key = of_key + 1 end
  end
  if case.global_limit and running > case.global_limit then self:wrong "more run than global_limit says" end
  if case.key_limit and of_key > case.key_limit then self:wrong "more of a key run than key_limit says" end
  for _, h in ipairs(self.hosts) do
    local own = 0
    for _, record in pairs(records) do
      if is_under_way(record) and record.owner == h.owner then own = own + 1 end
    end
    if own > case.limit and not h.prove then self:wrong(h.name .. " has more runs than its limit") end
  end
end

function World:check_work()
  local case, working, at_work = self.case, 0, {}
  local strict = not self.lossy and (case.on_lease_lost ~= "continue" or case.prompt)
  for _, h in ipairs(self.hosts) do
    for _, job in pairs(h.jobs) do
      if job.works and not h.dead and not h.frozen and not h.suspect then
        working = working + 1
        if at_work[job.id] and strict then self:wrong("two work at " .. job.id) end
        at_work[job.id] = true
      end
    end
  end
  if strict and case.global_limit and working > case.global_limit then
    self:wrong "more work really goes on than global_limit says"
  end
end

function World:check_kept(records)
  for id in pairs(self.acked) do
    local may_be_gone = self.deleted[id] or self.lossy
    if not records[id] and not may_be_gone then self:wrong(id .. " was accepted and is lost") end
  end
end

-- A host that has heard all that there is to hear works at nothing that is not its own, and at nothing that it was to
-- stop.
local function is_quiet(h)
  return h.up and not (h.broken or h.dead or h.frozen or h.suspect or h.hints) and #h.wire == 0
end

function World:check_quiet(records)
  for _, h in ipairs(self.hosts) do
    for _, job in pairs(is_quiet(h) and not h.goes_on and h.jobs or {}) do
      local record = records[job.id]
      if job.works and not (is_under_way(record) and record.token == job.token) then
        self:wrong(("%s works at %s, which is not its own, and has nothing left to hear"):format(h.name, job.id))
      elseif job.works and record.flags >= 128 and not self:has_news(h) then
        self:wrong(("%s was to stop %s, and has nothing left to hear"):format(h.name, job.id))
      end
    end
  end
end

function World:has_news(h)
  for member in pairs(self.db[KEY.news] or {}) do
    if member:sub(1, 8) == h.owner then return true end
  end
  return false
end

-- That the keys of the queue agree with its records.
function World:check_keys(records)
  local db, own = self.db, {}
  local function has(key, member) return (db[KEY[key]] or {})[member] end
  for member in pairs(db[KEY.own] or {}) do own[member:sub(9)] = member:sub(1, 8) end
  for id, record in pairs(records) do
    if (has("index", id) or 0) ~= tonumber(record.status) * 2 ^ 48 + record.place then
      self:wrong(id .. " is not in its place of the index")
    end
    local owner = is_under_way(record) and record.owner or nil
    if own[id] ~= owner then self:wrong(id .. " is not whose its record says") end
    local member, waits = record.order .. id, record.status == "1"
    local later, in_line = record.flags % 4 >= 2, record.flags % 2 == 1
    local head = has("heads", record.key)
    local stands = has("ready", member) or (in_line and head and has("lines", string.pack(">s2", record.key) .. member))
    if waits and later and not has("delayed", id) then self:wrong(id .. " is to wait and does not") end
    if waits and not later and not stands then self:wrong(id .. " waits where nobody looks") end
    if record.key ~= "" and (has("busy", string.pack(">s2", record.key) .. id) ~= nil) ~= is_under_way(record) then
      self:wrong("the key of " .. id .. " is counted wrongly")
    end
  end
end

function World:check()
  local records = self:records()
  self:check_work()
  self:check_kept(records)
  self:check_quiet(records)
  self:check_keys(records)
  return self.fault
end

--- Whether all has come to its end: every task has ended, or was deleted or lost as documented, and no host is at work.
function World:is_done()
  if #self.to_add > 0 then return false end
  for i = 1, self.case.tasks do
    local record = self:records()["t" .. i]
    if record and not has_ended(record) then return false end
    if not record and not self.deleted["t" .. i] and not self.lossy then return false end
  end
  for _, h in ipairs(self.hosts) do
    if not h.dead and next(h.jobs) then return false end
  end
  return true
end

-- In words.

local NUMBERS = { ["1"] = "waiting", ["4"] = "success", ["5"] = "failed", ["6"] = "stopped", ["7"] = "deleted" }
local WORDS = {
  a = function(op) return "add " .. op.id end,
  c = function(op)
    local what = op.given_back and "give back " .. op.id or ("end %s as %s"):format(op.id, NUMBERS[op.to])
    return what .. (op.again and ", again" or "")
  end,
  q = function(op) return ("claim %d (%d)"):format(op.number, op.room) end,
  n = function() return "read news" end, v = function() return "compare runs" end,
  s = function(op) return "stop " .. op.id end,
  p = function(op) return op.on and "pause" or "go on" end, x = function() return "tell a death" end,
  t = function() return "take over" end,
}

local function words_of(call)
  local list = {}
  for i, op in ipairs(call.ops) do list[i] = WORDS[op.kind](op) end
  return table.concat(list, "; ")
end

-- What came of it, for a trace.
function World:shown()
  local list, records = {}, self:records()
  for i = 1, self.case.tasks do
    local record = records["t" .. i]
    local at = record and (is_under_way(record) and "running on " .. record.owner:sub(1, 2) or NUMBERS[record.status])
    list[i] = ("t%d %s"):format(i, at or "-")
  end
  return table.concat(list, ", ")
end

local function break_connection(world, h)
  if not h.up or h.broken then return end
  h.broken = true
  local kept = {}
  for _, call in ipairs(h.wire) do
    local changes = find_op(call, "a") or find_op(call, "c") or find_op(call, "q") or find_op(call, "t")
    if not call.answer and changes then -- others only read
      local late = { connection = call.connection, ops = call.ops }
      world.late[#world.late + 1] = { owner = h.owner, name = h.name, call = late }
    end
    call.answer = nil
    kept[#kept + 1] = call
  end
  h.wire = kept
end

-- Each step: its words, what it does with a copy, and whether it is a fault.
local function add_step(list, fault, words, fn) list[#list + 1] = { fault = fault, words = words, fn = fn } end

local function steps_of_work(world, list, h, i)
  for token, job in pairs(h.jobs) do
    if job.state == "working" and job.works then
      local function ends(to, words, fault)
        add_step(list, false, ("%s: the work of %s %s"):format(h.name, job.id, words), function(next_world)
          if fault then next_world.left.fail = next_world.left.fail - 1 end
          local other = next_world.hosts[i]
          host.end_work(next_world, other, other.jobs[token], to, {})
        end)
      end
      ends("4", "ends")
      if world.left.fail > 0 then ends("1", "fails, and is to be done again", true) end
    end
  end
end

local function steps_of_people(world, list, h, i)
  local function act(fault, words, op)
    add_step(list, fault ~= nil, ("%s: %s"):format(h.name, words), function(next_world)
      if fault then next_world.left[fault] = next_world.left[fault] - 1 end
      host.send(next_world.hosts[i], { op })
    end)
  end
  local id = world.to_add[1]
  if id and (i == 1 or world.hosts[1].dead) then
    add_step(list, false, ("%s adds %s"):format(h.name, id), function(next_world)
      table.remove(next_world.to_add, 1)
      host.send(next_world.hosts[i], { { kind = "a", id = id, name = "add " .. id, key = world.case.key } })
    end)
  end
  for name, record in pairs(world:records()) do
    local run = string.pack(">I6", record.run)
    if world.left.stop > 0 and is_under_way(record) and record.owner ~= h.owner then
      act("stop", "stop " .. name, { kind = "s", id = name, run = run })
    elseif world.left.delete > 0 and not is_under_way(record) then
      act("delete", "delete " .. name, { kind = "c", id = name, run = run, token = NO_TOKEN, to = "7", client = true })
    end
  end
  if world.left.pause > 0 and not world:paused_is() then act("pause", "pause", { kind = "p", on = true }) end
  if world:paused_is() then act(nil, "the queue goes on", { kind = "p", on = false }) end
end

-- Of a host that was stopped: they lie on its connection.
local function hear_hints(world, h)
  local hints = h.hints or {}
  h.hints = nil
  for _, hint in ipairs { "n", "p", "w" } do
    if hints[hint] then host.hint(world, h, hint) end
  end
end

local function steps_of_host(world, list, h, i)
  if h.dead then return end
  if h.frozen then
    add_step(list, false, h.name .. " goes on", function(next_world)
      local other = next_world.hosts[i]
      other.frozen, other.suspect = false, true
    end)
    return
  end
  if h.hints then
    add_step(list, false, h.name .. " hears what others did meanwhile", function(next_world)
      hear_hints(next_world, next_world.hosts[i])
    end)
  end
  steps_of_work(world, list, h, i)
  if h.broken then
    add_step(list, false, h.name .. " notices that its connection is gone", function(next_world)
      host.notice(next_world, next_world.hosts[i])
    end)
  elseif not h.up then
    if world.outage then return end
    add_step(list, false, h.name .. " connects again", function(next_world)
      host.join(next_world, next_world.hosts[i])
    end)
  else
    if not h.recovered and not h.recovering then
      add_step(list, false, h.name .. " looks for what the dead left", function(next_world)
        host.recover(next_world, next_world.hosts[i])
      end)
    end
    if host.may_claim(h) then
      add_step(list, false, ("%s asks for %d tasks"):format(h.name, host.room(h)), function(next_world)
        local other = next_world.hosts[i]
        host.send(other, { host.claim_op(next_world, other) })
      end)
    end
    steps_of_people(world, list, h, i)
  end
end

local function steps_of_faults(world, list, h, i)
  local function fault(name, words, fn)
    if world.left[name] == 0 then return end
    add_step(list, true, words, function(next_world)
      next_world.left[name] = next_world.left[name] - 1
      fn(next_world, next_world.hosts[i])
    end)
  end
  if h.dead then
    if not h.replaced then
      fault("restart", h.name .. "'s machine starts it again", function(next_world, old)
        old.replaced = true
        local new = host.new(old.name, 2, { limit = world.case.limit, goes_on = old.goes_on, prove = { old.owner } })
        next_world.hosts[#next_world.hosts + 1] = new
        host.join(next_world, new)
      end)
    end
    return
  end
  if h.up and not h.broken then fault("cut", "FAULT: the connection of " .. h.name .. " is cut", break_connection) end
  if not h.frozen then
    fault("freeze", "FAULT: " .. h.name .. " is stopped (SIGSTOP)", function(_, other) other.frozen = true end)
  end
  if world.case.hosts > 1 and i == 1 then
    fault("kill", "FAULT: " .. h.name .. " is killed", function(next_world, other)
      break_connection(next_world, other)
      other.dead, other.up, other.wire, other.jobs, other.runs, other.patient = true, false, {}, {}, {}, {}
    end)
  end
end

local function steps_of_server(world, list)
  if world.left.outage > 0 then
    add_step(list, true, "FAULT: nobody reaches the server", function(next_world)
      next_world.left.outage = next_world.left.outage - 1
      next_world.outage = true
      for _, h in ipairs(next_world.hosts) do break_connection(next_world, h) end
    end)
  end
  if world.outage then
    add_step(list, false, "the server can be reached again", function(next_world) next_world.outage = false end)
  end
  if world.left.failover > 0 and world.before then
    add_step(list, true, "FAULT: a replica takes over that has not seen the last call", function(next_world)
      next_world.left.failover = next_world.left.failover - 1
      for _, h in ipairs(next_world.hosts) do break_connection(next_world, h) end
      next_world.db, next_world.before, next_world.lossy, next_world.late = next_world.before, nil, true, {}
    end)
  end
  for n, letter in ipairs(world.late) do
    local words = ("what %s asked on its old connection arrives: %s"):format(letter.name, words_of(letter.call))
    add_step(list, false, words, function(next_world)
      local late = table.remove(next_world.late, n)
      next_world:serve(next_world:owner(late.owner), late.call)
    end)
  end
end

local function may_tick(world)
  if not world.case.prompt or world.outage then return true end
  for _, h in ipairs(world.hosts) do
    if not h.dead and not h.frozen and not h.up then return false end
  end
  return true
end

local function tick(world)
  world.now = world.now + 1
  for _, h in ipairs(world.hosts) do
    if not h.dead and not h.frozen then
      hear_hints(world, h)
      if h.broken then host.notice(world, h) end
      host.tick(world, h)
    end
  end
end

--- All steps that can be taken.
function World:steps()
  local list = {}
  for i, h in ipairs(self.hosts) do
    steps_of_host(self, list, h, i)
    steps_of_faults(self, list, h, i)
  end
  steps_of_server(self, list)
  if may_tick(self) then add_step(list, false, "a second passes", tick) end
  return list
end

-- The first call that goes on by itself, and who asked.
local function call_under_way(world)
  for i, h in ipairs(world.hosts) do
    local call = h.wire[1]
    if call and h.up and not (h.broken or h.dead or h.frozen) then return call, h, i end
  end
end

function World:go_on(call, h)
  if not call.answer then
    self:serve(h, call)
    self:tell(("the server does what %s asks (%s)"):format(h.name, words_of(call)))
  else
    table.remove(h.wire, 1)
    host.hear(self, h, call)
  end
end

function World:tell(words) self.story[#self.story + 1] = words end

--- All calls are done and heard.
function World:settle()
  local call, h = call_under_way(self)
  while call and not self.fault do
    self:go_on(call, h)
    call, h = call_under_way(self)
  end
end

-- All calls are done and heard, or a fault comes between: all worlds that come of it.
local function settle_somehow(world, found)
  local call, h, i = call_under_way(world)
  while call and not world.fault do
    local faults = {}
    steps_of_faults(world, faults, h, i)
    steps_of_server(world, faults)
    for _, step in ipairs(faults) do
      if step.fault then
        local other = world:copy()
        local words = call.answer and "%s does not hear of it yet; %s" or "%s waits for that; %s"
        other:tell(words:format(h.name, step.words))
        step.fn(other)
        settle_somehow(other, found)
      end
    end
    world:go_on(call, h)
    call, h, i = call_under_way(world)
  end
  found[#found + 1] = world
end

--- Takes the first step of which the words begin so, without a fault between.
function World:take_named(words)
  for _, step in ipairs(self:steps()) do
    if step.words:sub(1, #words) == words then return self:take(step)[1] end
  end
  error("there is no such step: " .. words)
end

--- Takes a step: the worlds that may come of it, each with its `story`; the first one is that without faults between.
function World:take(step)
  local other, found = self:copy(), {}
  other.story = { step.words }
  step.fn(other)
  settle_somehow(other, found)
  found[1], found[#found] = found[#found], found[1]
  return found
end

-- States: two are the same if nothing that can happen can tell them apart. So times count from now, numbers by their
-- order, tokens by where they stand.

local function sorted_keys(map)
  local list = {}
  for key in pairs(map) do list[#list + 1] = key end
  table.sort(list)
  return list
end

-- Tokens and claims' numbers are named as they come.
local function namer()
  local names, count = {}, 0
  return function(value)
    if value == NO_TOKEN then return "0" end
    if not names[value] then
      count = count + 1
      names[value] = tostring(count)
    end
    return names[value]
  end
end

-- Turns and runs: their order; those that the server has not yet given, how far off they are.
local function ranks(list, counter)
  table.sort(list)
  local rank, count, last = {}, 0, nil
  for _, number in ipairs(list) do
    if number ~= last then count = count + 1 end
    last = number
    rank[number] = number > counter and "+" .. math.tointeger(number - counter) or tostring(count)
  end
  return rank
end

local function turns_of(records, more)
  local list = {}
  for _, record in pairs(records) do list[#list + 1] = record.turn end
  for _, record in pairs(more or {}) do list[#list + 1] = record.turn end
  return list
end

local function runs_of(world, records, more)
  local list = {}
  local function add(run) list[#list + 1] = string.unpack(">I6", run) end
  local function add_calls(calls)
    for _, call in ipairs(calls) do
      for _, op in ipairs(call.ops) do
        if op.run then add(op.run) end
      end
    end
  end
  for _, record in pairs(records) do list[#list + 1] = record.run end
  for _, record in pairs(more or {}) do list[#list + 1] = record.run end
  for _, h in ipairs(world.hosts) do
    for _, run in pairs(h.runs) do add(run.run) end
    for _, job in pairs(h.jobs) do add(job.run) end
    add_calls(h.wire)
  end
  for _, letter in ipairs(world.late) do add_calls { letter.call } end
  for _, stop in pairs(world.db[KEY.stops] or {}) do add(stop:sub(1, 6)) end
  return list
end

-- Seconds until then: what is over is over, and what is far is far.
local function until_then(score, now, before)
  if score == 0 then return "d" end -- known to be dead
  return math.tointeger(math.max(before, math.min(score - BASE - now, 9)) // 1)
end

-- Whether that claim may still be asked again.
local function is_asked_again(world, owner, number)
  local h = world:owner(owner)
  if h and not h.dead and h.claim == number then return true end
  for _, letter in ipairs(world.late) do
    local op = letter.owner == owner and find_op(letter.call, "q")
    if op and op.number == number then return true end
  end
  return false
end

function World:key_of_db(put, db, records, name)
  local function of(key) return db[KEY[key]] or {} end
  for i = 1, self.case.tasks do
    local r = records["t" .. i]
    if r then
      put(i, r.status, r.flags % 4 + (r.flags >= 128 and 4 or 0), r.lost, r.class, name.turn[r.turn], name.run[r.run],
        name.token(r.token), r.owner)
    end
  end
  for _, key in ipairs { "ready", "lines" } do
    put(key)
    for _, member in ipairs(sorted_keys(of(key))) do put(member:sub(-2)) end
  end
  for _, key in ipairs { "heads", "busy", "own", "watchers" } do
    put(key)
    for _, field in ipairs(sorted_keys(of(key))) do
      put(field, key == "heads" and of(key)[field]:sub(1, 1) .. of(key)[field]:sub(-2), field == "" and of(key)[field])
    end
  end
  for _, key in ipairs { "delayed", "aside", "hosts" } do
    put(key)
    for _, field in ipairs(sorted_keys(of(key))) do
      put(field, until_then(of(key)[field], self.now, key == "hosts" and -1 or 0))
    end
  end
  put "idle"
  local idle = {}
  for member, score in pairs(of "idle") do idle[#idle + 1] = ("%015.3f%s"):format(score, member) end
  table.sort(idle)
  for _, entry in ipairs(idle) do put(entry:sub(-8)) end
  put "news"
  for _, member in ipairs(sorted_keys(of "news")) do put(member:sub(1, 8), member:sub(15)) end
  put "claims"
  for _, owner in ipairs(sorted_keys(of "claims")) do
    local value = of "claims"[owner]
    local number = string.unpack(">I8", value)
    if is_asked_again(self, owner, number) then
      put(owner, name.claim(owner .. number), name.token(value:sub(9, 16)), value:sub(17))
    end
  end
  put "names"
  for _, field in ipairs(sorted_keys(of "names")) do
    local kind, value = field:sub(-1), of "names"[field]
    local since = kind == "@" and math.min(BASE + self.now - string.unpack(">d", value), host.LEASE)
    put(field, kind == "#" and value or since)
  end
  for _, field in ipairs(sorted_keys(of "meta")) do
    if field ~= "number" then put(field, of "meta"[field]) end
  end
  for _, id in ipairs(sorted_keys(of "stops")) do put("stop", id, name.run[string.unpack(">I6", of "stops"[id])]) end
end

local function key_of_calls(put, calls, name, owner)
  for _, call in ipairs(calls) do
    put("call", call.connection, call.answer and 1 or 0)
    for _, op in ipairs(call.ops) do
      put(op.kind, op.id, op.run and name.run[string.unpack(">I6", op.run)], op.kind == "c" and name.token(op.token),
        op.to, op.again, op.wishes, op.when, op.number and name.claim(owner .. op.number), op.room, op.on,
        op.last and #op.last, op.after)
    end
  end
end

-- An answer on its way says what the server knew: its bytes, with the numbers that change from path to path left out.
local function key_of_answers(put, calls, token)
  for _, call in ipairs(calls) do
    for i, op in ipairs(call.answer and call.ops or {}) do
      local reply = call.answer[i]
      if type(reply) ~= "table" then
        put(reply)
      elseif op.kind == "q" or op.kind == "t" then
        put(reply[2], reply[8], reply[10])
        for _, task in ipairs(op.kind == "q" and reply[6] or reply[3]) do
          put(task[1], token(task[2]:sub(37, 44)), task[2]:sub(3, 4))
        end
      elseif op.kind == "v" then
        for _, part in ipairs(reply[2]) do put(token(part:sub(7, 14)), part:sub(15)) end
      elseif op.kind == "n" then
        for _, part in ipairs(reply[3]) do put(part[1], part[2], part[3] and part[3][2]:sub(1, 1)) end
      else
        put(reply[1])
      end
    end
  end
end

local FORMATS = setmetatable({}, { __index = function(formats, count)
  formats[count] = ("%s,"):rep(count) .. ";"
  return formats[count]
end })

function World:key()
  local parts, records, size = {}, self:records(), 0
  local function put(...)
    size = size + 1
    parts[size] = FORMATS[select("#", ...)]:format(...)
  end
  local before = self.before and self:records(self.before)
  local counter = tonumber((self.db[KEY.meta] or {}).number or 0)
  local name = { token = namer(), claim = namer(), turn = ranks(turns_of(records, before), counter),
                 run = ranks(runs_of(self, records, before), counter) }
  self:key_of_db(put, self.db, records, name)
  if before then self:key_of_db(put, self.before, before, name) end
  for _, h in ipairs(self.hosts) do
    put(h.owner, h.connection, h.up, h.broken, h.dead, h.frozen, h.suspect,
      h.told_late or math.min(self.now - h.renewed, 3),
      h.recovered, h.work, h.paused, name.claim(h.owner .. h.claim), h.asking,
      h.claim_lost, h.compare_again, h.reading, h.read_again, h.recovering, h.comparing, #h.last_news,
      h.hints and table.concat(sorted_keys(h.hints)), h.replaced)
    for _, id in ipairs(sorted_keys(h.runs)) do
      local run = h.runs[id]
      put(id, name.run[string.unpack(">I6", run.run)], name.token(run.token), run.forsaken, run.told, run.seen)
    end
    for _, key in ipairs(sorted_keys(h.jobs)) do
      local job = h.jobs[key]
      put(job.id, name.token(job.token), job.state, job.works, job.to, job.again, job.wishes, job.when,
        self.applied[job.token])
    end
    key_of_calls(put, h.wire, name, h.owner)
    key_of_answers(put, h.wire, name.token)
    for _, op in ipairs(h.patient) do put(op.kind, op.id) end
  end
  for _, letter in ipairs(self.late) do
    put("late", letter.owner)
    key_of_calls(put, { letter.call }, name, letter.owner)
  end
  put(self.outage, self.lossy, #self.to_add)
  for i = 1, self.case.tasks do put(self.acked["t" .. i], self.deleted["t" .. i], self.added["t" .. i]) end
  for _, fault in ipairs(World.FAULTS) do put(self.left[fault]) end
  return table.concat(parts)
end

return World
