-- Where C and Lua meet: no script may corrupt or end the host, whatever it returns, raises, closes or collects.

local ltsh = require "ltsh"
local uv = require "luv"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local open, eventually = scene.open, scene.eventually

after_each(function()
  scene.close()
  run.clean()
  collectgarbage()
end)

local list = {}
for i = 1, 1000 do list[i] = i end

local function many(count)
  return table.unpack(list, 1, count)
end

-- Runs a script in a host of its own, with a limit of its address space in KiB if that is given.
local function host(script, arguments, limit)
  local path = run.folder { ["s.lua"] = script } .. "/s.lua"
  local args = { path, table.unpack(arguments or {}) }
  if not limit then return run.ltsh(args, { limit = 60 }) end
  local command = ("ulimit -v %d; exec %q \"$@\""):format(limit, run.program)
  return run.start({ "-c", command, "sh", table.unpack(args) }, { program = "/bin/sh", limit = 60 }):wait()
end

-- A sanitizer's own address space leaves no room for a limit.
local is_sanitized = (io.open("/proc/self/maps"):read "a"):find("libasan", 1, true) ~= nil
  or (os.getenv "LTSH_TEST_PRESET" or "release") ~= "release"
local limited_it = is_sanitized and pending or it

describe("the stack has room", function()
  it("for any number of arguments on the command line", function()
    local script = [[print(#arg, select("#", ...), (select(select("#", ...), ...)), arg[#arg])]]
    for _, count in ipairs { 1, 20, 41, 44, 100, 30000 } do
      local arguments = {}
      for i = 1, count do arguments[i] = tostring(i) end
      local result = host(script, arguments)
      assert.equal(("%d\t%d\t%d\t%d\n"):format(count, count, count, count), result.stdout)
    end
  end)

  it("for any number of arguments and results of jobs, or says so", function()
    for _, count in ipairs { 0, 1, 17, 18, 19, 20, 21, 22, 40, 1000, 200000 } do
      local job = ltsh.spawn(function(...) return select("#", ...), ... end, many(count))
      assert.equal(count, (job:wait()))
      assert.equal(count + 1, select("#", job:wait()))
    end
    for count = 999900, 1000000, 3 do
      local job = ltsh.spawn(function()
        local inner = ltsh.spawn(function(...) return select("#", ...) end, many(count))
        return inner:wait()
      end)
      local got, why = job:wait()
      assert.is_true(got == count or tostring(why):find "overflow" ~= nil or tostring(why):find "too many" ~= nil, why)
    end
  end)

  it("for whoever reads many results", function()
    local ways = {
      task = function(n) return function() return 1, many(n) end end,
      start = function(n)
        return {
          start = function() return true, many(n) end,
          stop = function() return true, many(n) end,
          status = function() return { { status = "success" } }, many(n) end,
          output = function() return 5, many(n) end,
          init = function(_, task) return task, many(n) end,
        }
      end,
    }
    for name, way in pairs(ways) do
      for _, n in ipairs { 17, 19, 20, 25, 999940, 999961, 999967, 999973, 999979, 999983 } do
        local scheduler = open(way(n), { poll_interval = name == "start" and 0.01 or nil })
        local id, why = scheduler:add {}
        if id then
          local task = scheduler:wait(id)
          local fine = task.status == "success" or tostring(task.reason):find "overflow"
            or tostring(task.reason):find "too many"
          assert.is_truthy(fine, task.reason)
        else
          assert.is_truthy(why:find "overflow" or why:find "too many" or why:find "no room", why)
        end
        scheduler:close()
      end
    end
  end)
end)

describe("what runs while a strand is ended", function()
  -- Everything that might end it once more, in a variable that is closed.
  local function closer(act)
    return setmetatable({}, { __close = act, __gc = act })
  end

  it("may stop its own task", function()
    local scheduler, notify
    scheduler = open({
      attach = function(_, push) notify = push end,
      start = function(_, task)
        notify { id = task.id, status = "success" }
        return true
      end,
      stop = function() return true end,
      output = function(_, task)
        local _ <close> = closer(function() scheduler:stop(task.id) end)
        ltsh.sleep(100)
      end,
    }, { limit = 20, callback_timeout = 0.02, max_retries = 0 })
    for i = 1, 40 do scheduler:add { id = "a" .. i } end
    local count = 0
    for _ in scheduler:finished() do
      count = count + 1
      collectgarbage()
    end
    assert.equal(40, count)
  end)

  it("may stop, cancel and close all there is", function()
    local saves = 0
    for _, way in ipairs { "stop", "close", "cancel", "everything" } do
      local scheduler, job
      local function act(id)
        if way ~= "cancel" then scheduler:stop(id) end
        if job and way ~= "stop" then job:cancel() end
        if way == "everything" then
          scheduler:delete(id)
          scheduler:retry(id)
          for _ = 1, 3 do ltsh.spawn(function() ltsh.sleep(0) end) end
          pcall(coroutine.wrap(function() ltsh.sleep(1) end))
          collectgarbage()
        end
        if way == "close" or way == "everything" then ltsh.spawn(function() scheduler:close() end) end
      end
      local function hang(_, task)
        local _ <close> = closer(function() act(task and task.id or "a1") end)
        pcall(ltsh.sleep, 100)
        coroutine.wrap(function()
          local _ <close> = closer(function() act(task and task.id or "a1") end)
          pcall(ltsh.sleep, 100)
          ltsh.sleep(100)
        end)()
      end
      scheduler = open(function(task) if tonumber(task.id:sub(2)) % 2 == 0 then hang(nil, task) end return 1 end, {
        limit = 20,
        timeout = 0.01,
        export_timeout = 0.01,
        callback_timeout = 0.01,
        persister = {
          save = function(_, task)
            saves = saves + 1
            hang(nil, task)
          end,
          load = hang,
          delete = hang,
        },
      })
      for _, event in ipairs { "added", "started", "finished" } do
        scheduler:on(event, function(task) if task.id == "a2" then hang(nil, task) end end)
      end
      for i = 1, 10 do scheduler:add { id = "a" .. i } end
      job = ltsh.spawn(hang, nil, { id = "a1" })
      ltsh.sleep(0.03)
      job:cancel()
      job:wait()
      scheduler:close()
      -- What was freed twice would be used twice.
      local jobs = {}
      for i = 1, 100 do jobs[i] = ltsh.spawn(function() ltsh.sleep(0) return i end) end
      for i = 1, 100 do assert.equal(i, (jobs[i]:wait())) end
    end
    assert.is_true(saves > 0)
  end)
end)

describe("a task's object", function()
  it("is cancelled once its run is over, however that ended", function()
    local ends = {
      returned = function() return 1 end,
      raised = function() error "x" end,
      told = function() ltsh.sleep(10) end,
      ["killed in a call"] = function() for _ = 1, 2 do pcall(ltsh.sleep, 10) end end,
      ["killed in a call with a task as its first argument"] = function(task)
        for _ = 1, 2 do pcall(task.object.wait, task.object) end
      end,
      ["killed in a coroutine"] = function()
        coroutine.wrap(function() for _ = 1, 2 do pcall(ltsh.sleep, 10) end end)()
      end,
      ["killed as it computes"] = function() pcall(ltsh.sleep, 10) while true do pcall(function() end) end end,
      ["held the host"] = function() table.sort({ 3, 2, 1 }, function() while true do end end) end,
    }
    for name, fn in pairs(ends) do
      local saved, in_close
      local scheduler = open(function(task)
        saved = task
        local _ <close> = setmetatable({}, { __close = function() in_close = task:cancelled() end })
        task.object = ltsh.spawn(function() ltsh.sleep(0.2) end)
        return fn(task)
      end, { limit = 1, timeout = 0.02, max_stall = 0.05 })
      scheduler:wait(scheduler:add {})
      assert.is_true(saved:cancelled(), name)
      local ok, _, code = saved:report(1)
      assert.is_nil(ok)
      assert.equal("stale", code)
      if name:find "^killed" then assert.is_true(in_close, name) end

      -- Nor does it speak for the run that comes next, in the same place.
      local progress
      local next_one = open(function(task)
        saved:report { wrong = true }
        progress = scheduler:get(task.id)
        return saved:cancelled()
      end)
      assert.is_true(next_one:wait(next_one:add {}).output)
      assert.is_nil(progress)
    end
  end)
end)

describe("a failure always has a reason", function()
  local errors = {
    function() return setmetatable({}, { __tostring = function() error "no" end }) end,
    function() return setmetatable({}, { __tostring = function() error() end }) end,
    function() return setmetatable({}, { __tostring = function() return {} end }) end,
    function() return setmetatable({}, { __tostring = function() ltsh.sleep(1) end }) end,
    function() return setmetatable({}, { __tostring = function() while true do end end }) end,
    function() return setmetatable({}, { __tostring = 5 }) end,
    function() return io.stdout end,
    function() return {} end,
    function() return nil end,
    function() return print end,
    function() return coroutine.create(print) end,
    function() return { reason = print } end,
    function() return true end,
    function() return 5 end,
  }

  local function raise(i)
    local _ <close> = i % 2 == 0 and setmetatable({}, { __close = function() error(errors[i]()) end }) or nil
    error(i % 3 == 0 and "first" or errors[i](), 0)
  end

  it("wherever it is raised", function()
    local meta = getmetatable(io.stdout)
    local tostring_of = meta.__tostring
    local _ <close> = setmetatable({}, { __close = function() meta.__tostring = tostring_of end })
    meta.__tostring = function() error "no" end
    for i = 1, #errors do
      local scheduler = open(function() raise(i) end, { max_stall = 0.05 })
      local task = scheduler:wait(scheduler:add {})
      assert.equal("failed", task.status)
      assert.equal("string", type(task.reason))
      local backoffs = {}
      for _, method in ipairs { "start", "output", "init", "status" } do
        local methods = {
          start = function() return true end,
          stop = function() return true end,
          status = function() return { { status = "success" } } end,
          output = function() return 1 end,
          init = function(_, given) return given end,
        }
        methods[method] = function() raise(i) end
        local other = open(methods, {
          poll_interval = 0.001,
          max_stall = 0.05,
          max_retries = 1,
          timeout = 0.05,
          backoff = function(_, reason)
            backoffs[#backoffs + 1] = reason
            return 0
          end,
        })
        local id, why = other:add {}
        if id then
          assert.equal("string", type(other:wait(id).reason))
        else
          assert.equal("string", type(why))
        end
      end
      for _, reason in ipairs(backoffs) do assert.equal("string", type(reason)) end
      local result = table.pack(ltsh.spawn(raise, i):wait())
      assert.is_nil(result[1])
      local awaits = ltsh.spawn(ltsh.await, function() return function() raise(i) end end)
      awaits:cancel()
      awaits:wait()
    end
  end)

  it("in the script itself", function()
    local result = host [[error(setmetatable({}, { __tostring = function() error "no" end }))]]
    assert.equal(1, result.code)
    assert.matches("__tostring", result.stderr)
  end)

  it("which is not cut by the position of an earlier one", function()
    local scheduler = open(function(task)
      if task.id == "1" then error "boom" end
      error(setmetatable({}, { __tostring = function() return "short" end }))
    end, { limit = 1 })
    scheduler:add { id = "1" }
    assert.equal("boom", scheduler:wait("1").reason)
    scheduler:add { id = "2" }
    assert.equal("short", scheduler:wait("2").reason)
  end)

  limited_it("which is not cut when there is no memory", function()
    local result = host([[
      local ltsh = require "ltsh"
      local fail = load("error 'boom'", "=s") -- a short position: s:1:
      local scheduler = ltsh.scheduler { container = ltsh.container.queue {}, limit = 1,
        actuator = ltsh.actuator.func(function(task)
          if task.id == "1" then fail() end
          local t = {} for i = 1, 3 do t[i] = ("x"):rep(2^31 - 1 - i) end
        end) }
      scheduler:add { id = "1" } scheduler:add { id = "2" }
      for task in scheduler:finished() do print(task.id, task.reason) end
    ]], {}, 1000000)
    assert.equal("1\tboom\n2\tnot enough memory\n", result.stdout)
  end)
end)

describe("a scheduler that closes", function()
  it("answers `closed` while its container's close waits", function()
    local calls = {
      count = function(s) return s:count() end,
      list = function(s) return s:list() end,
      wait = function(s) return s:wait "x" end,
      get = function(s) return s:get "x" end,
      stop = function(s) return s:stop "x" end,
      retry = function(s) return s:retry "x" end,
      delete = function(s) return s:delete "x" end,
      output = function(s) return s:output "x" end,
      history = function(s) return s:history "x" end,
      add = function(s) return s:add {} end,
      pause = function(s) return s:pause() end,
    }
    for name, call in pairs(calls) do
      local closing = scene.door()
      local container = {
        claim = function() return {} end,
        close = closing.pass,
        count = function() ltsh.sleep(100) end,
        list = function() ltsh.sleep(100) end,
        get = function() ltsh.sleep(100) end,
        running = function() return {} end,
        running_count = function() return 0 end,
      }
      for _, method in ipairs {
        "add", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted",
      } do
        container[method] = function() return true end
      end
      local scheduler = ltsh.scheduler { container = container, actuator = ltsh.actuator.func(print) }
      local close = ltsh.spawn(function() scheduler:close() end)
      eventually("its container closes", function() return closing.waiting == 1 end)
      local ok, _, code = call(scheduler)
      assert.is_nil(ok, name)
      assert.equal("closed", code, name)
      local late = ltsh.spawn(call, scheduler)
      late:cancel()
      closing.is_open = true
      close:wait()
      late:wait()
      collectgarbage()
    end
  end)
end)

describe("a scheduler that is being collected", function()
  it("may have events, and be asked, in the finalizers of others", function()
    local events, asked = 0, 0
    collectgarbage "incremental"
    collectgarbage("setpause", 100)
    for _ = 1, 50 do
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() end),
        max_retries = 1,
        backoff = function() return 0 end,
        key_limit = function() return 2 end,
      }
      scheduler:on("added", function() events = events + 1 end)
      for i = 1, 20 do
        setmetatable({ scheduler = scheduler }, {
          __gc = function(self)
            asked = asked + 1
            pcall(self.scheduler.add, self.scheduler, { id = tostring(i), key = "k" })
            pcall(self.scheduler.stop, self.scheduler, "1")
            pcall(self.scheduler.stats, self.scheduler)
          end,
        })
      end
    end
    eventually("all are collected", function()
      collectgarbage "step"
      return asked == 1000
    end)
    collectgarbage "generational"
    collectgarbage()
    assert.is_true(events >= 0)
  end)
end)

describe("a finalizer", function()
  it("that is a callable object does not hold the loop", function()
    local function forever() while true do end end
    local through = setmetatable({}, { __call = forever })
    for _, finalizer in ipairs {
      setmetatable({}, { __call = forever }),
      setmetatable({}, { __call = through }),
      coroutine.wrap(forever),
    } do
      local ticks = 0
      local ticking = ltsh.spawn(function()
        while true do
          ltsh.sleep(0.005)
          ticks = ticks + 1
        end
      end)
      setmetatable({}, { __gc = finalizer })
      local collecting = ltsh.spawn(function()
        collectgarbage()
        ltsh.sleep(0)
      end)
      collecting:wait()
      eventually("others go on", function() return ticks > 5 end)
      ticking:cancel()
    end
  end)

  it("may be an object that cannot be called, or be set to anything", function()
    for _, value in ipairs { {}, true, 5, "text", io.stdout } do setmetatable({}, { __gc = value }) end
    collectgarbage()
  end)

  it("is called with its object", function()
    local got
    setmetatable({ name = "x" }, { __gc = setmetatable({}, { __call = function(_, object) got = object.name end }) })
    collectgarbage()
    assert.equal("x", got)
  end)

  it("that a script calls is a function like any other", function()
    local object = setmetatable({}, {
      __gc = function(...)
        ltsh.sleep(0)
        return select("#", ...), ...
      end,
    })
    local gc = getmetatable(object).__gc
    assert.same({ 3, 1, nil, object }, { gc(1, nil, object) })
    assert.same({ 0 }, { gc() })
    local raises = setmetatable({}, { __gc = function() error("oops", 0) end })
    assert.same({ false, "oops" }, { pcall(getmetatable(raises).__gc, raises) })
    getmetatable(raises).__gc = nil
  end)
end)

describe("numbers", function()
  it("of runs stay positive", function()
    local given, ran = { { id = "a", status = "running", run = math.maxinteger } }, {}
    local container = {
      claim = function()
        local tasks = given
        given = #ran == 0 and tasks[1] and tasks[1].run and { { id = "b" } } or {}
        return tasks
      end,
      running = function() return {} end,
      running_count = function() return 0 end,
    }
    for _, method in ipairs {
      "add", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted",
    } do
      container[method] = function() return true end
    end
    open(function(task) ran[#ran + 1] = task.id .. task.run end, { container = container, schedule_interval = 0.001 })
    eventually("the second one ran", function() return #ran > 0 end)
    assert.same({ "b1" }, ran)
  end)

  it("too large are refused, and the largest is named", function()
    local function refusal(fn, ...)
      local ok, message = pcall(fn, ...)
      assert.is_false(ok)
      return message
    end
    local function with(options)
      options.container, options.actuator = ltsh.container.queue {}, ltsh.actuator.func(print)
      return refusal(ltsh.scheduler, options)
    end
    for _, size in ipairs {
      "99999999999T", "1025T", math.maxinteger, 2.0 ^ 62, 2.0 ^ 64, 1e300, math.huge, ("9"):rep(400), "1e5",
    } do
      local message = with { keep = { bytes = size } }
      assert.matches("keep%.bytes must be", message)
      if size ~= "1e5" then assert.matches('at most "1024T"', message) end
      assert.matches("memory must be", refusal(ltsh.actuator.func, { module = "none.lua", memory = size }))
    end
    assert.matches("keep%.tasks must be at most 2147483647", with { keep = { tasks = 2 ^ 31 } })
    assert.matches("limit must be at most 2147483647", with { limit = 2.0 ^ 70 })
    assert.matches("limit must be at most 2147483647", with { limit = math.huge })
    assert.matches("limit must be a positive integer", with { limit = 0 / 0 })
    assert.matches("limit must be a positive integer", with { limit = -math.huge })
    assert.matches("size must be at most 2147483647", refusal(ltsh.container.queue, { size = 1 << 40 }))
    ltsh.scheduler {
      container = ltsh.container.queue {}, actuator = ltsh.actuator.func(print), keep = { bytes = "1024T" },
    }:close()
  end)
end)

describe("event handlers do not nest", function()
  it("when they bring about events of their own", function()
    local depth, deepest, count = 0, 0, 0
    local scheduler
    scheduler = open(function() end, { limit = 4 })
    scheduler:on("added", function()
      depth = depth + 1
      deepest = math.max(deepest, depth)
      count = count + 1
      if count < 1000 then scheduler:add {} end
      depth = depth - 1
    end)
    scheduler:add {}
    local ends = 0
    for _ in scheduler:finished() do ends = ends + 1 end
    assert.same({ 1000, 1000, 1 }, { count, ends, deepest })
  end)

  it("and each task's events keep their order", function()
    local seen = {}
    local scheduler
    scheduler = open(function(task) task:report(1) end, { limit = 3 })
    for _, event in ipairs { "added", "started", "progress", "finished" } do
      scheduler:on(event, function(task)
        seen[task.id] = (seen[task.id] or "") .. event .. " "
        local n = tonumber(task.id)
        if event == "added" and n < 100 then
          scheduler:add { id = tostring(n + 1) }
          scheduler:add { id = tostring(n + 1000) }
        end
      end)
    end
    scheduler:add { id = "1" }
    for _ in scheduler:finished() do end
    eventually("all is told", function()
      for id = 1, 99 do if not (seen[tostring(id + 1000)] or ""):find "finished" then return false end end
      return true
    end)
    for id, events in pairs(seen) do assert.equal("added started progress finished ", events, id) end
  end)

  it("and the loop goes on between them", function()
    local ticks, over = 0, false
    local scheduler
    scheduler = open(function() end, { limit = 1 })
    scheduler:on("added", function() if not over then scheduler:add {} end end)
    scheduler:add {}
    for _ = 1, 10 do
      ltsh.sleep(0)
      ticks = ticks + 1
    end
    over = true
    assert.equal(10, ticks)
  end)

  it("and those that are put off end with the host", function()
    local result = host [[
      local ltsh = require "ltsh"
      local s
      s = ltsh.scheduler { container = ltsh.container.queue {}, actuator = ltsh.actuator.func(function() end) }
      s:on("added", function() s:add {} end)
      s:add {}
      os.exit(3)
    ]]
    assert.equal(3, result.code)
  end)
end)

describe("a suspension of the host's", function()
  it("cannot be had and yielded by a script", function()
    local waiting = coroutine.create(function() ltsh.sleep(0.01) return "slept" end)
    local grabbed = {}
    local looking = ltsh.spawn(function()
      ltsh.sleep(0)
      for level = 0, 3 do
        for i = -5, 20 do
          local ok, name, value = pcall(debug.getlocal, waiting, level, i)
          if ok and name then grabbed[#grabbed + 1] = value end
        end
      end
    end)
    assert.same({ true, "slept" }, { coroutine.resume(waiting) })
    looking:wait()
    for _, value in ipairs(grabbed) do
      local co = coroutine.wrap(function() return coroutine.yield(value) end)
      assert.equal(value, co())
      assert.equal("again", co "again")
      local done, got = false, nil
      local timer = uv.new_timer()
      timer:start(0, 0, function()
        timer:close()
        got = coroutine.wrap(function() coroutine.yield(value) end)()
        done = true
      end)
      eventually("the callback is over", function() return done end)
      assert.equal(value, got)
    end
  end)

  it("is told from a yield of nothing", function()
    local co = coroutine.create(function(...)
      local n = select("#", coroutine.yield())
      ltsh.sleep(0)
      return n, coroutine.yield()
    end)
    assert.same({ true }, { coroutine.resume(co) })
    assert.equal("suspended", coroutine.status(co))
    assert.same({ true }, { coroutine.resume(co, 1, 2) })
    assert.same({ true, 2, "x" }, { coroutine.resume(co, "x") })
    assert.equal("dead", coroutine.status(co))
  end)

  it("keeps its coroutine from others while it lasts, and no longer", function()
    local co = coroutine.create(function() ltsh.sleep(0.005) coroutine.yield(1) return coroutine.running() end)
    local first = ltsh.spawn(function() return coroutine.resume(co) end)
    assert.equal("normal", coroutine.status(co))
    assert.is_false(coroutine.resume(co))
    assert.is_false((pcall(coroutine.close, co)))
    assert.same({ true, 1 }, { first:wait() })
    assert.equal("suspended", coroutine.status(co))
    assert.same({ true, co, false }, { coroutine.resume(co) })
    local killed = coroutine.create(function() for _ = 1, 2 do pcall(ltsh.sleep, 10) end end)
    local job = ltsh.spawn(coroutine.resume, killed)
    job:cancel()
    job:wait()
    assert.equal("dead", coroutine.status(killed))
    assert.equal("running", coroutine.status(coroutine.running()))
  end)
end)

describe("without memory", function()
  -- Each task asks for more than there is; the host goes on, and its next task is well.
  local greedy = {
    ["an item"] = [[local text = ("x"):rep(30 << 20) while true do assert(other:add { item = text }) end]],
    ["many items"] = [[while true do assert(other:add { item = ("x"):rep(1000) }) end]],
    ["progress"] = [[for i = 1, 20 do ltsh.spawn(function() task:report(("x"):rep(30 << 20)) end) end
      keep[#keep + 1] = task
      error "not enough memory"]],
    ["an output"] = [[
      local kept = {}
      while pcall(function() kept[#kept + 1] = ("x"):rep(30 << 20) end) do end
      local output = kept[1]
      keep[1] = kept
      return output]],
    ["JSON"] = [[while true do keep[#keep + 1] = ltsh.json.encode { ("x"):rep(30 << 20) } end]],
    ["jobs"] = [[while true do keep[#keep + 1] = ltsh.spawn(ltsh.sleep, 1) end]],
    ["tables"] = [[while true do keep[#keep + 1] = {} end]],
    ["schedulers"] = [[while true do keep[#keep + 1] = ltsh.scheduler {
      container = ltsh.container.queue {}, actuator = ltsh.actuator.func(print) } end]],
  }

  for name, code in pairs(greedy) do
    limited_it("the task that asks for it fails, and nothing else: " .. name, function()
      local result = host([[
        local ltsh = require "ltsh"
        keep = {}
        other = ltsh.scheduler { container = ltsh.container.queue { size = 1 << 30 }, name = "other",
          actuator = ltsh.actuator.func(function() end) }
        other:pause()
        local scheduler = ltsh.scheduler { container = ltsh.container.queue {}, limit = 1,
          actuator = ltsh.actuator.func(function(task)
            if task.id == "next" then return "well" end
            ]] .. code .. [[

          end) }
        scheduler:on("finished", function(task) if task.id ~= "next" then keep = nil collectgarbage() end end)
        scheduler:add { id = "greedy" }
        local task = scheduler:wait "greedy"
        keep = nil
        other:close()
        other = nil
        print(task.status, (task.reason:match "not enough memory" or task.reason:match "out of memory"))
        while not pcall(scheduler.add, scheduler, { id = "next" }) do
          ltsh.sleep(0.01)
          collectgarbage()
        end
        print(scheduler:wait("next").output)
        os.exit(0)
      ]], {}, 240000)
      assert.matches("failed\tn?o[ut]+ .*memory\n", result.stdout, nil, result.stderr)
      assert.equal(0, result.code, result.stderr:sub(-500))
    end)
  end
end)
