--- A store that is down, comes and goes, or cannot take one task: what waits, what goes on, and what the log says.
local ltsh = require "ltsh"
local scene = require "spec.support.scene"
local run = require "spec.support.run"
local open, eventually = scene.open, scene.eventually

local function table_container()
  return dofile("examples/lua_container.lua")({})
end

-- The error and warning lines of a script's log about the store.
local function log_of(script, limit)
  local result = run.ltsh({ "--log-format", "json", "-e", script }, { limit = limit or 30 })
  assert.equal(0, result.code, result.stderr)
  local lines = {}
  for line in result.stderr:gmatch "[^\n]+" do
    local entry = ltsh.json.decode(line)
    if entry.message:find "store" or entry.message:find "claim" then lines[#lines + 1] = entry end
  end
  return lines, result.stdout
end

describe("a store that is down", function()
  after_each(scene.close)

  it("is one line when it goes and one when it comes, and all ends are stored soon after", function()
    local lines, out = log_of [[
      local ltsh = require "ltsh"
      local C = dofile("examples/lua_container.lua")({})
      local ok, down = C.to_success, true
      function C:to_success(task) if down then error("connection refused") end return ok(self, task) end
      local s = ltsh.scheduler { container = C, limit = 20, actuator = ltsh.actuator.func(function() end) }
      for i = 1, 30 do s:add { id = tostring(i) } end
      ltsh.sleep(1.2)
      down = false
      local back, n = ltsh.now(), 0
      for t in s:finished() do n = n + 1 end
      print(n, ltsh.now() - back)
    ]]
    local count, seconds = out:match "(%d+)%s+(%S+)"
    assert.equal(30, tonumber(count))
    assert.is_true(tonumber(seconds) < 5, seconds)
    assert.equal(2, #lines)
    assert.matches("down", lines[1].message)
    assert.matches("back", lines[2].message)
  end)

  it("is one line when it says something else each time; the claims come ever more rarely", function()
    local lines, out = log_of [[
      local ltsh = require "ltsh"
      local C = dofile("examples/lua_container.lua")({})
      local n = 0
      function C:claim() n = n + 1 return nil, "connection " .. n .. " refused" end
      local actuator = ltsh.actuator.func(function() end)
      local s = ltsh.scheduler { container = C, schedule_interval = 0.02, actuator = actuator }
      s:add { id = "x" }
      ltsh.sleep(1)
      print(n)
      os.exit(0)
    ]]
    assert.equal(1, #lines)
    assert.is_true(tonumber(out) >= 2 and tonumber(out) <= 10, out)
  end)

  it("holds no end for ever that failed when it was already back", function()
    local container, fails = table_container(), {}
    local ok = container.to_success
    function container:to_success(task)
      fails[task.id] = (fails[task.id] or 0) + 1
      if fails[task.id] <= 2 then error "comes and goes" end
      return ok(self, task)
    end
    local scheduler = open(nil, { container = container, limit = 3 })
    for i = 1, 3 do scheduler:add { id = tostring(i) } end
    for i = 1, 3 do assert.equal("success", scheduler:wait(tostring(i), 20).status) end
  end)

  it("is not one because it cannot take one task: the others go on, and so do claims", function()
    local container, poisoned = table_container(), true
    local ok = container.to_success
    function container:to_success(task)
      if task.id == "poison" and poisoned then error "row too large" end
      return ok(self, task)
    end
    local scheduler = open(nil, { container = container, limit = 2 })
    scheduler:add { id = "poison" }
    for i = 1, 50 do scheduler:add { id = tostring(i) } end
    for i = 1, 50 do assert.equal("success", scheduler:wait(tostring(i), 10).status) end
    for i = 51, 60 do -- also later, when it has failed many times
      ltsh.sleep(0.02)
      scheduler:add { id = tostring(i) }
      assert.equal("success", scheduler:wait(tostring(i), 3).status)
    end
    assert.equal("running", scheduler:get("poison").status)
    poisoned = false
    assert.equal("success", scheduler:wait("poison", 31).status) -- it is tried by itself, at a pause of its own
  end)

  it("that forgot to say that it had stored an end has stored it once", function()
    local container, first, told = table_container(), true, 0
    local ok = container.to_success
    function container:to_success(task)
      local done, message = ok(self, task)
      if first then
        first = false
        error "the connection broke after the commit"
      end
      return done, message
    end
    local scheduler = open(function() return 42 end, { container = container })
    scheduler:on("finished", function() told = told + 1 end)
    scheduler:add { id = "a" }
    local task = scheduler:wait("a", 10)
    assert.same({ "success", 42 }, { task.status, task.output })
    eventually("it was told", function() return told > 0 end)
    assert.equal(1, told)
    assert.equal(0, scheduler:stats().stale)
  end)

  it("does not hold up the close: what could not be stored stays, and the log says so", function()
    local container = table_container()
    function container:to_success() error "connection refused" end
    local scheduler = open(nil, { container = container })
    scheduler:add { id = "a" }
    eventually("it is down", function() return select(2, scheduler:explain "a") == "down" end)
    local began = ltsh.now()
    scheduler:close { drain = 0.1 }
    assert.is_true(ltsh.now() - began < 5)
  end)
end)

describe("an answer that is lost", function()
  after_each(scene.close)

  -- A table whose method does what it is told and then raises, so many times.
  local function losing(name, times)
    local container = table_container()
    local inner = container[name]
    container[name] = function(self, ...)
      local done, message = inner(self, ...)
      if times > 0 then
        times = times - 1
        error "the connection broke after the commit"
      end
      return done, message
    end
    return container
  end

  it("of a deletion of a task that waits is found out", function()
    local scheduler = open(nil, { container = losing("to_deleted", 1) })
    scheduler:pause()
    scheduler:add { id = "a" }
    assert.is_true(scheduler:delete "a")
    assert.equal(0, scheduler:count { status = "waiting" })
  end)

  it("of a stop of a task that waits is found out, and is one end", function()
    for times = 1, 3 do
      local container = losing("to_stopped", times)
      local scheduler = open(nil, { container = container })
      local told = 0
      scheduler:on("finished", function() told = told + 1 end)
      scheduler:pause()
      scheduler:add { id = "a" }
      local stopped, message = scheduler:stop "a"
      if times == 1 then
        assert.equal("stopped", stopped.status)
      else
        assert.matches("the connection broke", message)
      end
      assert.equal("stopped", scheduler:wait("a", 10).status)
      eventually("it is told", function() return told > 0 end)
      assert.same({ 0, 1, 1 }, { scheduler:count { status = "waiting" }, scheduler:stats().stopped, told })
    end
  end)

  it("of a stop of a task that waits does not hold the process", function()
    local result = run.ltsh({ "-e", [[
      local ltsh = require "ltsh"
      local C = dofile("examples/lua_container.lua")({})
      local stop = C.to_stopped
      function C:to_stopped(task) stop(self, task) error "the connection broke after the commit" end
      local s = ltsh.scheduler { container = C, actuator = ltsh.actuator.func(function() end) }
      s:pause()
      s:add { id = "x" }
      print(s:stop "x")
      ltsh.spawn(function() C.to_stopped = stop end)
    ]] }, { limit = 10 })
    assert.equal(0, result.code)
  end)

  it("of a table that was told in vain to let a task wait again does not lose it", function()
    local status, fails = "waiting", 2
    local container = { durable = false }
    function container:add() return true end
    function container:waiting(limit)
      return status == "waiting" and limit > 0 and { { id = "a", status = "waiting" } } or {}
    end
    function container:to_running()
      status = "running"
      if fails == 2 then fails = 1 error "lost connection" end
      return true
    end
    function container:to_waiting()
      if fails == 1 then fails = 0 error "lost connection" end
      status = "waiting"
      return true
    end
    for _, name in ipairs { "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted" } do
      container[name] = function() status = name return true end
    end
    function container:running() return {} end
    function container:running_count() return 0 end
    local scheduler = open(nil, { container = container, schedule_interval = 0.05 })
    scheduler:add { id = "a" }
    assert.equal("success", scheduler:wait("a", 10).status)
  end)

  it("holds up the close once, and not for each task", function()
    local container = table_container()
    function container:to_stopped() ltsh.sleep(60) end
    local scheduler = open(nil, { container = container, container_timeout = 0.2 })
    scheduler:pause()
    for i = 1, 100 do scheduler:add { id = tostring(i) } end
    local began = ltsh.now()
    scheduler:close { drain = 0 }
    assert.is_true(ltsh.now() - began < 15) -- a hundred times the limit of a call are twenty
  end)
end)

describe("a scheduler that is collected", function()
  it("does not call its handlers any more, whatever its table announces", function()
    local result = run.ltsh({ "-e", [[
      local ltsh = require "ltsh"
      local announces = {}
      for i = 1, 300 do
        local C = dofile("examples/lua_container.lua")({})
        function C:attach(announce) announces[#announces + 1] = announce end
        local actuator = ltsh.actuator.func(function() end)
        local s = ltsh.scheduler { container = C, actuator = actuator, key_limit = function() return 1 end }
        s:on("finished", function() end)
        s:on("started", function() end)
        s = nil
        if i % 7 == 0 then collectgarbage "step" end
        for j = math.max(1, #announces - 5), #announces do announces[j]() end
        if i % 3 == 0 then ltsh.sleep(0) end
      end
      collectgarbage()
      print "over"
    ]] }, { limit = 20 })
    assert.same({ 0, "over\n" }, { result.code, result.stdout })
  end)
end)

describe("the end of the work", function()
  after_each(scene.close)

  it("of a paused scheduler with nothing in its table ends the process", function()
    local result = run.ltsh({ "-e", [[
      local ltsh = require "ltsh"
      local C = dofile("examples/lua_container.lua")({})
      local s = ltsh.scheduler { container = C, actuator = ltsh.actuator.func(function() ltsh.sleep(0.05) end) }
      s:add { id = "x" }
      ltsh.sleep(0.02)
      s:pause()
      print(s:wait("x").status)
    ]] }, { limit = 10 })
    assert.same({ 0, "success\n" }, { result.code, result.stdout })
  end)

  it("is awaited by several that add when there is no room, in their order", function()
    -- A job may be cut between what it says and what it asks, so that once the order may be another.
    local asked, added
    for _ = 1, 5 do
      local scheduler = open(function() ltsh.sleep(0.02) end, { container = ltsh.container.queue { size = 1 } })
      local jobs = {}
      asked, added = {}, {}
      scheduler:on("added", function(task) added[#added + 1] = task.id end)
      for i = 1, 5 do
        jobs[i] = ltsh.spawn(function()
          asked[#asked + 1] = tostring(i)
          assert.equal(tostring(i), scheduler:add({ id = tostring(i) }, 30))
        end)
      end
      for _, job in ipairs(jobs) do job:wait() end
      if table.concat(asked, " ") == table.concat(added, " ") then return end
    end
    assert.same(asked, added)
  end)
end)
