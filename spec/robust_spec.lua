-- Under strain: very many schedulers and tasks, tasks that turn on their own scheduler,
-- and values of every kind.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"

local open, eventually = scene.open, scene.eventually

after_each(function()
  scene.close()
  collectgarbage()
end)

local ends_of = scene.ends_of

-- A sanitizer keeps freed memory for a while, so that the size of the process says nothing.
local function is_sanitized()
  local file = io.open "/proc/self/maps"
  if not file then return false end
  local maps = file:read "a"
  file:close()
  return maps:find("libasan", 1, true) ~= nil or maps:find("libtsan", 1, true) ~= nil
end

-- Equal in value and in kind: 1 is not 1.0, 0.0 is not -0.0.
local function same(a, b)
  if type(a) ~= type(b) or math.type(a) ~= math.type(b) then return false end
  if math.type(a) == "float" then return string.pack("n", a) == string.pack("n", b) end
  if type(a) ~= "table" then return a == b end
  for key, value in next, a do
    if not same(value, rawget(b, key)) then return false end
  end
  for key in next, b do
    if rawget(a, key) == nil then return false end
  end
  return true
end

describe("schedulers", function()
  -- Opens and ends so many, and returns by how much the Lua side and the process have grown over the second half.
  local function growth(count, use)
    collectgarbage()
    for _ = 1, count // 2 do use() end
    collectgarbage()
    collectgarbage()
    local lua, process = collectgarbage "count", uv.resident_set_memory()
    for _ = 1, count // 2 do use() end
    collectgarbage()
    collectgarbage()
    return (collectgarbage "count" - lua) * 1024, uv.resident_set_memory() - process
  end

  -- The process is others' too (threads that end, an allocator that gives back later): what leaks grows every time.
  local function assert_flat(count, use)
    local least
    for _ = 1, is_sanitized() and 1 or 3 do
      local lua, process = growth(count, use)
      assert.is_true(lua < 256 * 1024, "Lua has grown by " .. lua)
      least = math.min(least or process, process)
      if least < 4 << 20 then return end
    end
    assert.is_true(is_sanitized() or least < 4 << 20, "the process has grown by " .. least)
  end

  it("leave nothing behind when they are closed: ten thousand of them", function()
    assert_flat(10000, function()
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() end),
      }
      scheduler:close()
    end)
  end)

  it("leave nothing behind when they had tasks", function()
    assert_flat(4000, function()
      local scheduler <close> = ltsh.scheduler {
        container = ltsh.container.priority {},
        actuator = ltsh.actuator.func(function(task) return task.item end),
        limit = 2,
      }
      scheduler:on("finished", function() end)
      scheduler:add { id = "a", item = { 1, 2, 3 }, key = "k" }
      scheduler:add { id = "b", delay = 3600, expires = 7200 }
      scheduler:wait "a"
    end)
  end)

  it("leave nothing behind when they are dropped", function()
    assert_flat(4000, function()
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() end),
      }
      scheduler:add { id = "a" }
      scheduler:wait "a"
    end)
  end)

  it("leave nothing behind when they could not be made", function()
    assert_flat(4000, function()
      pcall(ltsh.scheduler, {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() end),
        limit = -1,
      })
    end)
  end)

  it("may be many at once", function()
    local count, left = 300, 300
    local all = {}
    for i = 1, count do
      all[i] = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function()
          ltsh.sleep(0.001)
          left = left - 1
        end),
      }
      all[i]:add {}
    end
    eventually("all have run", function() return left == 0 end)
    local jobs = {}
    for i = 1, count do jobs[i] = ltsh.spawn(all[i].close, all[i]) end
    for i = 1, count do jobs[i]:wait() end
  end)

  it("keep nothing of tasks that have ended and are forgotten", function()
    local scheduler = open(function(task) return task.item end, { limit = 10, keep = { tasks = 100 } })
    local function round()
      for i = 1, 1000 do
        scheduler:add { id = tostring(i), item = { text = ("x"):rep(500) }, key = "key " .. i, max_retries = 1 }
      end
      for _ in scheduler:finished() do end
    end
    assert_flat(16, round)
  end)
