-- The same outcomes however ends are noticed: pushed, polled, or both.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"

local eventually = scene.eventually

after_each(scene.close)

local ends_of = scene.ends_of

-- An actuator in Lua: a run is a job that calls `run`, remembered by task and run. What it returns is kept for
-- `status`, and pushed when it is attached. With options.early the push comes before `start` returns, for runs that do
-- not wait.
local function lua_actuator(run, options)
  local actuator = { notify = nil, works = {}, stops = 0, started = 0, alive = 0, most = 0 }

  local function key(task) return task.id .. "#" .. task.run end

  local function record_of(output, failure)
    if output == nil and failure ~= nil then
      if type(failure) ~= "table" then failure = { reason = failure } end
      return { status = "failed", reason = failure.reason, retry = failure.retry }
    end
    return { status = "success", output = output }
  end

  function actuator.start(_, task)
    actuator.started = actuator.started + 1
    actuator.alive = actuator.alive + 1
    actuator.most = math.max(actuator.most, actuator.alive)
    local work = { record = { status = "running" } }
    actuator.works[key(task)] = work
    local id, number = task.id, task.run
    local function body()
      local _ <close> = setmetatable({}, { __close = function()
        work.over = true
        actuator.alive = actuator.alive - 1
      end })
      work.record = record_of(run(task))
      if actuator.notify then
        local record = { id = id, run = number }
        for name, value in pairs(work.record) do record[name] = value end
        actuator.notify(record)
      end
    end
    if options.early then
      body()
    else
      work.job = ltsh.spawn(body)
    end
    return "handle of " .. key(task)
  end

  function actuator.stop(_, task)
    actuator.stops = actuator.stops + 1
    local work = actuator.works[key(task)]
    if work.job and not work.over then
      work.job:cancel()
      pcall(work.job.wait, work.job)
    end
    return true
  end

  if options.status then
    function actuator.status(_, tasks)
      local records = {}
      for i, task in ipairs(tasks) do records[i] = actuator.works[key(task)].record end
      return records
    end
  end

  if options.attach then
    function actuator.attach(_, notify) actuator.notify = notify end
  end
  return actuator
end

local polls = { poll_interval = 0.02, callback = false }
local pushes = { poll_interval = false, callback = true }
local both = { poll_interval = 0.02, callback = true }

local function func(run) return ltsh.actuator.func(run) end
local function lua_of(options)
  return function(run) return lua_actuator(run, options) end
end

local modes = {
  { name = "a function, polled", make = func, options = polls },
  { name = "a function, pushed", make = func, options = pushes },
  { name = "a function, both", make = func, options = both },
  { name = "an actuator in Lua, polled", make = lua_of { status = true }, options = polls },
  { name = "an actuator in Lua, pushed", make = lua_of { attach = true }, options = pushes },
  { name = "an actuator in Lua, both", make = lua_of { status = true, attach = true }, options = both },
  { name = "an actuator in Lua, pushed early", make = lua_of { attach = true, early = true }, options = pushes,
    early = true },
  { name = "an actuator in Lua, both, pushed early", make = lua_of { status = true, attach = true, early = true },
    options = both, early = true },
}

