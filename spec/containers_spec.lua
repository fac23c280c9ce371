-- Every container is held to the same contract; and what a container in Lua may do wrong.

local ltsh = require "ltsh"
local scene = require "spec.support.scene"

local eventually = scene.eventually

local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."
local contract = assert(loadfile(here .. "/contract/container_contract.lua", "t", _ENV))()
local EXAMPLE = here .. "/../examples/lua_container.lua"

contract("ltsh.container.queue", function(options) return ltsh.container.queue(options) end)

contract("ltsh.container.priority", function(options) return ltsh.container.priority(options) end, {
  priorities = true,
})

contract("the example in Lua", function(options) return ltsh.container.load(EXAMPLE, options) end, {
  priorities = true,
})

-- The same container behind methods that wait before and after what they do.
local function slow(options)
  local container = ltsh.container.load(EXAMPLE, options)
  local proxy = { durable = false }
  for _, method in ipairs {
    "add", "claim", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted", "running",
    "running_count", "update_running", "attach",
  } do
    proxy[method] = function(_, ...)
      ltsh.sleep(0)
      local results = table.pack(container[method](container, ...))
      ltsh.sleep(0)
      return table.unpack(results, 1, results.n)
    end
  end
  return proxy
end

contract("the example with methods that wait", slow, { priorities = true, slow = true })

