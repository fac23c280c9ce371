-- The methods of a scheduler: what they answer for a task in each status, its events, its finished list, and its end.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"

local open, eventually, door = scene.open, scene.eventually, scene.door

after_each(scene.close)

local ends_of = scene.ends_of

local function ids_of(tasks)
  local ids = {}
  for i, task in ipairs(tasks) do ids[i] = task.id end
  return ids
end

-- What a process of the host prints when it runs `code`, standard error included.
local function output_of(code)
  local pipe = assert(io.popen(("'%s' -e '%s' 2>&1"):format(uv.exepath(), (code:gsub("'", [['\'']]))), "r"))
  local text = pipe:read "a"
  pipe:close()
  return text
end

-- A persister that keeps what it gets, and holds each save at `gate` if there is one.
local function memory_persister(gate)
  local saved = {}
  return {
    save = function(_, task, data)
      if gate then gate.pass() end
      saved[task.id] = { data }
      return true
    end,
    load = function(_, task) return saved[task.id] and saved[task.id][1] end,
    delete = function(_, task)
      saved[task.id] = nil
      return true
    end,
  }, saved
end

-- A scheduler with one task "t" in the given status, and the door at which it waits, if it does.
local function with_task(status)
  local gate = door()
  local function run(task)
    if task.item == "pass" then gate.pass() end
    if task.item == "fail" then return nil, "broken" end
    return "result"
  end
  local options = {}
  if status == "exporting" then options.persister = memory_persister(gate) end
  local scheduler = open(run, options)
  if status == "waiting" then
    scheduler:pause()
    assert(scheduler:add { id = "t" })
  elseif status == "delayed" then
    assert(scheduler:add { id = "t", delay = 3600 })
  elseif status == "running" then
    assert(scheduler:add { id = "t", item = "pass" })
    eventually("it runs", function() return gate.waiting == 1 end)
    assert.equal("running", scheduler:get("t").status)
  elseif status == "exporting" then
    assert(scheduler:add { id = "t" })
    eventually("it is saved", function() return gate.waiting == 1 end)
    assert.equal("exporting", scheduler:get("t").status)
  elseif status == "success" then
    assert(scheduler:add { id = "t" })
    assert.equal("success", scheduler:wait("t").status)
  elseif status == "failed" then
    assert(scheduler:add { id = "t", item = "fail" })
    assert.equal("failed", scheduler:wait("t").status)
  elseif status == "stopped" then
    assert(scheduler:add { id = "t", delay = 3600 })
    assert.equal("stopped", scheduler:stop("t").status)
  end
  return scheduler, gate
end

local UNFINISHED = { "waiting", "delayed", "running", "exporting" }
local ENDED = { "success", "failed", "stopped" }

