-- Stores that fail: what the log says of them and how often, what goes on meanwhile, and how soon all is well again.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"
local stage = require "spec.support.stage"
local run = require "spec.support.run"
local table_container = require "spec.support.table"

local open, eventually = scene.open, scene.eventually
local later, within = stage.later, stage.within

after_each(function()
  stage.close()
  run.clean()
end)

-- The lines of a log in JSON that are about stores: { level =, message =, ... } each.
local function lines_of(log)
  local lines = {}
  for line in log:gmatch "[^\n]+" do
    local entry = ltsh.json.decode(line)
    if entry and (entry.level ~= "debug") then lines[#lines + 1] = entry end
  end
  return lines
end

-- Runs several scripts side by side, each in a process of its own, and returns their results.
local function side_by_side(scripts)
  local children, results = {}, {}
  for name, script in pairs(scripts) do
    children[name] = run.start({ "--log-format", "json", "-e", script }, { limit = 25 })
  end
  for name, child in pairs(children) do results[name] = child:wait() end
  return results
end

local HEAD = [[
  local ltsh = require "ltsh"
  local table_container = require "spec.support.table"
  local store, down = table_container(), true
  local n = 0
  local function fail()
    n = n + 1
    if down then error("connection refused") end
  end
  -- How long it takes until `count` tasks have ended.
  local function back(scheduler, count)
    down = false
    local t0, ended = ltsh.now(), 0
    for _ in scheduler:finished() do ended = ended + 1 end
    print(ended == count, ltsh.now() - t0 < 5)
  end
]]

describe("a store that is down", function()
  -- What fails while it is down, and with which function for 30 tasks.
  local cases = {
    to_success = { "function() end" },
    to_failed = { "function() error 'broken' end" },
    to_waiting = { "function(task) if task.attempts == 1 then error 'broken' end end", "max_retries = 1," },
    to_exporting = { "function() return 1 end", [[persister = {
      save = function() return true end, load = function() end, delete = function() return true end },]] },
  }

  it("is told once when it goes and once when it is back, whatever it cannot do", function()
    local scripts = {}
    for method, case in pairs(cases) do
      scripts[method] = HEAD .. ([[
        store.before.%s = fail
        local scheduler = ltsh.scheduler {
          container = store, limit = 30, %s actuator = ltsh.actuator.func(%s) }
        for i = 1, 30 do scheduler:add { id = tostring(i) } end
        ltsh.sleep(1.3)
        back(scheduler, 30)
      ]]):format(method, case[2] or "", case[1])
    end
    for method, result in pairs(side_by_side(scripts)) do
      assert.equal("true\ttrue\n", result.stdout, method .. ": " .. result.stderr)
      local lines = lines_of(result.stderr)
      assert.equal(2, #lines, method .. ": " .. result.stderr)
      assert.equal("error", lines[1].level:lower(), method)
    end
  end)

  it("altogether, claims and all, is told once each time that it goes", function()
    local result = side_by_side { HEAD .. [[
      for _, name in ipairs { "claim", "to_success", "to_failed", "to_waiting", "to_stopped", "update_running" } do
        store.before[name] = fail
      end
      down = false
      local scheduler = ltsh.scheduler {
        container = store, limit = 10, actuator = ltsh.actuator.func(function() ltsh.sleep(0.02) end) }
      scheduler:pause()
      for i = 1, 60 do scheduler:add { id = tostring(i) } end
      scheduler:resume()
      for _ = 1, 2 do
        ltsh.sleep(0.03)
        down = true
        ltsh.sleep(0.6)
        down = false
        ltsh.sleep(0.03)
        while scheduler:stats().running == 10 and scheduler:stats().success == 0 do ltsh.sleep(0.01) end
        local t0, before = ltsh.now(), scheduler:stats().success
        while scheduler:stats().success == before and ltsh.now() - t0 < 3 do ltsh.sleep(0.01) end
      end
      back(scheduler, 60)
    ]] }
    assert.equal("true\ttrue\n", result[1].stdout, result[1].stderr)
    local lines = lines_of(result[1].stderr)
    assert.equal(4, #lines, result[1].stderr)
  end)

  it("with another message each time is told once", function()
    local result = side_by_side { HEAD .. [[
      store.before.to_success = function()
        n = n + 1
        if down then error(("connection %d refused at %s"):format(n, tostring({}))) end
      end
      local scheduler = ltsh.scheduler { container = store, limit = 30, actuator = ltsh.actuator.func(function() end) }
      for i = 1, 30 do scheduler:add { id = tostring(i) } end
      ltsh.sleep(1)
      back(scheduler, 30)
    ]], claims = HEAD .. [[
      local claims = 0
      store.before.claim = function()
        claims = claims + 1
        if down then error("connection " .. claims .. " refused") end
      end
      local scheduler = ltsh.scheduler {
        container = store, limit = 30, schedule_interval = 0.02, actuator = ltsh.actuator.func(function() end) }
      for i = 1, 30 do scheduler:add { id = tostring(i) } end
      ltsh.sleep(1)
      print(claims >= 2 and claims <= 15)
      back(scheduler, 30)
    ]], messages = HEAD .. [[
      local messages = { "connection refused", "no route to host" }
      local claims = 0
      function store:claim()
        claims = claims + 1
        return nil, messages[claims % 2 + 1]
      end
      local scheduler = ltsh.scheduler {
        container = store, schedule_interval = 0.02, actuator = ltsh.actuator.func(function() end) }
      scheduler:add { id = "t" }
      ltsh.sleep(1)
      print(claims >= 2 and claims <= 15)
      os.exit(0)
    ]] }
    for name, lines in pairs { 2, claims = 2, messages = 1 } do
      assert.equal(lines, #lines_of(result[name].stderr), result[name].stderr)
    end
    assert.equal("true\ttrue\n", result[1].stdout)
    assert.equal("true\ntrue\ttrue\n", result.claims.stdout)
    assert.equal("true\n", result.messages.stdout)
  end)

  it("because its calls take too long is like one that refuses", function()
    local store, gate = table_container(), scene.door()
    store.before.to_success = gate.pass
    local scheduler = open(function() end, { container = store, limit = 10, container_timeout = 0.05 })
    for i = 1, 10 do scheduler:add { id = tostring(i) } end
    ltsh.sleep(0.3)
    eventually("all are held", function() return scheduler:stats().running == 10 end)
    gate.is_open = true
    local before = uv.hrtime()
    for i = 1, 10 do
      local task, message = within(12, scheduler.wait, scheduler, tostring(i), 10)
      assert.is_nil(message)
      assert.equal("success", task.status)
    end
    assert.is_true(uv.hrtime() - before < 8e9) -- and not one each second
  end)

  it("holds its tasks' slots, and does not run them again", function()
    local store, down, runs = table_container(), true, {}
    store.before.to_success = function() if down then error "connection refused" end end
    local function note(task) runs[task.id] = (runs[task.id] or 0) + 1 end
    local scheduler = open(note, { container = store, limit = 3 })
    for i = 1, 10 do scheduler:add { id = tostring(i) } end
    ltsh.sleep(0.15)
    local count = 0
    for _ in pairs(runs) do count = count + 1 end
    assert.equal(3, count)
    assert.equal(3, scheduler:stats().running)
    down = false
    for i = 1, 10 do within(8, scheduler.wait, scheduler, tostring(i)) end
    for i = 1, 10 do assert.equal(1, runs[tostring(i)]) end
  end)

  it("lets tasks be asked for and stopped where it can", function()
    local store, down = table_container(), true
    store.before.to_success = function() if down then error "connection refused" end end
    local scheduler = open(function(task) if task.item then ltsh.sleep(3600) end end, { container = store, limit = 2 })
    scheduler:add { id = "ended" }
    scheduler:add { id = "runs", item = true }
    eventually("both ran", function() return scheduler:stats().running == 2 end)
    assert.equal("running", scheduler:get("ended").status)
    assert.equal("timeout", select(3, within(5, scheduler.wait, scheduler, "ended", 0.02)))
    local answer = later(scheduler.stop, scheduler, "runs")
    ltsh.sleep(0.02)
    down = false
    assert.equal("stopped", answer().status)
    assert.equal("success", within(5, scheduler.wait, scheduler, "ended").status)
  end)

  it("says so to who adds, and takes nothing", function()
    local store, down = table_container(), true
    store.before.add = function() if down then error "connection refused" end end
    local scheduler = open(nil, { container = store })
    local id, message = within(5, scheduler.add, scheduler, { id = "t" })
    assert.is_nil(id)
    assert.matches("connection refused", message)
    down = false
    assert.equal("t", within(5, scheduler.add, scheduler, { id = "t" }))
    assert.equal("success", within(5, scheduler.wait, scheduler, "t").status)
  end)

  it("does not hold up its scheduler's close for long", function()
    for _, durable in ipairs { true, false } do
      local store = table_container { durable = durable }
      for _, name in ipairs { "to_success", "to_stopped", "to_waiting" } do
        store.before[name] = function() error "connection refused" end
      end
      local function work(task) if task.item then ltsh.sleep(3600) end end
      local scheduler = open(work, { container = store, limit = 2 })
      scheduler:add { id = "ended" }
      scheduler:add { id = "runs", item = true }
      eventually("both ran", function() return scheduler:stats().running == 2 end)
      assert.is_truthy((within(10, scheduler.close, scheduler, { drain = 0 })))
    end
  end)
end)

describe("a task that its store cannot take", function()
  local cases = {
    to_success = { function() end, "success" },
    to_failed = { function() error "broken" end, "failed" },
    to_exporting = { function() return 1 end, "success" },
    to_waiting = { function(task) if task.attempts == 1 then error "broken" end end, "success" },
  }

  for method, case in pairs(cases) do
    it("does not hold up the others: " .. method, function()
      local store, poisoned = table_container(), true
      store.before[method] = function(task)
        if poisoned and task.id == "poison" then error "value out of range" end
      end
      local scheduler = open(case[1], {
        container = store, limit = 3, max_retries = 1,
        persister = method == "to_exporting" and {
          save = function() return true end, load = function() return 1 end, delete = function() return true end,
        } or nil,
      })
      scheduler:add { id = "poison" }
      for i = 1, 30 do scheduler:add { id = tostring(i) } end
      local before = uv.hrtime()
      for i = 1, 30 do
        local task, message = within(8, scheduler.wait, scheduler, tostring(i), 5)
        assert.is_nil(message)
        assert.equal(case[2], task.status)
      end
      assert.is_true(uv.hrtime() - before < 8e9)
      for i = 31, 40 do scheduler:add { id = tostring(i) } end
      for i = 31, 40 do assert.equal(case[2], within(8, scheduler.wait, scheduler, tostring(i), 5).status) end
      assert.equal("timeout", select(3, scheduler:wait("poison", 0)))
      poisoned = false
    end)
  end

  it("does not hold up the others, though there are as many as slots but one", function()
    local store = table_container()
    store.before.to_success = function(task)
      if task.item then error "value out of range" end
    end
    local scheduler = open(nil, { container = store, limit = 4 })
    for i = 1, 3 do scheduler:add { id = "poison" .. i, item = true } end
    for i = 1, 20 do scheduler:add { id = tostring(i) } end
    for i = 1, 20 do
      local task, message = within(8, scheduler.wait, scheduler, tostring(i), 6)
      assert.is_nil(message)
      assert.equal("success", task.status)
    end
  end)
end)

describe("a paused scheduler", function()
  local containers = {
    queue = "ltsh.container.queue {}", priority = "ltsh.container.priority {}",
    table = "require 'spec.support.table' {}", late = "require 'spec.support.table' { late = true }",
    durable = "require 'spec.support.table' { durable = true }",
  }

  local function script(container, rest)
    return ([[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = %s, actuator = ltsh.actuator.func(function() ltsh.sleep(0.02) end) }
    ]]):format(container) .. rest .. " print 'over'"
  end

  it("in which nothing waits lets the process end", function()
    local scripts = {}
    -- What others have put into a durable table is not known before it was asked.
    for name, container in pairs(containers) do
      local function add(how, source)
        scripts[name .. ", " .. how] = script(container, source)
      end
      add("after a task", [[
        scheduler:add { id = "t" }
        scheduler:wait "t"
        scheduler:pause()]])
      if name ~= "durable" then
        add("from the start", "scheduler:pause()")
        add("while a task runs", [[
          local began
          scheduler:on("started", function() began = true end)
          scheduler:add { id = "t" }
          while not began do ltsh.sleep(0.001) end
          scheduler:pause()]])
        add("whose tasks were stopped and deleted", [[
          scheduler:pause()
          scheduler:add { id = "t" }
          scheduler:add { id = "u", delay = 3600 }
          scheduler:stop "t"
          scheduler:delete "u"]])
      end
      if name == "queue" or name == "priority" then -- a table's expire when they would be claimed
        add("whose tasks expire", [[
          scheduler:pause()
          scheduler:add { id = "t", expires = 0.01 }]])
      end
    end
    local children, holding = {}, {}
    for name, source in pairs(scripts) do children[name] = run.start({ "-e", source }, { limit = 12 }) end
    for name, child in pairs(children) do
      local ended, result = pcall(child.wait, child)
      if not ended then
        holding[#holding + 1] = name
      else
        assert.same({ 0, "over\n" }, { result.code, result.stdout }, name)
      end
    end
    table.sort(holding)
    assert.same({}, holding)
  end)

  it("in which something waits holds the process", function()
    local children = {}
    for name, container in pairs(containers) do
      children[name .. ", waiting"] = run.start({ "-e", script(container, [[
        scheduler:pause()
        scheduler:add { id = "t" }]]) })
      children[name .. ", delayed"] = run.start({ "-e", script(container, [[
        scheduler:add { id = "t", delay = 3600 }
        scheduler:pause()]]) })
    end
    for _, child in pairs(children) do child:expect "over" end
    ltsh.sleep(0.3)
    for name, child in pairs(children) do
      assert.is_nil(child.ended, name)
      child:kill "sigterm"
    end
    for _, child in pairs(children) do child:wait() end
  end)
end)