-- A container that is read and then asked for each task. It keeps plain tables, and all of them, and answers get, list
-- and count.
local function plain(options)
  local size = options and options.size or math.huge
  local container = { durable = false, tasks = {}, order = {} }

  local function copy(task)
    local fields = {}
    for name, value in pairs(task) do fields[name] = value end
    return fields
  end

  local function unfinished(task)
    return task.status == "waiting" or task.status == "running" or task.status == "exporting"
  end

  local function line(condition)
    local tasks = {}
    for _, id in ipairs(container.order) do
      if container.tasks[id] and condition(container.tasks[id]) then tasks[#tasks + 1] = container.tasks[id] end
    end
    return tasks
  end

  local function move(from)
    return function(_, task)
      local known = container.tasks[task.id]
      if not known then return nil, "no such task", "unknown" end
      if not from[known.status] then return nil, "it is " .. known.status end
      if known.run ~= task.run and task.status ~= "running" then return nil, "it is at another run" end
      container.tasks[task.id] = copy(task)
      return true
    end
  end

  local function to_the_end(id)
    for i, other in ipairs(container.order) do
      if other == id then
        table.remove(container.order, i)
        break
      end
    end
    table.insert(container.order, id)
  end

  function container.add(_, task)
    if task.priority ~= 0 then return nil, "there are no priorities here", "refused" end
    local known = container.tasks[task.id]
    if known and unfinished(known) then return nil, task.id .. " is here already", "exists" end
    if #line(unfinished) >= size then return nil, "it is full", "full" end
    container.tasks[task.id] = copy(task)
    to_the_end(task.id)
    return true
  end

  function container.waiting(_, limit)
    local now = ltsh.now()
    local due = line(function(task) return task.status == "waiting" and (task.run_at or 0) <= now end)
    table.sort(due, function(a, b) return math.max(a.run_at or 0, a.added_at) < math.max(b.run_at or 0, b.added_at) end)
    return table.move(due, 1, math.min(limit, #due), 1, {})
  end

  container.to_running = move { waiting = true }
  container.to_waiting = move { running = true, exporting = true, success = true, failed = true, stopped = true }
  container.to_exporting = move { running = true }
  container.to_success = move { running = true, exporting = true }
  container.to_failed = move { waiting = true, running = true, exporting = true }
  container.to_stopped = container.to_failed

  function container.to_deleted(_, task)
    local known = container.tasks[task.id]
    if not known or known.status == "running" then return nil, "it is not here, or runs" end
    container.tasks[task.id] = nil
    return true
  end

  function container.running()
    return line(function(task) return task.status == "running" or task.status == "exporting" end)
  end

  function container.running_count() return #container.running() end

  function container.get(_, id) return container.tasks[id] end

  function container.list(_, filter)
    local all = line(function(task)
      return (not filter.status or task.status == filter.status) and (not filter.key or task.key == filter.key)
    end)
    local tasks = {}
    for i = filter.offset + 1, math.min(#all, filter.offset + filter.limit) do
      tasks[#tasks + 1] = all[filter.order == "newest" and #all + 1 - i or i]
    end
    return tasks
  end

  function container.count(_, filter)
    return #line(function(task) return task.status == filter.status end)
  end

  return container
end

contract("a container with waiting, to_running, get, list and count", plain, { keeps_all = true, slow = true })

describe("a container in Lua", function()
  -- A scheduler on the container that is closed after the test.
  local function open(container, run, options)
    options = options or {}
    options.container = container
    options.actuator = ltsh.actuator.func(run or function(task) return task.item end)
    options.schedule_interval = options.schedule_interval or 0.02
    return scene.keep(ltsh.scheduler(options))
  end

  after_each(scene.close)

  local METHODS = {
    "add", "claim", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted", "running",
    "running_count", "update_running",
  }

  -- The example without `attach`, with some methods replaced: each of them gets the container's own method first.
  local function changed(replacements)
    local container = ltsh.container.load(EXAMPLE)
    local proxy = {}
    for _, name in ipairs(METHODS) do
      local function own(...) return container[name](container, ...) end
      local replacement = replacements[name]
      proxy[name] = function(_, ...)
        if replacement then return replacement(own, ...) end
        return own(...)
      end
    end
    return proxy
  end

  -- One that agrees to everything and has nothing, but for these methods.
  local function bare(methods)
    local container = {}
    for _, name in ipairs {
      "add", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted",
    } do
      container[name] = function() return true end
    end
    function container.claim() return {} end
    function container.running() return {} end
    function container.running_count() return 0 end
    for name, method in pairs(methods) do container[name] = method end
    return container
  end

  local function ends_of(scheduler)
    local ends = {}
    for task in scheduler:finished() do ends[#ends + 1] = task end
    return ends
  end

  -- What `fn` returns; if it takes for ever, nil and "cancelled".
  local function in_time(fn)
    local job = ltsh.spawn(fn)
    local guard = ltsh.spawn(function()
      ltsh.sleep(5)
      job:cancel()
    end)
    local results = table.pack(job:wait())
    guard:cancel()
    return table.unpack(results, 1, results.n)
  end

  describe("may claim nonsense:", function()
    for what, value in pairs {
      ["a number"] = 5, ["a text"] = "task", ["a boolean"] = true, ["one task"] = { id = "a" },
    } do
      it(what .. " is no list", function()
        local calls = 0
        local scheduler = open(changed { claim = function(own, ...)
          calls = calls + 1
          if calls < 3 then return value end
          return own(...)
        end })
        scheduler:add { id = "a", item = 1 }
        assert.equal(1, scheduler:wait("a", 10).output)
        assert.equal(1, #ends_of(scheduler))
      end)
    end

    it("nil, an error and a call that takes too long leave everything as it was", function()
      local calls = 0
      local scheduler = open(changed { claim = function(own, ...)
        calls = calls + 1
        if calls == 1 then return nil end
        if calls == 2 then return nil, "no connection" end
        if calls == 3 then error "no connection" end
        if calls == 4 then ltsh.sleep(100) end
        return own(...)
      end }, nil, { container_timeout = 0.02 })
      scheduler:add { id = "a", item = 1 }
      local task = scheduler:wait("a", 10)
      assert.equal(1, task.output)
      assert.equal(1, task.attempts)
    end)

    it("what is no task is left out, the others are used", function()
      local first = true
      local scheduler = open(changed { claim = function(own, ...)
        local tasks = own(...)
        if first and #tasks > 0 then
          first = false
          return { 5, tasks[1], {}, "x", { id = "" }, { id = "x", item = print }, { id = "y", status = "success" } }
        end
        return tasks
      end }, nil, { limit = 10 })
      scheduler:add { id = "a", item = 1 }
      assert.equal(1, scheduler:wait("a", 10).output)
      assert.is_nil(scheduler:get "x")
      assert.equal(1, #ends_of(scheduler))
    end)

    it("more than was asked for goes back, without an attempt", function()
      local back, running, most = {}, 0, 0
      local scheduler = open(changed {
        claim = function(own, limit, keys) return own(limit + 3, keys) end,
        to_waiting = function(own, task)
          back[#back + 1] = { task.status, task.attempts }
          return own(task)
        end,
      }, function()
        running = running + 1
        most = math.max(most, running)
        ltsh.sleep(0.001)
        running = running - 1
      end, { limit = 2 })
      scheduler:pause()
      for i = 1, 20 do scheduler:add { id = "t" .. i } end
      scheduler:resume()
      local ends = ends_of(scheduler)
      assert.equal(20, #ends)
      assert.equal(2, most)
      for _, task in ipairs(ends) do assert.equal(1, task.attempts) end
      assert.is_true(#back > 0)
      for _, seen in ipairs(back) do assert.same({ "waiting", 0 }, seen) end
    end)

    it("a task twice, or one that runs, runs once", function()
      local again
      local calls = {}
      local scheduler = open(changed { claim = function(own, ...)
        local tasks, next_run_at = own(...)
        if tasks[1] then
          again = tasks[1]
          tasks[#tasks + 1] = again
        elseif again then
          tasks[1] = again
        end
        return tasks, next_run_at
      end }, function(task)
        calls[#calls + 1] = task.id
        ltsh.sleep(0.1)
      end, { limit = 5 })
      scheduler:add { id = "a" }
      ltsh.sleep(0.07)
      again = nil
      assert.equal("success", scheduler:wait("a", 10).status)
      assert.same({ "a" }, calls)
    end)

    it("a task that it was never given is run", function()
      local given = false
      local scheduler = open(changed { claim = function(own, ...)
        local tasks = own(...)
        if not given then
          given = true
          tasks[#tasks + 1] = { id = "foreign", item = { 1, 2 }, key = "k", added_at = 5 }
        end
        return tasks
      end, to_success = function() return true end })
      eventually("it has run", function() return scheduler:get "foreign" and scheduler:get("foreign").ended_at end)
      local task = scheduler:get "foreign"
      assert.same({ 1, 2 }, task.output)
      assert.equal("success", task.status)
      assert.equal(1, task.attempts)
      assert.is_true(task.run >= 1)
      assert.equal("k", task.key)
      assert.equal(5, task.added_at)
    end)

    it("run numbers of its own are used, but not twice", function()
      local offered, waiting, runs = { 10, 10, 3, 20 }, {}, {}
      local function put(_, task)
        waiting[1] = task
        return true
      end
      local scheduler = open(bare {
        add = put,
        to_waiting = put,
        claim = function()
          local task = table.remove(waiting)
          if not task then return {} end
          task.status, task.attempts, task.run = "running", task.attempts + 1, table.remove(offered, 1)
          return { task }
        end,
      }, function(task)
        runs[#runs + 1] = task.run
        return nil, "again"
      end, { max_retries = 3 })
      scheduler:add { id = "a" }
      assert.equal(4, scheduler:wait("a", 10).attempts)
      assert.same({ 10, 11, 12, 20 }, runs)
    end)
  end)

  describe("may be slow or fail in transitions:", function()
    it("an end is stored again until it is, and the slot is held until then", function()
      local calls, started = 0, {}
      local scheduler = open(changed { to_success = function(own, task)
        calls = calls + 1
        if task.id == "a" and calls == 1 then error "no connection" end
        return own(task)
      end }, function(task) started[task.id] = ltsh.now() end)
      scheduler:add { id = "a" }
      scheduler:add { id = "b" }
      ltsh.sleep(0.3)
      assert.equal("running", scheduler:get("a").status)
      assert.is_nil(started.b)
      assert.equal(2, #ends_of(scheduler))
      assert.is_true(started.b - started.a >= 0.9)
    end)

    it("a task shows the new state to the method and the old one to everybody else", function()
      local seen, scheduler
      scheduler = open(changed { to_success = function(own, task)
        ltsh.sleep(0.01)
        seen = { task.status, task.output, type(task.ended_at), scheduler:get("a").status, scheduler:get("a").output }
        return own(task)
      end })
      scheduler:add { id = "a", item = "out" }
      scheduler:wait("a", 10)
      assert.same({ "success", "out", "number", "running" }, seen)
    end)

    it("one that is refused is dropped: the task is elsewhere by now", function()
      local scheduler = open(changed { to_success = function() return nil, "another host has it" end })
      local finished = 0
      scheduler:on("finished", function() finished = finished + 1 end)
      scheduler:add { id = "a" }
      eventually("it is over", function() return scheduler:stats().stale == 1 end)
      assert.equal(0, finished)
      assert.same({}, ends_of(scheduler))
    end)

    it("the reason comes with to_failed", function()
      local given
      local scheduler = open(changed { to_failed = function(own, task, reason)
        given = { task.status, task.reason, reason }
        return own(task)
      end }, function() return nil, "broken" end)
      scheduler:add { id = "a" }
      scheduler:wait("a", 10)
      assert.same({ "failed", "broken", "broken" }, given)
    end)

    it("a refused stop says why, and changes nothing", function()
      local scheduler = open(changed { to_stopped = function() return nil, "it is being moved" end })
      scheduler:pause()
      scheduler:add { id = "a", item = 1 }
      local task, message = scheduler:stop "a"
      assert.is_nil(task)
      assert.equal("it is being moved", message)
      assert.equal("waiting", scheduler:get("a").status)
      scheduler:resume()
      assert.equal(1, scheduler:wait("a", 10).output)
    end)

    it("a stop that is overtaken by a claim stops the run", function()
      local scheduler
      local overtaken = false
      scheduler = open(changed {
        claim = function(own, ...)
          local tasks = own(...)
          if tasks[1] then
            overtaken = true
            ltsh.sleep(0.05)
          end
          return tasks
        end,
      }, function() ltsh.sleep(100) end)
      scheduler:add { id = "a" }
      eventually("it is being claimed", function() return overtaken end)
      assert.equal("waiting", scheduler:get("a").status)
      local task = scheduler:stop "a"
      assert.equal("stopped", task.status)
      assert.equal(1, task.attempts)
    end)

    it("two stops at once are one end", function()
      local calls = 0
      local scheduler = open(changed { to_stopped = function(own, task)
        calls = calls + 1
        ltsh.sleep(0.01)
        return own(task)
      end })
      local ends = 0
      scheduler:on("finished", function() ends = ends + 1 end)
      scheduler:pause()
      scheduler:add { id = "a" }
      local jobs = {}
      for i = 1, 3 do jobs[i] = ltsh.spawn(function() return scheduler:stop "a" end) end
      local stopped = 0
      for _, job in ipairs(jobs) do stopped = stopped + (job:wait() and 1 or 0) end
      assert.equal(1, stopped)
      assert.equal(1, calls)
      assert.equal(1, ends)
    end)

    it("to wait for room ends with its time, also when the container says late that it is full", function()
      local scheduler = open(changed { add = function(own, task)
        if task.id == "a" then return own(task) end
        ltsh.sleep(0.05)
        return nil, "it is full", "full"
      end })
      scheduler:pause()
      scheduler:add { id = "a" }
      local id, _, code = in_time(function() return scheduler:add({ id = "b" }, 0.01) end)
      assert.is_nil(id)
      assert.equal("full", code)
    end)

    it("to wait for an end ends with its time, also when the container says late how the task is", function()
      local container = plain()
      local get = container.get
      function container.get(...)
        ltsh.sleep(0.05)
        return get(...)
      end
      local scheduler = open(container)
      scheduler:pause()
      scheduler:add { id = "a" }
      local task, _, code = in_time(function() return scheduler:wait("a", 0.01) end)
      assert.is_nil(task)
      assert.equal("timeout", code)
    end)

    it("of several tasks none is added if one is refused, also when a claim holds them meanwhile", function()
      for _, claim_takes in ipairs { 0, 0.01 } do
        local deleted = {}
        local scheduler = open(changed {
          add = function(own, task)
            ltsh.sleep(0.002)
            if task.id == "c" then return nil, "not this one" end
            return own(task)
          end,
          claim = function(own, ...)
            local tasks, next_run_at = own(...)
            ltsh.sleep(claim_takes)
            return tasks, next_run_at
          end,
          to_deleted = function(own, task)
            ltsh.sleep(0.002)
            local done, message = own(task)
            if done then deleted[#deleted + 1] = task.id end
            return done, message
          end,
        }, nil, { schedule_interval = 0.001 })
        local ids, message, code = scheduler:add_all { { id = "a" }, { id = "b" }, { id = "c" }, { id = "d" } }
        assert.is_nil(ids)
        assert.equal("not this one", message)
        assert.equal("refused", code)
        assert.same({ "b", "a" }, deleted)
        assert.same({}, ends_of(scheduler))
        assert.same({ "a", "b" }, scheduler:add_all { { id = "a" }, { id = "b" } })
        assert.equal(2, #ends_of(scheduler))
      end
    end)
  end)

  describe("that cannot take out again what was not added", function()
    -- Adds a, b and one that is refused, and then "good"; what ran, when that has ended.
    local function run_with(replacements)
      local ran = {}
      replacements.add = function(own, task)
        ltsh.sleep(0.002)
        if task.id == "refused" then return nil, "not this one" end
        return own(task)
      end
      local scheduler = open(changed(replacements), function(task) ran[task.id] = (ran[task.id] or 0) + 1 end,
        { container_timeout = 0.05, schedule_interval = 0.001, limit = 1 })
      assert.equal("refused", select(3, scheduler:add_all { { id = "a" }, { id = "b" }, { id = "refused" } }))
      scheduler:add { id = "good" }
      assert.equal("success", scheduler:wait("good", 5).status)
      return ran, scheduler
    end

    it("at once tells it later, and does not run it", function()
      local failures = 0
      local deleted = {}
      local ran = run_with { to_deleted = function(own, task)
        failures = failures + 1
        if failures <= 2 then error "no connection" end
        local done, message = own(task)
        if done then deleted[task.id] = true end
        return done, message
      end }
      eventually("they are deleted", function() return deleted.a and deleted.b end)
      assert.same({ good = 1 }, ran)
    end)

    it("as it does not take back what it gave away tells it that first", function()
      local failures = 0
      local ran = run_with {
        claim = function(own, ...)
          local tasks, next_run_at = own(...)
          ltsh.sleep(0.004)
          return tasks, next_run_at
        end,
        to_waiting = function(own, task)
          failures = failures + 1
          if failures <= 2 then error "no connection" end
          return own(task)
        end,
      }
      ltsh.sleep(1.2) -- it is told again after a second
      assert.same({ good = 1 }, ran)
    end)

    it("at all goes on with the others", function()
      local ran = run_with { to_deleted = function() ltsh.sleep(100) end }
      assert.same({ good = 1 }, ran)
    end)
  end)

  describe("may know better:", function()
    it("it says when it is to be asked again", function()
      local due, started
      local asked = 0
      local scheduler = open(bare {
        attach = function() end,
        claim = function()
          asked = asked + 1
          due = due or ltsh.now() + 0.05
          if started then return {} end
          if ltsh.now() < due then return {}, due end
          return { { id = "timed" } }
        end,
      }, function() started = ltsh.now() end, { schedule_interval = 100 })
      eventually("it has run", function() return scheduler:stats().success == 1 end)
      assert.is_true(started >= due)
      assert.is_true(asked < 10)
    end)

    it("it announces what came from elsewhere", function()
      local announce
      local tasks = {}
      local scheduler = open(bare {
        attach = function(_, given) announce = given end,
        claim = function()
          local taken = tasks
          tasks = {}
          return taken
        end,
      }, nil, { schedule_interval = 100 })
      local timer = require("luv").new_timer()
      timer:start(10, 0, function()
        tasks = { { id = "announced" } }
        announce()
        timer:close()
      end)
      eventually("it has run", function() return scheduler:stats().success == 1 end)
      scheduler:close()
      announce()
    end)

    it("what a host left running waits again, with no attempt used", function()
      local waiting = {}
      local left = { { id = "left", item = 7, status = "running", run = 5, attempts = 2, started_at = 1000 } }
      local scheduler = open(bare {
        claim = function()
          local tasks = waiting
          waiting = {}
          return tasks
        end,
        to_waiting = function(_, task)
          waiting[#waiting + 1] = task
          return true
        end,
        running = function() return left end,
      })
      local ends = ends_of(scheduler)
      assert.equal(1, #ends)
      assert.equal("success", ends[1].status)
      assert.equal(7, ends[1].output)
      assert.equal(2, ends[1].attempts)
      assert.is_true(ends[1].run > 5)
    end)

    it("its progress and its close are called", function()
      local progress, closed = {}, 0
      local container = changed { update_running = function(own, task)
        progress[#progress + 1] = task.progress
        return own(task)
      end }
      container.close = function() closed = closed + 1 end
      local scheduler = open(container, function(task)
        task:report { done = 1 }
        ltsh.sleep(0.01)
        task:report { done = 2 }
        ltsh.sleep(0.01)
      end)
      scheduler:add { id = "a" }
      scheduler:wait("a", 10)
      assert.same({ { done = 1 }, { done = 2 } }, progress)
      assert.equal(0, closed)
      scheduler:close()
      scheduler:close()
      assert.equal(1, closed)
    end)

    it("waiting tasks stay where they are when it outlives its scheduler", function()
      local stopped, back = 0, 0
      local container = changed {
        to_stopped = function(own, task)
          stopped = stopped + 1
          return own(task)
        end,
        to_waiting = function(own, task)
          back = back + 1
          return own(task)
        end,
      }
      local scheduler = open(container, function() ltsh.sleep(100) end)
      scheduler:add { id = "a" }
      scheduler:add { id = "b" }
      eventually("one runs", function() return scheduler:stats().running == 1 end)
      scheduler:close { drain = 0 }
      assert.equal(0, stopped)
      assert.equal(1, back)
    end)
  end)
end)
