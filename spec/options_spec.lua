-- Misuse: each error names the function, the argument and the value.

local ltsh = require "ltsh"
local scene = require "spec.support.scene"

after_each(scene.close)

local function queue() return ltsh.container.queue {} end
local function func() return ltsh.actuator.func(function() end) end

local function open(options)
  options = options or {}
  options.container = options.container or queue()
  options.actuator = options.actuator or func()
  return scene.keep(ltsh.scheduler(options))
end

-- How a message shows a value, as far as it is fixed.
local function shown(value)
  if type(value) == "string" then return '"' .. value:sub(1, 20) end
  if type(value) == "number" and value ~= value then return "nan" end
  if type(value) == "number" or type(value) == "boolean" or value == nil then return tostring(value) end
  return type(value)
end

-- fn(...) raises a text that has all of these.
local function raises(texts, fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok, "it raised nothing; expected: " .. table.concat(texts, ", "))
  assert.equal("string", type(message))
  for _, text in ipairs(texts) do
    assert.is_truthy(message:find(text, 1, true), ("%q is not in: %s"):format(text, message))
  end
  return message
end

local nan, inf = 0 / 0, math.huge

-- Values that are wrong for each option of ltsh.scheduler.
local not_positive = { 0, -1, 1.5, "2", nan, inf, {}, true, print }
local not_seconds = { -1, "2", nan, inf, -inf, {}, true, print }
local not_positive_seconds = { 0, -1, "2", nan, inf, {}, true, print }
local not_count = { -1, 1.5, "2", nan, {}, true, print }

local wrong = {
  name = { 5, {}, true, "" },
  limit = not_positive,
  key_limit = { 0, -1, 1.5, "2", nan, {}, true },
  rate = { 5, "5", true, print },
  timeout = not_positive_seconds,
  export_timeout = not_positive_seconds,
  max_retries = not_count,
  backoff = { -1, "2", nan, inf, true },
  max_lost = not_count,
  schedule_interval = not_positive_seconds,
  poll_interval = not_positive_seconds,
  callback = { 5, "yes", print },
  finished_size = not_count,
  keep = { 5, "64M", true },
  container_timeout = not_positive_seconds,
  callback_timeout = not_positive_seconds,
  max_stall = not_positive_seconds,
  shutdown_grace = not_seconds,
  on_shutdown = { "wait", 5, true, {} },
  container = { 5, "queue", true, print },
  actuator = { 5, "func", true, print },
  persister = { 5, "file", true, print },
}

