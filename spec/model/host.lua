--- A host of the model: what the C code does with a queue (src/containers/redis, and src/scheduler as far as it
--- concerns it), one rule for each of its functions. It is data, so that it can be copied; what it does goes into its
--- wire as calls.
---
---     up        joined, on connection number `connection`; `broken`: that is dead and this host has not noticed
---     frozen    stopped as a whole (SIGSTOP); it notices nothing. `suspect`: it goes on, and has not renewed its
---     lease since runs      what the container knows that it runs (runs.c): by id, run, token, `forsaken` (told that
---     its lease is lost) jobs      what the scheduler has (run.c), by token:
---
---         working ----the work ends----> settling --ok, refused--> gone
---            |                            ^    | not answered
---            +--stop, found gone----------+    v
---            |                   back, again   owed
---            +--lease lost (only with on_lease_lost = "stop")--> gone
---
---     wire      calls under way, in order: sent, then done by the server (`answer`), then heard
---     patient   what is asked again by itself when the server is back
---
--- A call is a list of operations: { kind, ... }, which `arguments` writes as the script wants them.
local words = require "spec.model.words"

local host = {}

host.LEASE = 2 -- seconds; a tick of the model is one, so that the lease is renewed every tick
host.LATE = 2 -- of these 1.6: so late is it that a lease could not be renewed

local pack = string.pack

--- Rules that a mutation turns off; all of them are kept.
host.RULES = { ends_again = true, claims_again = true, late = true, compares = true, compares_late = true,
               compares_all = true, gives_back = true }

function host.new(name, number, options)
  return {
    name = name, owner = (name .. number):rep(4), connection = 0, up = false, broken = false, dead = false,
    frozen = false,
    suspect = false, renewed = 0, told_late = false, was_ready = false, recovered = false, work = true,
    paused = false, claim = 0, asking = false, claim_lost = false, compare_again = false, reading = false,
    read_again = false, comparing = false, last_news = "", runs = {}, jobs = {}, wire = {}, patient = {},
    limit = options.limit, goes_on = options.goes_on, prove = options.prove,
  }
end

-- Operations as the script takes them.

local write = {}
function write.a(op) return words.add(op.name, { op }) end
function write.c(op)
  return words.change {
    id = op.id, run = op.run, token = op.token, to = op.to, again = op.again, frees = op.frees, when = op.when,
    reason = op.reason, uncounted = op.wishes and op.wishes:find "u", lost = op.wishes and op.wishes:find "l",
    not_begun = op.wishes and op.wishes:find "n",
  }
end
function write.q(op, world)
  local case = world.case
  return words.claim { number = pack(">I8", op.number), token = op.token, room = op.room,
                       global_limit = case.global_limit, key_limit = case.key_limit }
end
function write.j() return { "j", tostring(host.LEASE), "host", "about" } end
function write.k() return { "k", tostring(host.LEASE) } end
function write.n(op) return { "n", op.last } end
function write.v(op) return { "v", op.after } end
function write.s(op) return { "s", op.id, op.run, "" } end
function write.p(op) return { "p", op.on and "1" or "0" } end
function write.x(op) return { "x", op.owner } end
function write.t(op) return { "t", op.token } end

