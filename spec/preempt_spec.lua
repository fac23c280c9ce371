-- Lua that computes without end: it is cut into slices, ends at its timeout, and hurts nobody else.

local ltsh = require "ltsh"
local run = require "spec.support.run"
local uv = require "luv"
local scene = require "spec.support.scene"

local open, eventually = scene.open, scene.eventually

after_each(scene.close)

local function forever() while true do end end

-- Counts while it runs: the loop's time is not taken away. By processor time, of which a busy machine gives little.
local function ticking()
  local clock, began = { ticks = 0 }, os.clock()
  clock.job = ltsh.spawn(function()
    while true do
      ltsh.sleep(0.005)
      clock.ticks = clock.ticks + 1
    end
  end)
  function clock.assert_kept_going()
    local computed = os.clock() - began
    assert.is_true(clock.ticks >= computed // 0.2, clock.ticks .. " ticks in " .. computed .. " s of computing")
  end
  return clock
end

local endless, unyielding = table.unpack((require "spec.support.endless"))

describe("a task that never ends", function()
  local function ends_at_its_timeout(fn, options)
    local clock = ticking()
    local scheduler = open(function(task)
      if task.item == "endless" then return fn() end
      return task.id
    end, options)
    scheduler:add { id = "bad", item = "endless", timeout = 0.1, max_retries = 1 }
    scheduler:add { id = "good" }
    assert.equal("success", scheduler:wait("good", 20).status)
    local task = scheduler:wait("bad", 20) -- how soon: scripts/bench lua
    clock.job:cancel()
    assert.equal("failed", task.status)
    assert.equal("timeout", task.reason)
    assert.equal(2, task.attempts)
    for i = 1, 20 do scheduler:add { id = "after " .. i } end -- on the coroutines that were used
    for i = 1, 20 do
      local after = scheduler:wait("after " .. i, 10)
      assert.same({ "success", "after " .. i }, { after.status, after.output })
    end
    return clock
  end

  for what, fn in pairs(endless) do
    it("in " .. what .. " ends at its timeout, and the others go on", function()
      ends_at_its_timeout(fn, { limit = 2 }).assert_kept_going()
    end)
  end

  for what, fn in pairs(unyielding) do
    it("in " .. what .. ", where it cannot be cut, ends at its timeout", function()
      ends_at_its_timeout(fn, { limit = 2, max_stall = 10 })
    end)
  end

  it("is stopped where it is", function()
    local scheduler = open(function() while true do pcall(forever) end end, { limit = 2 })
    scheduler:add { id = "a" }
    eventually("it runs", function() return scheduler:get("a").status == "running" end)
    ltsh.sleep(0.02)
    local task = scheduler:stop("a", "enough")
    assert.same({ "stopped", "enough" }, { task.status, task.reason })
  end)

  it("holds up neither closing nor the end of the process", function()
    local scheduler = open(forever, { limit = 4 })
    for i = 1, 4 do scheduler:add { id = tostring(i) } end
    ltsh.sleep(0.05)
    scheduler:close { drain = 0 }
  end)

  it("is told, and may come to its own end", function()
    local scheduler = open(function(task)
      while not task:cancelled() do end
      return "noticed"
    end)
    scheduler:add { id = "a", timeout = 0.05 }
    local task = scheduler:wait("a", 5)
    assert.same({ "failed", "timeout" }, { task.status, task.reason })
  end)

  it("has its variables closed, within a bound", function()
    local closed = {}
    local function guard(name, close)
      return setmetatable({}, { __close = function()
        closed[#closed + 1] = name
        if close then close() end
      end })
    end
    local scheduler = open(function()
      local a <close> = guard "a"
      local b <close> = guard("b", forever)
      local c <close> = guard "c"
      while true do pcall(forever, a, b, c) end
    end)
    scheduler:add { id = "a", timeout = 0.05 }
    assert.equal("timeout", scheduler:wait("a", 5).reason)
    assert.same({ "c", "b", "a" }, closed)
  end)

  it("does not take its slice from its neighbours", function()
    local counts = {}
    local scheduler = open(function(task)
      local n = task.item
      counts[n] = 0
      while true do counts[n] = counts[n] + 1 end
    end, { limit = 4 })
    for i = 1, 4 do scheduler:add { item = i } end
    local till = os.clock() + 0.3
    eventually("they have computed", function() return os.clock() > till end)
    scheduler:close { drain = 0 }
    local least = math.min(table.unpack(counts))
    assert.is_true(least > 0 and math.max(table.unpack(counts)) < 20 * least, table.concat(counts, " "))
  end)
end)

describe("code that C calls", function()
  for what, fn in pairs(unyielding) do
    if not what:find "coroutine.close" then
      it("is ended after max_stall: " .. what, function()
        local scheduler = open(fn, { max_stall = 0.05 })
        scheduler:add { id = "a", timeout = 60 }
        local task = scheduler:wait("a", 20)
        assert.same({ "failed", "held the host" }, { task.status, task.reason })
      end)
    end
  end

  it("may take as long as max_stall allows", function()
    local scheduler = open(function()
      return tostring(setmetatable({}, { __tostring = function()
        local till = os.clock() + 0.1
        while os.clock() < till do end
        return "done"
      end }))
    end, { max_stall = 5 })
    scheduler:add { id = "a" }
    assert.equal("done", scheduler:wait("a", 5).output)
  end)

  it("is ended in a callback of luv, which is logged", function()
    local timer = uv.new_timer()
    local entered = false
    timer:start(0, 0, function()
      entered = true
      while true do pcall(forever) end
    end)
    eventually("the callback", function() return entered end) -- and here: it is over
    timer:close()
  end)

  it("is ended in a function of the configuration", function()
    local scheduler = open(function() end, { key_limit = forever, limit = 2 })
    scheduler:add { id = "a", key = "k" }
    assert.equal("success", scheduler:wait("a", 5).status)
  end)
end)

describe("what is called for the host", function()
  local function parts()
    local actuator = {}
    function actuator.attach(_, notify) actuator.notify = notify end
    function actuator.start(_, task)
      actuator.notify { id = task.id, run = task.run, status = "success" }
      return true
    end
    function actuator.stop() return true end
    return actuator
  end

  for _, method in ipairs { "start", "init", "output" } do
    it("is ended after callback_timeout: an actuator's " .. method, function()
      local clock = ticking()
      local actuator = parts()
      actuator[method] = forever
      local scheduler = open(actuator, { callback_timeout = 0.1, export_timeout = 5 })
      local id, message, code = scheduler:add { id = "a" }
      if method == "init" then
        assert.same({ nil, "timeout" }, { id, code })
        assert.matches("init did not return within 0.1 s", message)
      else
        local task = scheduler:wait("a", 5)
        assert.equal("failed", task.status)
        assert.matches("did not return within 0.1 s", task.reason)
      end
      clock.job:cancel()
      clock.assert_kept_going()
    end)
  end

  it("is ended after callback_timeout: an event handler", function()
    local scheduler = open(function() end, { callback_timeout = 0.1 })
    local entered = 0
    scheduler:on("finished", function()
      entered = entered + 1
      while true do pcall(forever) end
    end)
    for i = 1, 3 do scheduler:add { id = tostring(i) } end
    for i = 1, 3 do assert.equal("success", scheduler:wait(tostring(i), 5).status) end
    eventually("they are called", function() return entered == 3 end)
  end)

  it("is ended after container_timeout: a container's method", function()
    local clock = ticking()
    local container = ltsh.container.load "examples/lua_container.lua"
    local add = container.add
    function container:add(task)
      if task.id == "bad" then forever() end
      return add(self, task)
    end
    local scheduler = open(function() return 1 end, { container = container, container_timeout = 0.1 })
    assert.is_nil((scheduler:add { id = "bad" }))
    assert.equal("good", scheduler:add { id = "good" })
    assert.equal("success", scheduler:wait("good", 5).status)
    clock.job:cancel()
    clock.assert_kept_going()
  end)

  it("never finds another method of its module in the middle of computing", function()
    local busy, clashes, calls = 0, 0, 0
    local function compute()
      if busy > 0 then clashes = clashes + 1 end
      busy = busy + 1
      local till = os.clock() + 0.02
      while os.clock() < till do end
      busy = busy - 1
      calls = calls + 1
    end
    local actuator = parts()
    local start = actuator.start
    function actuator:start(task)
      compute()
      return start(self, task)
    end
    function actuator:init(task)
      compute()
      return task
    end
    local scheduler = open(actuator, { limit = 4 })
    local jobs = {}
    for i = 1, 8 do jobs[i] = ltsh.spawn(function() return scheduler:add { id = tostring(i) } end) end
    for i = 1, 8 do assert.equal(tostring(i), jobs[i]:wait()) end
    for i = 1, 8 do assert.equal("success", scheduler:wait(tostring(i), 5).status) end
    assert.same({ 16, 0 }, { calls, clashes })
  end)
end)

describe("what computes", function()
  it("goes on however many tasks begin and are cut meanwhile", function()
    local scheduler = open(function(task)
      if task.id ~= "good" then forever() end
      local till = os.clock() + 0.1
      while os.clock() < till do end
    end, { limit = 100, timeout = 2 })
    local adding = true
    for _ = 1, 20 do
      ltsh.spawn(function()
        while adding do scheduler:wait(scheduler:add { timeout = 0.03 }) end
      end)
    end
    scheduler:add { id = "good", timeout = 20 }
    assert.equal("success", scheduler:wait("good", 20).status)
    adding = false
  end)

  it("leaves the others their last words when many are ended at once", function()
    local ended = 0
    local scheduler = open(function()
      pcall(ltsh.sleep, 10)
      ended = ended + 1
      local till = os.clock() + 0.006
      while os.clock() < till do end
    end, { limit = 20, timeout = 0.05 })
    for i = 1, 20 do scheduler:add { id = tostring(i) } end
    for i = 1, 20 do assert.equal("timeout", scheduler:wait(tostring(i), 5).reason) end
    assert.equal(20, ended)
  end)
end)

describe("a waiting task that is ended", function()
  it("takes the job with it that it waits for", function()
    local reached, cancelled
    local scheduler = open(function()
      ltsh.spawn(function()
        ltsh.spawn(function()
          local ok, message = pcall(ltsh.sleep, 100)
          cancelled = not ok and message
        end):wait()
        reached = true
      end):wait()
    end)
    scheduler:add { id = "a", timeout = 0.02 }
    assert.equal("timeout", scheduler:wait("a", 5).reason)
    eventually("the job is cancelled", function() return cancelled end)
    assert.equal("the job was cancelled", cancelled)
    assert.is_nil(reached)
  end)

  it("leaves a job to the others that wait for it", function()
    local job = ltsh.spawn(function()
      ltsh.sleep(0.1)
      return "done"
    end)
    local other = ltsh.spawn(function() return job:wait() end)
    local scheduler = open(function() return job:wait() end)
    scheduler:add { id = "a", timeout = 0.02 }
    assert.equal("timeout", scheduler:wait("a", 5).reason)
    assert.equal("done", other:wait())
  end)

  it("may be the first of many that wait for each other", function()
    local depth = 0
    local function chain(n)
      if n == 0 then return ltsh.sleep(100) end
      local job = ltsh.spawn(function() ltsh.sleep(0.001) return chain(n - 1) end)
      depth = depth + 1
      return job:wait()
    end
    local first = ltsh.spawn(chain, 2000)
    eventually("all wait", function() return depth == 2000 end)
    first:cancel()
    local _, message = first:wait()
    assert.equal("the job was cancelled", message)
  end)

  describe("cancels what is behind an await:", function()
    -- A task that awaits and is ended; what `begin` returned is behind it.
    local function await_and_time_out(begin)
      local scheduler = open(function() ltsh.await(begin) end)
      scheduler:add { id = "a", timeout = 0.02 }
      assert.equal("timeout", scheduler:wait("a", 5).reason)
    end

    it("a function is called, once, and may wait", function()
      local calls = 0
      await_and_time_out(function()
        return function()
          ltsh.sleep(0.001)
          calls = calls + 1
        end
      end)
      eventually("it was called", function() return calls > 0 end)
      ltsh.sleep(0.01)
      assert.equal(1, calls)
    end)

    it("a handle of luv is closed", function()
      local timer = uv.new_timer()
      await_and_time_out(function(done)
        timer:start(60000, 0, done)
        return timer
      end)
      eventually("it is closed", function() return timer:is_closing() end)
    end)

    it("a request of luv is cancelled", function()
      local fifo = os.tmpname()
      os.remove(fifo)
      assert(os.execute("mkfifo " .. fifo))
      local opened_fifos, answer = 0, nil
      for _ = 1, 4 do -- all threads of libuv's pool: what comes now waits in its queue
        uv.fs_open(fifo, "r", 0, function(_, fd)
          opened_fifos = opened_fifos + 1
          uv.fs_close(fd)
        end)
      end
      await_and_time_out(function(done)
        return uv.fs_stat("/", function(why)
          answer = why
          done(why)
        end)
      end)
      eventually("it is answered", function() return answer end)
      local writer = uv.fs_open(fifo, "r+", 0)
      eventually("the pool is free", function() return opened_fifos == 4 end)
      uv.fs_close(writer)
      os.remove(fifo)
      assert.matches("ECANCELED", answer)
    end)

    it("nothing of one whose values came", function()
      local calls = 0
      local job = ltsh.spawn(function()
        local value = ltsh.await(function(done)
          ltsh.spawn(function() done(5) end)
          return function() calls = calls + 1 end
        end)
        ltsh.sleep(100)
        return value
      end)
      job:cancel()
      job:wait()
      ltsh.sleep(0.01)
      assert.equal(0, calls)
    end)

    it("what cannot be cancelled is logged", function()
      local result = run.ltsh { "-e", [[
        local ltsh = require "ltsh"
        local job = ltsh.spawn(function() ltsh.await(function() return {} end) end)
        job:cancel()
        job:wait()
        ltsh.sleep(0.01)
      ]] }
      assert.matches("what was awaited could not be cancelled.*no method `cancel` or `close`", result.stderr)
    end)
  end)

  it("may compute on for a moment only", function()
    local scheduler = open(function()
      pcall(ltsh.sleep, 100)
      forever()
    end)
    scheduler:add { id = "a", timeout = 0.02 }
    assert.equal("timeout", scheduler:wait("a", 5).reason)
  end)
end)

describe("finalizers", function()
  it("run before whoever triggered them goes on", function()
    local log = {}
    local scheduler = open(function()
      setmetatable({}, { __gc = function()
        local till = os.clock() + 0.02
        while os.clock() < till do end
        log[#log + 1] = "finalizer"
      end })
      collectgarbage()
      log[#log + 1] = "task"
    end)
    scheduler:add { id = "a" }
    assert.equal("success", scheduler:wait("a", 5).status)
    assert.same({ "finalizer", "task" }, log)
  end)

  it("that never end are ended, and whoever triggered them goes on", function()
    local caught, closed = 0, false
    local scheduler = open(function(task)
      setmetatable({}, { __gc = task.item and function()
        local _ <close> = setmetatable({}, { __close = function() closed = true end })
        forever()
      end or function()
        while caught < 1000 do
          pcall(forever)
          caught = caught + 1
        end
      end })
      collectgarbage()
      return "through"
    end)
    scheduler:add { id = "catches" }
    scheduler:add { id = "closes", item = true }
    local worst = scene.lateness(function()
      for _, id in ipairs { "catches", "closes" } do assert.equal("through", scheduler:wait(id, 20).output) end
    end)
    assert.is_true(worst < 1, worst) -- 50 ms for each of the two; a machine may be busy
    assert.is_true(caught < 1000)
    assert.is_true(closed)
  end)

  it("that are slow once are called again after a second", function()
    local calls = 0
    local function make(seconds)
      setmetatable({}, { __gc = function()
        calls = calls + 1
        local till = os.clock() + seconds
        while os.clock() < till do end
      end })
      collectgarbage()
    end
    make(100)
    make(0)
    assert.equal(1, calls)
    local others = 0
    setmetatable({}, { __gc = function() others = others + 1 end })
    collectgarbage()
    assert.equal(1, others)
    eventually("it is called again", function()
      make(0)
      return calls == 2
    end)
    make(0)
    assert.equal(3, calls)
  end)

  for what, forever_code in pairs {
    ["of one code"] = "return forever",
    ["each of a code of its own"] = [[
      return assert(load("local forever = ... return function() forever() end", "=code" .. i))(forever)]],
  } do
    it("that never end and are left behind by a task cost the others little: " .. what, function()
      local result = run.ltsh { "-e", [[
        local ltsh = require "ltsh"
        local calls = 0
        local function forever()
          calls = calls + 1
          while true do end
        end
        local function finalizer(i) ]] .. forever_code .. [[ end
        local left
        local scheduler = ltsh.scheduler {
          container = ltsh.container.queue {},
          actuator = ltsh.actuator.func(function()
            left = {}
            for i = 1, 100 do left[i] = setmetatable({}, { __gc = finalizer(i) }) end
            for i = 1, math.huge do setmetatable({}, { __gc = forever }) end
          end),
        }
        scheduler:add { id = "bad", timeout = 0.2 }
        assert(scheduler:wait("bad", 20).reason == "timeout")
        left = nil
        local began = os.clock()
        collectgarbage()
        collectgarbage()
        print(calls < 110, os.clock() - began < 2)
      ]] }
      assert.equal("true\ttrue\n", result.stdout)
      assert.matches("took too long and was ended, its code is not called for a second%s+at=%S+:3", result.stderr)
    end)
  end

  it("that raise, yield or wait are logged, with the place", function()
    for code, text in pairs {
      ["error 'oops'"] = "oops",
      ["error { reason = 'of a table' }"] = "a table",
      ["coroutine.yield()"] = "yield",
      ["ltsh.sleep(1)"] = "cannot wait here",
    } do
      local result = run.ltsh { "-e", [[
        local ltsh = require "ltsh"
        local closed = false
        setmetatable({}, { __gc = function()
          local _ <close> = setmetatable({}, { __close = function() closed = true end })
          ]] .. code .. [[
        end })
        collectgarbage()
        print(closed)]] }
      assert.same({ 0, "true\n" }, { result.code, result.stdout })
      assert.matches("a finalizer %(__gc%) raised an error", result.stderr)
      assert.matches(text, result.stderr, 1, true)
      assert.matches("%-e:5: in", result.stderr)
    end
  end)

  it("are those that were there when the metatable was set, as in Lua", function()
    local calls = {}
    local late = {}
    setmetatable({}, late)
    late.__gc = function() calls[#calls + 1] = "set after setmetatable" end
    local marked = { __gc = true }
    setmetatable({}, marked)
    marked.__gc = function() calls[#calls + 1] = "in the place of what was there" end
    collectgarbage()
    assert.same({ "in the place of what was there" }, calls)
  end)

  it("are wrapped once, and the metatable may have others of C", function()
    local count = 0
    local meta = { __gc = function() count = count + 1 end }
    for _ = 1, 3 do setmetatable({}, meta) end
    collectgarbage()
    assert.equal(3, count)
    assert.error_matches(function() setmetatable({}, 1) end,
      "bad argument #2 to 'setmetatable' %(nil or table expected, got number%)")
    assert.error_matches(function() setmetatable(1, {}) end, "bad argument #1 to 'setmetatable' %(table expected")
    assert.error_matches(function() setmetatable(setmetatable({}, { __metatable = 1 }), {}) end, "protected metatable")
  end)
end)

describe("the standard functions that call back", function()
  it("sort as Lua's own does", function()
    for n = 0, 70 do
      local list, twin = {}, {}
      for i = 1, n do
        list[i] = math.random(20)
        twin[i] = list[i]
      end
      table.sort(list, function(a, b) return a > b end)
      table.sort(twin)
      for i = 1, n do assert.equal(twin[n + 1 - i], list[i]) end
    end
    local long = {}
    for i = 1, 5000 do long[i] = math.random(1000) .. "" end
    table.sort(long)
    for i = 2, #long do assert.is_true(long[i - 1] <= long[i]) end
  end)

  it("sort stably", function()
    local list = {}
    for i = 1, 1000 do list[i] = { key = i % 7, order = i } end
    table.sort(list, function(a, b) return a.key < b.key end)
    for i = 2, 1000 do
      local a, b = list[i - 1], list[i]
      assert.is_true(a.key < b.key or a.key == b.key and a.order < b.order)
    end
  end)

  it("refuse a comparator that contradicts itself, and leave the list as it was", function()
    for _, n in ipairs { 4, 5, 8, 9, 100 } do
      local list, twin = {}, {}
      for i = 1, n do list[i], twin[i] = i % 5, i % 5 end
      local _, message = pcall(function() table.sort(list, function() return true end) end)
      assert.matches("^spec/preempt_spec.lua:%d+: invalid order function for sorting$", message)
      assert.same(twin, list)
    end
  end)

  it("give the same string when nothing was replaced", function()
    local text = ("a"):rep(100)
    local function address(s) return ("%p"):format(s) end
    assert.equal(address(text), address((text:gsub("b", print))))
    assert.equal(address(text), address((text:gsub(".", function() end))))
    assert.equal(address(text), address((text:gsub("(a)", function() return false end))))
    assert.equal("b" .. text:sub(2), (text:gsub("a", function() return "b" end, 1)))
  end)

  it("refuse what Lua's own refuse", function()
    assert.error_matches(function() table.sort({ 1, 2 }, 1) end, "bad argument #2 to 'sort'")
    assert.error_matches(function() table.sort(1) end, "bad argument #1 to 'sort'")
    assert.error_matches(function() table.sort({ 1, {} }, function(a, b) return a < b end) end, "attempt to compare")
    local _, message = pcall(function() string.gsub("a", "a", function() return {} end) end)
    assert.matches("^spec/preempt_spec.lua:%d+: invalid replacement value %(a table%)$", message)
    assert.error_matches(function() string.gsub("a", "%", function() end) end, "malformed pattern")
    assert.error_matches(function() require "no.such.module" end,
      "module 'no.such.module' not found:.*no field package.preload")
    assert.error_matches(function() require() end, "bad argument #1 to 'require'")
  end)

  it("replace as Lua's own does", function()
    local _, raw = debug.getupvalue(string.gsub, 2)
    assert.is_function(raw)
    local texts = { "", "a", "abc", "hello world", "x = 1, y = 22", "aaa", "\0a\0", "THE (quick) fox" }
    local patterns = { "", "a", "a*", "a-", ".", "%w+", "(%w)(%w*)", "()", "()a()", "^a", "^", "$", "a$", "%f[%w]%w+",
      "%s*", "(a*(.)%w(%s*))", "%b()", "^(.-)%s*$", "[^,]*", "x*" }
    for _, text in ipairs(texts) do
      for _, pattern in ipairs(patterns) do
        for _, most in ipairs { -1, 0, 1, 2, 100, false } do
          local function call(...)
            local n = select("#", ...)
            local first = ...
            if first == "b" then return nil elseif first == "c" then return false end
            return "<" .. n .. ":" .. tostring(first) .. ">"
          end
          assert.same({ raw(text, pattern, call, most or nil) }, { string.gsub(text, pattern, call, most or nil) })
        end
      end
    end
  end)

  it("may wait: in a comparator, in a replacement, and while a module is loaded", function()
    local list = { 3, 1, 2 }
    table.sort(list, function(a, b)
      ltsh.sleep(0.001)
      return a < b
    end)
    assert.same({ 1, 2, 3 }, list)
    assert.equal("bb", (("aa"):gsub("a", function()
      ltsh.sleep(0.001)
      return "b"
    end)))
    package.preload["spec.waits"] = function()
      ltsh.sleep(0.001)
      return "loaded"
    end
    assert.equal("loaded", require "spec.waits")
    package.preload["spec.waits"], package.loaded["spec.waits"] = nil, nil
  end)
end)

describe("a hook that a script has set", function()
  -- Runs fn as a task, while a clock ticks.
  local function as_task(fn, options)
    local clock = ticking()
    local scheduler = open(fn, options)
    local task = scheduler:wait(scheduler:add {}, 30)
    clock.job:cancel()
    clock.assert_kept_going()
    return task
  end

  it("can be cleared, and asked for, as Lua's own", function()
    local seen = ltsh.spawn(function()
      local hook = function() end
      local none = debug.gethook()
      debug.sethook(hook, "crl", 7)
      local fn, mask, count = debug.gethook()
      debug.sethook(hook, "", 5000000)
      local long, _, many = debug.gethook()
      debug.sethook()
      return none, fn == hook, mask, count, long == hook, many, (debug.gethook())
    end)
    assert.same({ nil, true, "crl", 7, true, 5000000, nil }, { seen:wait() })
    assert.error_matches(function() debug.sethook(1, "c") end, "bad argument #1 to 'sethook'")
  end)

  it("sees each line, of what is cut too", function()
    local task = as_task(function()
      local lines, sum = {}, 0
      local here = debug.getinfo(1, "l").currentline
      debug.sethook(function(_, line) lines[line - here] = (lines[line - here] or 0) + 1 end, "l")
      for i = 1, 300000 do
        sum = sum + i
        sum = sum - 1
      end
      debug.sethook()
      return { lines[2], lines[3], lines[4], lines[6] }
    end)
    assert.same({ 300001, 300000, 300000, 1 }, task.output)
  end)

  it("sees calls and returns, of what is cut too", function()
    local task = as_task(function()
      local calls, returns, sethook = 0, 0, debug.sethook -- the global is looked up by functions of busted's
      sethook(function(event)
        if event == "call" then calls = calls + 1 elseif event == "return" then returns = returns + 1 end
      end, "cr")
      local function called() return 1 end
      for _ = 1, 300000 do local _ = called() end
      sethook()
      return { calls, returns }
    end)
    assert.same({ 300001, 300001 }, task.output) -- sethook's own return is seen, and its last call
  end)

  it("ends what computes for too many instructions, at its own level", function()
    local task = as_task(function()
      debug.sethook(function() error("enough", 2) end, "", 10000000)
      local ok, message = pcall(function() while true do end end)
      debug.sethook()
      return { ok, message }
    end)
    assert.is_false(task.output[1])
    assert.matches("^spec/preempt_spec.lua:%d+: enough$", task.output[2])
  end)

  for mask, count in pairs { l = 0, c = 0, r = 0, crl = 100, [""] = 1 } do
    it("keeps nothing from its timeout: " .. mask .. count, function()
      local task = as_task(function()
        debug.sethook(function() end, mask, count)
        while true do end
      end, { timeout = 0.1 })
      assert.equal("timeout", task.reason)
    end)
  end

  it("keeps nothing from an end where it cannot be cut", function()
    local task = as_task(function()
      debug.sethook(function() end, "l")
      return tostring(setmetatable({}, { __tostring = function() while true do end end }))
    end, { max_stall = 0.05 })
    assert.equal("held the host", task.reason)
  end)

  it("is that of its coroutine, and not of the next task in it", function()
    local scheduler = open(function(task)
      if task.item then
        debug.sethook(function() error "left over" end, "l")
        return nil
      end
      return coroutine.wrap(function() return (debug.gethook()) end)() == nil and (debug.gethook()) == nil
    end)
    assert.matches("left over", scheduler:wait(scheduler:add { item = true }).reason)
    for _ = 1, 3 do assert.is_true(scheduler:wait(scheduler:add {}).output) end
  end)

  it("stays where callbacks of C run in between", function()
    local count, sethook = 0, debug.sethook
    local object = setmetatable({}, { __tostring = function()
      for _ = 1, 10000 do end
      return "text"
    end })
    ltsh.spawn(function()
      sethook(function() count = count + 1 end, "l")
      for _ = 1, 20 do tostring(object) end
      count = 0
      local _ = 1
      _ = 2
      sethook()
    end):wait()
    assert.equal(3, count)
  end)
end)

describe("what is cut", function()
  it("computes what it would have", function()
    local function work(n)
      local sum, list = 0, {}
      for i = 1, n do
        list[i % 100 + 1] = (list[i % 100 + 1] or 0) + i
        sum = sum + #tostring(i) + select("#", table.unpack(list, 1, 3))
      end
      for _, value in ipairs(list) do sum = sum + value end
      return sum
    end
    local expected = work(10000)
    local scheduler = open(function()
      local co = coroutine.wrap(function() coroutine.yield(work(10000)) end)
      return co() + work(10000)
    end, { limit = 8 })
    for i = 1, 16 do scheduler:add { id = tostring(i) } end
    for i = 1, 16 do assert.equal(2 * expected, scheduler:wait(tostring(i), 20).output) end
  end)

  it("does not look like a coroutine that waits for its script", function()
    local co, seen
    local scheduler = open(function(task)
      if task.item then
        for _ = 1, 1000 do
          if co and coroutine.status(co) ~= "running" then
            seen = { coroutine.status(co), coroutine.resume(co) }
            break
          end
          ltsh.sleep(0.001)
        end
        return
      end
      co = coroutine.create(forever)
      coroutine.resume(co)
    end, { limit = 2 })
    scheduler:add { id = "a", timeout = 0.2 }
    scheduler:add { id = "b", item = true }
    scheduler:wait("b", 5)
    assert.same({ "normal", false, "cannot resume non-suspended coroutine" }, seen)
    assert.equal("timeout", scheduler:wait("a", 5).reason)
  end)

  it("may be the script, and then everything else goes on", function()
    local clock = ticking()
    eventually("it is cut", function()
      for _ = 1, 1000000 do end
      return clock.ticks >= 2
    end)
    clock.job:cancel()
  end)
end)

describe("tasks that begin together", function()
  local function add_paused(scheduler, count, fields)
    scheduler:pause()
    for i = 1, count do
      local task = { id = tostring(i), item = i }
      for name, value in pairs(fields or {}) do task[name] = value end
      scheduler:add(task)
    end
    scheduler:resume()
  end

  local function statuses(scheduler, count)
    local list = {}
    for i = 1, count do
      local task = scheduler:wait(tostring(i), 10)
      list[i] = task.reason and task.status .. ": " .. task.reason or task.status
    end
    return list
  end

  it("leave nothing to each other", function()
    local hooks, closed, objects = {}, {}, {}
    local scheduler = open(function(task)
      local i = task.item
      hooks[i] = debug.gethook() ~= nil
      objects[i] = task
      local _ <close> = setmetatable({}, { __close = function() closed[#closed + 1] = i end })
      if i == 2 then debug.sethook(function() end, "l") end
      if i == 3 then error "on purpose" end
      if i == 4 then error({ reason = "a table" }) end
      if i == 5 then ltsh.sleep(0.01) end
      if i == 6 then return nil, "returned" end
      if i == 7 then return table.unpack({}, 1, 200) end
    end, { limit = 10 })
    add_paused(scheduler, 10)
    assert.same({
      "success", "success", "failed: on purpose", "failed: a table", "success", "failed: returned", "success",
      "success", "success", "success",
    }, statuses(scheduler, 10))
    for i = 1, 10 do
      assert.is_false(hooks[i])
      assert.same({ true, "the run is over" }, { objects[i]:cancelled() })
    end
    table.sort(closed)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, closed)
  end)

  it("are timed each from where it begins", function()
    local began = 0
    local scheduler = open(function()
      began = began + 1
      local until_then = uv.hrtime() + 2e6 -- less than a slice
      while uv.hrtime() < until_then do end
    end, { limit = 300, timeout = 0.5 })
    add_paused(scheduler, 300)
    for _, status in ipairs(statuses(scheduler, 300)) do assert.equal("success", status) end
    assert.equal(300, began)
  end)

  it("can be stopped by one of them before they have begun", function()
    local ran, scheduler = {}, nil
    scheduler = open(function(task)
      ran[task.item] = true
      if task.item == 1 then
        assert.equal("stopped", scheduler:stop("2", "not this one").status)
        assert.equal("running", scheduler:get("1").status)
      end
    end, { limit = 3 })
    add_paused(scheduler, 3)
    assert.same({ "success", "stopped: not this one", "success" }, statuses(scheduler, 3))
    assert.same({ true, nil, true }, ran)
  end)

  it("end with a close that comes before they have begun", function()
    local scheduler = open(forever, { limit = 8 })
    add_paused(scheduler, 8)
    ltsh.sleep(0.001)
    scheduler:close { drain = 0 }
    local ends = 0
    for task in scheduler:finished() do
      assert.equal("stopped", task.status)
      ends = ends + 1
    end
    assert.equal(8, ends)
  end)

  it("end each as it would alone, if only polled", function()
    local scheduler = open(function(task) return task.item end, { limit = 8, callback = false, poll_interval = 0.01 })
    add_paused(scheduler, 20)
    for i = 1, 20 do assert.equal(i, scheduler:wait(tostring(i), 10).output) end
  end)

  it("go on when the one before computes without end", function()
    local scheduler = open(function(task)
      if task.item % 2 == 1 then forever() end
      return task.item
    end, { limit = 12, timeout = 0.3 })
    add_paused(scheduler, 12)
    for i = 2, 12, 2 do assert.equal(i, scheduler:wait(tostring(i), 10).output) end
    for i = 1, 11, 2 do assert.equal("timeout", scheduler:wait(tostring(i), 10).reason) end
  end)
end)

describe("a function of C that does not come back", function()
  it("is named in the log while it lasts, with the task that called it", function()
    local result = run.ltsh { "-e", [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() os.execute "sleep 1.8" end),
      }
      scheduler:add { id = "the blocker" }
      scheduler:wait "the blocker"]] }
    assert.equal(0, result.code)
    assert.matches('a function of C holds up its thread  function=execute at=%-e:4 task="the blocker"', result.stderr)
  end)

  it("is named in a worker", function()
    local result = run.ltsh { "-e", [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func { module = "spec/support/tasks/various.lua", workers = 1 },
      }
      scheduler:add { id = "a", item = { ["do"] = "block", seconds = 1.8 } }
      scheduler:wait "a"]] }
    assert.equal(0, result.code)
    assert.matches("a function of C holds up its thread  function=execute at=spec/support/tasks/various.lua:%d+ task=a",
      result.stderr)
  end)
end)

describe("the first signal", function()
  it("drains a script that computes without end", function()
    local child = run.start { "-e", "io.stdout:write 'ready' io.stdout:flush() while true do end" }
    child:expect "ready"
    child:kill "sigterm"
    assert.equal(128 + 15, child:wait().code)
  end)
end)