describe("ltsh.scheduler", function()
  for name, values in pairs(wrong) do
    it("names the option " .. name .. " and what was given for it", function()
      for i = 1, #values do
        local options = { container = queue(), actuator = func() }
        options[name] = values[i]
        raises({ "ltsh.scheduler", name, shown(values[i]) }, ltsh.scheduler, options)
      end
    end)
  end

  it("says it in the words of the contract", function()
    local ok, message = pcall(ltsh.scheduler, { container = queue(), actuator = func(), limit = -1 })
    assert.is_false(ok)
    assert.equal("ltsh.scheduler: limit must be a positive integer, got -1", message)
  end)

  it("names parts of tables", function()
    for _, case in ipairs {
      { "rate", {}, "rate" },
      { "rate", { 0, per = 1 }, "rate", "0" },
      { "rate", { 1.5, per = 1 }, "rate", "1.5" },
      { "rate", { 5 }, "per", "nil" },
      { "rate", { 5, per = 0 }, "per", "0" },
      { "rate", { 5, per = -1 }, "per", "-1" },
      { "rate", { 5, per = "1" }, "per", '"1"' },
      { "rate", { 5, per = 1, key = "yes" }, "key", '"yes"' },
      { "rate", { 5, pre = 1 }, "pre", "per" },
      { "backoff", {}, "base", "nil" },
      { "backoff", { base = -1 }, "base", "-1" },
      { "backoff", { base = "1" }, "base", '"1"' },
      { "backoff", { base = 1, factor = 0 }, "factor", "0" },
      { "backoff", { base = 1, factor = nan }, "factor", "nan" },
      { "backoff", { base = 1, factor = "2" }, "factor", '"2"' },
      { "backoff", { base = 1, max = -1 }, "max", "-1" },
      { "backoff", { base = 1, jitter = 2 }, "jitter", "2" },
      { "backoff", { base = 1, jitter = -0.5 }, "jitter", "-0.5" },
      { "backoff", { base = 1, fctor = 2 }, "fctor", "factor" },
      { "keep", { tasks = -1 }, "tasks", "-1" },
      { "keep", { tasks = "5" }, "tasks", '"5"' },
      { "keep", { bytes = -1 }, "bytes", "-1" },
      { "keep", { bytes = "64X" }, "bytes", '"64X"' },
      { "keep", { bytes = "" }, "bytes", '""' },
      { "keep", { bytes = {} }, "bytes", "table" },
      { "keep", { taks = 1 }, "taks", "tasks" },
    } do
      raises({ "ltsh.scheduler", case[1], case[3], case[4] or "" }, ltsh.scheduler,
        { container = queue(), actuator = func(), [case[1]] = case[2] })
    end
  end)

  it("takes sizes as numbers and as texts", function()
    for _, bytes in ipairs { 0, 1024, 1024.0, "0", "100", "64K", "64M", "2G", "1.5M" } do
      open { keep = { bytes = bytes } }
    end
  end)

  it("takes floats with whole values as integers", function()
    open { limit = 2.0, max_retries = 3.0, finished_size = 10.0 }
  end)

  it("needs a table", function()
    for _, value in ipairs { 5, "options", true, print } do
      raises({ "ltsh.scheduler", shown(value) }, ltsh.scheduler, value)
    end
    raises({ "ltsh.scheduler", "nil" }, ltsh.scheduler)
  end)

  it("needs a container and an actuator", function()
    raises({ "ltsh.scheduler", "container" }, ltsh.scheduler, { actuator = func() })
    raises({ "ltsh.scheduler", "actuator" }, ltsh.scheduler, { container = queue() })
    raises({ "ltsh.scheduler" }, ltsh.scheduler, {})
  end)

  it("names the nearest known option", function()
    for given, meant in pairs { limt = "limit", Limit = "limit", limits = "limit", timout = "timeout",
      max_retry = "max_retries", maxretries = "max_retries", back_off = "backoff", poll_intervall = "poll_interval",
      persistor = "persister", finishedsize = "finished_size", actuater = "actuator", containr = "container" } do
      local options = { container = queue(), actuator = func() }
      options[given] = 1
      raises({ "ltsh.scheduler", given, "'" .. meant .. "'" }, ltsh.scheduler, options)
    end
  end)

  it("names none where none is near", function()
    local message = raises({ "ltsh.scheduler", "colour_of_the_sky" }, ltsh.scheduler,
      { container = queue(), actuator = func(), colour_of_the_sky = "blue" })
    assert.is_nil(message:find "mean")
  end)

  it("knows no options by number, or by what is no name", function()
    raises({ "ltsh.scheduler", "1" }, ltsh.scheduler, { queue(), func() })
    raises({ "ltsh.scheduler", "true" }, ltsh.scheduler, { container = queue(), actuator = func(), [true] = 1 })
  end)

  it("refuses poll_interval and callback both off", function()
    raises({ "ltsh.scheduler", "poll_interval", "callback" }, ltsh.scheduler,
      { container = queue(), actuator = func(), poll_interval = false, callback = false })
  end)

  it("has a limit over hosts only where hosts share a container", function()
    raises({ "ltsh.scheduler", "global_limit" }, ltsh.scheduler,
      { container = queue(), actuator = func(), global_limit = 5 })
  end)

  it("leaves the container free when it fails", function()
    local container = queue()
    assert.has_error(function() ltsh.scheduler { container = container, actuator = func(), limit = -1 } end)
    assert.has_error(function() ltsh.scheduler { container = container } end)
    assert.has_error(function()
      ltsh.scheduler { container = container, actuator = func(), poll_interval = false, callback = false }
    end)
    local scheduler = open { container = container }
    scheduler:add { id = "t" }
    assert.equal("success", scheduler:wait("t", 5).status)
  end)

  it("does not share a container", function()
    local container = queue()
    open { container = container }
    raises({ "ltsh.scheduler", "container" }, ltsh.scheduler, { container = container, actuator = func() })
  end)

  it("does not keep the table of options", function()
    local options = { container = queue(), actuator = func(), limit = 1 }
    local scheduler = open(options)
    options.limit, options.actuator, options.container = -1, nil, nil
    scheduler:add { id = "t" }
    assert.equal("success", scheduler:wait("t", 5).status)
    assert.equal(1, (scheduler:count()))
  end)

  it("shares an actuator of functions", function()
    local actuator = ltsh.actuator.func(function(task) return task.item end)
    local a, b = open { actuator = actuator }, open { actuator = actuator }
    a:add { id = "t", item = "a" }
    b:add { id = "t", item = "b" }
    assert.equal("a", a:wait("t", 5).output)
    assert.equal("b", b:wait("t", 5).output)
  end)
end)