for _, mode in ipairs(modes) do
  local function open(run, options)
    options = options or {}
    for name, value in pairs(mode.options) do options[name] = value end
    options.container = options.container or ltsh.container.queue {}
    local actuator = mode.make(run)
    options.actuator = actuator
    local scheduler = ltsh.scheduler(options)
    scene.keep(scheduler)
    return scheduler, actuator
  end

  describe("with " .. mode.name .. ",", function()
    it("outputs and failures are the same", function()
      local scheduler = open(function(task)
        if task.item % 4 == 0 then return nil, "broken " .. task.item end
        return { twice = task.item * 2 }
      end, { limit = 3 })
      for i = 1, 24 do scheduler:add { id = tostring(i), item = i } end
      local seen, count = {}, 0
      for task in scheduler:finished() do
        assert.is_nil(seen[task.id])
        seen[task.id] = true
        count = count + 1
        local i = task.item
        if i % 4 == 0 then
          assert.equal("failed", task.status)
          assert.equal("broken " .. i, task.reason)
          assert.is_nil(task.output)
        else
          assert.equal("success", task.status)
          assert.same({ twice = i * 2 }, task.output)
          assert.is_nil(task.reason)
        end
        assert.equal(1, task.attempts)
      end
      assert.equal(24, count)
      local stats = scheduler:stats()
      assert.equal(18, stats.success)
      assert.equal(6, stats.failed)
      assert.equal(0, stats.running)
    end)

    it("each end comes once, in the events too", function()
      local events = {}
      local scheduler = open(function() end, { limit = 5 })
      scheduler:on("finished", function(task) events[task.id] = (events[task.id] or 0) + 1 end)
      for i = 1, 50 do scheduler:add { id = tostring(i) } end
      assert.equal(50, #ends_of(scheduler))
      ltsh.sleep(0.05) -- two more polls
      for i = 1, 50 do assert.equal(1, events[tostring(i)]) end
      assert.equal(50, scheduler:stats().success)
      assert.same({}, ends_of(scheduler))
    end)

    it("retries are counted alike", function()
      local scheduler = open(function(task)
        if task.attempts < 3 then return nil, "broken" end
        return task.attempts
      end, { limit = 2, max_retries = 3 })
      for i = 1, 5 do scheduler:add { id = tostring(i) } end
      for _, task in ipairs(ends_of(scheduler)) do
        assert.equal("success", task.status)
        assert.equal(3, task.output)
        assert.equal(3, task.attempts)
      end
      assert.equal(10, scheduler:stats().retried)
    end)

    it("a failure that is not to be retried is not", function()
      local scheduler = open(function() return nil, { reason = "hopeless", retry = false } end, { max_retries = 3 })
      scheduler:add { id = "t" }
      local task = scheduler:wait "t"
      assert.equal("hopeless", task.reason)
      assert.equal(1, task.attempts)
    end)

    it("the limit holds", function()
      local inside, most = 0, 0
      local scheduler = open(function()
        inside = inside + 1
        most = math.max(most, inside)
        if not mode.early then ltsh.sleep(0.003) end
        inside = inside - 1
      end, { limit = 2 })
      for i = 1, 20 do scheduler:add { id = tostring(i) } end
      assert.equal(20, #ends_of(scheduler))
      assert.is_true(most <= 2)
    end)

    it("the same id runs again and again", function()
      local scheduler = open(function(task) return task.item end)
      for i = 1, 5 do
        assert.equal("t", scheduler:add { id = "t", item = i })
        assert.equal(i, scheduler:wait("t").output)
      end
      assert.equal(5, #ends_of(scheduler))
    end)

    if not mode.early then
      it("timeouts hold, and each run has the whole time", function()
        local scheduler = open(function(task)
          if task.attempts < 3 then ltsh.sleep(3600) end
          ltsh.sleep(0.04)
          return "done"
        end, { timeout = 0.4, max_retries = 3 })
        local before = uv.hrtime()
        scheduler:add { id = "t" }
        local task = scheduler:wait("t", 20)
        assert.equal("success", task.status)
        assert.equal("done", task.output)
        assert.equal(3, task.attempts)
        assert.is_true(uv.hrtime() - before >= 0.835e9)
        local history = scheduler:history "t"
        assert.equal("timeout", history[1].reason)
        assert.equal("timeout", history[2].reason)
      end)

      it("a timeout that is the last one fails the task", function()
        local scheduler = open(function() ltsh.sleep(3600) end, { timeout = 0.03 })
        scheduler:add { id = "a" }
        scheduler:add { id = "b" }
        for _, task in ipairs(ends_of(scheduler)) do
          assert.equal("failed", task.status)
          assert.equal("timeout", task.reason)
        end
        assert.equal(2, scheduler:stats().failed)
      end)

      it("a stop ends the task, and only it", function()
        local scheduler = open(function(task)
          if task.id == "stopped" then ltsh.sleep(3600) end
          ltsh.sleep(0.01)
        end, { limit = 2 })
        scheduler:add { id = "stopped" }
        scheduler:add { id = "other" }
        eventually("it runs", function() return scheduler:get("stopped").status == "running" end)
        assert.equal("stopped", scheduler:stop("stopped", "enough").status)
        local statuses = {}
        for _, task in ipairs(ends_of(scheduler)) do statuses[task.id] = task.status end
        assert.same({ stopped = "stopped", other = "success" }, statuses)
        ltsh.sleep(0.05)
        assert.equal("stopped", scheduler:get("stopped").status)
        assert.equal(1, scheduler:history("stopped")[1] and #scheduler:history "stopped")
      end)

      it("stops at any moment of a run leave one end each", function()
        local runs = {}
        local scheduler = open(function(task)
          runs[task.id] = (runs[task.id] or 0) + 1
          ltsh.sleep(0.01)
        end, { limit = 4, max_retries = 2 })
        local stoppers = {}
        for i = 1, 40 do
          local id = tostring(i)
          scheduler:add { id = id }
          stoppers[i] = ltsh.spawn(function()
            ltsh.sleep(i * 0.0025)
            scheduler:stop(id)
          end)
        end
        local seen = {}
        for task in scheduler:finished() do
          assert.is_nil(seen[task.id])
          seen[task.id] = task.status
        end
        for i = 1, 40 do
          stoppers[i]:wait()
          local id = tostring(i)
          assert.is_true(seen[id] == "success" or seen[id] == "stopped", tostring(seen[id]))
          assert.equal(seen[id], scheduler:get(id).status)
          assert.is_true((runs[id] or 0) <= 1) -- what was stopped does not run again
        end
      end)
    end

    it("close ends everything", function()
      local scheduler = open(function() if not mode.early then ltsh.sleep(3600) end end, { limit = 3 })
      local ends = {}
      scheduler:on("finished", function(task) ends[task.id] = (ends[task.id] or 0) + 1 end)
      for i = 1, 10 do scheduler:add { id = tostring(i) } end
      ltsh.sleep(0.005)
      scheduler:close()
      for i = 1, 10 do assert.equal(1, ends[tostring(i)]) end
    end)
  end)
end

describe("a run that is polled", function()
  it("and ended in time is a success, though the poll comes after the deadline", function()
    local scheduler = ltsh.scheduler {
      container = ltsh.container.queue {},
      actuator = func(function()
        ltsh.sleep(0.01)
        return "in time"
      end),
      poll_interval = 1.5, callback = false, timeout = 0.4,
    }
    scene.keep(scheduler)
    scheduler:add { id = "t" }
    local task = scheduler:wait("t", 10)
    assert.equal("success", task.status)
    assert.equal("in time", task.output)
  end)

  it("and did not end in time is none, though it ended before the poll", function()
    local scheduler = ltsh.scheduler {
      container = ltsh.container.queue {},
      actuator = func(function() ltsh.sleep(1) end),
      poll_interval = 2, callback = false, timeout = 0.02,
    }
    scene.keep(scheduler)
    scheduler:add { id = "t" }
    local task = scheduler:wait("t", 10)
    assert.equal("failed", task.status)
    assert.equal("timeout", task.reason)
  end)

  it("is asked for together with all that run, and no more when nothing runs", function()
    local asked = {}
    local actuator = lua_actuator(function() ltsh.sleep(0.05) end, { status = true })
    local status = actuator.status
    function actuator:status(tasks)
      asked[#asked + 1] = #tasks
      return status(self, tasks)
    end
    local scheduler = ltsh.scheduler {
      container = ltsh.container.queue {}, actuator = actuator, limit = 3, poll_interval = 0.01, timeout = 60,
    }
    scene.keep(scheduler)
    for _ = 1, 3 do scheduler:add {} end
    ends_of(scheduler)
    assert.equal(3, asked[1])
    local calls = #asked
    assert.is_true(calls >= 2 and calls <= 30, tostring(calls))
    ltsh.sleep(0.05)
    assert.equal(calls, #asked)
  end)

  it("goes on after a poll that failed, or that made no sense", function()
    local actuator = lua_actuator(function() return "done" end, { status = true })
    local status, calls = actuator.status, 0
    function actuator:status(tasks)
      calls = calls + 1
      if calls == 1 then error "no connection" end
      if calls == 2 then return nil, "no connection" end
      if calls == 3 then return {} end
      if calls == 4 then return "nonsense" end
      if calls == 5 then return { "nonsense" } end
      return status(self, tasks)
    end
    local scheduler = ltsh.scheduler {
      container = ltsh.container.queue {}, actuator = actuator, poll_interval = 0.005,
    }
    scene.keep(scheduler)
    scheduler:add { id = "t" }
    local task = scheduler:wait("t", 10)
    assert.equal("success", task.status)
    assert.equal("done", task.output)
    assert.is_true(calls >= 6)
  end)

  it("and is lost takes no other along: their ends and timeouts are noticed", function()
    local actuator = lua_actuator(function(task)
      if task.id == "slow" then ltsh.sleep(3600) end
      ltsh.sleep(0.02)
      return "done"
    end, { status = true })
    local status = actuator.status
    function actuator:status(tasks)
      local records = status(self, tasks)
      for i, task in ipairs(tasks) do
        if task.id == "lost" then records[i] = { status = "failed", reason = "it has vanished" } end
      end
      return records
    end
    local scheduler = ltsh.scheduler {
      container = ltsh.container.queue {}, actuator = actuator, limit = 3, poll_interval = 0.01, timeout = 0.5,
    }
    scene.keep(scheduler)
    for _, id in ipairs { "lost", "slow", "well" } do scheduler:add { id = id } end
    local ends = {}
    for _, task in ipairs(ends_of(scheduler)) do ends[task.id] = task.reason or task.output end
    assert.same({ lost = "it has vanished", slow = "timeout", well = "done" }, ends)
  end)
end)

describe("a push", function()
  local function open(actuator, options)
    options = options or {}
    options.container = ltsh.container.queue {}
    options.actuator = actuator
    return scene.keep(ltsh.scheduler(options))
  end

  -- An actuator that leaves every run to the test.
  local function manual()
    local actuator = { started = {}, stopped = {} }
    function actuator.attach(_, notify) actuator.notify = notify end
    function actuator.start(_, task)
      actuator.started[#actuator.started + 1] = task
      return true
    end
    function actuator.stop(_, task)
      actuator.stopped[#actuator.stopped + 1] = task
      return true
    end
    return actuator
  end

  it("that comes twice is an end once, and counted as stale", function()
    local actuator = manual()
    local scheduler = open(actuator)
    scheduler:add { id = "t" }
    eventually("it runs", function() return #actuator.started == 1 end)
    local run = actuator.started[1].run
    actuator.notify { id = "t", run = run, status = "success", output = 1 }
    actuator.notify { id = "t", run = run, status = "failed", reason = "no" }
    local task = scheduler:wait "t"
    assert.equal("success", task.status)
    assert.equal(1, task.output)
    actuator.notify { id = "t", run = run, status = "failed", reason = "no" }
    assert.equal(1, #ends_of(scheduler))
    assert.equal("success", scheduler:get("t").status)
    assert.equal(2, scheduler:stats().stale)
  end)

  it("of an old run does not end the next one of the same id", function()
    local actuator = manual()
    local scheduler = open(actuator, { timeout = 0.4, max_retries = 1 })
    scheduler:add { id = "t" }
    eventually("its second run is under way", function() return #actuator.started == 2 end)
    actuator.notify { id = "t", run = actuator.started[1].run, status = "success", output = "old" }
    assert.equal("running", scheduler:get("t").status)
    assert.equal(1, scheduler:stats().stale)
    actuator.notify { id = "t", run = actuator.started[2].run, status = "success", output = "new" }
    assert.equal("new", scheduler:wait("t").output)
  end)

  it("of a task that nobody knows is dropped", function()
    local actuator = manual()
    local scheduler = open(actuator)
    scheduler:add { id = "t" }
    eventually("it runs", function() return #actuator.started == 1 end)
    actuator.notify { id = "nobody", run = 1, status = "success" }
    assert.equal(1, scheduler:stats().stale)
    actuator.notify { id = "t", run = actuator.started[1].run, status = "success" }
    assert.equal(1, #ends_of(scheduler))
  end)

  it("may report progress, and that the work was stopped outside: a failure", function()
    local actuator = manual()
    local scheduler = open(actuator)
    local seen
    scheduler:on("progress", function(task) seen = task.progress end)
    scheduler:add { id = "t" }
    eventually("it runs", function() return #actuator.started == 1 end)
    local run = actuator.started[1].run
    actuator.notify { id = "t", run = run, status = "running", progress = { percent = 5 } }
    assert.same({ percent = 5 }, seen)
    assert.same({ percent = 5 }, scheduler:get("t").progress)
    actuator.notify { id = "t", run = run, status = "stopped", reason = "somebody killed it" }
    local task = scheduler:wait "t"
    assert.equal("failed", task.status)
    assert.equal("somebody killed it", task.reason)
  end)

  it("raises for what names no task or no status of a run, and changes nothing", function()
    local actuator = manual()
    local scheduler = open(actuator)
    scheduler:add { id = "t" }
    eventually("it runs", function() return #actuator.started == 1 end)
    for _, wrong in ipairs { {}, { id = "t", status = "done" }, { id = 5, status = "success" },
      { status = "success" }, "t", 5, { id = "t", status = "waiting" } } do
      assert.has_error(function() actuator.notify(wrong) end)
    end
    assert.has_error(function() actuator.notify() end)
    assert.equal("running", scheduler:get("t").status)
  end)

  it("after the close does nothing", function()
    local actuator = manual()
    local scheduler = open(actuator)
    scheduler:add { id = "t" }
    eventually("it runs", function() return #actuator.started == 1 end)
    scheduler:close()
    assert.equal(1, #actuator.stopped)
    actuator.notify { id = "t", run = actuator.started[1].run, status = "success" }
  end)
end)

describe("an end that is pushed before start returns", function()
  local function early(methods)
    local actuator = {}
    function actuator.attach(_, push) actuator.notify = push end
    function actuator.start(_, task)
      actuator.notify { id = task.id, run = task.run, status = methods.status, reason = "broken" }
      return "handle"
    end
    function actuator.stop() return true end
    actuator.output = methods.output
    local scheduler = ltsh.scheduler {
      container = ltsh.container.queue {}, actuator = actuator, max_retries = 1, timeout = 10,
    }
    return scene.keep(scheduler)
  end

  it("leaves the handle known, to output and afterwards", function()
    local seen
    local scheduler = early { status = "success", output = function(_, task)
      seen = task.handle
      return "output of " .. tostring(task.handle)
    end }
    scheduler:add { id = "t" }
    local task = scheduler:wait("t", 10)
    assert.equal("success", task.status)
    assert.equal("handle", seen)
    assert.equal("output of handle", task.output)
    assert.equal("handle", task.handle)
  end)

  it("may be a failure, which is retried", function()
    local scheduler = early { status = "failed" }
    scheduler:add { id = "t" }
    local task = scheduler:wait("t", 10)
    assert.equal("failed", task.status)
    assert.equal("broken", task.reason)
    assert.equal(2, task.attempts)
  end)

  it("and start that fails after it: the end stands", function()
    local notify
    local scheduler = ltsh.scheduler {
      container = ltsh.container.queue {},
      actuator = {
        attach = function(_, push) notify = push end,
        start = function(_, task)
          notify { id = task.id, run = task.run, status = "success", output = 1 }
          return nil, "connection lost"
        end,
        stop = function() return true end,
      },
    }
    scene.keep(scheduler)
    scheduler:add { id = "t" }
    local task = scheduler:wait("t", 10)
    assert.equal("success", task.status)
    assert.equal(1, task.output)
    assert.equal(1, #ends_of(scheduler))
  end)
end)

describe("a receiver", function()
  -- Takes what the test sends, in the place of a message queue or a server.
  local function receiver()
    local own = { closed = 0 }
    function own.receive(_, push) own.push = push end
    function own.close() own.closed = own.closed + 1 end
    return own
  end

  local function open(own, options)
    options = options or {}
    local starts = {}
    options.container = ltsh.container.queue {}
    options.callback = own
    options.poll_interval = false
    options.actuator = {
      start = function(_, task)
        starts[#starts + 1] = task
        return "handle"
      end,
      stop = function() return true end,
      status = function(_, tasks)
        local records = {}
        for i = 1, #tasks do records[i] = { status = "running" } end
        return records
      end,
    }
    local scheduler = ltsh.scheduler(options)
    scene.keep(scheduler)
    return scheduler, starts
  end

  it("ends tasks by what it is sent", function()
    local own = receiver()
    local scheduler, starts = open(own, { limit = 2 })
    scheduler:add { id = "a" }
    scheduler:add { id = "b" }
    eventually("both run", function() return #starts == 2 and own.push end)
    own.push { id = "a", run = starts[1].run, status = "success", output = { 1, 2 } }
    own.push { id = "b", run = starts[2].run, status = "failed", reason = "broken" }
    assert.same({ 1, 2 }, scheduler:wait("a").output)
    assert.equal("broken", scheduler:wait("b").reason)
  end)

  it("may leave out the run: the present one is meant", function()
    local own = receiver()
    local scheduler, starts = open(own)
    scheduler:add { id = "a" }
    eventually("it runs", function() return #starts == 1 and own.push end)
    own.push { id = "a", status = "success" }
    assert.equal("success", scheduler:wait("a").status)
    own.push { id = "a", status = "failed" }
    assert.equal(1, #ends_of(scheduler))
    assert.equal(1, scheduler:stats().stale)
  end)

  it("is closed once with its scheduler", function()
    local own = receiver()
    local scheduler = open(own)
    scheduler:close()
    eventually("it is closed", function() return own.closed > 0 end)
    scheduler:close()
    assert.equal(1, own.closed)
  end)

  it("holds timeouts too", function()
    local scheduler = open(receiver(), { timeout = 0.02 })
    scheduler:add { id = "a" }
    assert.equal("timeout", scheduler:wait("a", 10).reason)
  end)
end)