--- ARGV of a call: what every call begins with (link_calls.c), and its operations.
function host.arguments(world, h, call)
  local argv = { h.owner, "-1", "-1", "-1", tostring(call.connection) }
  local grows = false
  for _, op in ipairs(call.ops) do grows = grows or op.kind == "a" end
  if not grows then argv[#argv + 1] = "!" end
  for _, op in ipairs(call.ops) do
    local list = write[op.kind](op, world)
    table.move(list, 1, #list, #argv + 1, argv)
  end
  return argv
end

-- Sending.

local PATIENT = { a = true, s = true, p = true }

function host.send(h, ops) h.wire[#h.wire + 1] = { connection = h.connection, ops = ops } end

-- What is impatient is told at once that the server is not there (lt_redis_take_mail).
local function request(world, h, ops)
  if h.up then return host.send(h, ops) end
  for _, op in ipairs(ops) do
    if PATIENT[op.kind] then h.patient[#h.patient + 1] = op else host.lost(world, h, op) end
  end
end

-- Jobs: runs of the scheduler.

local function end_job(job, to, options)
  job.state, job.to, job.wishes, job.when, job.lost = "settling", to, options.wishes, options.when, options.lost
  job.works, job.again = false, false
end

local function change_of(world, job)
  local again = job.again and world.rules.ends_again
  return { kind = "c", id = job.id, run = job.run, token = job.token, to = job.to, again = again, frees = true,
           wishes = job.wishes, when = job.when, reason = job.lost and "lost" or nil }
end

local function job_of(h, id)
  for _, job in pairs(h.jobs) do
    if job.id == id then return job end
  end
end

function host.room(h)
  local room = h.limit
  for _ in pairs(h.jobs) do room = room - 1 end
  return math.max(0, room)
end

-- Claims (claim.c of both).

function host.may_claim(h)
  return h.up and h.recovered and not h.asking and h.work and host.room(h) > 0 and not h.paused
end

function host.claim_op(world, h)
  h.asking, h.work = true, false
  local number = h.claim
  return { kind = "q", number = number, token = world:token(), room = host.room(h) }
end

--- The work of a job ends: its end is stored, with a claim if one is due.
function host.end_work(world, h, job, to, options)
  end_job(job, to, options or {})
  if not h.up then
    job.state = "owed"
    return
  end
  local ops = { change_of(world, job) }
  if h.recovered and not h.asking and h.work and not h.paused then ops[2] = host.claim_op(world, h) end
  host.send(h, ops)
end

-- What runs here (runs.c).

local function tell_lost(h, run)
  run.told, run.forsaken = true, not h.goes_on
  local job = h.jobs[run.token]
  if job and job.state == "working" and not h.goes_on then h.jobs[run.token] = nil end -- it is ended, and dropped
end

local function tell_all_lost(h)
  for _, run in pairs(h.runs) do
    if not run.forsaken then tell_lost(h, run) end
  end
end

local function compare(world, h)
  if not world.rules.compares then return end
  h.compare_again = h.comparing
  if h.comparing then return end
  h.comparing = true
  for _, run in pairs(h.runs) do run.seen = false end
  request(world, h, { { kind = "v", after = "" } })
end

local function end_comparison(world, h)
  h.comparing = false
  if h.compare_again and not h.claim_lost then compare(world, h) end
end

-- What the queue does not name is another's, or nobody's.
local function lose_unseen(h)
  for id, run in pairs(h.runs) do
    if not run.seen and run.forsaken then
      h.runs[id] = nil
    elseif not run.seen and not run.told then
      tell_lost(h, run)
    end
  end
end

local function give_back(world, h, id, run, token, later)
  if not world.rules.gives_back then return end
  request(world, h, { { kind = "c", id = id, run = run, token = token, to = "1", again = true, wishes = "u",
                        when = "+" .. (later and host.LEASE or 1), given_back = true } })
end

local function note_run(h, id, run, token) h.runs[id] = { run = run, token = token, forsaken = false, seen = true } end

-- Of a task as the script answers it.
local function read_task(task)
  local found = words.read(task[2])
  found.id, found.stop = task[1], task[10]
  return found
end

local function take_claimed(world, h, tasks, taken_over)
  for _, found in ipairs(tasks) do
    local task = read_task(found)
    local twin = job_of(h, task.id)
    local job = { id = task.id, run = task.run, token = task.token, state = "working", works = not taken_over }
    note_run(h, task.id, task.run, task.token)
    if taken_over then -- no work outlives its host here: it is found gone
      h.jobs[task.token] = job
      local lost = task.lost >= world.case.max_lost
      host.end_work(world, h, job, lost and "5" or "1", { lost = true, wishes = lost and "" or "ul" })
    elseif twin or host.room(h) == 0 then
      h.jobs[task.token] = job
      host.end_work(world, h, job, "1", { wishes = "u", when = "+1" })
    else
      h.jobs[task.token] = job
    end
  end
end

-- News (news.c).

local function read_news(world, h)
  h.read_again = h.reading
  if h.reading then return end
  h.reading = true
  request(world, h, { { kind = "n", last = h.last_news } })
end

function host.hint(world, h, what)
  if what == "w" then
    h.work = true
  elseif what == "n" then
    read_news(world, h)
  else
    h.paused = world.paused_is(world)
    h.work = true
  end
end

local function take_stop(world, h, task)
  local stopped = task.stop
  if not stopped or stopped:sub(1, 6) ~= task.run then return end
  local job = job_of(h, task.id)
  if job and job.run == task.run and job.state == "working" then host.end_work(world, h, job, "6") end
end

-- Joining, and all that the server's being there brings (link_calls.c, news.c, store.c).

local function became_ready(world, h)
  local again = h.was_ready
  h.was_ready = true
  if again then compare(world, h) end
  read_news(world, h)
  local owed = {}
  for _, job in pairs(h.jobs) do
    if job.state == "owed" then owed[#owed + 1] = job end
  end
  table.sort(owed, function(a, b) return a.token < b.token end)
  local ops = {}
  for i, job in ipairs(owed) do
    job.state = "settling"
    ops[i] = change_of(world, job)
  end
  if #h.patient > 0 then
    table.move(h.patient, 1, #h.patient, #ops + 1, ops)
    h.patient = {}
  end
  if #ops > 0 then host.send(h, ops) end
  h.work = true
end

local function joined(world, h)
  h.up, h.renewed, h.told_late = true, world.now, false
  h.paused = world.paused_is(world)
  became_ready(world, h)
end

function host.join(world, h)
  h.connection, h.broken = h.connection + 1, false
  world:serve_now(h, { { kind = "j" } })
  joined(world, h)
end

--- At the beginning: what others left that are known to be dead is taken over, before anything else.
function host.recover(world, h)
  local ops = {}
  for _, owner in ipairs(h.prove or {}) do ops[#ops + 1] = { kind = "x", owner = owner } end
  ops[#ops + 1] = { kind = "t", token = world:token() }
  host.send(h, ops)
  h.recovering = true
end

-- An operation is lost with its connection: nobody knows whether it was done.

local lost = {}
function lost.c(world, h, op)
  local job = not (op.given_back or op.client) and h.jobs[op.token]
  if job and job.state == "settling" then job.state, job.again = "owed", true end
end
function lost.q(world, h)
  h.asking, h.claim_lost, h.work = false, true, true
  if not world.rules.claims_again then h.claim = h.claim + 1 end
end
function lost.n(_, h) h.reading = false end
function lost.t(_, h) h.recovering = false end
lost.v = end_comparison

function host.lost(world, h, op)
  if lost[op.kind] then lost[op.kind](world, h, op) end
end

--- The connection is known to be gone.
function host.notice(world, h)
  local calls = h.wire
  h.wire, h.up, h.broken = {}, false, false
  for _, call in ipairs(calls) do
    for _, op in ipairs(call.ops) do
      if PATIENT[op.kind] then h.patient[#h.patient + 1] = op else host.lost(world, h, op) end
    end
  end
end

-- Answers.

local answer = {}

local function outcome(reply) return type(reply) == "table" and reply[1] or reply end

function answer.a(world, h, op, reply)
  local code = outcome(reply)
  h.work = h.work or code == "ok"
  world:heard_add(op, code)
end

function answer.c(world, h, op, reply)
  local run = h.runs[op.id]
  if op.given_back and outcome(reply) == "ok" then h.work = true end
  if op.given_back or op.client then return end
  if run and run.token == op.token and run.run == op.run then h.runs[op.id] = nil end
  local job = h.jobs[op.token]
  world:heard_end(h, op, outcome(reply))
  if not job then return end
  h.jobs[op.token] = nil
  if outcome(reply) ~= "ok" or op.to == "1" then h.work = true end
end

function answer.q(world, h, _, reply)
  local is_old = h.claim_lost
  h.asking, h.claim_lost = false, false
  h.claim = h.claim + 1
  h.work = h.work or reply[2] == "1" or is_old
  take_claimed(world, h, reply[6], reply[8] == "1")
  local known = 0
  for _, run in pairs(h.runs) do
    if not run.forsaken then known = known + 1 end
  end
  if (reply[10] >= 0 and reply[10] ~= known) or h.compare_again then compare(world, h) end
end

function answer.t(world, h, _, reply)
  take_claimed(world, h, reply[3], true)
  h.recovering = false
  if reply[2] == "1" then
    host.recover(world, h)
  else
    h.recovered, h.work = true, true
  end
end

function answer.v(world, h, _, reply)
  local after
  for _, part in ipairs(reply[2]) do
    local run_number, token, id = part:sub(1, 6), part:sub(7, 14), part:sub(15)
    local run = h.runs[id]
    after = id
    if run and run.run == run_number and run.token == token then run.seen = true end
    if not run and h.claim_lost then
      h.compare_again = true -- perhaps it is of that claim
    elseif not run or not run.seen or run.forsaken then
      give_back(world, h, id, run_number, token, run ~= nil)
      if run and run.forsaken and run.token == token then h.runs[id] = nil end
    end
  end
  if after then return request(world, h, { { kind = "v", after = after } }) end
  if world.rules.compares_all then lose_unseen(h) end
  end_comparison(world, h)
end

function answer.n(world, h, _, reply)
  h.reading = false
  for _, part in ipairs(reply[3]) do
    local kind, id = part[1], part[2]
    local run = h.runs[id]
    if kind == "l" then
      if run and not run.forsaken then tell_lost(h, run) end
    elseif kind == "s" and part[3] then
      take_stop(world, h, read_task(part[3]))
    elseif kind == "e" or kind == "d" then
      h.work = true
    end
  end
  h.last_news = reply[2]
  if #reply[3] > 0 or h.read_again then read_news(world, h) end
end

function host.hear(world, h, call)
  for i, op in ipairs(call.ops) do
    if answer[op.kind] then answer[op.kind](world, h, op, call.answer[i]) end
  end
end

--- A tick of its clock: what could not be renewed is lost in time, and the lease is renewed.
function host.tick(world, h)
  if world.rules.late and not h.told_late and world.now - h.renewed >= host.LATE then
    h.told_late = true
    tell_all_lost(h)
    if h.up and world.rules.compares_late then compare(world, h) end
  end
  if not h.up then return end
  local reply = world:serve_now(h, { { kind = "k" } })[1]
  h.suspect = false
  if reply == "lost" then
    tell_all_lost(h)
    world:serve_now(h, { { kind = "j" } })
    joined(world, h)
    return
  end
  h.renewed, h.told_late = world.now, false
  h.paused = reply[2] == "1"
  if reply[4] == "1" then read_news(world, h) end
  if reply[3] == "1" then h.work = true end
end

return host