describe("parts written in Lua", function()
  local function full_actuator()
    return {
      start = function() return true end,
      stop = function() return true end,
      status = function() return {} end,
      attach = function() end,
    }
  end

  local function full_persister()
    return {
      save = function() return true end,
      load = function() end,
      delete = function() return true end,
    }
  end

  it("need the methods of an actuator", function()
    for _, name in ipairs { "start", "stop" } do
      local actuator = full_actuator()
      actuator[name] = nil
      raises({ "ltsh.scheduler", "actuator", name }, ltsh.scheduler, { container = queue(), actuator = actuator })
    end
    for _, name in ipairs { "start", "stop", "status", "attach", "init", "output", "recover", "close" } do
      local actuator = full_actuator()
      actuator[name] = "no function"
      raises({ "ltsh.scheduler", "actuator", name, "no function" }, ltsh.scheduler,
        { container = queue(), actuator = actuator })
    end
  end)

  it("need a way for ends to be noticed", function()
    local actuator = full_actuator()
    actuator.status, actuator.attach = nil, nil
    raises({ "ltsh.scheduler", "status", "attach" }, ltsh.scheduler, { container = queue(), actuator = actuator })

    actuator = full_actuator()
    actuator.status = nil
    raises({ "ltsh.scheduler", "poll_interval", "status" }, ltsh.scheduler,
      { container = queue(), actuator = actuator, poll_interval = 1 })

    actuator = full_actuator()
    actuator.attach = nil
    raises({ "ltsh.scheduler", "callback", "attach" }, ltsh.scheduler,
      { container = queue(), actuator = actuator, callback = true })
    raises({ "ltsh.scheduler", "poll_interval", "callback" }, ltsh.scheduler,
      { container = queue(), actuator = actuator, poll_interval = false })
  end)

  it("need the methods of a persister", function()
    for _, name in ipairs { "save", "load", "delete" } do
      local persister = full_persister()
      persister[name] = nil
      raises({ "ltsh.scheduler", "persister", name }, ltsh.scheduler,
        { container = queue(), actuator = func(), persister = persister })
      persister[name] = 5
      raises({ "ltsh.scheduler", "persister", name, "5" }, ltsh.scheduler,
        { container = queue(), actuator = func(), persister = persister })
    end
  end)

  it("need the methods of a container", function()
    raises({ "ltsh.scheduler", "container", "'add'" }, ltsh.scheduler, { container = {}, actuator = func() })
    local container = {}
    for _, name in ipairs { "add", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted",
      "running", "running_count" } do
      container[name] = function() return true end
    end
    raises({ "ltsh.scheduler", "container", "claim" }, ltsh.scheduler, { container = container, actuator = func() })
    container.claim = "no function"
    raises({ "ltsh.scheduler", "container", "claim", "no function" }, ltsh.scheduler,
      { container = container, actuator = func() })
  end)

  it("need the method of a receiver", function()
    raises({ "ltsh.scheduler", "callback", "receive" }, ltsh.scheduler,
      { container = queue(), actuator = full_actuator(), callback = {} })
    raises({ "ltsh.scheduler", "callback", "receive", "5" }, ltsh.scheduler,
      { container = queue(), actuator = full_actuator(), callback = { receive = 5 } })
  end)

  it("may have methods in a metatable", function()
    local notify
    local class = {
      attach = function(_, push) notify = push end,
      start = function(self, task)
        notify { id = task.id, run = task.run, status = "success", output = self.name }
        return true
      end,
      stop = function() return true end,
    }
    class.__index = class
    local scheduler = open { actuator = setmetatable({ name = "mine" }, class) }
    scheduler:add { id = "t" }
    assert.equal("mine", scheduler:wait("t", 5).output)
  end)
end)

