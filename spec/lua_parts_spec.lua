-- Actuators, persisters and receivers in Lua: what their methods may return, raise, or be slow with.

local ltsh = require "ltsh"
local scene = require "spec.support.scene"

local open, eventually = scene.open, scene.eventually

after_each(scene.close)

-- An actuator whose work ends at once with success, unless a method is replaced.
local function instant(methods)
  local actuator = {}
  function actuator.attach(_, notify) actuator.notify = notify end
  function actuator.start(_, task)
    actuator.notify { id = task.id, run = task.run, status = "success", output = task.item }
    return true
  end
  function actuator.stop() return true end
  for name, method in pairs(methods or {}) do actuator[name] = method end
  return actuator
end

-- The one task of a scheduler with this actuator, when it has ended.
local function run(actuator, options, task)
  local scheduler = open(actuator, options)
  task = task or {}
  task.id = "t"
  assert(scheduler:add(task))
  return scheduler:wait("t", 10), scheduler
end

describe("start", function()
  for what, case in pairs {
    ["false"] = { function() return false end, "a handle or true" },
    ["nil"] = { function() return nil end, "a handle or true" },
    ["nothing"] = { function() end, "a handle or true" },
    ["a function"] = { function() return print end, "handle: a function cannot be stored" },
    ["nil and a text"] = { function() return nil, "no room" end, "^no room$" },
    ["nil and a failure"] = { function() return nil, { reason = "no room" } end, "^no room$" },
    ["nil and nonsense"] = { function() return nil, print end, "a failure must be" },
    ["an error"] = { function() error "broken" end, "^broken$" },
    ["an error that is a failure"] = { function() error { reason = "broken" } end, "^broken$" },
    ["a bug"] = { function() return nil + 1 end, "arithmetic on a nil value" },
  } do
    it("that gives " .. what .. " is a failed attempt", function()
      local calls = 0
      local task = run(instant { start = function()
        calls = calls + 1
        return case[1]()
      end }, { max_retries = what ~= "a function" and 1 or 0 })
      assert.equal("failed", task.status)
      assert.matches(case[2], task.reason)
      assert.equal(calls, task.attempts)
    end)
  end

  it("may say that no retry makes sense, when to retry, and that it is not its time", function()
    local calls = 0
    local task = run(instant { start = function()
      calls = calls + 1
      if calls == 1 then error { reason = "busy", snooze = 0.001 } end
      if calls == 2 then return nil, { reason = "later", retry_after = 0.03 } end
      error { reason = "never", retry = false }
    end }, { max_retries = 10, backoff = 100 })
    assert.equal("never", task.reason)
    assert.equal(2, task.attempts)
    assert.equal(3, calls)
  end)

  it("that takes too long is a failed attempt", function()
    local task = run(instant { start = function() ltsh.sleep(100) end }, { callback_timeout = 0.02 })
    assert.equal("failed", task.status)
    assert.matches("start did not return within 0.02 s", task.reason, 1, true)
  end)

  for what, handle in pairs {
    ["a text"] = "pid\0 5", ["a number"] = 5, ["a float"] = 1.0, ["a table"] = { id = 5, at = { 1, 2 } },
  } do
    it("may return " .. what .. " as handle, which all other methods see", function()
      local seen = {}
      local actuator = {
        start = function(_, task)
          assert(task.handle == nil)
          return handle
        end,
        stop = function(_, task)
          seen.stop = task.handle
          return true
        end,
        status = function(_, tasks)
          for i, task in ipairs(tasks) do
            seen.status = task.handle
            tasks[i] = { status = task.id == "t" and "success" or "running" }
          end
          return tasks
        end,
        output = function(_, task)
          seen.output = task.handle
          return task.handle
        end,
      }
      local task, scheduler = run(actuator, { poll_interval = 0.005 })
      scheduler:add { id = "u" }
      eventually("the other one is polled", function() return scheduler:get("u").handle ~= nil end)
      scheduler:stop "u"
      assert.same({ stop = handle, status = handle, output = handle }, seen)
      assert.same(handle, task.output)
    end)
  end
end)