end)

describe("a task that turns on its own scheduler", function()
  it("may add tasks", function()
    local scheduler
    scheduler = open(function(task)
      if task.item > 0 then
        assert(scheduler:add { item = task.item - 1 })
        assert(scheduler:add { item = task.item - 1 })
      end
    end, { limit = 3 })
    scheduler:add { item = 9 }
    assert.equal(2 ^ 10 - 1, #ends_of(scheduler))
  end)

  it("may wait for others, with a slot of their own", function()
    local scheduler
    scheduler = open(function(task)
      if task.item == 0 then return 1 end
      local id = assert(scheduler:add { item = task.item - 1 })
      return scheduler:wait(id).output + 1
    end, { limit = 10 })
    scheduler:add { id = "t", item = 8 }
    assert.equal(9, scheduler:wait("t", 10).output)
  end)

  it("may stop itself", function()
    local after = false
    local scheduler
    scheduler = open(function(task)
      scheduler:stop(task.id, "enough of me")
      ltsh.sleep(0)
      after = true
    end)
    scheduler:add { id = "t" }
    scheduler:add { id = "u" }
    local task = scheduler:wait("t", 10)
    assert.is_truthy(task, "it hangs")
    assert.equal("stopped", task.status)
    assert.equal("enough of me", task.reason)
    assert.is_false(after)
    assert.equal("stopped", scheduler:wait("u", 10).status)
    assert.equal(2, #ends_of(scheduler))
  end)

  it("may stop others that run, wait, and are done", function()
    local scheduler
    scheduler = open(function(task)
      if task.id ~= "killer" then ltsh.sleep(3600) end
      for _, id in ipairs { "running", "waiting", "unknown" } do scheduler:stop(id) end
    end, { limit = 2 })
    scheduler:add { id = "running" }
    scheduler:add { id = "killer" }
    scheduler:add { id = "waiting" }
    local statuses = {}
    for _, task in ipairs(ends_of(scheduler)) do statuses[task.id] = task.status end
    assert.same({ running = "stopped", killer = "success", waiting = "stopped" }, statuses)
  end)

  it("may close it", function()
    local ends = {}
    local scheduler
    scheduler = open(function() scheduler:close() end)
    scheduler:on("finished", function(task) ends[task.id] = task.status end)
    scheduler:add { id = "t" }
    scheduler:add { id = "u" }
    eventually("it is closed", function() return select(3, scheduler:stats()) == "closed" end)
    assert.equal("stopped", ends.u)
    assert.is_string(ends.t)
  end)

  it("may close it with a drain, from several", function()
    local ends = 0
    local scheduler
    scheduler = open(function() scheduler:close { drain = 0.02 } end, { limit = 3 })
    scheduler:on("finished", function() ends = ends + 1 end)
    for i = 1, 5 do scheduler:add { id = tostring(i) } end
    eventually("it is closed", function() return select(3, scheduler:stats()) == "closed" end)
    assert.equal(5, ends)
  end)

  it("may delete and retry itself in vain", function()
    local scheduler
    scheduler = open(function(task)
      local deleted = scheduler:delete(task.id)
      local retried = scheduler:retry(task.id)
      local added, _, code = scheduler:add { id = task.id }
      return { deleted == nil, retried == nil, added == nil, code }
    end)
    scheduler:add { id = "t" }
    assert.same({ true, true, true, "exists" }, scheduler:wait("t", 10).output)
  end)

  it("may wait for itself until its time is over", function()
    local scheduler
    scheduler = open(function(task) scheduler:wait(task.id) end, { timeout = 0.02 })
    scheduler:add { id = "t" }
    assert.equal("timeout", scheduler:wait("t", 10).reason)
  end)

  it("may make and close schedulers of its own", function()
    local scheduler = open(function(task)
      local own <close> = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function(inner) return inner.item * 2 end),
      }
      own:add { id = "inner", item = task.item }
      return own:wait("inner").output
    end, { limit = 4 })
    for i = 1, 20 do scheduler:add { id = tostring(i), item = i } end
    for _, task in ipairs(ends_of(scheduler)) do assert.equal(task.item * 2, task.output) end
  end)
end)