for _, kind in ipairs { "queue", "priority" } do
  describe("ltsh.container." .. kind, function()
    local make = ltsh.container[kind]
    local where = "ltsh.container." .. kind

    it("names its option and what was given for it", function()
      for _, value in ipairs { 0, -1, 1.5, "10", nan, inf, {}, true } do
        raises({ where, "size", shown(value) }, make, { size = value })
      end
    end)

    it("knows its names", function()
      raises({ where, "sise", "'size'" }, make, { sise = 5 })
      raises({ where, "queue_name" }, make, { queue_name = "x" })
    end)

    it("takes a table or nothing", function()
      for _, value in ipairs { 5, "10", true } do raises({ where, shown(value) }, make, value) end
      assert.is_truthy(make())
      assert.is_truthy(make {})
      assert.is_truthy(make { size = 5 })
    end)
  end)
end

describe("ltsh.actuator.func", function()
  it("needs a function", function()
    for _, value in ipairs { 5, "print", true } do
      raises({ "ltsh.actuator.func", shown(value) }, ltsh.actuator.func, value)
    end
    raises({ "ltsh.actuator.func", "nil" }, ltsh.actuator.func)
    raises({ "ltsh.actuator.func", "run", "5" }, ltsh.actuator.func, { run = 5 })
    raises({ "ltsh.actuator.func" }, ltsh.actuator.func, {})
  end)

  it("knows its names", function()
    raises({ "ltsh.actuator.func", "runn", "'run'" }, ltsh.actuator.func, { runn = print })
  end)

  it("takes the function in a table too", function()
    local scheduler = open { actuator = ltsh.actuator.func { run = function() return "done" end } }
    scheduler:add { id = "t" }
    assert.equal("done", scheduler:wait("t", 5).output)
  end)
end)

describe("a task that is added", function()
  local scheduler

  before_each(function()
    scheduler = open { container = ltsh.container.priority {} }
  end)

  local fields = {
    id = { 5, true, {}, "", ("x"):rep(256), "a\nb", "a\0b", "\127", "\xff", "\xc0\x80", "\xed\xa0\x80" },
    priority = { 1.5, "1", true, {}, nan, inf },
    delay = { -1, "1", nan, inf, true, {} },
    run_at = { "now", nan, inf, true, {} },
    expires = { 0, -1, "1", nan, true, {} },
    key = { 5, true, {}, "", ("x"):rep(256) },
    timeout = { 0, -1, "1", nan, true, {} },
    max_retries = { -1, 1.5, "1", nan, true, {} },
    backoff = { -1, "1", nan, inf, true, print, {} },
    once = { 1, "yes", {} },
  }

  for name, values in pairs(fields) do
    it("names the field " .. name .. " and what was given for it", function()
      for i = 1, #values do
        local value = values[i]
        local text = shown(value)
        if name == "id" or name == "backoff" and type(value) == "table" then text = "" end
        raises({ "scheduler:add", name, text }, scheduler.add, scheduler, { id = "t", [name] = value })
        raises({ "scheduler:add_all", name, text }, scheduler.add_all, scheduler, { { id = "t", [name] = value } })
      end
      assert.equal(0, scheduler:count())
    end)
  end

  it("names parts of its backoff", function()
    raises({ "scheduler:add", "backoff", "base", "-1" }, scheduler.add, scheduler, { backoff = { base = -1 } })
    raises({ "scheduler:add", "backoff", "factor", '"2"' }, scheduler.add, scheduler,
      { backoff = { base = 1, factor = "2" } })
    raises({ "scheduler:add", "backoff", "jiter", "jitter" }, scheduler.add, scheduler,
      { backoff = { base = 1, jiter = 0 } })
  end)

  it("has either a delay or a time", function()
    raises({ "scheduler:add", "delay", "run_at" }, scheduler.add, scheduler, { delay = 1, run_at = 1 })
  end)

  it("has no other fields, and the nearest is named", function()
    for given, meant in pairs { iten = "item", items = "item", prio = "priority", maxretries = "max_retries",
      time_out = "timeout", Id = "id" } do
      raises({ "scheduler:add", given, "'" .. meant .. "'" }, scheduler.add, scheduler, { [given] = 1 })
    end
    raises({ "scheduler:add", "colour" }, scheduler.add, scheduler, { colour = "blue" })
    raises({ "scheduler:add", "1" }, scheduler.add, scheduler, { "t" })
  end)

  it("is not given what is only read", function()
    for _, name in ipairs { "status", "attempts", "run", "reason", "output", "handle", "started_at" } do
      raises({ "scheduler:add", name }, scheduler.add, scheduler, { id = "t", [name] = 1 })
    end
  end)

  it("is a table", function()
    for _, value in ipairs { 5, "t", true, print } do
      raises({ "scheduler:add", shown(value) }, scheduler.add, scheduler, value)
    end
    raises({ "scheduler:add", "nil" }, scheduler.add, scheduler)
    for _, value in ipairs { 5, "t", true, print } do
      raises({ "scheduler:add_all", shown(value) }, scheduler.add_all, scheduler, value)
      raises({ "scheduler:add_all", "1", shown(value) }, scheduler.add_all, scheduler, { value })
    end
    raises({ "scheduler:add_all", "nil" }, scheduler.add_all, scheduler)
  end)

  it("may be given how long to wait for room, as a number", function()
    for _, value in ipairs { -1, "5", nan, {}, true } do
      raises({ "scheduler:add", "seconds", shown(value) }, scheduler.add, scheduler, {}, value)
      raises({ "scheduler:add_all", "seconds", shown(value) }, scheduler.add_all, scheduler, {}, value)
    end
  end)
end)

