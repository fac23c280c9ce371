-- What goes wrong in schedulers of this kind, each as a case that must not.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"

local eventually = scene.eventually

local function open(options)
  options.container = options.container or ltsh.container.queue {}
  if type(options.actuator) == "function" then options.actuator = ltsh.actuator.func(options.actuator) end
  return scene.keep(ltsh.scheduler(options))
end

after_each(scene.close)

local ends_of = scene.ends_of

it("an end that is pushed before start returns leaves no ghost among what runs", function()
  local notify
  local scheduler = open {
    limit = 2,
    callback = true,
    poll_interval = false,
    actuator = {
      attach = function(_, push) notify = push end,
      start = function(_, task)
        notify { id = task.id, run = task.run, status = "success" }
        if task.item % 7 == 0 then ltsh.sleep(0) end
        return true
      end,
      stop = function() return true end,
    },
  }
  for i = 1, 2000 do scheduler:add { id = tostring(i), item = i } end
  assert.equal(2000, #ends_of(scheduler))
  assert.equal(0, scheduler:stats().running)
  assert.equal(0, scheduler:count { status = "running" })
end)

for _, limit in ipairs { 2, 64, 1000 } do
  it("ends that are pushed and polled come once and right, limit " .. limit, function()
    local scheduler = open {
      limit = limit, poll_interval = 0.001, callback = true,
      actuator = function(task)
        if task.item % 5 == 0 then return nil, "broken" end
        if task.item % 3 == 0 then ltsh.sleep(0.001) end
        return task.item
      end,
    }
    local count = 3000
    for i = 1, count do scheduler:add { id = tostring(i), item = i } end
    local seen = {}
    for task in scheduler:finished() do
      assert(not seen[task.id], "an end came twice")
      seen[task.id] = true
      assert(task.status == (task.item % 5 == 0 and "failed" or "success"))
      assert(task.status == "failed" and task.reason == "broken" or task.output == task.item)
    end
    for i = 1, count do assert(seen[tostring(i)], "an end is missing") end
  end)
end

it("close while tasks end, and close again, is no error", function()
  for drain = 0, 4 do
    local scheduler = open { limit = 20, actuator = function() ltsh.sleep(0.001 * math.random(0, 4)) end }
    local ends = 0
    scheduler:on("finished", function() ends = ends + 1 end)
    for _ = 1, 100 do scheduler:add {} end
    ltsh.sleep(0.003)
    local jobs = {}
    for i = 1, 3 do jobs[i] = ltsh.spawn(scheduler.close, scheduler, { drain = drain / 1000 }) end
    for i = 1, 3 do jobs[i]:wait() end
    scheduler:close()
    assert.equal(100, ends)
  end
end)

it("a stop of an id that has ended or is not known does not swallow its next add", function()
  local scheduler = open { actuator = function() return "done" end }
  scheduler:add { id = "ended" }
  scheduler:wait "ended"
  for _, id in ipairs { "ended", "unknown" } do
    assert.is_nil((scheduler:stop(id)))
    assert.equal(id, scheduler:add { id = id })
    assert.equal("success", scheduler:wait(id, 5).status)
  end
end)

it("a run that says not now is not lost", function()
  local runs = 0
  local scheduler = open { actuator = function()
    runs = runs + 1
    if runs < 4 then return nil, { snooze = 0.001 } end
    return "done"
  end }
  scheduler:add { id = "t" }
  assert.equal("done", scheduler:wait("t", 5).output)
  assert.equal(1, #ends_of(scheduler))
end)

it("a container cannot serve two schedulers", function()
  local container = ltsh.container.queue {}
  local first = open { container = container, actuator = function() end }
  local ok, message = pcall(ltsh.scheduler, { container = container, actuator = ltsh.actuator.func(function() end) })
  assert.is_false(ok)
  assert.matches("container", message)
  first:add { id = "t" }
  assert.equal("success", first:wait("t", 5).status)
end)

it("adding an id that runs leaves the run alone", function()
  local release = false
  local scheduler = open { limit = 2, actuator = function(task)
    while not release do ltsh.sleep(0.001) end
    return task.item
  end }
  scheduler:add { id = "t", item = "first" }
  eventually("it runs", function() return scheduler:get("t").status == "running" end)
  assert.equal("exists", select(3, scheduler:add { id = "t", item = "second" }))
  release = true
  local task = scheduler:wait "t"
  assert.equal("first", task.item)
  assert.equal("first", task.output)
  assert.equal(1, #ends_of(scheduler))
end)

it("a run that outlives its timeout does not end the next run of its id", function()
  local runs = 0
  local scheduler = open { timeout = 0.3, max_retries = 1, actuator = function()
    runs = runs + 1
    local own = runs
    if own == 1 then
      pcall(ltsh.sleep, 3600)
      return "first"
    end
    ltsh.sleep(0.005)
    return "second"
  end }
  scheduler:add { id = "t" }
  local task = scheduler:wait("t", 10)
  assert.equal("success", task.status)
  assert.equal("second", task.output)
  assert.equal(2, task.attempts)
  assert.equal(1, #ends_of(scheduler))
end)

it("a task that is stopped around a poll does not run again", function()
  local runs = {}
  local scheduler = open {
    limit = 10, poll_interval = 0.001, callback = false, max_retries = 3,
    actuator = function(task)
      runs[task.id] = (runs[task.id] or 0) + 1
      ltsh.sleep(0.002)
    end,
  }
  for i = 1, 100 do scheduler:add { id = tostring(i) } end
  for i = 1, 100 do
    if i % 10 == 0 then ltsh.sleep(0.001) end
    scheduler:stop(tostring(i))
  end
  assert.equal(100, #ends_of(scheduler))
  for _, count in pairs(runs) do assert.equal(1, count) end
end)

it("a full finished list drops its oldest, counts them, and holds nothing up", function()
  local scheduler = open { finished_size = 10, limit = 5, actuator = function() end }
  for i = 1, 1000 do scheduler:add { id = tostring(i) } end
  scheduler:wait "1000"
  eventually("all have ended", function() return scheduler:stats().success == 1000 end)
  assert.equal(990, scheduler:stats().finished_dropped)
  assert.equal(10, #ends_of(scheduler))
end)

it("stopped tasks are among the finished", function()
  local scheduler = open { actuator = function() ltsh.sleep(3600) end }
  scheduler:add { id = "running" }
  scheduler:add { id = "waiting" }
  scheduler:add { id = "delayed", delay = 3600 }
  eventually("it runs", function() return scheduler:get("running").status == "running" end)
  for _, id in ipairs { "delayed", "waiting", "running" } do scheduler:stop(id) end
  local statuses = {}
  for _, task in ipairs(ends_of(scheduler)) do statuses[task.id] = task.status end
  assert.same({ running = "stopped", waiting = "stopped", delayed = "stopped" }, statuses)
end)

it("a stop between claim and running is heard", function()
  local starts, stops = 0, 0
  local scheduler = open {
    callback = true, poll_interval = false,
    actuator = {
      attach = function() end,
      start = function()
        starts = starts + 1
        ltsh.sleep(0.02)
        return "handle"
      end,
      stop = function(_, task)
        assert.equal("handle", task.handle)
        stops = stops + 1
        return true
      end,
    },
  }
  scheduler:add { id = "t" }
  eventually("it is starting", function() return starts == 1 end)
  assert.equal("stopped", scheduler:stop("t").status)
  assert.equal(1, stops)
  assert.equal(1, #ends_of(scheduler))

  scheduler:on("started", function(task) ltsh.spawn(scheduler.stop, scheduler, task.id) end)
  scheduler:add { id = "u" }
  assert.equal("stopped", scheduler:wait("u", 5).status)
end)

it("a retry keeps neither the start time nor the handle of the attempt before", function()
  local seen = {}
  local notify
  local scheduler = open {
    max_retries = 2, backoff = 0.02, callback = true, poll_interval = false,
    actuator = {
      attach = function(_, push) notify = push end,
      start = function(_, task)
        seen[#seen + 1] = { handle = task.handle, started_at = task.started_at, output = task.output,
          progress = task.progress }
        local id, run, attempt = task.id, task.run, task.attempts
        ltsh.spawn(function()
          ltsh.sleep(0.005)
          notify { id = id, run = run, status = "running", progress = attempt }
          notify { id = id, run = run, status = attempt < 3 and "failed" or "success", reason = "broken" }
        end)
        return "handle " .. attempt
      end,
      stop = function() return true end,
    },
  }
  scheduler:add { id = "t" }
  local task = scheduler:wait("t", 10)
  assert.equal("success", task.status)
  assert.equal("handle 3", task.handle)
  assert.equal(3, #seen)
  for i, attempt in ipairs(seen) do
    assert.is_nil(attempt.handle)
    assert.is_nil(attempt.progress)
    if i > 1 then assert.is_true(attempt.started_at >= seen[i - 1].started_at + 0.02) end
  end
end)

it("the limit holds for functions that outlive their timeouts", function()
  local alive, most = 0, 0
  local scheduler = open { limit = 2, timeout = 0.005, max_retries = 1, actuator = function()
    alive = alive + 1
    most = math.max(most, alive)
    pcall(ltsh.sleep, 3600) -- does not want to hear it
    local until_ = uv.hrtime() + 2e6
    while uv.hrtime() < until_ do end
    alive = alive - 1
  end }
  for _ = 1, 20 do scheduler:add {} end
  for _, task in ipairs(ends_of(scheduler)) do assert.equal("timeout", task.reason) end
  assert.equal(2, most)
end)

it("the export has the limit and a timeout of its own", function()
  local saving, most = 0, 0
  local scheduler = open {
    limit = 2, export_timeout = 0.4,
    actuator = function() return "output" end,
    persister = {
      save = function(_, task)
        local _ <close> = setmetatable({}, { __close = function() saving = saving - 1 end })
        saving = saving + 1
        most = math.max(most, saving)
        if task.item == "hangs" then ltsh.sleep(3600) end
        return true
      end,
      load = function() end,
      delete = function() return true end,
    },
  }
  scheduler:add { id = "hangs", item = "hangs" }
  for i = 1, 20 do scheduler:add { id = tostring(i) } end
  local ends = ends_of(scheduler)
  assert.equal(21, #ends)
  for _, task in ipairs(ends) do
    assert.equal(task.id == "hangs" and "failed" or "success", task.status)
    if task.id == "hangs" then assert.is_string(task.reason) end
  end
  assert.is_true(most <= 2)
  assert.equal(0, saving)
end)

it("a save that fails is tried again, the run is not", function()
  local runs, saves = 0, 0
  local scheduler = open {
    max_retries = 3, backoff = 0.001,
    actuator = function()
      runs = runs + 1
      return "output"
    end,
    persister = {
      save = function()
        saves = saves + 1
        if saves < 3 then return nil, "disk full" end
        return true
      end,
      load = function() return "output" end,
      delete = function() return true end,
    },
  }
  scheduler:add { id = "t" }
  local task = scheduler:wait("t", 10)
  assert.equal("success", task.status)
  assert.equal(1, runs)
  assert.equal(3, saves)
  assert.equal(1, task.attempts)
  assert.is_nil(task.reason)
end)

it("a save that fails too often fails the task, with its reason", function()
  local saves = 0
  local scheduler = open {
    max_retries = 2,
    actuator = function() return "output" end,
    persister = {
      save = function()
        saves = saves + 1
        error "disk full"
      end,
      load = function() end,
      delete = function() return true end,
    },
  }
  scheduler:add { id = "t" }
  local task = scheduler:wait("t", 10)
  assert.equal("failed", task.status)
  assert.matches("disk full", task.reason)
  assert.equal(3, saves)
end)

it("a failed first start is retried, and so is a timeout", function()
  local notify
  local scheduler = open {
    max_retries = 1, timeout = 0.3, callback = true, poll_interval = false, limit = 2,
    actuator = {
      attach = function(_, push) notify = push end,
      start = function(_, task)
        if task.attempts == 1 then
          if task.id == "refused" then return nil, "no room" end
          return true -- and never ends
        end
        notify { id = task.id, run = task.run, status = "success" }
        return true
      end,
      stop = function() return true end,
    },
  }
  scheduler:add { id = "refused" }
  scheduler:add { id = "silent" }
  for _, task in ipairs(ends_of(scheduler)) do
    assert.equal("success", task.status)
    assert.equal(2, task.attempts)
  end
  assert.equal("no room", scheduler:history("refused")[1].reason)
  assert.equal("timeout", scheduler:history("silent")[1].reason)
end)

it("priorities count", function()
  local scheduler = open { container = ltsh.container.priority {}, actuator = function() end }
  scheduler:pause()
  for i = 1, 9 do scheduler:add { id = tostring(i), priority = i * 7 % 9 } end
  scheduler:resume()
  local last = math.huge
  for task in scheduler:finished() do
    assert.is_true(task.priority <= last)
    last = task.priority
  end
end)

it("no task, a negative interval, a limit of 0: an error that says so", function()
  local scheduler = open { actuator = function() end }
  assert.error_matches(function() scheduler:add(nil) end, "scheduler:add.*nil")
  local function with(name, value)
    return function()
      ltsh.scheduler { container = ltsh.container.queue {}, actuator = ltsh.actuator.func(print), [name] = value }
    end
  end
  assert.error_matches(with("limit", 0), "ltsh%.scheduler: limit must be a positive integer, got 0")
  assert.error_matches(with("limit", -1), "ltsh%.scheduler: limit must be a positive integer, got %-1")
  assert.error_matches(with("schedule_interval", -1), "schedule_interval.*%-1")
  assert.error_matches(with("poll_interval", -0.5), "poll_interval.*%-0%.5")
end)

it("a thousand waiting tasks and more are all taken, each once", function()
  local seen = {}
  local scheduler = open { limit = 16, actuator = function(task)
    seen[task.id] = (seen[task.id] or 0) + 1
  end }
  scheduler:pause()
  for i = 1, 5000 do scheduler:add { id = tostring(i) } end
  scheduler:resume()
  assert.equal(5000, #ends_of(scheduler))
  for i = 1, 5000 do assert(seen[tostring(i)] == 1) end
end)