describe("very many tasks", function()
  it("end exactly once each: 100,000 through a limit of 2", function()
    local count = 100000
    local runs, inside, most = {}, 0, 0
    local scheduler = open(function(task)
      inside = inside + 1
      most = math.max(most, inside)
      local n = task.item
      runs[n] = (runs[n] or 0) + 1
      if n % 1000 == 0 then ltsh.sleep(0) end
      inside = inside - 1
    end, { limit = 2, finished_size = count, keep = { tasks = 10 } })
    for first = 1, count, 10000 do
      local tasks = {}
      for i = first, first + 9999 do tasks[#tasks + 1] = { id = tostring(i), item = i } end
      assert(scheduler:add_all(tasks))
    end
    local seen, ended = {}, 0
    for task in scheduler:finished() do
      local n = task.item
      assert(not seen[n])
      seen[n] = true
      ended = ended + 1
    end
    assert.equal(count, ended)
    assert.equal(2, most)
    for i = 1, count do assert(runs[i] == 1) end
    assert.equal(count, scheduler:stats().success)
    assert.equal(0, scheduler:stats().finished_dropped)
  end)

  it("may be stopped at the close while they wait", function()
    local ends = 0
    local scheduler = open(function() ltsh.sleep(3600) end, { limit = 2 })
    scheduler:on("finished", function() ends = ends + 1 end)
    local tasks = {}
    for i = 1, 20000 do tasks[i] = { id = tostring(i) } end
    scheduler:add_all(tasks)
    ltsh.sleep(0.002)
    scheduler:close()
    assert.equal(20000, ends)
  end)

  it("may wait for their times", function()
    local scheduler = open(nil, { limit = 50 })
    local tasks = {}
    for i = 1, 5000 do tasks[i] = { id = tostring(i), delay = (i * 7919 % 100) / 1000 } end
    local begun = ltsh.now()
    scheduler:add_all(tasks)
    local last, seen = 0, {}
    for task in scheduler:finished() do
      assert(not seen[task.id])
      seen[task.id] = true
      assert(task.started_at >= (task.run_at or task.added_at) - 0.002)
      last = math.max(last, task.started_at - begun)
    end
    for i = 1, 5000 do assert(seen[tostring(i)]) end
    assert.is_true(last >= 0.095)
  end)
end)

-- Values as they are given, and whether `item`, `output` and `progress` give them back the same.
describe("tostring", function()
  it("is Lua's", function()
    for _, value in ipairs { 0, 1, -1, 9, 10, -10, 123456789012, math.maxinteger, math.mininteger } do
      assert.equal(string.format("%d", value), tostring(value))
    end
    assert.equal("1.0 -0.0 nil true x", table.concat({
      tostring(1.0), tostring(-0.0), tostring(nil), tostring(true), tostring "x",
    }, " "))
    local ok, message = pcall(tostring)
    assert.is_false(ok)
    assert.equal("bad argument #1 to 'tostring' (value expected)", message)
  end)

  it("asks what numbers have for it", function()
    local before = debug.getmetatable(0)
    debug.setmetatable(0, { __tostring = function() return "a number" end })
    local text = tostring(5)
    debug.setmetatable(0, before)
    assert.equal("a number", text)
    assert.equal("5", tostring(5))
  end)
end)

describe("a value", function()
  local scheduler, progress

  before_each(function()
    scheduler = open(function(task)
      if task.item ~= nil then task:report(task.item) end
      return task.item
    end)
    scheduler:on("progress", function(task) progress = task.progress end)
    progress = nil
  end)

  local function comes_back(value, name)
    progress = nil
    local id = assert(scheduler:add { item = value })
    local task = scheduler:wait(id)
    assert.equal("success", task.status)
    assert.is_true(same(value, task.item), "the item " .. name)
    assert.is_true(same(value, task.output), "the output " .. name)
    assert.is_true(same(value, scheduler:output(id)), "the saved output " .. name)
    assert.is_true(same(value, progress), "the progress " .. name)
    assert.is_true(same(value, task.progress), "the last progress " .. name)
  end

  it("comes back as an integer of 64 bits", function()
    for _, value in ipairs { 0, 1, -1, 127, 128, -33, 1 << 31, 1 << 32, (1 << 53) + 1, math.maxinteger,
      math.mininteger } do
      comes_back(value, tostring(value))
    end
  end)

  it("comes back as a float", function()
    for _, value in ipairs { 1.0, 0.0, -0.0, 0.1, -1.5, 2.0 ^ 53, 2.0 ^ 63, 1e300, 5e-324, math.huge, -math.huge } do
      comes_back(value, tostring(value))
    end
    local task = scheduler:wait(scheduler:add { item = 0 / 0 })
    assert.is_true(task.output ~= task.output and math.type(task.output) == "float")
  end)

  it("comes back as a boolean and as a null", function()
    comes_back(true, "true")
    comes_back(false, "false")
    comes_back(ltsh.json.null, "null")
    comes_back({ a = ltsh.json.null, [2] = false }, "with a null")
  end)

  it("comes back as a string of any bytes", function()
    local all = {}
    for i = 0, 255 do all[i + 1] = string.char(i) end
    for _, value in ipairs { "", "x", "\0", "a\0b", "\xff\xfe", table.concat(all), ("x"):rep(31), ("x"):rep(32),
      ("x"):rep(70000), table.concat(all):rep(5000) } do
      comes_back(value, "of " .. #value .. " bytes")
    end
  end)

  it("comes back as a table, nested and empty", function()
    for i, value in ipairs {
      {},
      { {} },
      { {}, { {} }, x = {} },
      { 1, 2, 3 },
      { 1, 2, 3, x = "y" },
      { [1] = 1, [3] = 3 },
      { [0] = 0, [-1] = -1, [1 << 40] = 1 },
      { [1.5] = "float", [true] = "boolean", [false] = 0 },
      { [""] = "", ["a b"] = 1, ["\0"] = 2 },
      { list = { { id = 1 }, { id = 2.0 } }, deep = { deep = { deep = { deep = { 1 } } } } },
    } do
      comes_back(value, "number " .. i)
    end
  end)

  it("comes back as an array of 100,000", function()
    local array = {}
    for i = 1, 100000 do array[i] = i % 3 == 0 and i + 0.5 or i % 3 == 1 and i or tostring(i) end
    comes_back(array, "array")
  end)

  it("comes back as a table of 20,000 names", function()
    local map = {}
    for i = 1, 20000 do map["name " .. i] = i end
    comes_back(map, "map")
  end)

  it("comes back from 100 levels", function()
    local value = 1
    for _ = 1, 100 do value = { a = value } end
    comes_back(value, "deep")
  end)

  it("comes back twice where it is there twice", function()
    local part = { 1 }
    local task = scheduler:wait(scheduler:add { item = { part, part } })
    assert.same({ { 1 }, { 1 } }, task.output)
  end)

  it("that is not there is nil", function()
    local task = scheduler:wait(scheduler:add {})
    assert.is_nil(task.item)
    assert.is_nil(task.output)
  end)

  -- Refused as an item, as an output and as progress, each with the path.
  local function refused(value, path, why)
    local id, message, code = scheduler:add { item = value }
    assert.is_nil(id)
    assert.equal("unstorable", code)
    assert.is_truthy(message:find("item" .. path, 1, true), message)
    assert.is_truthy(message:find(why, 1, true), message)

    local reported
    local other = open(function(task)
      reported = select(2, pcall(task.report, task, value))
      return value
    end, { max_retries = 2 })
    other:add { id = "t" }
    local task = other:wait "t"
    assert.equal("failed", task.status)
    assert.equal(1, task.attempts)
    assert.is_truthy(task.reason:find("output" .. path, 1, true), task.reason)
    assert.is_truthy(task.reason:find(why, 1, true), task.reason)
    assert.is_truthy(reported:find("progress" .. path, 1, true), reported)
    assert.is_nil(task.progress)
  end

  it("is refused as a function, a coroutine and a userdata", function()
    refused(print, ": ", "function")
    refused({ cb = print }, ".cb: ", "function")
    refused({ 1, { x = { print } } }, "[2].x[1]: ", "function")
    refused({ co = coroutine.create(print) }, ".co: ", "thread")
    refused({ file = io.stdout }, ".file: ", "userdata")
    refused({ ["a b"] = print }, '["a b"]', "function")
  end)

  it("is refused as a key that cannot be stored", function()
    assert.equal("unstorable", select(3, scheduler:add { item = { [print] = 1 } }))
    assert.equal("unstorable", select(3, scheduler:add { item = { a = { [{}] = 1 } } }))
  end)

  it("is refused as a cycle", function()
    local cycle = {}
    cycle.self = cycle
    refused(cycle, ".self", "")
    local long = { a = { b = {} } }
    long.a.b.c = long.a
    refused(long, ".a.b.c", "")
  end)

  it("is refused beyond 100 levels", function()
    local value = 1
    for _ = 1, 101 do value = { a = value } end
    refused(value, ".a.a", "100 levels")
  end)

  it("may be a task's object in an item: not", function()
    scheduler:add { id = "t" }
    local task = scheduler:wait "t"
    local id, _, code = scheduler:add { item = { task = task } }
    assert.is_nil(id)
    assert.equal("unstorable", code)
  end)
end)

describe("what is in C", function()

  it("has values that debug does not change", function()
    local ok, message = pcall(debug.setlocal, 0, 1, 5)
    assert.is_false(ok)
    assert.equal("debug.setlocal: level 0 is a function in C, whose values cannot be set", message)
    ok, message = pcall(debug.setupvalue, ltsh.sleep, 1, 5)
    assert.is_false(ok)
    assert.equal("debug.setupvalue: this is a function in C, whose values cannot be set", message)
  end)

  it("leaves those of Lua to debug", function()
    local up = 1
    local function read() return up end
    local function set()
      local own = 1
      assert.equal("own", debug.setlocal(1, 1, 2))
      return own
    end
    assert.equal(2, set())
    assert.equal("up", debug.setupvalue(read, 1, 3))
    assert.equal(3, read())
    local co = coroutine.create(function()
      local own = 1
      coroutine.yield()
      return own
    end)
    coroutine.resume(co)
    assert.equal("own", debug.setlocal(co, 1, 1, 4))
    assert.same({ true, 4 }, { coroutine.resume(co) })
    for _, wrong in ipairs { { 100, 1, 5 }, { -1, 1, 5 }, { co, 1, 1, 5 }, { {}, 1 }, {} } do
      assert.is_false(pcall(debug.setlocal, table.unpack(wrong)))
    end
  end)

  it("is finalized by the collector alone: luv's handles", function()
    local fired = false
    local timer = uv.new_timer()
    local finalize = getmetatable(timer).__gc
    for _, wrong in ipairs { 5, {}, io.stdout, timer, timer } do finalize(wrong) end
    finalize()
    setmetatable({}, { __gc = finalize })
    setmetatable({}, { __gc = function() finalize(timer) end })
    collectgarbage()
    collectgarbage()
    timer:start(1, 0, function() fired = true end)
    while not fired do ltsh.sleep(0.001) end
    timer:close()
    finalize(timer)
  end)
end)