describe("a method of a scheduler", function()
  local scheduler

  before_each(function()
    scheduler = open()
  end)

  it("says how it is called", function()
    for _, name in ipairs { "add", "add_all", "get", "list", "count", "output", "history", "wait", "stop", "retry",
      "delete", "finished", "pause", "resume", "set", "stats", "on", "run", "close" } do
      raises({ name }, scheduler[name])
      raises({ name }, scheduler[name], {})
      raises({ name }, scheduler[name], io.stdout)
    end
    raises({ "scheduler:add" }, scheduler.add, { id = "t" })
  end)

  for _, name in ipairs { "get", "wait", "stop", "retry", "delete", "output", "history" } do
    it(name .. " needs an id", function()
      for _, value in ipairs { 5, true, {}, print } do
        raises({ "scheduler:" .. name, "id", shown(value) }, scheduler[name], scheduler, value)
      end
      raises({ "scheduler:" .. name, "id", "nil" }, scheduler[name], scheduler)
    end)

    it(name .. " knows no task of an id that cannot be", function()
      for _, id in ipairs { "", ("x"):rep(300), "a\0b", "\xff" } do
        local answer = scheduler[name](scheduler, id)
        assert.is_nil(answer)
      end
    end)
  end

  it("wait needs its seconds as a number", function()
    for _, value in ipairs { -1, "5", nan, {}, true } do
      raises({ "scheduler:wait", "seconds", shown(value) }, scheduler.wait, scheduler, "t", value)
    end
  end)

  it("stop needs its reason as a text", function()
    for _, value in ipairs { {}, true, print } do
      raises({ "scheduler:stop", "reason", shown(value) }, scheduler.stop, scheduler, "t", value)
    end
  end)

  it("on needs an event and a function", function()
    raises({ "scheduler:on", "event", '"finish"', "finished" }, scheduler.on, scheduler, "finish", print)
    raises({ "scheduler:on", "event", "5" }, scheduler.on, scheduler, 5, print)
    raises({ "scheduler:on", "event", "nil" }, scheduler.on, scheduler)
    raises({ "scheduler:on", "handler", "5" }, scheduler.on, scheduler, "finished", 5)
    raises({ "scheduler:on", "handler", "nil" }, scheduler.on, scheduler, "finished")
  end)

  it("list names its options", function()
    raises({ "scheduler:list", "5" }, scheduler.list, scheduler, 5)
    raises({ "scheduler:list", "status", '"done"' }, scheduler.list, scheduler, { status = "done" })
    raises({ "scheduler:list", "status", "5" }, scheduler.list, scheduler, { status = 5 })
    raises({ "scheduler:list", "key", "5" }, scheduler.list, scheduler, { key = 5 })
    raises({ "scheduler:list", "limit", "-1" }, scheduler.list, scheduler, { limit = -1 })
    raises({ "scheduler:list", "limit", '"5"' }, scheduler.list, scheduler, { limit = "5" })
    raises({ "scheduler:list", "offset", "1.5" }, scheduler.list, scheduler, { offset = 1.5 })
    raises({ "scheduler:list", "order", '"up"' }, scheduler.list, scheduler, { order = "up" })
    raises({ "scheduler:list", "statu", "'status'" }, scheduler.list, scheduler, { statu = "waiting" })
  end)

  it("count names its options", function()
    raises({ "scheduler:count", '"waiting"' }, scheduler.count, scheduler, "waiting")
    raises({ "scheduler:count", "status", '"done"' }, scheduler.count, scheduler, { status = "done" })
    raises({ "scheduler:count", "stats", "'status'" }, scheduler.count, scheduler, { stats = "waiting" })
  end)

  it("set names its options, and those that cannot change", function()
    raises({ "scheduler:set", "5" }, scheduler.set, scheduler, 5)
    raises({ "scheduler:set", "nil" }, scheduler.set, scheduler)
    raises({ "scheduler:set", "limit", "0" }, scheduler.set, scheduler, { limit = 0 })
    raises({ "scheduler:set", "timeout", '"5"' }, scheduler.set, scheduler, { timeout = "5" })
    raises({ "scheduler:set", "limt", "'limit'" }, scheduler.set, scheduler, { limt = 2 })
    for _, name in ipairs { "container", "actuator", "persister", "callback", "name", "finished_size", "keep" } do
      raises({ "scheduler:set", name }, scheduler.set, scheduler, { [name] = 5 })
    end
  end)

  it("set changes nothing when one option is wrong", function()
    local running, most = 0, 0
    local other = open { actuator = ltsh.actuator.func(function()
      running = running + 1
      most = math.max(most, running)
      ltsh.sleep(0.002)
      running = running - 1
    end) }
    assert.has_error(function() other:set { limit = 5, timeout = -1 } end)
    for _ = 1, 10 do other:add {} end
    for task in other:finished() do assert.equal("success", task.status) end
    assert.equal(1, most)
  end)

  it("set takes poll_interval off only with callbacks", function()
    local polled = open { poll_interval = 1, callback = false }
    raises({ "scheduler:set", "poll_interval" }, polled.set, polled, { poll_interval = false })
    scheduler:set { poll_interval = 1 }
    scheduler:set { poll_interval = false }
  end)

  it("close names its option", function()
    raises({ "scheduler:close", "drain", "-1" }, scheduler.close, scheduler, { drain = -1 })
    raises({ "scheduler:close", "drain", '"5"' }, scheduler.close, scheduler, { drain = "5" })
    raises({ "scheduler:close", "drian", "drain" }, scheduler.close, scheduler, { drian = 5 })
    raises({ "scheduler:close", "5" }, scheduler.close, scheduler, 5)
    assert.is_string((scheduler:add {})) -- it is open still
  end)

  it("that there is not is nil", function()
    assert.is_nil(scheduler.nothing)
    assert.has_error(function() scheduler.limit = 5 end)
  end)
end)

