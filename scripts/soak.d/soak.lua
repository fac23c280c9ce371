-- soak.lua MINUTES [SECONDS [DESCRIPTOR]]: mixed load, then checks; scripts/soak runs it. SECONDS: between lines of
-- progress, which go to the DESCRIPTOR, standard error unless given.
--
-- Five schedulers under load at once: functions in the host's state, worker threads, worker processes of which one is
-- killed now and then, an actuator's file and a module's file that are edited all the time, every other edit broken;
-- besides, schedulers that are closed in the middle of their work. Each task is of a kind that must end in one way;
-- each end is held against it. Then all is closed, and memory, descriptors, threads and children are counted.
local ltsh = require "ltsh"
local uv = require "luv"

local minutes = assert(tonumber(arg[1]), "usage: soak.lua MINUTES [SECONDS [DESCRIPTOR]]")
local every = tonumber(arg[2]) or 10
local descriptor = math.tointeger(tonumber(arg[3] or 2))
local INFLIGHT = 150   -- tasks of a scheduler that have not ended
local DRAIN = 60       -- seconds that they have in the end

local began = uv.hrtime()
local function elapsed() return (uv.hrtime() - began) * 1e-9 end

local function progress(...) uv.fs_write(descriptor, string.format(...) .. "\n") end

local complained = 0
local function complain(...)
  complained = complained + 1
  if complained <= 50 then progress("WRONG after %.0f s: %s", elapsed(), string.format(...)) end
end

-- What is counted -----------------------------------------------------------------------------------------------------