describe("stop", function()
  it("that fails is repeated, and the slot is held", function()
    local stops, started = 0, {}
    local scheduler = open {
      start = function(_, task)
        started[#started + 1] = task.id
        return true
      end,
      stop = function()
        stops = stops + 1
        if stops == 1 then error "no connection" end
        return true
      end,
      status = function(_, tasks)
        for i in ipairs(tasks) do tasks[i] = { status = "running" } end
        return tasks
      end,
    }
    scheduler:add { id = "a" }
    scheduler:add { id = "b" }
    eventually("it runs", function() return #started == 1 end)
    local job = ltsh.spawn(function() return scheduler:stop "a" end)
    ltsh.sleep(0.2)
    assert.same({ "a" }, started)
    assert.equal("running", scheduler:get("a").status)
    assert.equal("stopped", job:wait().status)
    assert.equal(2, stops)
    eventually("the slot is free", function() return #started == 2 end)
  end)
end)

describe("status", function()
  it("that makes no sense for one task says nothing of it, and is heard for the others", function()
    local polls = 0
    local scheduler = open({
      start = function() return true end,
      stop = function() return true end,
      status = function(_, tasks)
        polls = polls + 1
        local records = {}
        for i, task in ipairs(tasks) do
          records[i] = { status = "success", output = task.id }
          if task.id == "b" and polls < 3 then records[i] = ({ { status = "done" }, "done" })[polls] end
        end
        return records
      end,
    }, { limit = 3, poll_interval = 0.01 })
    for _, id in ipairs { "a", "b", "c" } do scheduler:add { id = id } end
    local order = {}
    for task in scheduler:finished() do
      order[#order + 1] = task.id
      assert.equal(task.id, task.output)
    end
    assert.same({ "a", "c", "b" }, order)
  end)

  it("may report progress, failures and that the work was stopped outside", function()
    local records = {
      { progress = 5 },
      { status = "failed", reason = { reason = "busy", snooze = 0.001 } },
      { status = "failed", reason = "again", retry_after = 0.001 },
      { status = "stopped" },
      { status = "failed", reason = "never", retry = false },
    }
    local reasons, progress = {}, {}
    local scheduler = open({
      start = function() return true end,
      stop = function() return true end,
      status = function() return { table.remove(records, 1) } end,
    }, { poll_interval = 0.005, max_retries = 10 })
    scheduler:on("retried", function(_, reason) reasons[#reasons + 1] = reason end)
    scheduler:on("progress", function(task) progress[#progress + 1] = task.progress end)
    scheduler:add { id = "t" }
    local task = scheduler:wait("t", 10)
    assert.equal("never", task.reason)
    assert.equal(3, task.attempts)
    assert.same({ "again", "stopped outside" }, reasons)
    assert.same({ 5 }, progress)
  end)

  it("with an output that cannot be stored is a failure", function()
    local task = run({
      start = function() return true end,
      stop = function() return true end,
      status = function() return { { status = "success", output = { f = print } } } end,
    }, { poll_interval = 0.005, max_retries = 3 })
    assert.equal("failed", task.status)
    assert.equal("output.f: a function cannot be stored", task.reason)
    assert.equal(1, task.attempts)
  end)
end)

describe("init", function()
  it("may change all but the id", function()
    local task = run(instant { init = function(_, task)
      assert(task.status == "unstarted")
      task.item = { given = task.item }
      task.key = "k"
      return task
    end }, nil, { item = 1, timeout = 7 })
    assert.same({ given = 1 }, task.output)
    assert.equal("k", task.key)
    assert.equal(7, task.timeout)
  end)

  it("may return another task with the id", function()
    local task = run(instant { init = function(_, task)
      return { id = task.id, item = "new", status = "failed", run = 9 }
    end })
    assert.equal("new", task.output)
    assert.equal("success", task.status)
    assert.equal(1, task.attempts)
  end)

  it("keeps what it does not change", function()
    local scheduler = open(instant { init = function(_, task) return task end })
    scheduler:add { id = "t", delay = 0.05, once = true, max_retries = 4, expires = 100 }
    assert.equal("waiting", scheduler:get("t").status)
    local task = scheduler:wait("t", 10)
    assert.is_true(task.started_at >= task.added_at + 0.04)
    assert.equal(4, task.max_retries)
    assert.equal("exists", select(3, scheduler:add { id = "t", once = true }))
  end)

  for what, case in pairs {
    ["nil and a message"] = { function() return nil, "not this one" end, "^not this one$" },
    ["nil"] = { function() end, "init refused the task" },
    ["false"] = { function() return false end, "init refused the task" },
    ["a number"] = { function() return 5 end, "init must return a task, or nil and a message, got 5 (a number)" },
    ["another id"] = { function() return { id = "other" } end, "init must not change the id 't', got 'other'" },
    ["a broken task"] = { function() return { id = "t", item = print } end, "item: a function cannot be stored" },
    ["an error"] = { function() error "not this one" end, "^not this one$" },
    ["an error that is a failure"] = { function() error { reason = "not this one" } end, "^not this one$" },
  } do
    it("that gives " .. what .. " refuses the task", function()
      local scheduler = open(instant { init = case[1] })
      local id, message, code = scheduler:add { id = "t" }
      assert.is_nil(id)
      assert.matches(case[2], message, 1, case[2]:sub(1, 1) ~= "^")
      assert.equal("refused", code)
      assert.equal(0, scheduler:count())
    end)
  end
end)

describe("output", function()
  it("may be anything, or nothing", function()
    for _, value in ipairs { 5, "text", false, { 1, { 2 } } } do
      assert.same(value, run(instant { output = function() return value end }).output)
    end
    local task = run(instant { output = function() end }, nil, { item = 1 })
    assert.equal("success", task.status)
    assert.is_nil(task.output)
  end)

  it("that fails is tried again, and not the run", function()
    local starts, calls = 0, 0
    local actuator
    actuator = instant {
      start = function(_, task)
        starts = starts + 1
        actuator.notify { id = task.id, run = task.run, status = "success" }
        return true
      end,
      output = function()
        calls = calls + 1
        if calls == 1 then return nil, "no connection" end
        if calls == 2 then error "no connection" end
        if calls == 3 then return print end
        return "here"
      end,
    }
    local task = run(actuator, { max_retries = 5 })
    assert.equal("here", task.output)
    assert.equal(1, starts)
    assert.equal(4, calls)
  end)

  it("that fails for good fails the task", function()
    local task = run(instant { output = function() error { reason = "gone" } end })
    assert.equal("failed", task.status)
    assert.equal("gone", task.reason)
  end)

  it("that takes too long is ended", function()
    local ended = false
    local task = run(instant { output = function()
      local _ <close> = setmetatable({}, { __close = function() ended = true end })
      ltsh.sleep(100)
    end }, { export_timeout = 0.03 })
    assert.equal("failed", task.status)
    assert.matches("timeout", task.reason)
    assert.is_true(ended)
  end)

  it("is given up when the task is stopped", function()
    local inside = false
    local scheduler = open(instant { output = function()
      inside = true
      ltsh.sleep(100)
    end })
    scheduler:add { id = "t" }
    eventually("it is being exported", function() return inside end)
    assert.equal("stopped", scheduler:stop("t").status)
  end)
end)

describe("attach", function()
  it("that fails is called again", function()
    local calls = 0
    local actuator = instant()
    local attach = actuator.attach
    function actuator.attach(...)
      calls = calls + 1
      if calls == 1 then error "no connection" end
      return attach(...)
    end
    function actuator.start(_, task)
      ltsh.spawn(function()
        eventually("it is attached", function() return actuator.notify end)
        actuator.notify { id = task.id, run = task.run, status = "success" }
      end)
      return true
    end
    assert.equal("success", run(actuator).status)
    assert.equal(2, calls)
  end)

  it("gives a function whose errors name it and the field", function()
    local actuator = instant()
    open(actuator)
    for _, case in ipairs {
      { { id = "t", stauts = "success" }, "notify: unknown field 'stauts', did you mean 'status'?" },
      { { id = "t", run = 0 }, "notify: run must be a positive integer, got 0 (a number)" },
      { { id = "t", run = "1" }, "notify: run must be a positive integer, got \"1\"" },
      { { id = 5 }, "notify: id must be a string, got 5 (a number)" },
      { { id = "t", status = "done" }, "notify: status must be running, success, failed or stopped, got \"done\"" },
      { { id = "t", status = "success", output = print }, "notify: output: a function cannot be stored" },
      { { id = "t", status = "failed", reason = print },
        "notify: reason of a failure must be a string, got a function" },
    } do
      local ok, message = pcall(actuator.notify, case[1])
      assert.is_false(ok)
      assert.matches(case[2], message, 1, true)
    end
  end)
end)

describe("recover", function()
  -- A scheduler whose container has a task that ran when its host died.
  local function take_over(recover, options, left)
    left = left or {
      { id = "t", item = "new", status = "running", run = 5, attempts = 1, handle = "h", started_at = 1000 },
    }
    local container = { waiting = {}, durable = true }
    for _, name in ipairs { "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted", "add" } do
      container[name] = function() return true end
    end
    function container.running() return left end
    function container.running_count() return #left end
    function container:to_waiting(task)
      self.waiting[1] = task
      return true
    end
    function container:claim() return { table.remove(self.waiting) } end
    local actuator = instant { recover = recover }
    options = options or {}
    options.container = container
    options.schedule_interval = 0.02
    local scheduler = open(actuator, options)
    return scheduler, actuator
  end

  it("may find that it still runs", function()
    local seen
    local scheduler, actuator = take_over(function(_, task)
      seen = { task.id, task.run, task.handle }
      return true
    end)
    eventually("it is asked", function() return seen end)
    assert.same({ "t", 5, "h" }, seen)
    assert.equal("running", scheduler:get("t").status)
    actuator.notify { id = "t", run = 5, status = "success", output = "old" }
    assert.equal("old", scheduler:wait("t", 10).output)
  end)

  it("is asked of all tasks side by side, and one that fails is no matter of the others", function()
    local left, at_once, most = {}, 0, 0
    for i = 1, 100 do
      left[i] = { id = "t" .. i, item = i, status = "running", run = i, attempts = 1, started_at = 1000 }
      left[i].host = "elsewhere"
    end
    local scheduler = take_over(function(_, task)
      at_once = at_once + 1
      most = math.max(most, at_once)
      ltsh.sleep(0.01)
      at_once = at_once - 1
      if task.id == "t7" then error "no connection" end
      return { status = "success", output = "found" }
    end, { limit = 10 }, left)
    local outputs = {}
    for task in scheduler:finished() do outputs[task.output] = (outputs[task.output] or 0) + 1 end
    assert.same({ found = 99, [7] = 1 }, outputs)
    assert.is_true(most > 10, most)
    local history = scheduler:history "t7"
    assert.equal("elsewhere", history[1].host)
    assert.are_not.equal("elsewhere", history[2].host)
    assert.equal("elsewhere", scheduler:get("t8").host)
  end)

  it("may find that it has ended", function()
    local task = take_over(function() return { status = "success", output = "found" } end):wait("t", 10)
    assert.equal("found", task.output)
    assert.equal(5, task.run)
    task = take_over(function() return { status = "failed", reason = "found broken" } end):wait("t", 10)
    assert.equal("found broken", task.reason)
  end)

  for what, recover in pairs {
    ["find nothing"] = function() end,
    ["fail"] = function() error "no connection" end,
    ["return nonsense"] = function() return 5 end,
  } do
    it("may " .. what .. ": the task waits again, with no attempt used", function()
      local task = take_over(recover):wait("t", 10)
      assert.equal("success", task.status)
      assert.equal("new", task.output)
      assert.equal(1, task.attempts)
      assert.is_true(task.run > 5)
    end)
  end
end)

describe("what is left of a run that did not succeed", function()
  it("is kept when start failed", function()
    local task = run(instant { start = function()
      return nil, { reason = "no room", output = { free = 3 }, progress = 0.5 }
    end })
    assert.same({ "failed", "no room", { free = 3 }, 0.5 }, { task.status, task.reason, task.output, task.progress })
  end)

  it("is kept when it was pushed", function()
    for _, status in ipairs { "failed", "stopped" } do
      local actuator = instant()
      function actuator.start(_, task)
        actuator.notify { id = task.id, run = task.run, status = status, reason = "bad", output = { 1 }, progress = 2 }
        return true
      end
      local task = run(actuator)
      assert.same({ "failed", "bad", { 1 }, 2 }, { task.status, task.reason, task.output, task.progress })
    end
  end)

  it("is kept when it was polled", function()
    local task = run {
      start = function() return true end,
      stop = function() return true end,
      status = function() return { { status = "failed", reason = "bad", output = "half" } } end,
    }
    assert.same({ "failed", "bad", "half" }, { task.status, task.reason, task.output })
  end)

  it("is no reason to lose the failure when it cannot be stored", function()
    local task = run {
      start = function() return true end,
      stop = function() return true end,
      status = function() return { { status = "failed", reason = "bad", output = print } } end,
    }
    assert.same({ "failed", "bad" }, { task.status, task.reason })
    assert.is_nil(task.output)
  end)
end)

describe("a persister in Lua", function()
  local function persister(methods)
    local own = { data = {} }
    function own:save(task, data) self.data[task.id] = { data } end
    function own:load(task) return self.data[task.id] and self.data[task.id][1] end
    function own:delete(task) self.data[task.id] = nil end
    for name, method in pairs(methods or {}) do own[name] = method end
    return own
  end

  for what, save in pairs {
    ["nil and a failure"] = function() return nil, "disk full" end,
    ["nil and a failure's table"] = function() return nil, { reason = "disk full" } end,
    ["false and a failure"] = function() return false, "disk full" end,
    ["an error"] = function() error "disk full" end,
    ["an error that is a failure"] = function() error { reason = "disk full" } end,
  } do
    it("fails the task when save gives " .. what .. ", after its retries", function()
      local calls = 0
      local task = run(instant(), { max_retries = 2, persister = persister { save = function()
        calls = calls + 1
        return save()
      end } }, { item = 1 })
      assert.equal("failed", task.status)
      assert.equal("disk full", task.reason)
      assert.equal(3, calls)
      assert.equal(1, task.attempts)
    end)
  end

  -- Calls of a method that gives `failures` one after the other and then works, and the task when it has ended.
  local function exported(method, failures, options)
    local calls = 0
    local function try()
      calls = calls + 1
      if failures[calls] then return failures[calls]() end
      return true
    end
    options.persister = method == "save" and persister { save = try } or nil
    local task = run(instant(method == "output" and { output = try } or nil), options)
    return calls, task
  end

  for _, method in ipairs { "save", "output" } do
    for how, give in pairs {
      returned = function(failure) return function() return nil, failure end end,
      raised = function(failure) return function() error(failure) end end,
    } do
      it("is not tried again when a failure that " .. method .. " " .. how .. " says so", function()
        local calls, task = exported(method, { give { reason = "never", retry = false } }, { max_retries = 5 })
        assert.same({ 1, "failed", "never" }, { calls, task.status, task.reason })
      end)

      it("is tried again when a failure that " .. method .. " " .. how .. " says", function()
        local late = give { reason = "busy", retry_after = 0.001 }
        local calls, task = exported(method, { late, late }, { max_retries = 2, backoff = 1000 })
        assert.same({ 3, "success" }, { calls, task.status })
      end)

      it("uses no try when " .. method .. " " .. how .. " a snooze", function()
        local snooze = give { reason = "not yet", snooze = 0.001 }
        local calls, task = exported(method, { snooze, snooze, snooze }, { max_retries = 0 })
        assert.same({ 4, "success" }, { calls, task.status })
      end)
    end
  end

  it("is tried again with a backoff that grows", function()
    local tries = {}
    local broken = function() error "disk full" end
    exported("save", { broken, broken, broken }, { max_retries = 3, backoff = function(try)
      tries[#tries + 1] = try
      return 0
    end })
    assert.same({ 1, 2, 3 }, tries)
  end)

  it("has saved when save returns anything else", function()
    for _, value in ipairs { true, 1, "text", {} } do
      assert.equal("success", run(instant(), { persister = persister { save = function() return value end } }).status)
    end
    assert.equal("success", run(instant(), { persister = persister { save = function() return nil end } }).status)
  end)

  it("is asked for the output, and gives it as it was", function()
    local own = persister()
    local item = { n = 1, list = { 1, 2.0, "\0" } }
    local _, scheduler = run(instant(), { persister = own }, { item = item })
    assert.same(item, scheduler:output "t")
    own.data.t[1].n = 2
    assert.equal(2, scheduler:output("t").n)
    assert.equal(1, scheduler:get("t").item.n)
    assert.is_truthy(scheduler:delete "t")
    assert.is_nil(own.data.t)
  end)

  it("may fail to load", function()
    local results = {
      function() return nil, "no connection" end, function() error "no connection" end, function() return print end,
    }
    local calls = 0
    local _, scheduler = run(instant(), { persister = persister { load = function()
      calls = calls + 1
      return results[calls]()
    end } })
    for i = 1, 3 do
      local data, message = scheduler:output "t"
      assert.is_nil(data)
      assert.matches(i < 3 and "^no connection$" or "data: a function cannot be stored", message)
    end
  end)

  it("is closed once", function()
    local closed = 0
    local _, scheduler = run(instant(), { persister = persister { close = function() closed = closed + 1 end } })
    scheduler:close()
    scheduler:close()
    assert.equal(1, closed)
  end)
end)

describe("a receiver in Lua", function()
  local function silent()
    return {
      start = function() return true end,
      stop = function() return true end,
      status = function(_, tasks)
        for i in ipairs(tasks) do tasks[i] = {} end
        return tasks
      end,
    }
  end

  it("may receive for ever, and is ended at the close", function()
    local scheduler, ended, closed
    scheduler = open(silent(), {
      poll_interval = false,
      callback = {
        receive = function(_, push)
          local _ <close> = setmetatable({}, { __close = function() ended = true end })
          while true do
            ltsh.sleep(0.005)
            push { id = "t", status = "success", output = "received" }
          end
        end,
        close = function() closed = ended end,
      },
    })
    scheduler:add { id = "t" }
    assert.equal("received", scheduler:wait("t", 10).output)
    scheduler:close()
    assert.is_true(closed)
  end)

  it("is called again when it raises", function()
    local calls = 0
    local scheduler = open(silent(), {
      poll_interval = false,
      callback = { receive = function(_, push)
        calls = calls + 1
        if calls == 1 then error "no connection" end
        ltsh.sleep(0.01)
        push { id = "t", status = "success" }
      end },
    })
    scheduler:add { id = "t" }
    assert.equal("success", scheduler:wait("t", 10).status)
    assert.equal(2, calls)
  end)

  it("gets errors that name push", function()
    local push
    open(silent(), { poll_interval = false, callback = { receive = function(_, given) push = given end } })
    local ok, message = pcall(push, { id = "t", status = "gone" })
    assert.is_false(ok)
    assert.matches("push: status must be running, success, failed or stopped, got \"gone\"", message, 1, true)
  end)
end)

describe("the init of ltsh.actuator.func", function()
  it("may change a task, refuse it, and wait", function()
    local scheduler = open(ltsh.actuator.func {
      run = function(task) return task.item end,
      init = function(task)
        ltsh.sleep(0.001)
        if task.item == "bad" then return nil, "not that" end
        task.item = "seen " .. task.item
        return task
      end,
    })
    assert.equal("a", scheduler:add { id = "a", item = "one" })
    assert.equal("seen one", scheduler:wait("a", 5).output)
    local id, message, code = scheduler:add { id = "b", item = "bad" }
    assert.same({ false, "not that", "refused" }, { id or false, message, code })
  end)

  it("must be a function", function()
    assert.error_matches(function() ltsh.actuator.func { run = print, init = 5 } end, "init must be a function, got 5")
  end)
end)