describe("a task's methods", function()
  it("say how they are called, and what cannot be stored", function()
    local messages = {}
    local scheduler = open { actuator = ltsh.actuator.func(function(task)
      for i, call in ipairs {
        function() task.report(5) end,
        function() task.cancelled() end,
        function() task:report(print) end,
        function() task:report { a = { print } } end,
      } do
        messages[i] = select(2, pcall(call))
      end
    end) }
    scheduler:add { id = "t" }
    assert.equal("success", scheduler:wait("t", 5).status)
    assert.matches("task:report", messages[1])
    assert.matches("task:cancelled", messages[2])
    assert.matches("task:report: progress: a function cannot be stored", messages[3], 1, true)
    assert.matches("progress.a[1]", messages[4], 1, true)
  end)
end)

describe("ltsh.sleep and ltsh.spawn", function()
  it("name their arguments", function()
    for _, value in ipairs { -1, "soon", nan, {}, true } do
      raises({ "ltsh.sleep", shown(value) }, ltsh.sleep, value)
    end
    raises({ "ltsh.sleep" }, ltsh.sleep)
    for _, value in ipairs { 5, "print", true } do raises({ "ltsh.spawn", shown(value) }, ltsh.spawn, value) end
    raises({ "ltsh.spawn" }, ltsh.spawn)
  end)
end)
