-- Failures: what counts as one, its reason, and whether, when and how often it is tried again.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"

local open, eventually = scene.open, scene.eventually

after_each(scene.close)

-- Runs one task to its end; returns it, how often it ran, and the `retried` events as { reason, delay }.
local function run_one(run, options, task)
  local runs, retries = 0, {}
  local scheduler = open(function(...)
    runs = runs + 1
    return run(...)
  end, options)
  scheduler:on("retried", function(_, reason, delay) retries[#retries + 1] = { reason, delay } end)
  task = task or {}
  task.id = "t"
  assert(scheduler:add(task))
  local ended = assert(scheduler:wait("t", 20))
  return ended, runs, retries, scheduler
end

local function broken()
  return nil, "broken"
end

describe("max_retries", function()
  it("is 0 by default: one run", function()
    local task, runs = run_one(broken)
    assert.equal("failed", task.status)
    assert.equal("broken", task.reason)
    assert.equal(1, runs)
    assert.equal(1, task.attempts)
  end)

  for _, n in ipairs { 0, 1, 3 } do
    it("of " .. n .. " means " .. n + 1 .. " runs", function()
      local task, runs, retries, scheduler = run_one(broken, { max_retries = n })
      assert.equal("failed", task.status)
      assert.equal(n + 1, runs)
      assert.equal(n + 1, task.attempts)
      assert.equal(n, #retries)
      assert.equal(n, scheduler:stats().retried)
      assert.equal(n + 1, #scheduler:history "t")
    end)
  end

  it("counts failures, not runs that succeed", function()
    local task, runs = run_one(function(task)
      if task.attempts < 3 then return nil, "broken" end
      return "done"
    end, { max_retries = 5 })
    assert.equal("success", task.status)
    assert.equal("done", task.output)
    assert.is_nil(task.reason)
    assert.equal(3, runs)
    assert.equal(3, task.attempts)
  end)

  it("of a task goes before the scheduler's", function()
    assert.equal(3, select(2, run_one(broken, {}, { max_retries = 2 })))
    assert.equal(1, select(2, run_one(broken, { max_retries = 4 }, { max_retries = 0 })))
  end)
end)

describe("a failed task that waits for its retry", function()
  it("shows its reason and attempts, and no output of an earlier run", function()
    local scheduler = open(broken, { max_retries = 1, backoff = 3600 })
    scheduler:add { id = "t" }
    eventually("it waits", function() return scheduler:stats().retried == 1 end)
    local task = scheduler:get "t"
    assert.equal("waiting", task.status)
    assert.equal(1, task.attempts)
    assert.equal("broken", task.reason)
    assert.is_nil(task.ended_at)
    assert.is_true(task.run_at > ltsh.now() + 3000)
    assert.equal(1, scheduler:stats().delayed)
  end)

  it("has its history", function()
    local _, _, _, scheduler = run_one(function(task) return nil, "broken " .. task.attempts end, { max_retries = 2 })
    local reasons = {}
    for i, run in ipairs(scheduler:history "t") do reasons[i] = run.reason end
    assert.same({ "broken 1", "broken 2", "broken 3" }, reasons)
  end)

  it("goes to the end of the line", function()
    local order = {}
    local scheduler = open(function(task)
      order[#order + 1] = task.id
      if task.id == "a" and task.attempts == 1 then return nil, "broken" end
    end, { max_retries = 1 })
    scheduler:pause()
    for _, id in ipairs { "a", "b", "c" } do scheduler:add { id = id } end
    scheduler:resume()
    for _ in scheduler:finished() do end
    assert.same({ "a", "b", "c", "a" }, order)
  end)
end)

describe("backoff", function()
  local function delays_of(backoff, n, task)
    local _, _, retries = run_one(broken, { max_retries = n, backoff = backoff }, task)
    local delays = {}
    for i, retry in ipairs(retries) do delays[i] = retry[2] end
    return delays
  end

  local function near(expected, got, tolerance)
    assert.is_true(math.abs(expected - got) <= (tolerance or 0.0005), ("expected %g, got %g"):format(expected, got))
  end

  it("is 0 by default", function()
    assert.same({ 0, 0 }, delays_of(nil, 2))
  end)

  it("as a number is the delay of each retry", function()
    local before = uv.hrtime()
    for _, delay in ipairs(delays_of(0.02, 3)) do near(0.02, delay) end
    assert.is_true(uv.hrtime() - before >= 0.058e9)
  end)

  it("as a function gets attempt, reason and task", function()
    local calls = {}
    local delays = delays_of(function(attempt, reason, task)
      calls[#calls + 1] = { attempt, reason, task.id, task.attempts }
      return attempt / 1000
    end, 3)
    assert.same({ { 1, "broken", "t", 1 }, { 2, "broken", "t", 2 }, { 3, "broken", "t", 3 } }, calls)
    for i = 1, 3 do near(i / 1000, delays[i]) end
  end)

  it("as a function that fails still lets the task be tried again", function()
    local scheduler = open(broken, { max_retries = 1, backoff = function() error "broken backoff" end })
    local delay
    scheduler:on("retried", function(_, _, seconds) delay = seconds end)
    scheduler:add { id = "t" }
    eventually("it is retried", function() return delay end)
    assert.is_true(delay >= 0 and delay <= 60)
    assert.equal("stopped", scheduler:stop("t").status)
  end)

  it("as a table grows by its factor up to its max", function()
    local delays = delays_of({ base = 0.004, factor = 2, max = 0.01, jitter = 0 }, 4)
    near(0.004, delays[1])
    near(0.008, delays[2])
    near(0.01, delays[3])
    near(0.01, delays[4])
  end)

  it("as a table has a factor of 2 and a jitter of a tenth", function()
    local delays = delays_of({ base = 0.01 }, 3)
    near(0.01, delays[1], 0.0015)
    near(0.02, delays[2], 0.0025)
    near(0.04, delays[3], 0.0045)
  end)

  it("stays within its jitter, and uses it", function()
    local least, most = math.huge, 0
    local scheduler = open(broken, { max_retries = 1, limit = 200,
      backoff = { base = 0.02, factor = 1, jitter = 0.5 } })
    scheduler:on("retried", function(_, _, delay) least, most = math.min(least, delay), math.max(most, delay) end)
    for _ = 1, 200 do scheduler:add {} end
    for _ in scheduler:finished() do end
    assert.is_true(least >= 0.0099 and most <= 0.0301, least .. " to " .. most)
    assert.is_true(least < 0.015 and most > 0.025, least .. " to " .. most)
  end)

  it("spreads what is cut to max by no more than its jitter", function()
    local most = 0
    local scheduler = open(broken, { max_retries = 1, limit = 200,
      backoff = { base = 0.02, max = 0.01, jitter = 0.2 } })
    scheduler:on("retried", function(_, _, delay) most = math.max(most, delay) end)
    for _ = 1, 200 do scheduler:add {} end
    for _ in scheduler:finished() do end
    assert.is_true(most <= 0.0121, tostring(most))
  end)

  it("of a task goes before the scheduler's", function()
    near(0.003, delays_of(0.5, 1, { backoff = 0.003 })[1])
    near(0.003, delays_of(function() return 0.5 end, 1, { backoff = { base = 0.003, jitter = 0 } })[1])
    assert.equal(0, delays_of(0.5, 1, { backoff = 0 })[1])
  end)

  it("takes no slot while it lasts", function()
    local scheduler = open(function(task)
      if task.id == "a" and task.attempts == 1 then return nil, "broken" end
    end, { max_retries = 1, backoff = 0.05 })
    scheduler:add { id = "a" }
    scheduler:add { id = "b" }
    local ids = {}
    for task in scheduler:finished() do ids[#ids + 1] = task.id end
    assert.same({ "b", "a" }, ids)
  end)
end)

describe("a failure that says so", function()
  it("is not retried: retry = false", function()
    local task, runs, retries = run_one(function() return nil, { reason = "hopeless", retry = false } end,
      { max_retries = 5 })
    assert.equal("failed", task.status)
    assert.equal("hopeless", task.reason)
    assert.equal(1, runs)
    assert.same({}, retries)
  end)

  it("is not retried when it is raised", function()
    local task, runs = run_one(function() error { reason = "hopeless", retry = false } end, { max_retries = 5 })
    assert.equal("hopeless", task.reason)
    assert.equal(1, runs)
  end)

  it("is retried as any other: retry = true", function()
    assert.equal(3, select(2, run_one(function() return nil, { reason = "again", retry = true } end,
      { max_retries = 2 })))
  end)

  it("names its own delay: retry_after", function()
    local task, runs, retries = run_one(function(task)
      if task.attempts == 1 then return nil, { reason = "later", retry_after = 0.02 } end
      if task.attempts == 2 then error { reason = "at once", retry_after = 0 } end
    end, { max_retries = 5, backoff = 3600 })
    assert.equal("success", task.status)
    assert.equal(3, runs)
    assert.equal("later", retries[1][1])
    assert.is_true(math.abs(retries[1][2] - 0.02) < 0.001)
    assert.equal("at once", retries[2][1])
    assert.equal(0, retries[2][2])
  end)

  it("uses up attempts with retry_after too", function()
    local _, runs = run_one(function() return nil, { reason = "later", retry_after = 0.001 } end, { max_retries = 2 })
    assert.equal(3, runs)
  end)

  it("without a reason has one all the same", function()
    for _, failure in ipairs { {}, { retry = false } } do
      local task = run_one(function() return nil, failure end)
      assert.equal("failed", task.status)
      assert.is_true(type(task.reason) == "string" and #task.reason > 0)
    end
  end)

  it("that makes no sense is a failure still", function()
    for _, failure in ipairs { true, print, { reason = {} }, { retry_after = "soon" }, { retry_after = -1 },
      { snooze = "long" }, { snooze = 0 / 0 } } do
      local task = run_one(function() return nil, failure end)
      assert.equal("failed", task.status)
      assert.is_true(type(task.reason) == "string" and #task.reason > 0)
    end
  end)

  it("may be a number", function()
    assert.equal("42", run_one(function() return nil, 42 end).reason)
  end)

  it("may have a reason of any bytes", function()
    assert.equal("a\0b\255", run_one(function() return nil, "a\0b\255" end).reason)
    assert.equal("", run_one(function() return nil, "" end).reason)
  end)
end)

describe("a snooze", function()
  it("is not a failure and uses up no attempt", function()
    local n, attempts = 0, nil
    local task, runs, retries, scheduler = run_one(function(task)
      attempts, n = task.attempts, n + 1
      if n < 4 then return nil, { snooze = 0.005, reason = "not now" } end
      return "done"
    end, { max_retries = 0 })
    assert.equal("success", task.status)
    assert.equal("done", task.output)
    assert.equal(4, runs)
    assert.equal(1, task.attempts)
    assert.equal(1, attempts)
    assert.same({}, retries)
    assert.equal(0, scheduler:stats().failed)
    assert.equal(0, scheduler:stats().retried)
  end)

  it("waits as long as it says", function()
    local n = 0
    local before = uv.hrtime()
    run_one(function()
      n = n + 1
      if n < 3 then return nil, { snooze = 0.03 } end
    end)
    assert.is_true(uv.hrtime() - before >= 0.058e9)
  end)

  it("may be raised", function()
    local n = 0
    local task = run_one(function()
      n = n + 1
      if n < 3 then error { snooze = 0.001 } end
    end)
    assert.equal("success", task.status)
    assert.equal(1, task.attempts)
  end)

  it("of 0 goes back to the line at once", function()
    local n = 0
    local task = run_one(function()
      n = n + 1
      if n < 50 then return nil, { snooze = 0 } end
    end)
    assert.equal("success", task.status)
    assert.equal(50, n)
  end)

  it("of true waits a second, then two", function()
    local n = 0
    local scheduler = open(function()
      n = n + 1
      return nil, { snooze = true }
    end)
    scheduler:add { id = "t" }
    eventually("it snoozes", function() return n == 1 and scheduler:get("t").status == "waiting" end)
    local task = scheduler:get "t"
    local delay = task.run_at - ltsh.now()
    assert.is_true(delay > 0.5 and delay <= 1.01, tostring(delay))
    assert.equal(0, task.attempts)
    eventually("it snoozes again", function() return n == 2 and scheduler:get("t").status == "waiting" end)
    delay = scheduler:get("t").run_at - ltsh.now()
    assert.is_true(delay > 1.5 and delay <= 2.01, tostring(delay))
    scheduler:stop "t"
  end)

  it("leaves the attempts of failures as they are", function()
    local n = 0
    local task = run_one(function()
      n = n + 1
      if n % 2 == 1 then return nil, { snooze = 0.001 } end
      return nil, "broken"
    end, { max_retries = 2 })
    assert.equal("failed", task.status)
    assert.equal(3, task.attempts)
    assert.equal(6, n)
  end)

  it("of false is a failure as any other", function()
    local task = run_one(function() return nil, { reason = "broken", snooze = false } end)
    assert.equal("failed", task.status)
    assert.equal("broken", task.reason)
  end)

  it("can be stopped while it waits", function()
    local scheduler = open(function() return nil, { snooze = 3600 } end)
    scheduler:add { id = "t" }
    eventually("it waits", function()
      local task = scheduler:get "t"
      return task.status == "waiting" and task.run_at
    end)
    assert.equal("stopped", scheduler:stop("t").status)
  end)
end)

describe("a timeout", function()
  it("ends a run, with the reason timeout", function()
    local closed = false
    local task, runs = run_one(function()
      local _ <close> = setmetatable({}, { __close = function() closed = true end })
      ltsh.sleep(3600)
    end, { timeout = 0.02 })
    assert.equal("failed", task.status)
    assert.equal("timeout", task.reason)
    assert.equal(1, runs)
    assert.is_true(closed)
    assert.is_true(task.ended_at - task.started_at >= 0.018)
  end)

  it("is retried, and each run has the whole time anew", function()
    local times = {}
    local task, runs, retries = run_one(function()
      local start = uv.hrtime()
      local _ <close> = setmetatable({}, { __close = function() times[#times + 1] = (uv.hrtime() - start) / 1e9 end })
      ltsh.sleep(3600)
    end, { timeout = 0.03, max_retries = 2 })
    assert.equal("timeout", task.reason)
    assert.equal(3, runs)
    assert.equal("timeout", retries[1][1])
    for _, time in ipairs(times) do assert.is_true(time >= 0.028 and time < 5, tostring(time)) end
  end)

  it("leaves a run alone that ends in time after one that did not", function()
    local task = run_one(function(task)
      if task.attempts == 1 then ltsh.sleep(3600) end
      ltsh.sleep(0.03)
      return "done"
    end, { timeout = 0.4, max_retries = 1 })
    assert.equal("success", task.status)
    assert.equal("done", task.output)
  end)

  it("of a task goes before the scheduler's", function()
    assert.equal("timeout", run_one(function() ltsh.sleep(3600) end, {}, { timeout = 0.01 }).reason)
    assert.equal("success", run_one(function() ltsh.sleep(0.03) end, { timeout = 0.005 }, { timeout = 60 }).status)
  end)

  it("does not run while the task waits", function()
    local scheduler = open(function() ltsh.sleep(0.04) end, { timeout = 0.5 })
    for _ = 1, 15 do scheduler:add {} end
    for task in scheduler:finished() do assert.equal("success", task.status) end
  end)

  it("is not caught by a pcall in the function for good", function()
    local task = run_one(function()
      while true do pcall(ltsh.sleep, 3600) end
    end, { timeout = 0.02 })
    assert.equal("failed", task.status)
    assert.equal("timeout", task.reason)
  end)

  it("counts though the function returns something at last", function()
    local task = run_one(function()
      pcall(ltsh.sleep, 3600)
      return "too late"
    end, { timeout = 0.02 })
    assert.equal("timeout", task.reason)
    assert.is_nil(task.output)
  end)

  it("ends what a coroutine of the function waits for", function()
    local task = run_one(function()
      local co = coroutine.wrap(function()
        ltsh.sleep(3600)
        return "never"
      end)
      return co()
    end, { timeout = 0.02 })
    assert.equal("timeout", task.reason)
  end)
end)

describe("the event retried", function()
  it("has task, reason and delay", function()
    local seen
    local scheduler = open(broken, { max_retries = 1, backoff = 0.01 })
    scheduler:on("retried", function(...) seen = table.pack(...) end)
    scheduler:add { id = "t" }
    scheduler:wait "t"
    assert.equal(3, seen.n)
    assert.equal("t", seen[1].id)
    assert.equal("waiting", seen[1].status)
    assert.equal(1, seen[1].attempts)
    assert.equal("broken", seen[1].reason)
    assert.equal("broken", seen[2])
    assert.is_true(math.abs(seen[3] - 0.01) < 0.001)
  end)
end)

describe("what a function returns", function()
  it("is its output", function()
    for _, output in ipairs { true, false, 0, "", "text", { 1, 2 }, {} } do
      local task = run_one(function() return output end)
      assert.equal("success", task.status)
      assert.same(output, task.output)
    end
  end)

  it("may be nothing, or nil alone", function()
    for _, run in ipairs { function() end, function() return nil end, function() return nil, nil end } do
      local task = run_one(run)
      assert.equal("success", task.status)
      assert.is_nil(task.output)
      assert.is_nil(task.reason)
    end
  end)

  it("is a failure as nil and a reason", function()
    local task = run_one(function() return nil, "x" end)
    assert.equal("failed", task.status)
    assert.equal("x", task.reason)
    assert.is_nil(task.output)
  end)

  it("is an output with more behind it", function()
    local task = run_one(function() return "output", "more" end)
    assert.equal("success", task.status)
    assert.equal("output", task.output)
    assert.is_false(run_one(function() return false, "more" end).output)
  end)

  it("is a failure when it cannot be stored, not tried again, with its path", function()
    for _, case in ipairs {
      { function() return print end, "output" },
      { function() return { a = { b = print } } end, "output.a.b" },
      { function() return { io.stdout } end, "output[1]" },
      { function() return coroutine.create(print) end, "output" },
    } do
      local task, runs = run_one(case[1], { max_retries = 3 })
      assert.equal("failed", task.status)
      assert.is_truthy(task.reason:find(case[2], 1, true), task.reason)
      assert.equal(1, runs)
    end
  end)
end)

describe("what a function raises", function()
  it("as a text is its reason, without a position", function()
    assert.equal("x", run_one(function() error "x" end).reason)
    assert.equal("x", run_one(function() error("x", 2) end).reason)
    assert.equal("x", run_one(function() error("x", 0) end).reason)
    assert.equal("a: b:1: c", run_one(function() error "a: b:1: c" end).reason)
  end)

  it("from a function that it called is the same", function()
    local function deep(n)
      if n == 0 then error "x" end
      return (deep(n - 1))
    end
    assert.equal("x", run_one(function() return (deep(10)) end).reason)
  end)

  it("after it was caught and raised again is as it was made", function()
    local task = run_one(function()
      local _, message = pcall(error, "inner", 0)
      error("outer: " .. message)
    end)
    assert.equal("outer: inner", task.reason)
  end)

  it("as a table is a failure", function()
    local task, runs = run_one(function() error { reason = "x", code = 5 } end, { max_retries = 1 })
    assert.equal("x", task.reason)
    assert.equal(2, runs)
  end)

  it("as a number is a text", function()
    assert.equal("42", run_one(function() error(42) end).reason)
  end)

  it("as nil is a failure with a reason", function()
    for _, run in ipairs { function() error(nil) end, function() error() end } do
      local task = run_one(run)
      assert.equal("failed", task.status)
      assert.is_true(type(task.reason) == "string" and #task.reason > 0)
    end
  end)

  it("as another value is a failure with a reason", function()
    for _, value in ipairs { true, false, print, io.stdout } do
      local task = run_one(function() error(value) end)
      assert.equal("failed", task.status)
      assert.is_true(type(task.reason) == "string" and #task.reason > 0)
    end
  end)

  it("as an object with __tostring has its words", function()
    local object = setmetatable({}, { __tostring = function() return "in my own words" end })
    assert.equal("in my own words", run_one(function() error(object) end).reason)
  end)

  it("as an object whose __tostring fails is a failure still", function()
    local one = setmetatable({}, { __tostring = function() error "inner" end })
    local other = setmetatable({}, { __tostring = function() return 5 end })
    for _, object in ipairs { one, other } do
      local task = run_one(function() error(object) end)
      assert.equal("failed", task.status)
      assert.is_true(type(task.reason) == "string" and #task.reason > 0)
    end
  end)

  it("by a mistake keeps its position", function()
    for _, run in ipairs {
      function(task) return task.item.a.b end,
      function(task) return 1 + task end,
      function() return (undefined_function_of_a_spec)() end, -- luacheck: ignore
    } do
      local reason = run_one(run, {}, { item = {} }).reason
      assert.matches("retry_spec%.lua:%d+: attempt to", reason)
    end
  end)

  it("by assert is its message", function()
    local plain_assert = package.loaded._G.assert -- here `assert` is another
    assert.equal("no such file", run_one(function() plain_assert(nil, "no such file") end).reason)
    assert.equal("assertion failed!", run_one(function() plain_assert(false) end).reason)
    assert.equal("x", run_one(function() plain_assert(nil, { reason = "x" }) end).reason)
  end)

  it("by a coroutine that it resumes passes through", function()
    local task = run_one(function() coroutine.wrap(function() error { reason = "inside" } end)() end)
    assert.equal("inside", task.reason)
  end)

  it("by a to-be-closed variable is its reason", function()
    local task = run_one(function()
      local _ <close> = setmetatable({}, { __close = function() error "while closing" end })
      return "output"
    end)
    assert.equal("failed", task.status)
    assert.equal("while closing", task.reason)
  end)
end)

describe("a function of a task", function()
  it("may not yield to nobody: a failure, and the next task runs", function()
    local scheduler = open(function(task)
      if task.id == "yields" then coroutine.yield(1) end
      return "done"
    end)
    scheduler:add { id = "yields" }
    scheduler:add { id = "next" }
    local task = scheduler:wait("yields", 10)
    assert.is_truthy(task)
    assert.equal("failed", task.status)
    assert.matches("yield", task.reason)
    assert.equal("done", scheduler:wait("next", 10).output)
  end)

  it("may not close itself", function()
    local task = run_one(function() return { pcall(coroutine.close, coroutine.running()) } end)
    assert.equal("success", task.status)
    assert.is_false(task.output[1])
    assert.is_string(task.output[2])
  end)

  it("may yield in coroutines of its own, and wait in them", function()
    local task = run_one(function()
      local co = coroutine.wrap(function()
        for i = 1, 3 do
          ltsh.sleep(0.001)
          coroutine.yield(i)
        end
      end)
      return { co(), co(), co() }
    end)
    assert.same({ 1, 2, 3 }, task.output)
  end)
end)

describe("a start that fails", function()
  -- An actuator whose start does what the task's attempt says, and whose runs end well at once.
  local function actuator_of(start)
    local notify
    return {
      attach = function(_, push) notify = push end,
      start = function(_, task)
        local result = table.pack(start(task))
        if result[1] then notify { id = task.id, run = task.run, status = "success", output = "done" } end
        return table.unpack(result, 1, result.n)
      end,
      stop = function() return true end,
    }
  end

  local function run_start(start, options)
    options = options or {}
    options.actuator = actuator_of(start)
    local starts = 0
    local scheduler = open(nil, options)
    scheduler:on("started", function() starts = starts + 1 end)
    scheduler:add { id = "t" }
    return assert(scheduler:wait("t", 20)), starts, scheduler
  end

  it("is tried again", function()
    local task, starts = run_start(function(task)
      if task.attempts < 3 then return nil, "no room" end
      return true
    end, { max_retries = 5 })
    assert.equal("success", task.status)
    assert.equal("done", task.output)
    assert.equal(3, starts)
    assert.equal(3, task.attempts)
  end)

  it("fails the task after the last attempt", function()
    local task, starts = run_start(function() return nil, "no room" end, { max_retries = 2 })
    assert.equal("failed", task.status)
    assert.equal("no room", task.reason)
    assert.equal(3, starts)
  end)

  it("may be raised, and may say that it has no sense to try again", function()
    local task, starts = run_start(function() error { reason = "no such image", retry = false } end,
      { max_retries = 2 })
    assert.equal("failed", task.status)
    assert.equal("no such image", task.reason)
    assert.equal(1, starts)
  end)

  it("may snooze", function()
    local n = 0
    local task = run_start(function()
      n = n + 1
      if n < 3 then return nil, { snooze = 0.002 } end
      return true
    end)
    assert.equal("success", task.status)
    assert.equal(1, task.attempts)
  end)

  it("that takes too long is a timeout", function()
    local stopped = 0
    local actuator = actuator_of(function() ltsh.sleep(0.05) return true end)
    actuator.start = function()
      ltsh.sleep(0.05)
      return "handle"
    end
    actuator.stop = function(_, task)
      stopped = stopped + 1
      assert(task.handle == "handle")
      return true
    end
    local scheduler = open(nil, { actuator = actuator, timeout = 0.01 })
    scheduler:add { id = "t" }
    local task = scheduler:wait("t", 10)
    assert.equal("failed", task.status)
    assert.equal("timeout", task.reason)
    assert.equal(1, stopped)
  end)
end)