describe("a scheduler's stop", function()
  for _, status in ipairs(UNFINISHED) do
    it("ends a task that is " .. status .. " as stopped, once", function()
      local scheduler = with_task(status)
      local events = 0
      scheduler:on("finished", function() events = events + 1 end)
      local task = assert(scheduler:stop("t", "enough"))
      assert.equal("t", task.id)
      assert.equal("stopped", task.status)
      assert.equal("enough", task.reason)
      assert.is_nil(task.output)
      assert.equal("stopped", scheduler:get("t").status)
      assert.equal("stopped", scheduler:wait("t").status)
      assert.equal(1, events)
      assert.equal(1, scheduler:stats().stopped)
      local ends = ends_of(scheduler)
      assert.same({ "t" }, ids_of(ends))
      assert.equal("stopped", ends[1].status)
      assert.equal("enough", ends[1].reason)
    end)
  end

  for _, status in ipairs(ENDED) do
    it("refuses a task that is " .. status .. ", and changes nothing", function()
      local scheduler = with_task(status)
      local before = scheduler:get "t"
      local task, message = scheduler:stop("t", "enough")
      assert.is_nil(task)
      assert.matches(status, message)
      local after = scheduler:get "t"
      assert.equal(status, after.status)
      assert.equal(before.reason, after.reason)
      assert.equal(before.ended_at, after.ended_at)
      assert.equal(1, #ends_of(scheduler))
    end)
  end

  it("does not know an unknown id", function()
    local scheduler = open()
    local task, message, code = scheduler:stop "nobody"
    assert.is_nil(task)
    assert.is_string(message)
    assert.equal("unknown", code)
    assert.same({}, ends_of(scheduler))
  end)

  it("answers when the work is dead", function()
    local alive, started = 0, false
    local scheduler = open(function()
      alive = alive + 1
      local _ <close> = setmetatable({}, { __close = function() alive = alive - 1 end })
      started = true
      ltsh.sleep(3600)
    end)
    scheduler:add { id = "t" }
    eventually("it runs", function() return started end)
    assert.equal("stopped", scheduler:stop("t").status)
    assert.equal(0, alive)
  end)

  it("tells the function, whose waiting calls raise", function()
    local told, why, raised
    local scheduler = open(function(task)
      raised = not pcall(ltsh.sleep, 3600)
      told, why = task:cancelled()
    end)
    scheduler:add { id = "t" }
    eventually("it runs", function() return scheduler:get("t").status == "running" end)
    scheduler:stop "t"
    assert.is_true(raised)
    assert.is_true(told)
    assert.is_string(why)
  end)

  it("gives every one of several that stop the same task its answer", function()
    local scheduler = with_task "running"
    local jobs = {}
    for i = 1, 3 do jobs[i] = ltsh.spawn(function() return scheduler:stop("t", "stop " .. i) end) end
    for i = 1, 3 do
      local task = jobs[i]:wait()
      assert.equal("stopped", task.status)
      assert.equal("stop 1", task.reason)
    end
    assert.equal(1, #ends_of(scheduler))
  end)

  it("has a reason of its own when none is given", function()
    local scheduler = with_task "waiting"
    local reason = scheduler:stop("t").reason
    assert.is_true(type(reason) == "string" and #reason > 0)
  end)

  it("during the wait for a retry ends the task", function()
    local scheduler = open(function() return nil, "broken" end, { max_retries = 5, backoff = 3600 })
    local retried = false
    scheduler:on("retried", function() retried = true end)
    scheduler:add { id = "t" }
    eventually("it waits for its retry", function() return retried end)
    local task = assert(scheduler:stop("t", "enough"))
    assert.equal("stopped", task.status)
    assert.equal(1, task.attempts)
    assert.equal(1, #ends_of(scheduler))
  end)
end)

describe("a scheduler's retry", function()
  for _, status in ipairs(UNFINISHED) do
    it("refuses a task that is " .. status, function()
      local scheduler = with_task(status)
      local before = scheduler:get("t").status
      local task, message = scheduler:retry "t"
      assert.is_nil(task)
      assert.is_string(message)
      assert.equal(before, scheduler:get("t").status)
    end)
  end

  for _, status in ipairs(ENDED) do
    it("starts a task that is " .. status .. " from the start", function()
      local scheduler, gate = with_task(status)
      gate.is_open = true
      local before = scheduler:get "t"
      scheduler:pause()
      local task = assert(scheduler:retry "t")
      assert.equal("waiting", task.status)
      assert.equal(0, task.attempts)
      assert.is_nil(task.reason)
      assert.is_nil(task.output)
      assert.is_nil(task.handle)
      assert.is_nil(task.ended_at)
      assert.equal("waiting", scheduler:get("t").status)
      assert.equal(status, before.status) -- what was taken before stays as it was
      scheduler:resume()
      local again = scheduler:wait "t"
      assert.equal(status == "failed" and "failed" or "success", again.status)
      assert.equal(1, again.attempts)
      assert.is_true(again.run > (before.run or 0))
      assert.equal(2, #ends_of(scheduler))
    end)
  end

  it("does not know an unknown id", function()
    local task, message, code = open():retry "nobody"
    assert.is_nil(task)
    assert.is_string(message)
    assert.equal("unknown", code)
  end)

  it("has all attempts again", function()
    local runs = 0
    local scheduler = open(function()
      runs = runs + 1
      return nil, "broken"
    end, { max_retries = 2 })
    scheduler:add { id = "t" }
    assert.equal(3, scheduler:wait("t").attempts)
    scheduler:retry "t"
    assert.equal(3, scheduler:wait("t").attempts)
    assert.equal(6, runs)
  end)
end)

describe("a scheduler's delete", function()
  for _, status in ipairs { "waiting", "delayed", "success", "failed", "stopped" } do
    it("forgets a task that is " .. status, function()
      local scheduler = with_task(status)
      assert.is_truthy(scheduler:delete "t")
      assert.is_nil(scheduler:get "t")
      assert.equal("unknown", select(3, scheduler:wait("t", 1)))
      assert.equal(0, scheduler:count())
      assert.same({}, scheduler:list())
      assert.equal("unknown", select(3, scheduler:delete "t"))
      assert.equal("t", scheduler:add { id = "t", once = true })
    end)
  end

  for _, status in ipairs { "running", "exporting" } do
    it("refuses a task that is " .. status, function()
      local scheduler = with_task(status)
      local done, message = scheduler:delete "t"
      assert.is_nil(done)
      assert.matches(status, message)
      assert.equal(status, scheduler:get("t").status)
    end)
  end

  it("does not know an unknown id", function()
    local done, message, code = open():delete "nobody"
    assert.is_nil(done)
    assert.is_string(message)
    assert.equal("unknown", code)
  end)

  it("takes the saved output along", function()
    local persister, saved = memory_persister()
    local scheduler = open(function() return "result" end, { persister = persister })
    scheduler:add { id = "t" }
    scheduler:wait "t"
    assert.same({ "result" }, saved.t)
    assert.is_truthy(scheduler:delete "t")
    assert.is_nil(saved.t)
    assert.is_nil((scheduler:output "t"))
  end)

  it("is no end: nobody waits for ever for a task that was deleted", function()
    local scheduler = with_task "waiting"
    local waiter = ltsh.spawn(function() return scheduler:wait "t" end)
    local consumer = ltsh.spawn(function() return #ends_of(scheduler) end)
    ltsh.sleep(0)
    assert.is_truthy(scheduler:delete "t")
    local task, _, code = waiter:wait()
    assert.is_nil(task)
    assert.equal("unknown", code)
    assert.equal(0, consumer:wait())
  end)
end)

describe("a scheduler's get and wait", function()
  it("show the task as it was given", function()
    local scheduler = open(nil, { container = ltsh.container.priority {} })
    scheduler:pause()
    local before = ltsh.now()
    scheduler:add { id = "t", item = { a = 1 }, priority = 3, key = "k", timeout = 5, max_retries = 2 }
    local task = scheduler:get "t"
    assert.equal("t", task.id)
    assert.same({ a = 1 }, task.item)
    assert.equal(3, task.priority)
    assert.equal("k", task.key)
    assert.equal(5, task.timeout)
    assert.equal(2, task.max_retries)
    assert.equal("waiting", task.status)
    assert.equal(0, task.attempts)
    assert.is_true(task.added_at >= before - 0.1 and task.added_at <= ltsh.now() + 0.1)
    assert.is_nil(task.started_at)
    assert.is_nil(task.ended_at)
    assert.is_nil(task.output)
    assert.is_nil(task.reason)
  end)

  it("show what became of it", function()
    local scheduler = open(function(task) return { twice = task.item * 2 } end)
    scheduler:add { id = "t", item = 21 }
    local task = scheduler:wait "t"
    assert.equal("success", task.status)
    assert.same({ twice = 42 }, task.output)
    assert.same({ twice = 42 }, scheduler:output "t")
    assert.is_nil(task.reason)
    assert.equal(1, task.attempts)
    assert.equal("integer", math.type(task.run))
    assert.is_true(task.added_at <= task.started_at and task.started_at <= task.ended_at)
  end)

  it("do not know an unknown id", function()
    local scheduler = open()
    assert.is_nil((scheduler:get "nobody"))
    local task, message, code = scheduler:wait "nobody"
    assert.is_nil(task)
    assert.is_string(message)
    assert.equal("unknown", code)
  end)

  it("wait at most so many seconds", function()
    local scheduler = with_task "running"
    local task, message, code = scheduler:wait("t", 0.02)
    assert.is_nil(task)
    assert.is_string(message)
    assert.equal("timeout", code)
    assert.equal("timeout", select(3, scheduler:wait("t", 0)))
  end)

  for _, status in ipairs(ENDED) do
    it("answer at once for a task that is " .. status, function()
      local scheduler = with_task(status)
      assert.equal(status, scheduler:wait("t").status)
      assert.equal(status, scheduler:wait("t", 0).status)
    end)
  end

  it("wait through retries for the last end", function()
    local runs = 0
    local scheduler = open(function()
      runs = runs + 1
      ltsh.sleep(0.002)
      if runs < 3 then return nil, "not yet" end
      return runs
    end, { max_retries = 5, backoff = 0.01 })
    scheduler:add { id = "t" }
    local task = scheduler:wait "t"
    assert.equal("success", task.status)
    assert.equal(3, task.output)
    assert.equal(3, task.attempts)
  end)

  it("answer everybody who waits for the same task", function()
    local scheduler, gate = with_task "running"
    local jobs = {}
    for i = 1, 10 do jobs[i] = ltsh.spawn(function() return scheduler:wait "t" end) end
    local impatient = ltsh.spawn(function() return scheduler:wait("t", 0.005) end)
    assert.is_nil((impatient:wait()))
    gate.is_open = true
    for i = 1, 10 do assert.equal("success", jobs[i]:wait().status) end
  end)

  it("forget who was cancelled", function()
    local scheduler, gate = with_task "running"
    local first = ltsh.spawn(function() scheduler:wait "t" end)
    local second = ltsh.spawn(function() return scheduler:wait "t" end)
    ltsh.sleep(0.002)
    first:cancel()
    gate.is_open = true
    assert.equal("success", second:wait().status)
  end)
end)

describe("a scheduler's output", function()
  it("is nothing for a task without one, and for those that are not known", function()
    local scheduler = open()
    scheduler:add { id = "t" }
    scheduler:wait "t"
    assert.is_nil((scheduler:output "t"))
    local output, message, code = scheduler:output "nobody"
    assert.is_nil(output)
    assert.is_string(message)
    assert.equal("unknown", code)
  end)

  it("may be false", function()
    local scheduler = open(function() return false end)
    scheduler:add { id = "t" }
    assert.is_false(scheduler:wait("t").output)
    assert.is_false((scheduler:output "t"))
  end)

  it("comes from the persister", function()
    local persister, saved = memory_persister()
    local scheduler = open(function() return "result" end, { persister = persister })
    scheduler:add { id = "t" }
    assert.equal("success", scheduler:wait("t").status)
    saved.t[1] = "changed outside"
    assert.equal("changed outside", scheduler:output "t")
  end)
end)

describe("a scheduler's list and count", function()
  local scheduler

  before_each(function()
    scheduler = open(function(task)
      if task.item == "fail" then return nil, "broken" end
    end)
    scheduler:add { id = "a", key = "x" }
    scheduler:add { id = "b", item = "fail", key = "y" }
    scheduler:add { id = "c", key = "x" }
    ends_of(scheduler)
    scheduler:pause()
    scheduler:add { id = "d", key = "x" }
    scheduler:add { id = "e", delay = 3600 }
  end)

  it("go over all tasks in the order of adding", function()
    assert.same({ "a", "b", "c", "d", "e" }, ids_of(scheduler:list()))
    assert.same({ "e", "d", "c", "b", "a" }, ids_of(scheduler:list { order = "newest" }))
    assert.equal(5, scheduler:count())
    assert.equal(5, scheduler:count {})
  end)

  it("choose by status and key", function()
    assert.same({ "a", "c" }, ids_of(scheduler:list { status = "success" }))
    assert.same({ "b" }, ids_of(scheduler:list { status = "failed" }))
    assert.same({ "d", "e" }, ids_of(scheduler:list { status = "waiting" }))
    assert.same({}, ids_of(scheduler:list { status = "running" }))
    assert.same({ "a", "c", "d" }, ids_of(scheduler:list { key = "x" }))
    assert.same({ "a", "c" }, ids_of(scheduler:list { key = "x", status = "success" }))
    assert.same({}, ids_of(scheduler:list { key = "z" }))
    assert.equal(2, scheduler:count { status = "success" })
    assert.equal(2, scheduler:count { status = "waiting" })
    assert.equal(0, scheduler:count { status = "exporting" })
  end)

  it("go by pages", function()
    assert.same({ "a", "b" }, ids_of(scheduler:list { limit = 2 }))
    assert.same({ "c", "d" }, ids_of(scheduler:list { limit = 2, offset = 2 }))
    assert.same({ "e" }, ids_of(scheduler:list { limit = 2, offset = 4 }))
    assert.same({}, ids_of(scheduler:list { limit = 2, offset = 9 }))
    assert.same({ "d", "c" }, ids_of(scheduler:list { limit = 2, offset = 1, order = "newest" }))
    assert.same({ "c" }, ids_of(scheduler:list { status = "success", limit = 1, offset = 1 }))
  end)

  it("go by pages far behind in steps, so that others have their turn", function()
    local all = open()
    all:pause()
    local count, tasks = 30000, {}
    for i = 1, count do tasks[i] = { id = ("t%05d"):format(i) } end
    assert(all:add_all(tasks))
    for _, order in ipairs { "oldest", "newest" } do
      local function nth(i) return ("t%05d"):format(order == "oldest" and i or count + 1 - i) end
      local turns, idle = 0, uv.new_idle()
      idle:start(function() turns = turns + 1 end)
      assert.same({ nth(count - 1), nth(count) },
        ids_of(all:list { limit = 3, offset = count - 2, order = order }))
      idle:close()
      assert.is_true(turns > 2 * count // 1024, turns) -- to put in order, and to pass over
      local listed = all:list { limit = count, order = order }
      assert.equal(count, #listed)
      for i, task in ipairs(listed) do
        if task.id ~= nth(i) then assert.equal(nth(i), task.id) end
      end
      assert.same({}, ids_of(all:list { limit = count, offset = count, order = order }))
    end
  end)

  it("keep the place of a task that was retried, and move one that was added anew", function()
    assert(scheduler:retry "a")
    assert.same({ "a", "b", "c", "d", "e" }, ids_of(scheduler:list()))
    assert.same({ "a", "d", "e" }, ids_of(scheduler:list { status = "waiting" }))
    assert(scheduler:add { id = "b" })
    assert.same({ "a", "c", "d", "e", "b" }, ids_of(scheduler:list()))
  end)
end)

describe("a scheduler's history", function()
  it("has each run, the oldest first", function()
    local runs = 0
    local scheduler = open(function()
      runs = runs + 1
      if runs < 3 then return nil, "broken " .. runs end
    end, { max_retries = 5 })
    scheduler:add { id = "t" }
    local task = scheduler:wait "t"
    local history = scheduler:history "t"
    assert.equal(3, #history)
    assert.equal("broken 1", history[1].reason)
    assert.equal("broken 2", history[2].reason)
    assert.is_nil(history[3].reason)
    local last = 0
    for _, run in ipairs(history) do
      assert.is_true(run.start >= last and run["end"] >= run.start)
      last = run["end"]
    end
    assert.equal(task.ended_at, history[3]["end"])
    assert.equal(task.started_at, history[3].start)
  end)

  it("is empty for a task that never ran", function()
    assert.same({}, with_task("waiting"):history "t")
    assert.same({}, with_task("stopped"):history "t")
  end)

  it("shows the run that is under way", function()
    local history = with_task("running"):history "t"
    assert.equal(1, #history)
    assert.is_number(history[1].start)
    assert.is_nil(history[1]["end"])
  end)

  it("does not know an unknown id", function()
    local history, message, code = open():history "nobody"
    assert.is_nil(history)
    assert.is_string(message)
    assert.equal("unknown", code)
  end)
end)

describe("a scheduler's stats", function()
  it("count tasks by status, and those that wait for a time apart", function()
    local gate = door()
    local scheduler = open(function(task)
      if task.item == "pass" then gate.pass() end
      if task.item == "fail" then return nil, "broken" end
    end)
    scheduler:add { item = "fail" }
    scheduler:add { item = "fail", max_retries = 2 }
    scheduler:add {}
    scheduler:add { id = "s" }
    scheduler:stop "s"
    ends_of(scheduler)
    scheduler:add { item = "pass" }
    scheduler:add {}
    scheduler:add { delay = 3600 }
    scheduler:add { delay = 3600 }
    eventually("one runs", function() return gate.waiting == 1 end)
    local stats = scheduler:stats()
    assert.equal(1, stats.running)
    assert.equal(0, stats.exporting)
    assert.equal(1, stats.waiting)
    assert.equal(2, stats.delayed)
    assert.equal(1, stats.success)
    assert.equal(2, stats.failed)
    assert.equal(1, stats.stopped)
    assert.equal(2, stats.retried)
    assert.equal(0, stats.finished_dropped)
    assert.equal(0, stats.stale)
    for _, name in ipairs { "oldest_waiting", "rate" } do assert.is_number(stats[name]) end
    for _, name in ipairs { "wait", "run" } do
      assert.is_number(stats[name].p50)
      assert.is_true(stats[name].p99 >= stats[name].p50)
    end
  end)

  it("count a task that is saved as exporting", function()
    local stats = with_task("exporting"):stats()
    assert.equal(1, stats.exporting)
    assert.equal(0, stats.running)
  end)

  it("know since when the oldest task waits", function()
    local scheduler = open()
    scheduler:pause()
    scheduler:add {}
    ltsh.sleep(0.03)
    scheduler:add {}
    local oldest = scheduler:stats().oldest_waiting
    assert.is_true(oldest >= 0.02 and oldest < 5, tostring(oldest))
  end)

  it("measure the runs", function()
    local scheduler = open(function() ltsh.sleep(0.05) end)
    scheduler:add {}
    ends_of(scheduler)
    local run = scheduler:stats().run
    assert.is_true(run.p50 > 0.02 and run.p50 < 2, tostring(run.p50))
  end)
end)

describe("the finished list", function()
  it("has each end once", function()
    local scheduler = open(function(task)
      if task.item % 3 == 0 then return nil, "broken" end
    end, { limit = 7, max_retries = 1 })
    for i = 1, 300 do scheduler:add { id = tostring(i), item = i } end
    local seen, count = {}, 0
    for task in scheduler:finished() do
      assert.is_nil(seen[task.id])
      seen[task.id] = task.status
      count = count + 1
    end
    assert.equal(300, count)
    for i = 1, 300 do assert.equal(i % 3 == 0 and "failed" or "success", seen[tostring(i)]) end
    assert.same({}, ends_of(scheduler))
  end)

  it("is shared among iterators", function()
    local scheduler = open(function() ltsh.sleep(0.001) end, { limit = 10 })
    for i = 1, 200 do scheduler:add { id = tostring(i) } end
    local seen, count = {}, 0
    local jobs = {}
    for i = 1, 4 do
      jobs[i] = ltsh.spawn(function()
        local own = 0
        for task in scheduler:finished() do
          assert(not seen[task.id])
          seen[task.id] = true
          count = count + 1
          own = own + 1
        end
        return own
      end)
    end
    for i = 1, 4 do assert.is_number((jobs[i]:wait())) end
    assert.equal(200, count)
  end)

  it("ends at once when nothing was ever added", function()
    assert.same({}, ends_of(open()))
  end)

  it("goes on for what is added while it is gone over", function()
    local scheduler = open()
    scheduler:add { id = "1" }
    local ids = {}
    for task in scheduler:finished() do
      ids[#ids + 1] = task.id
      if #ids < 5 then scheduler:add { id = tostring(#ids + 1) } end
    end
    assert.same({ "1", "2", "3", "4", "5" }, ids)
  end)

  it("can be gone over again when there is more", function()
    local scheduler = open()
    for round = 1, 3 do
      scheduler:add { id = "t" .. round }
      assert.same({ "t" .. round }, ids_of(ends_of(scheduler)))
    end
  end)

  it("waits for delayed tasks and for retries", function()
    local runs = 0
    local scheduler = open(function(task)
      runs = runs + 1
      if task.id == "r" and runs < 3 then return nil, "not yet" end
    end, { max_retries = 3, backoff = 0.02 })
    scheduler:add { id = "r" }
    scheduler:add { id = "d", delay = 0.03 }
    local ids = ids_of(ends_of(scheduler))
    table.sort(ids)
    assert.same({ "d", "r" }, ids)
  end)

  it("waits while the scheduler is paused", function()
    local scheduler = open()
    scheduler:pause()
    scheduler:add { id = "t" }
    local ended = false
    local job = ltsh.spawn(function()
      local ids = ids_of(ends_of(scheduler))
      ended = true
      return ids
    end)
    ltsh.sleep(0.02)
    assert.is_false(ended)
    scheduler:resume()
    assert.same({ "t" }, job:wait())
  end)

  it("ends on close, for iterators that wait too", function()
    local scheduler = with_task "running"
    local jobs = {}
    for i = 1, 3 do jobs[i] = ltsh.spawn(function() return #ends_of(scheduler) end) end
    ltsh.sleep(0.002)
    scheduler:close()
    local sum = 0
    for i = 1, 3 do sum = sum + jobs[i]:wait() end
    assert.equal(1, sum)
    assert.same({}, ends_of(scheduler))
  end)

  it("keeps what ended before a close and in its drain", function()
    local gate = door()
    local scheduler = open(function(task) if task.id == "in the drain" then gate.pass() end end, { limit = 2 })
    scheduler:add { id = "before" }
    scheduler:add { id = "in the drain" }
    scheduler:add { id = "delayed", delay = 3600 }
    scheduler:wait "before"
    local closing = ltsh.spawn(scheduler.close, scheduler, { drain = 10 })
    eventually("it runs", function() return gate.waiting > 0 end)
    gate.is_open = true
    closing:wait()
    local statuses = {}
    for task in scheduler:finished() do statuses[task.id] = task.status end
    assert.same({ before = "success", ["in the drain"] = "success", delayed = "stopped" }, statuses)
    assert.same({}, ends_of(scheduler))
  end)

  it("goes on to its end for a loop whose body closes", function()
    local scheduler = open(nil, { limit = 3 })
    for i = 1, 3 do scheduler:add { id = tostring(i) } end
    scheduler:wait "3"
    local ids = {}
    for task in scheduler:finished() do
      ids[#ids + 1] = task.id
      scheduler:close()
    end
    assert.same({ "1", "2", "3" }, ids)
  end)

  it("keeps no more than finished_size of them over a close", function()
    local scheduler = open(nil, { finished_size = 3 })
    for i = 1, 10 do scheduler:add { id = tostring(i) } end
    scheduler:wait "10"
    scheduler:close()
    assert.same({ "8", "9", "10" }, ids_of(ends_of(scheduler)))
  end)

  it("drops its oldest entries when it is full, and counts them", function()
    local scheduler = open(nil, { finished_size = 3 })
    for i = 1, 10 do scheduler:add { id = tostring(i) } end
    scheduler:wait "10"
    assert.equal(7, scheduler:stats().finished_dropped)
    assert.equal(10, scheduler:stats().success)
    assert.same({ "8", "9", "10" }, ids_of(ends_of(scheduler)))
    assert.equal(7, scheduler:stats().finished_dropped)
  end)

  it("can be switched off", function()
    local scheduler = open(nil, { finished_size = 0 })
    for i = 1, 10 do scheduler:add { id = tostring(i) } end
    assert.same({}, ends_of(scheduler))
    assert.equal(10, scheduler:stats().success)
  end)

  it("keeps its order over a growth in the middle", function()
    local scheduler = open()
    local expected, got = {}, {}
    local iterate = scheduler:finished()
    for i = 1, 50 do scheduler:add { id = tostring(i) } end
    scheduler:wait "50"
    for _ = 1, 40 do got[#got + 1] = iterate().id end
    for i = 51, 300 do scheduler:add { id = tostring(i) } end
    scheduler:wait "300"
    for task in iterate do got[#got + 1] = task.id end
    for i = 1, 300 do expected[i] = tostring(i) end
    assert.same(expected, got)
  end)

  it("has ends in the order in which they came", function()
    local scheduler = open(function(task) ltsh.sleep(task.item) end, { limit = 3 })
    scheduler:add { id = "slow", item = 0.15 }
    scheduler:add { id = "middle", item = 0.08 }
    scheduler:add { id = "quick", item = 0 }
    assert.same({ "quick", "middle", "slow" }, ids_of(ends_of(scheduler)))
  end)

  it("leaves an iterator that was broken off alone", function()
    local scheduler = open()
    for i = 1, 3 do scheduler:add { id = tostring(i) } end
    local first
    for task in scheduler:finished() do
      first = first or task.id
      if task.id == "2" then break end
    end
    assert.equal("1", first)
    assert.same({ "3" }, ids_of(ends_of(scheduler)))
  end)
end)

describe("a scheduler's add", function()
  it("makes up ids, each another", function()
    local scheduler = open()
    local seen = {}
    for _ = 1, 100 do
      local id = scheduler:add { item = 1 }
      assert.is_string(id)
      assert.is_nil(seen[id])
      seen[id] = true
    end
    for task in scheduler:finished() do seen[task.id] = nil end
    assert.is_nil(next(seen))
  end)

  it("takes any id of up to 255 bytes of UTF-8", function()
    local scheduler = open()
    for _, id in ipairs { "x", ("x"):rep(255), "числа 数 🜁", " ", "a/b?c=d'\"\\", "nil", "1" } do
      assert.equal(id, scheduler:add { id = id })
      assert.equal(id, scheduler:wait(id).id)
    end
  end)

  for _, status in ipairs(UNFINISHED) do
    it("refuses the id of a task that is " .. status, function()
      local scheduler, gate = with_task(status)
      local id, message, code = scheduler:add { id = "t", item = "other" }
      assert.is_nil(id)
      assert.matches("t", message)
      assert.equal("exists", code)
      assert.not_equal("other", scheduler:get("t").item)
      gate.is_open = true
      if status ~= "delayed" then
        scheduler:resume()
        assert.equal("success", scheduler:wait("t").status)
        assert.equal(1, #ends_of(scheduler))
      end
    end)
  end

  for _, status in ipairs(ENDED) do
    it("replaces a task that is " .. status .. ", but not with once", function()
      local scheduler = with_task(status)
      local before = scheduler:get "t"
      local id, message, code = scheduler:add { id = "t", once = true }
      assert.is_nil(id)
      assert.is_string(message)
      assert.equal("exists", code)
      assert.equal(status, scheduler:get("t").status)
      assert.equal("t", scheduler:add { id = "t", item = "new" })
      local task = scheduler:wait "t"
      assert.equal("success", task.status)
      assert.equal("new", task.item)
      assert.equal(1, task.attempts)
      assert.is_nil(task.reason)
      assert.equal(status, before.status)
      assert.equal(1, scheduler:count())
    end)
  end

  it("says when the container is full", function()
    local scheduler = open(nil, { container = ltsh.container.queue { size = 2 } })
    scheduler:pause()
    assert(scheduler:add {})
    assert(scheduler:add { delay = 3600 })
    local id, message, code = scheduler:add {}
    assert.is_nil(id)
    assert.is_string(message)
    assert.equal("full", code)
    assert.equal(2, scheduler:count())
  end)

  it("counts running tasks, but no ended ones, as what fills the container", function()
    local gate = door()
    local scheduler = open(gate.pass, { container = ltsh.container.queue { size = 1 } })
    scheduler:add { id = "a" }
    eventually("it runs", function() return gate.waiting == 1 end)
    assert.equal("full", select(3, scheduler:add { id = "b" }))
    gate.is_open = true
    scheduler:wait "a"
    assert.equal("b", scheduler:add { id = "b" })
  end)

  it("waits so many seconds for room, in order", function()
    local gate = door()
    local scheduler = open(gate.pass, { container = ltsh.container.queue { size = 1 } })
    scheduler:add { id = "a" }
    local added = {}
    local jobs = {}
    for i, id in ipairs { "b", "c", "d" } do
      jobs[i] = ltsh.spawn(function()
        local got = assert(scheduler:add({ id = id }, 10))
        added[#added + 1] = got
      end)
    end
    ltsh.sleep(0.01)
    assert.same({}, added)
    gate.is_open = true
    for i = 1, 3 do jobs[i]:wait() end
    assert.same({ "b", "c", "d" }, added)
    assert.same({ "a", "b", "c", "d" }, ids_of(ends_of(scheduler)))
  end)

  it("says that it is full still when the seconds are over", function()
    local scheduler = open(nil, { container = ltsh.container.queue { size = 1 } })
    scheduler:pause()
    scheduler:add { id = "a" }
    local before = uv.hrtime()
    local id, message, code = scheduler:add({ id = "b" }, 0.03)
    assert.is_nil(id)
    assert.is_string(message)
    assert.equal("full", code)
    assert.is_true(uv.hrtime() - before >= 0.025e9)
    assert.equal("full", select(3, scheduler:add({ id = "b" }, 0)))
    scheduler:resume()
    scheduler:wait "a"
    assert.is_nil(scheduler:get "b") -- who gave up is not let in later
  end)

  it("gets room by a delete and by a stop too", function()
    local scheduler = open(nil, { container = ltsh.container.queue { size = 1 } })
    scheduler:pause()
    scheduler:add { id = "a" }
    local job = ltsh.spawn(function() return scheduler:add({ id = "b" }, 10) end)
    ltsh.sleep(0.002)
    scheduler:delete "a"
    assert.equal("b", job:wait())
    job = ltsh.spawn(function() return scheduler:add({ id = "c" }, 10) end)
    ltsh.sleep(0.002)
    scheduler:stop "b"
    assert.equal("c", job:wait())
  end)

  it("stops waiting for room on close", function()
    local scheduler = open(nil, { container = ltsh.container.queue { size = 1 } })
    scheduler:pause()
    scheduler:add { id = "a" }
    local job = ltsh.spawn(function() return scheduler:add({ id = "b" }, 60) end)
    ltsh.sleep(0.002)
    scheduler:close()
    local id, message, code = job:wait()
    assert.is_nil(id)
    assert.is_string(message)
    assert.equal("closed", code)
  end)

  it("names what cannot be stored", function()
    local scheduler = open()
    local id, message, code = scheduler:add { id = "t", item = { cb = print } }
    assert.is_nil(id)
    assert.equal("unstorable", code)
    assert.matches("item.cb: a function cannot be stored", message, 1, true)
    assert.equal(0, scheduler:count())
  end)

  it("refuses a priority where there are none", function()
    local scheduler = open()
    local id, message, code = scheduler:add { id = "t", priority = 1 }
    assert.is_nil(id)
    assert.matches("priorit", message)
    assert.equal("refused", code)
    assert.equal(0, scheduler:count())
    assert.equal("t", scheduler:add { id = "t", priority = 0 })
  end)

  it("takes a task object, as a new task", function()
    local scheduler = open(function(task) return task.item end)
    scheduler:add { id = "t", item = { n = 1 }, max_retries = 4 }
    local task = scheduler:wait "t"
    assert.equal("t", scheduler:add(task))
    local again = scheduler:wait "t"
    assert.equal("success", again.status)
    assert.same({ n = 1 }, again.item)
    assert.equal(4, again.max_retries)
    assert.equal(1, again.attempts)
    assert.is_true(again.run > task.run)
  end)

  it("does not see what is done to the item later", function()
    local scheduler = open(function(task) return task.item.n end)
    local item = { n = 1 }
    scheduler:add { id = "t", item = item }
    item.n = 2
    assert.equal(1, scheduler:wait("t").output)
  end)
end)

describe("a scheduler's add_all", function()
  it("adds in order and returns the ids", function()
    local scheduler = open(function(task) return task.item end)
    local ids = scheduler:add_all { { id = "a", item = 1 }, { item = 2 }, { id = "c", item = 3 } }
    assert.equal(3, #ids)
    assert.equal("a", ids[1])
    assert.equal("c", ids[3])
    local ends = ends_of(scheduler)
    assert.same(ids, ids_of(ends))
    assert.equal(2, ends[2].output)
  end)

  it("takes an empty list", function()
    local scheduler = open()
    assert.same({}, scheduler:add_all {})
    assert.equal(0, scheduler:count())
  end)

  local function adds_none(code, tasks, options)
    local added = 0
    local scheduler = open(nil, options)
    scheduler:pause()
    scheduler:add { id = "known" }
    scheduler:on("added", function() added = added + 1 end)
    local ids, message, got = scheduler:add_all(tasks)
    assert.is_nil(ids)
    assert.is_string(message)
    assert.equal(code, got)
    assert.equal(1, scheduler:count())
    assert.equal(0, added)
    scheduler:resume()
    assert.same({ "known" }, ids_of(ends_of(scheduler)))
  end

  it("adds none when one exists", function()
    adds_none("exists", { { id = "a" }, { id = "known" }, { id = "c" } })
  end)

  it("adds none when one is there twice", function()
    adds_none("exists", { { id = "a" }, { id = "b" }, { id = "a" } })
  end)

  it("adds none when there is no room for all", function()
    adds_none("full", { { id = "a" }, { id = "b" }, { id = "c" } }, { container = ltsh.container.queue { size = 3 } })
  end)

  it("adds none when one cannot be stored", function()
    adds_none("unstorable", { { id = "a" }, { id = "b", item = { print } } })
  end)

  it("adds none when one is refused", function()
    adds_none("refused", { { id = "a" }, { id = "b", priority = 5 } })
  end)

  it("adds none when one is no task, and raises", function()
    local scheduler = open()
    for _, wrong in ipairs { { { id = "a" }, "b" }, { { id = "a" }, { id = 5 } }, { { id = "a" }, { iten = 5 } } } do
      assert.has_error(function() scheduler:add_all(wrong) end)
    end
    assert.has_error(function() scheduler:add_all "a" end)
    assert.has_error(function() scheduler:add_all() end)
    assert.equal(0, scheduler:count())
  end)

  it("waits so many seconds for room for all", function()
    local gate = door()
    local scheduler = open(gate.pass, { container = ltsh.container.queue { size = 2 } })
    scheduler:add { id = "a" }
    local job = ltsh.spawn(function() return scheduler:add_all({ { id = "b" }, { id = "c" } }, 10) end)
    ltsh.sleep(0.005)
    assert.equal(1, scheduler:count())
    gate.is_open = true
    assert.same({ "b", "c" }, job:wait())
    ends_of(scheduler)
  end)

  it("takes ten thousand", function()
    local scheduler = open(nil, { limit = 50 })
    local tasks = {}
    for i = 1, 10000 do tasks[i] = { id = tostring(i) } end
    assert.equal(10000, #scheduler:add_all(tasks))
    assert.equal(10000, #ends_of(scheduler))
  end)
end)

describe("events", function()
  -- The names and ids of all events, in their order.
  local function record(scheduler)
    local log = {}
    for _, event in ipairs { "added", "started", "progress", "retried", "finished" } do
      scheduler:on(event, function(task) log[#log + 1] = event .. " " .. task.id .. " " .. task.status end)
    end
    return log
  end

  it("come in order, after the change", function()
    local scheduler = open()
    local log = record(scheduler)
    scheduler:add { id = "a" }
    scheduler:wait "a"
    assert.same({ "added a waiting", "started a running", "finished a success" }, log)
  end)

  it("tell of retries, failures and progress", function()
    local scheduler = open(function(task)
      task:report(50)
      return nil, "broken"
    end, { max_retries = 1 })
    local log = record(scheduler)
    local progress, retried
    scheduler:on("progress", function(task) progress = task.progress end)
    scheduler:on("retried", function(...) retried = table.pack(...) end)
    scheduler:add { id = "a" }
    scheduler:wait "a"
    assert.same({ "added a waiting", "started a running", "progress a running", "retried a waiting",
      "started a running", "progress a running", "finished a failed" }, log)
    assert.equal(50, progress)
    assert.equal(3, retried.n)
    assert.equal("a", retried[1].id)
    assert.equal("broken", retried[2])
    assert.equal(0, retried[3])
  end)

  it("tell of the end of a task that never ran", function()
    local scheduler = open()
    scheduler:pause()
    local log = record(scheduler)
    scheduler:add { id = "a" }
    scheduler:stop "a"
    assert.same({ "added a waiting", "finished a stopped" }, log)
  end)

  it("find the scheduler as they say", function()
    local scheduler = open()
    local found = {}
    for _, event in ipairs { "added", "started", "finished" } do
      scheduler:on(event, function(task) found[#found + 1] = scheduler:get(task.id).status end)
    end
    scheduler:add { id = "a" }
    scheduler:wait "a"
    assert.same({ "waiting", "running", "success" }, found)
  end)

  it("come before those who wait are answered", function()
    local scheduler = open()
    local finished = false
    scheduler:on("finished", function() finished = true end)
    scheduler:add { id = "a" }
    scheduler:wait "a"
    assert.is_true(finished)
  end)

  it("call several handlers in the order of their adding", function()
    local scheduler = open()
    local calls = {}
    for i = 1, 3 do scheduler:on("finished", function() calls[#calls + 1] = i end) end
    scheduler:add { id = "a" }
    scheduler:wait "a"
    assert.same({ 1, 2, 3 }, calls)
  end)

  it("do not call a handler that was removed", function()
    local scheduler = open()
    local calls = {}
    local function handler() calls[#calls + 1] = "same" end
    local remove = scheduler:on("finished", handler)
    scheduler:on("finished", handler)
    scheduler:on("finished", function() calls[#calls + 1] = "other" end)
    remove()
    remove() -- once more does nothing
    scheduler:add { id = "a" }
    scheduler:wait "a"
    assert.same({ "same", "other" }, calls)
  end)

  it("may be changed by a handler", function()
    local scheduler = open()
    local calls = {}
    local remove
    remove = scheduler:on("finished", function(task)
      calls[#calls + 1] = "first " .. task.id
      remove()
      scheduler:on("finished", function(other) calls[#calls + 1] = "second " .. other.id end)
    end)
    scheduler:add { id = "a" }
    scheduler:wait "a"
    scheduler:add { id = "b" }
    scheduler:wait "b"
    assert.same({ "first a", "second b" }, calls)
  end)

  it("may add tasks", function()
    local scheduler = open()
    scheduler:on("finished", function(task)
      local n = tonumber(task.id)
      if n < 10 then assert(scheduler:add { id = tostring(n + 1) }) end
    end)
    scheduler:add { id = "1" }
    assert.equal(10, #ends_of(scheduler))
  end)

  it("may add the task that has ended again", function()
    local runs = 0
    local scheduler = open(function() runs = runs + 1 end)
    scheduler:on("finished", function(task)
      if runs < 5 then assert.equal(task.id, scheduler:add { id = task.id }) end
    end)
    local ends = 0
    scheduler:add { id = "a" }
    -- What is to be added by a handler that is cut is not waited for by finished().
    eventually("all have ended", function()
      ends = ends + #ends_of(scheduler)
      return ends == 5
    end)
    assert.equal(5, runs)
  end)

  it("may retry the task that has ended", function()
    local runs = 0
    local scheduler = open(function() runs = runs + 1 end)
    scheduler:on("finished", function(task)
      if runs < 3 then assert(scheduler:retry(task.id)) end
    end)
    scheduler:add { id = "a" }
    assert.equal(3, #ends_of(scheduler))
  end)

  it("may delete the task that has ended", function()
    local scheduler = open()
    scheduler:on("finished", function(task) assert(scheduler:delete(task.id)) end)
    scheduler:add { id = "a" }
    scheduler:add { id = "b" }
    ends_of(scheduler)
    assert.equal(0, scheduler:count())
  end)

  it("may stop the task that is about to start: it never runs", function()
    local ran = false
    local scheduler = open(function() ran = true end)
    local answer
    scheduler:on("started", function(task) answer = ltsh.spawn(scheduler.stop, scheduler, task.id, "not that one") end)
    scheduler:add { id = "a" }
    local task = scheduler:wait "a"
    assert.equal("stopped", task.status)
    assert.equal("not that one", task.reason)
    assert.is_false(ran)
    assert.equal("stopped", answer:wait().status)
  end)

  it("may stop the task that was just added", function()
    local scheduler = open()
    scheduler:on("added", function(task) scheduler:stop(task.id) end)
    assert.equal("a", scheduler:add { id = "a" })
    assert.equal("stopped", scheduler:wait("a").status)
  end)

  for _, event in ipairs { "added", "started", "retried", "finished" } do
    it("may close the scheduler: " .. event, function()
      local scheduler = open(function() return nil, "broken" end, { max_retries = 1, backoff = 0.001 })
      local closed = 0
      scheduler:on(event, function()
        scheduler:close()
        closed = closed + 1
      end)
      scheduler:add { id = "a" }
      scheduler:add { id = "b" }
      eventually("it is closed", function() return closed > 0 end)
      assert.equal("closed", select(3, scheduler:add { id = "c" }))
    end)
  end

  it("may wait, and hold nothing up", function()
    local scheduler = open()
    local started, ended = 0, 0
    scheduler:on("finished", function()
      started = started + 1
      ltsh.sleep(0.03)
      ended = ended + 1
    end)
    for i = 1, 20 do scheduler:add { id = tostring(i) } end
    assert.equal(20, #ends_of(scheduler))
    assert.equal(20, started)
    eventually("the handlers return", function() return ended == 20 end)
  end)

  it("go on after an error in a handler, which is logged", function()
    local text = output_of [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {}, actuator = ltsh.actuator.func(function() end) }
      scheduler:on("finished", function() error "first handler" end)
      scheduler:on("finished", function() local x = nil; x.y = 1 end)
      scheduler:on("finished", function() error { reason = "third handler" } end)
      scheduler:on("finished", function(task) print("fourth handler " .. task.id) end)
      scheduler:add { id = "a" }
      scheduler:add { id = "b" }
      for task in scheduler:finished() do print("end " .. task.id .. " " .. task.status) end
    ]]
    assert.matches("first handler", text)
    assert.matches("attempt to index", text)
    assert.matches("third handler", text)
    assert.matches("finished", text)
    for _, id in ipairs { "a", "b" } do
      assert.matches("fourth handler " .. id, text)
      assert.matches("end " .. id .. " success", text)
    end
  end)

  it("end a handler that takes too long, which is logged", function()
    local text = output_of [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler { callback_timeout = 0.02,
        container = ltsh.container.queue {}, actuator = ltsh.actuator.func(function() end) }
      scheduler:on("finished", function() ltsh.sleep(60); print "too late" end)
      scheduler:add { id = "a" }
      print(scheduler:wait("a").status)
      ltsh.sleep(0.05)
    ]]
    assert.matches("success", text)
    assert.matches("handler", text)
    assert.not_matches("too late", text)
  end)

  it("are no more after the close but those of its ends", function()
    local scheduler = with_task "running"
    local log = record(scheduler)
    scheduler:close()
    assert.same({ "finished t stopped" }, log)
    scheduler:add { id = "b" }
    assert.equal(1, #log)
  end)
end)

describe("pause and resume", function()
  it("hold back starts, not what runs", function()
    local gate = door()
    local started = 0
    local scheduler = open(function()
      started = started + 1
      gate.pass()
    end, { limit = 2 })
    for i = 1, 4 do scheduler:add { id = tostring(i) } end
    eventually("two run", function() return gate.waiting == 2 end)
    assert.is_truthy(scheduler:pause())
    gate.is_open = true
    scheduler:wait "1"
    scheduler:wait "2"
    ltsh.sleep(0.01)
    assert.equal(2, started)
    assert.equal(2, scheduler:stats().waiting)
    assert.is_truthy(scheduler:resume())
    assert.equal(4, #ends_of(scheduler))
  end)

  it("may be said twice, and at any time", function()
    local scheduler = open()
    scheduler:resume()
    scheduler:pause()
    scheduler:pause()
    scheduler:add { id = "a" }
    ltsh.sleep(0.005)
    assert.equal("waiting", scheduler:get("a").status)
    scheduler:resume()
    scheduler:resume()
    assert.equal("success", scheduler:wait("a").status)
  end)

  it("hold back retries too", function()
    local runs = 0
    local scheduler
    scheduler = open(function()
      runs = runs + 1
      scheduler:pause()
      return nil, "broken"
    end, { max_retries = 1 })
    scheduler:add { id = "a" }
    eventually("it waits for its retry", function() return scheduler:stats().retried == 1 end)
    ltsh.sleep(0.01)
    assert.equal(1, runs)
    scheduler:resume()
    scheduler:wait "a"
    assert.equal(2, runs)
  end)

  it("let a task expire", function()
    local scheduler = open()
    scheduler:pause()
    scheduler:add { id = "a", expires = 0.02 }
    local task = scheduler:wait("a", 5)
    assert.equal("failed", task.status)
    assert.equal("expired", task.reason)
  end)
end)

describe("set", function()
  it("raises the limit while tasks run", function()
    local gate = door()
    local scheduler = open(gate.pass)
    for _ = 1, 4 do scheduler:add {} end
    eventually("one runs", function() return gate.waiting == 1 end)
    assert.is_truthy(scheduler:set { limit = 3 })
    eventually("three run", function() return gate.waiting == 3 end)
    ltsh.sleep(0.005)
    assert.equal(3, gate.waiting)
    gate.is_open = true
    assert.equal(4, #ends_of(scheduler))
  end)

  it("lowers the limit: what runs goes on, and nothing starts before there is room", function()
    local running, most, lowered = 0, 0, false
    local scheduler = open(function()
      running = running + 1
      if lowered then most = math.max(most, running) end
      ltsh.sleep(0.005)
      running = running - 1
    end, { limit = 4 })
    for i = 1, 20 do scheduler:add { id = tostring(i) } end
    scheduler:wait "4"
    scheduler:set { limit = 1 }
    eventually("it is down to one", function() return running <= 1 end)
    lowered = true
    assert.equal(20, #ends_of(scheduler))
    assert.equal(1, most)
  end)

  it("changes timeout, retries and backoff for the runs that follow", function()
    local scheduler = open(function() ltsh.sleep(3600) end)
    scheduler:set { timeout = 0.02, max_retries = 1, backoff = 0.01 }
    scheduler:add { id = "a" }
    local task = scheduler:wait("a", 10)
    assert.equal("failed", task.status)
    assert.equal("timeout", task.reason)
    assert.equal(2, task.attempts)
  end)

  it("leaves alone what is not named", function()
    local runs = 0
    local scheduler = open(function()
      runs = runs + 1
      return nil, "broken"
    end, { max_retries = 2, backoff = function() return 0 end })
    scheduler:set { limit = 5 }
    scheduler:add { id = "a" }
    scheduler:wait "a"
    assert.equal(3, runs)
  end)

  it("takes options away with false", function()
    local scheduler = open(function() ltsh.sleep(0.05) end, { timeout = 0.005, limit = 2, key_limit = 1 })
    scheduler:set { timeout = false, key_limit = false, rate = false }
    scheduler:add { id = "a", key = "k" }
    scheduler:add { id = "b", key = "k" }
    eventually("both run", function() return scheduler:stats().running == 2 end)
    for _, task in ipairs(ends_of(scheduler)) do assert.equal("success", task.status) end
  end)

  it("may be called by a task and by a handler", function()
    local scheduler
    scheduler = open(function() scheduler:set { limit = 2 } end)
    scheduler:on("finished", function() scheduler:set { limit = 3 } end)
    for _ = 1, 5 do scheduler:add {} end
    assert.equal(5, #ends_of(scheduler))
  end)
end)

describe("close", function()
  it("stops what runs and what waits, each an end", function()
    local gate = door()
    local scheduler = open(gate.pass, { limit = 2 })
    local ends = {}
    scheduler:on("finished", function(task) ends[task.id] = task.status end)
    for i = 1, 4 do scheduler:add { id = tostring(i) } end
    scheduler:add { id = "delayed", delay = 3600 }
    eventually("two run", function() return gate.waiting == 2 end)
    assert.is_truthy(scheduler:close())
    assert.same({ ["1"] = "stopped", ["2"] = "stopped", ["3"] = "stopped", ["4"] = "stopped", delayed = "stopped" },
      ends)
  end)

  it("lets what runs end within its drain, and starts nothing more", function()
    local started = 0
    local scheduler = open(function()
      started = started + 1
      ltsh.sleep(0.02)
    end, { limit = 2 })
    local ends = {}
    scheduler:on("finished", function(task) ends[task.id] = task.status end)
    for i = 1, 4 do scheduler:add { id = tostring(i) } end
    eventually("two run", function() return started == 2 end)
    scheduler:close { drain = 10 }
    assert.equal(2, started)
    assert.same({ ["1"] = "success", ["2"] = "success", ["3"] = "stopped", ["4"] = "stopped" }, ends)
  end)

  it("takes no longer than what it drains", function()
    local scheduler = with_task "waiting"
    local before = uv.hrtime()
    scheduler:close { drain = 60 }
    assert.is_true(uv.hrtime() - before < 10e9)
  end)

  it("stops what does not end within its drain", function()
    local scheduler = with_task "running"
    local status
    scheduler:on("finished", function(task) status = task.status end)
    local before = uv.hrtime()
    scheduler:close { drain = 0.03 }
    assert.is_true(uv.hrtime() - before >= 0.025e9)
    assert.equal("stopped", status)
  end)

  it("does not retry what fails while it drains", function()
    local runs = 0
    local scheduler = open(function()
      runs = runs + 1
      ltsh.sleep(0.02)
      return nil, "broken"
    end, { max_retries = 10 })
    local ends = {}
    scheduler:on("finished", function(task) ends[#ends + 1] = task.id end)
    scheduler:add { id = "a" }
    eventually("it runs", function() return runs == 1 end)
    scheduler:close { drain = 10 }
    assert.equal(1, runs)
    assert.same({ "a" }, ends)
  end)

  it("can be called twice, and by several at once", function()
    local scheduler = with_task "running"
    local jobs = {}
    for i = 1, 3 do jobs[i] = ltsh.spawn(scheduler.close, scheduler) end
    for i = 1, 3 do assert.is_truthy((jobs[i]:wait())) end
    assert.is_truthy(scheduler:close())
    assert.is_truthy(scheduler:close { drain = 1 })
  end)

  it("can be made shorter by a second call", function()
    local scheduler = with_task "running"
    local job = ltsh.spawn(scheduler.close, scheduler, { drain = 3600 })
    ltsh.sleep(0.002)
    scheduler:close()
    assert.is_truthy((job:wait()))
  end)

  it("is called by <close>", function()
    local status
    local scheduler
    do
      local own <close> = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() ltsh.sleep(3600) end),
      }
      scheduler = own
      own:on("finished", function(task) status = task.status end)
      own:add { id = "a" }
    end
    assert.equal("stopped", status)
    assert.equal("closed", select(3, scheduler:add {}))
  end)

  it("is called by <close> when an error passes through", function()
    local scheduler
    local ok, message = pcall(function()
      local own <close> = open(function() ltsh.sleep(3600) end)
      scheduler = own
      own:add {}
      error "passing through"
    end)
    assert.is_false(ok)
    assert.matches("passing through", message)
    assert.equal("closed", select(3, scheduler:add {}))
  end)

  it("answers those who wait for a task", function()
    local scheduler = with_task "running"
    local job = ltsh.spawn(function() return scheduler:wait "t" end)
    ltsh.sleep(0.002)
    scheduler:close()
    local task, message = job:wait()
    assert.is_true(task ~= nil and task.status == "stopped" or type(message) == "string")
  end)

  it("ends run()", function()
    local scheduler = open()
    local job = ltsh.spawn(function()
      scheduler:run()
      return "over"
    end)
    ltsh.sleep(0.002)
    scheduler:close()
    assert.equal("over", job:wait())
    scheduler:run() -- at once now
  end)

  it("makes methods say so, and never raise", function()
    local scheduler = with_task "success"
    local remove = scheduler:on("finished", function() end)
    scheduler:close()
    local answers = {
      add = { scheduler:add {} },
      add_all = { scheduler:add_all { {} } },
      get = { scheduler:get "t" },
      wait = { scheduler:wait "t" },
      stop = { scheduler:stop "t" },
      retry = { scheduler:retry "t" },
      delete = { scheduler:delete "t" },
      output = { scheduler:output "t" },
      history = { scheduler:history "t" },
      list = { scheduler:list() },
      count = { scheduler:count() },
      stats = { scheduler:stats() },
      set = { scheduler:set { limit = 2 } },
    }
    for name, answer in pairs(answers) do
      assert.is_nil(answer[1], name)
      assert.is_string(answer[2], name)
      assert.equal("closed", answer[3], name)
    end
    assert.same({ "t" }, ids_of(ends_of(scheduler))) -- what ended before
    for _ in scheduler:finished() do error "there is nothing more" end
    scheduler:pause()
    scheduler:resume()
    scheduler:on("finished", function() end)()
    remove()
    assert.matches("scheduler", tostring(scheduler))
  end)

  it("still raises for misuse after it", function()
    local scheduler = open()
    scheduler:close()
    assert.has_error(function() scheduler:add "a" end)
    assert.has_error(function() scheduler:get(1) end)
    assert.has_error(function() scheduler:on "finished" end)
  end)
end)

describe("the object of a task", function()
  it("does not change later", function()
    local scheduler, gate = with_task "running"
    local running = scheduler:get "t"
    local list = scheduler:list()
    gate.is_open = true
    local ended = scheduler:wait "t"
    assert.equal("running", running.status)
    assert.is_nil(running.output)
    assert.is_nil(running.ended_at)
    assert.equal("running", list[1].status)
    scheduler:retry "t"
    scheduler:wait "t"
    scheduler:delete "t"
    assert.equal("success", ended.status)
    assert.equal("result", ended.output)
    assert.equal(1, ended.attempts)
    scheduler:close()
    collectgarbage()
    assert.equal("t", ended.id)
    assert.equal("result", ended.output)
  end)

  it("does not change with progress", function()
    local scheduler = open(function(task)
      task:report { percent = 1 }
      ltsh.sleep(0.005)
      task:report { percent = 2 }
    end)
    local seen = {}
    scheduler:on("progress", function(task) seen[#seen + 1] = task end)
    scheduler:add { id = "t" }
    scheduler:wait "t"
    assert.equal(2, #seen)
    assert.same({ percent = 1 }, seen[1].progress)
    assert.same({ percent = 2 }, seen[2].progress)
  end)

  it("takes assignments for itself alone", function()
    local scheduler = with_task "success"
    local task = scheduler:get "t"
    task.status = "mine"
    task.item = { mine = true }
    task.note = "mine"
    task.output = nil
    assert.equal("mine", task.status)
    assert.same({ mine = true }, task.item)
    assert.equal("mine", task.note)
    assert.is_nil(task.output)
    local other = scheduler:get "t"
    assert.equal("success", other.status)
    assert.is_nil(other.item)
    assert.is_nil(other.note)
    assert.equal("result", other.output)
  end)

  it("has tables of its own", function()
    local scheduler = open(function(task)
      task.item.list[1] = "changed by the run"
      return task.item
    end)
    scheduler:add { id = "t", item = { list = { "first" } } }
    local task = scheduler:wait "t"
    assert.equal("first", task.item.list[1])
    assert.equal("changed by the run", task.output.list[1])
    task.item.list[1] = "changed by me"
    assert.equal("changed by me", task.item.list[1])
    assert.equal("first", scheduler:get("t").item.list[1])
  end)

  it("is gone over by pairs: what is set, and no more", function()
    local scheduler = with_task "waiting"
    local found = {}
    for name, value in pairs(scheduler:get "t") do
      assert.is_nil(found[name])
      assert.is_not_nil(value)
      found[name] = value
    end
    assert.equal("t", found.id)
    assert.equal("waiting", found.status)
    assert.is_number(found.added_at)
    for _, name in ipairs { "item", "output", "reason", "handle", "progress", "started_at", "ended_at", "key" } do
      assert.is_nil(found[name])
    end
  end)

  it("is gone over by pairs with what was assigned", function()
    local scheduler = with_task "success"
    local task = scheduler:get "t"
    task.note, task.status, task.output = "mine", "other", nil
    local found = {}
    for name, value in pairs(task) do found[name] = value end
    assert.equal("mine", found.note)
    assert.equal("other", found.status)
    assert.is_nil(found.output)
    assert.equal(1, found.attempts)
  end)

  it("is nil for names that it does not have", function()
    local task = with_task("success"):get "t"
    assert.is_nil(task.nothing)
    assert.is_nil(task[1])
    assert.is_nil(task[true])
  end)

  it("outlives its run: report answers nil, cancelled true", function()
    local kept
    local scheduler = open(function(task) kept = task end)
    scheduler:add { id = "t" }
    scheduler:wait "t"
    local done, message = kept:report(1)
    assert.is_nil(done)
    assert.is_string(message)
    assert.is_true((kept:cancelled()))
    assert.is_nil(scheduler:get("t").progress)
  end)

  it("shows itself", function()
    local text = tostring(with_task("success"):get "t")
    assert.matches("t", text)
    assert.matches("success", text)
  end)
end)

describe("the numbers of runs", function()
  it("are new for each run of an id, and never used again", function()
    local runs = {}
    local scheduler = open(function(task)
      runs[#runs + 1] = task.run
      if task.item == "fail" then return nil, "broken" end
    end, { max_retries = 1 })
    local function again(way)
      way()
      scheduler:wait "t"
    end
    again(function() scheduler:add { id = "t", item = "fail" } end) -- twice
    again(function() scheduler:retry "t" end) -- twice
    again(function() scheduler:add { id = "t" } end)
    again(function()
      scheduler:delete "t"
      scheduler:add { id = "t" }
    end)
    assert.equal(6, #runs)
    for i = 2, #runs do assert.is_true(runs[i] > runs[i - 1]) end
  end)

  it("are used up by runs that were stopped and snoozed", function()
    local runs = {}
    local scheduler = open(function(task)
      runs[#runs + 1] = task.run
      if #runs == 1 then return nil, { snooze = 0.001 } end
      if #runs == 2 then ltsh.sleep(3600) end
    end)
    scheduler:add { id = "t" }
    eventually("its second run is under way", function() return #runs == 2 end)
    scheduler:stop "t"
    scheduler:retry "t"
    scheduler:wait "t"
    assert.equal(3, #runs)
    assert.is_true(runs[1] < runs[2] and runs[2] < runs[3])
  end)

  it("are not kept when ended tasks are forgotten", function()
    local runs = {}
    local scheduler = open(function(task) runs[#runs + 1] = task.run end, { keep = { tasks = 0 } })
    for _ = 1, 3 do
      scheduler:add { id = "t" }
      ends_of(scheduler)
    end
    assert.is_true(runs[1] < runs[2] and runs[2] < runs[3])
  end)
end)

describe("ended tasks", function()
  it("are forgotten beyond keep, the oldest first", function()
    local scheduler = open(nil, { keep = { tasks = 3 } })
    for i = 1, 5 do scheduler:add { id = tostring(i) } end
    ends_of(scheduler)
    assert.same({ "3", "4", "5" }, ids_of(scheduler:list()))
    assert.is_nil(scheduler:get "1")
    assert.equal("1", scheduler:add { id = "1", once = true })
  end)

  it("are forgotten beyond the bytes of keep", function()
    local scheduler = open(nil, { keep = { bytes = "64K" } })
    for i = 1, 100 do scheduler:add { id = tostring(i), item = ("x"):rep(4000) } end
    ends_of(scheduler)
    local count = scheduler:count()
    assert.is_true(count >= 5 and count <= 16, tostring(count))
    assert.equal("success", scheduler:get("100").status)
  end)

  it("answer who waited, though they are forgotten at once", function()
    local scheduler = open(function() return 1 end, { keep = { tasks = 0 } })
    scheduler:add { id = "t" }
    assert.equal(1, scheduler:wait("t").output)
    assert.is_nil(scheduler:get "t")
  end)
end)