local function read(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

local function names(path)
  local list = {}
  local request = assert(uv.fs_scandir(path))
  while true do
    local name = uv.fs_scandir_next(request)
    if not name then return list end
    list[#list + 1] = name
  end
end

local function children()
  local list = {}
  for _, thread in ipairs(names "/proc/self/task") do
    for pid in (read("/proc/self/task/" .. thread .. "/children") or ""):gmatch "%d+" do
      list[#list + 1] = math.tointeger(tonumber(pid))
    end
  end
  return list
end

local function usage()
  collectgarbage()
  collectgarbage()
  local pages = tonumber(assert(read "/proc/self/statm"):match "^%d+ (%d+)")
  return { rss = pages * 4096, lua = collectgarbage "count" * 1024, fds = #names "/proc/self/fd",
    threads = #names "/proc/self/task" }
end

local MIB = 1024 * 1024

local function describe(use)
  return ("%.1f MiB (Lua %.1f), %d descriptors, %d threads"):format(use.rss / MIB, use.lua / MIB, use.fds,
    use.threads)
end

-- Files that are loaded -----------------------------------------------------------------------------------------------

local folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/ltsh-soak.XXXXXX"))

local function write(name, text)
  local file = assert(io.open(folder .. "/" .. name, "w"))
  file:write(text)
  assert(file:close())
  return folder .. "/" .. name
end

-- A worker's functions by kind.
local TASKS = [[
local ltsh = require "ltsh"
local function forever() while true do end end
local kinds = {}
function kinds.compute(task)
  local sum = 0
  for i = 1, 20000 do sum = sum + i % task.item.n end
  return sum
end
function kinds.wait(task) ltsh.sleep(task.item.n / 1000) return task.item.n end
function kinds.fail() return nil, "no" end
function kinds.raise() error { reason = "raised" } end
function kinds.retry(task)
  if task.attempts < 3 then error "again" end
  return task.item.n
end
function kinds.loop() forever() end
function kinds.pcalls() while true do pcall(forever) end end
function kinds.unyielding() tostring(setmetatable({}, { __tostring = forever })) end
function kinds.stop(task)
  if task.item.n % 2 == 0 then forever() end
  ltsh.sleep(1000)
end
function kinds.fill()
  local list = {}
  for i = 1, math.huge do list[i] = { i } end
end
function kinds.crash() require("luv").kill(require("luv").os_getpid(), 9) ltsh.sleep(1000) end
function kinds.stuck() return (("a"):rep(40):find(("a?"):rep(40) .. ("a"):rep(40) .. "b")) end
function kinds.report(task)
  for i = 1, 5 do task:report { step = i } end
  return task.item.n
end
return function(task) return kinds[task.item.kind](task) end
]]

local ACTUATOR = [[
local ltsh = require "ltsh"
local actuator = {}
function actuator.attach(self, notify) self.notify = notify end
function actuator.start(self, task)
  local kind = task.item.kind
  local function tell(status, reason)
    self.notify { id = task.id, run = task.run, status = status, reason = reason, output = %d }
  end
  if kind == "fail" then
    tell("failed", "no")
  elseif kind == "refuse" then
    return nil, "refused"
  elseif kind == "raise" then
    error { reason = "raised" }
  elseif kind == "later" then
    ltsh.spawn(function()
      ltsh.sleep(task.item.n / 1000)
      tell "success"
    end)
  elseif kind == "slow" then
    ltsh.sleep(task.item.n / 1000)
    tell "success"
  elseif kind == "push" then
    tell "success"
  end
  return true -- "silent", "stop": nothing is ever told
end
function actuator.stop(self, task)
  if task.item.n %% 3 == 0 then ltsh.sleep(0.002) end
  return true
end
return actuator
]]

local MODULE = [[
local ltsh = require "ltsh"
return function(task)
  if task.item.kind == "fail" then return nil, "no" end
  if task.item.kind == "wait" then ltsh.sleep(task.item.n / 1000) end
  return %d
end
]]

-- Kinds of tasks ------------------------------------------------------------------------------------------------------

-- How a task of each kind ends: its status, its reason (a pattern), and what else is given to add.
local SUCCESS, FAILED = { "success" }, { "failed", "^no$" }
local TIMEOUT = { "failed", "^timeout$", timeout = 0.05 }
local STOPPED = { "stopped", "^soak$" }
local ends = {
  compute = SUCCESS, wait = SUCCESS, report = SUCCESS, push = SUCCESS, later = SUCCESS, slow = SUCCESS,
  job = SUCCESS, coroutines = SUCCESS, finalizer = SUCCESS, snooze = SUCCESS, sort = SUCCESS,
  endless_finalizer = SUCCESS, fail = FAILED, raise = { "failed", "^raised$" }, refuse = { "failed", "^refused$" },
  retry = { "success", max_retries = 5, backoff = 0.005 }, exhausted = { "failed", "^no$", max_retries = 2 },
  loop = TIMEOUT, pcalls = TIMEOUT, silent = TIMEOUT, waits_for_job = TIMEOUT, stuck = TIMEOUT,
  loop_again = { "failed", "^timeout$", timeout = 0.03, max_retries = 1 },
  stop = STOPPED, expired = { "failed", "^expired$", expires = 0.001, delay = 0.05 },
  held = { "failed", "^held the host$", timeout = 30 }, -- the host; a worker may hold itself as long as it has
  unyielding = TIMEOUT,
  fill = { "failed", "^memory limit$", timeout = 30 },
  crash = { "failed", "^worker died: signal 9$" },
}

local function forever() while true do end end

local DIED = "worker died: signal 9"

local snoozed = {}

-- What runs in the host's state.
local here = {}
function here.compute(task)
  local sum = 0
  for i = 1, 20000 do sum = sum + i % task.item.n end
  return sum
end
function here.wait(task) ltsh.sleep(task.item.n / 1000) end
function here.fail() return nil, "no" end
here.exhausted = here.fail
function here.raise() error { reason = "raised" } end
function here.retry(task)
  if task.attempts < 3 then error "again" end
end
function here.loop() forever() end
here.loop_again = here.loop
function here.pcalls()
  while true do pcall(forever) end
end
function here.held() return tostring(setmetatable({}, { __tostring = forever })) end
function here.stop(task)
  if task.item.n % 2 == 0 then forever() end
  ltsh.sleep(1000)
end
function here.job(task)
  local jobs = {}
  for i = 1, 3 do
    jobs[i] = ltsh.spawn(function()
      ltsh.sleep(task.item.n / 2000)
      return i
    end)
  end
  assert(jobs[1]:wait() + jobs[2]:wait() + jobs[3]:wait() == 6)
  local cancelled = ltsh.spawn(ltsh.sleep, 1000)
  cancelled:cancel()
end
function here.waits_for_job() ltsh.spawn(ltsh.sleep, 1000):wait() end
function here.coroutines(task)
  local co = coroutine.wrap(function()
    for i = 1, 10 do
      ltsh.sleep(0)
      coroutine.yield(i)
    end
  end)
  for i = 1, 10 do assert(co() == i) end
end
function here.finalizer()
  local done = 0
  for _ = 1, 10 do setmetatable({}, { __gc = function() done = done + 1 end }) end
  collectgarbage()
  for _ = 1, 200 do -- another task's collection may have begun them
    if done == 10 then break end
    ltsh.sleep(0.01)
  end
  assert(done == 10, "finalizers did not run")
end
function here.endless_finalizer()
  setmetatable({}, { __gc = forever })
  collectgarbage()
end
function here.snooze(task)
  if snoozed[task.id] then
    snoozed[task.id] = nil
    assert(task.attempts == 1)
    return
  end
  snoozed[task.id] = true
  return nil, { snooze = 0.01 }
end
function here.sort(task)
  local list = {}
  for i = 1, 500 do list[i] = (i * 7919 * task.item.n) % 10007 end
  table.sort(list, function(a, b) return a > b end)
  for i = 2, 500 do assert(list[i - 1] >= list[i]) end
end
function here.report(task)
  for i = 1, 5 do task:report { step = i } end
end
function here.expired() error "it began" end

-- Pools ---------------------------------------------------------------------------------------------------------------

local pools = {}
local counts = { success = 0, failed = 0, stopped = 0 }
local going = true
local kills = 0 -- of worker processes, from outside
local killed = 0 -- tasks that died of it

-- A scheduler with its tasks: `weights` of kinds, and what it expects of each task that has not ended.
local function pool(name, options, weights)
  local self = { name = name, pending = {}, inflight = 0, added = 0, ended = 0, listed = 0, kinds = {}, by_kind = {} }
  for kind, weight in pairs(weights) do
    assert(ends[kind], kind)
    for _ = 1, weight do self.kinds[#self.kinds + 1] = kind end
  end
  table.sort(self.kinds)
  options.container = options.container or ltsh.container.priority { size = 10000 }
  options.name = name
  options.keep = { tasks = 200 }
  options.finished_size = 2000
  self.scheduler = ltsh.scheduler(options)
  self.check = options.check

  self.scheduler:on("finished", function(task)
    self.ended = self.ended + 1
    local kind = self.pending[task.id]
    if not kind then
      return complain("%s: task %s has ended twice, or was never added", name, task.id)
    end
    self.pending[task.id] = nil
    self.inflight = self.inflight - 1
    counts[task.status] = (counts[task.status] or 0) + 1
    self.by_kind[kind] = (self.by_kind[kind] or 0) + 1
    local status, pattern = ends[kind][1], ends[kind][2]
    if task.reason == DIED and kind ~= "crash" then
      killed = killed + 1
    elseif task.status ~= status or pattern and not tostring(task.reason):find(pattern) then
      complain("%s: task %s of kind %s ended as %s (%s) after %d attempts", name, task.id, kind, task.status,
        task.reason, task.attempts)
    elseif status == "success" and self.verify and not self.verify(task) then
      complain("%s: task %s of kind %s has output %s", name, task.id, kind, task.output)
    end
  end)

  function self.add()
    local kind = self.kinds[math.random(#self.kinds)]
    local id = ("%s-%d"):format(kind, self.added + 1)
    local how = ends[kind]
    self.added = self.added + 1
    self.inflight = self.inflight + 1
    self.pending[id] = kind
    local ok, message = self.scheduler:add { id = id, item = { kind = kind, n = math.random(20) },
      priority = math.random(0, 2), timeout = how.timeout, max_retries = how.max_retries, backoff = how.backoff,
      delay = how.delay or math.random(10) == 1 and 0.01 or nil, expires = how.expires }
    if not ok then
      self.pending[id] = nil
      self.inflight = self.inflight - 1
      return complain("%s: add: %s", name, message)
    end
    if kind == "stop" then
      ltsh.spawn(function()
        ltsh.sleep(math.random() * 0.1)
        local task, problem = self.scheduler:stop(id, "soak")
        if task then return end
        task = self.scheduler:get(id)
        if not task or task.reason ~= DIED then complain("%s: stop of %s: %s", name, id, problem) end
      end)
    end
  end

  self.feeder = ltsh.spawn(function()
    while going do
      local n = 0
      while going and self.inflight < INFLIGHT and n < 20 do
        self.add()
        n = n + 1
      end
      ltsh.sleep(0.002)
    end
  end)
  -- The other way to hear of ends: each must be in the list, or counted as dropped from it.
  self.lister = ltsh.spawn(function()
    while going or self.inflight > 0 do
      for _ in self.scheduler:finished() do self.listed = self.listed + 1 end
      ltsh.sleep(0.01)
    end
    for _ in self.scheduler:finished() do self.listed = self.listed + 1 end
  end)
  pools[#pools + 1] = self
  return self
end

local function even(task) return task.output % 2 == 0 end

local function open_pools()
  pool("host", {
    actuator = ltsh.actuator.func(function(task) return here[task.item.kind](task) end), limit = 40,
  }, { compute = 300, wait = 300, fail = 100, raise = 100, retry = 100, exhausted = 50, loop = 20, loop_again = 10,
    pcalls = 20, stop = 40, job = 100, waits_for_job = 40, coroutines = 100, finalizer = 10, snooze = 60, sort = 40,
    report = 60, expired = 40, held = 1, endless_finalizer = 1 })
  local tasks = write("tasks.lua", TASKS)
  local weights = { compute = 300, wait = 200, fail = 100, raise = 100, retry = 60, loop = 5, pcalls = 5, stop = 20,
    report = 60, expired = 20, unyielding = 3, fill = 2 }
  pool("threads", { actuator = ltsh.actuator.func { module = tasks, workers = 3, memory = "16M" }, limit = 6 }, weights)
  weights.crash, weights.stuck = 3, 1
  pool("processes", {
    actuator = ltsh.actuator.func { module = tasks, workers = 3, isolate = "process", memory = "16M" }, limit = 6,
  }, weights)
  pool("file", { actuator = ltsh.actuator.load(write("actuator.lua", ACTUATOR:format(0))), limit = 40 },
    { push = 100, later = 40, slow = 40, fail = 40, refuse = 20, raise = 20, silent = 10, stop = 20, expired = 5 }
  ).verify = even
  pool("module", {
    actuator = ltsh.actuator.func { module = write("module.lua", MODULE:format(0)), workers = 1 }, limit = 4,
  }, { push = 100, wait = 20, fail = 20 }).verify = even
end

-- What else goes on ---------------------------------------------------------------------------------------------------

local jobs = {}
local function beside(fn)
  jobs[#jobs + 1] = ltsh.spawn(function()
    local ok, message = xpcall(fn, debug.traceback)
    if not ok then complain("%s", message) end
  end)
end

local edits, versions = 0, 0
local function edit()
  while going do
    edits = edits + 1
    local broken = edits % 2 == 1
    for name, text in pairs { ["actuator.lua"] = ACTUATOR, ["module.lua"] = MODULE } do
      text = text:format(edits) -- odd ones must never be in use
      if broken then
        local ways = { text:sub(1, #text // 2), "", text .. "end", "return 5", "error 'broken'\n", "local x = nil + 1",
          "return { start = print }" }
        text = ways[math.random(#ways)]
      end
      if math.random(2) == 1 then
        write(name, text)
      else
        write(name .. "~", text)
        assert(os.rename(folder .. "/" .. name .. "~", folder .. "/" .. name))
      end
    end
    ltsh.sleep(0.05 + math.random() * 0.2)
    if math.random(20) == 1 then ltsh.reload() end
  end
end

local seen = {}
local function count_versions()
  for _, one in ipairs(pools) do
    if one.verify then
      one.scheduler:on("finished", function(task)
        local version = task.version
        if version and version ~= seen[one] then
          seen[one] = version
          versions = versions + 1
        end
      end)
    end
  end
end

local function kill_children()
  while going do
    ltsh.sleep(0.5 + math.random())
    local list = children()
    if going and #list > 0 then
      uv.kill(list[math.random(#list)], "sigkill")
      kills = kills + 1
    end
  end
end

-- Schedulers that are closed while they work: each of their tasks ends all the same.
local churned, churned_tasks = 0, 0
local function churn()
  while going do
    local ways = { {}, { workers = 1 }, { workers = 1, isolate = "process" } }
    local options = ways[math.random(#ways)]
    options.module = folder .. "/tasks.lua"
    local pending, left = {}, 20
    local scheduler = ltsh.scheduler { container = ltsh.container.queue {}, actuator = ltsh.actuator.func(options),
      limit = 4, name = "churn" }
    scheduler:on("finished", function(task)
      if not pending[task.id] then complain("churn: task %s has ended twice", task.id) end
      pending[task.id] = nil
      left = left - 1
    end)
    for i = 1, left do
      local id = tostring(i)
      pending[id] = true
      local kinds = { "compute", "wait", "loop", "stop", "fail", "report" }
      scheduler:add { id = id, item = { kind = kinds[math.random(#kinds)], n = i } }
    end
    ltsh.sleep(math.random() * 0.2)
    scheduler:close { drain = math.random(2) == 1 and 0.05 or 0 }
    local deadline = elapsed() + 10
    while left > 0 and elapsed() < deadline do ltsh.sleep(0.005) end
    if left ~= 0 then complain("churn: %d of 20 tasks have not ended with their scheduler (%s, %s)", left,
      options.isolate or options.workers and "thread" or "host", next(pending)) end
    churned, churned_tasks = churned + 1, churned_tasks + 20
    ltsh.sleep(0.3)
  end
end

local function totals()
  local added, ended = 0, 0
  for _, one in ipairs(pools) do
    added, ended = added + one.added, ended + one.ended
  end
  return added, ended
end

local function report()
  local next_line = every
  while going do
    ltsh.sleep(0.25)
    if going and elapsed() >= next_line then
      next_line = next_line + every
      local added, ended = totals()
      local pages = tonumber(read "/proc/self/statm":match "^%d+ (%d+)")
      progress("%6.0f s  %d added, %d ended (%d success, %d failed, %d stopped), %d edits, %d kills, %.1f MiB%s",
        elapsed(), added, ended, counts.success, counts.failed, counts.stopped, edits, kills, pages * 4096 / MIB,
        complained > 0 and (", %d COMPLAINTS"):format(complained) or "")
    end
  end
end

-- The run -------------------------------------------------------------------------------------------------------------

open_pools()
count_versions()
beside(edit)
beside(kill_children)
beside(churn)
beside(report)

local length = minutes * 60
ltsh.sleep(length / 10)
local early = usage()
ltsh.sleep(math.max(0, length - elapsed()))
local late = usage()

going = false
for _, one in ipairs(pools) do one.feeder:wait() end
for _, job in ipairs(jobs) do job:wait() end
local drained = elapsed()
for _, one in ipairs(pools) do
  while one.inflight > 0 and elapsed() < drained + DRAIN do ltsh.sleep(0.01) end
  if one.inflight > 0 then
    complain("%s: %d tasks have not ended %d s after the load", one.name, one.inflight, DRAIN)
    local told = 0
    for id in pairs(one.pending) do
      local task = one.scheduler:get(id)
      told = told + 1
      if told <= 5 then
        complain("%s: %s is %s, %s attempts", one.name, id, task and task.status or "unknown", task and task.attempts)
      end
    end
  end
end
drained = elapsed() - drained

for _, one in ipairs(pools) do
  local stats = one.scheduler:stats()
  one.scheduler:close { drain = 0 }
  one.lister:wait()
  if one.ended ~= one.added then complain("%s: %d added, %d ended", one.name, one.added, one.ended) end
  if one.listed + stats.finished_dropped ~= one.added then
    complain("%s: %d added, %d in the finished list, %d dropped from it", one.name, one.added, one.listed,
      stats.finished_dropped)
  end
  if stats.abandoned and stats.abandoned > 0 then complain("%s: %d threads abandoned", one.name, stats.abandoned) end
end
if killed > kills then complain("%d tasks died of %d kills", killed, kills) end
if next(snoozed) then complain("%s was snoozed and not tried again", next(snoozed)) end
if length > 10 and versions < 5 then complain("only %d versions of the edited files were in use", versions) end

local summary = {}
local function tell(...) summary[#summary + 1] = string.format(...) end
local added, ended = totals()
tell("%.1f s of load, %.2f s until all had ended", length, drained)
tell("tasks: %d added, %d ended: %d success, %d failed, %d stopped; %.0f a second", added, ended, counts.success,
  counts.failed, counts.stopped, added / length)
for _, one in ipairs(pools) do
  local kinds = {}
  for kind, count in pairs(one.by_kind) do kinds[#kinds + 1] = kind .. " " .. count end
  table.sort(kinds)
  tell("  %s: %d: %s", one.name, one.added, table.concat(kinds, ", "))
end
tell("besides: %d edits, %d versions used, %d kills (%d tasks died of them), %d schedulers closed at work", edits,
  versions, kills, killed, churned)

-- Nothing may remain. What is closed may take a moment to go.
pools, jobs, seen, snoozed = {}, {}, {}, {}
collectgarbage()
for _ = 1, 40 do
  if #children() == 0 then break end
  ltsh.sleep(0.05)
end
os.execute("rm -rf '" .. folder .. "'")
local closed = usage()
tell("after a tenth: %s", describe(early))
tell("under load:    %s", describe(late))
tell("closed:        %s", describe(closed))
local most = early.rss * 1.5 + 32 * MIB
if late.rss > most then complain("memory has grown under load: %.1f MiB", late.rss / MIB) end
if closed.rss > most then complain("memory has grown: %.1f MiB when all is closed", closed.rss / MIB) end
if closed.fds > early.fds then complain("%d descriptors are open, %d were", closed.fds, early.fds) end
if closed.threads > early.threads then complain("%d threads are left, there were %d", closed.threads, early.threads) end
local left = children()
if #left > 0 then complain("%d child processes are left: %s", #left, table.concat(left, " ")) end

progress("%s", table.concat(summary, "\n"))
if complained > 50 then progress("WRONG: %d more", complained - 50) end
os.exit(complained == 0 and 0 or 1)
