-- Time: what expires and what has begun in time; a timer beside many tasks that are due, expire, start or end at once;
-- and rates, timeouts, polls and waits when somebody sets the wall clock.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"
local stage = require "spec.support.stage"
local run = require "spec.support.run"
local clock = require "spec.support.clock"

local open, eventually = scene.open, scene.eventually
local within = stage.within

after_each(function()
  stage.close()
  run.clean()
end)

local CONTAINERS = stage.containers

for name, container in pairs(CONTAINERS) do
  describe("in a " .. name .. ", a task that expires", function()
    -- A task "t" that must begin within some time, and what became of it: `make(longer)` returns its function, which is
    -- also told the how manieth run it is, and options. On a busy machine it may not begin in time: then again, with
    -- more of it.
    local function late(make)
      for _, expires in ipairs { 0.03, 0.3, 3 } do
        local begun = 0
        local fn, options = make(2.5 * expires)
        options = options or {}
        options.container = container()
        local scheduler = open(function(task)
          begun = begun + 1
          return fn(task, begun)
        end, options)
        scheduler:add { id = "t", expires = expires }
        local task, message = within(20, scheduler.wait, scheduler, "t")
        assert.is_nil(message)
        if begun > 0 then return task, begun end
        assert.equal("expired", task.reason)
      end
      error "it never began in time"
    end

    it("and began in time may snooze longer than that", function()
      local task, begun = late(function(longer)
        return function(_, run_number)
          if run_number == 1 then return nil, { reason = "busy", snooze = longer } end
          return "done"
        end
      end)
      assert.same({ "success", "done", 2, 1 }, { task.status, task.output, begun, task.attempts })
    end)

    it("and began in time may be retried later than that", function()
      local task, begun = late(function(longer)
        return function(_, run_number)
          if run_number == 1 then error "broken" end
        end, { max_retries = 1, backoff = longer }
      end)
      assert.same({ "success", 2, 2 }, { task.status, begun, task.attempts })
    end)

    it("and began in time may run longer than that", function()
      local task, begun = late(function(longer)
        return function()
          ltsh.sleep(longer)
          return "slowly"
        end
      end)
      assert.same({ "success", "slowly", 1 }, { task.status, task.output, begun })
    end)

    it("and began in time may snooze again and again", function()
      local task = late(function(longer)
        return function(_, run_number)
          if run_number < 6 then return nil, { reason = "busy", snooze = longer / 4 } end
          return run_number
        end
      end)
      assert.same({ "success", 6 }, { task.status, task.output })
    end)

    it("does so while others hold the slots", function()
      local gate, ran = scene.door(), {}
      local scheduler = open(function(task)
        ran[task.id] = true
        gate.pass()
      end, { container = container() })
      scheduler:add { id = "holder" }
      eventually("it runs", function() return ran.holder end)
      scheduler:add { id = "t", expires = 0.02 }
      ltsh.sleep(0.04)
      gate.is_open = true
      local task = within(8, scheduler.wait, scheduler, "t")
      assert.same({ "failed", "expired" }, { task.status, task.reason })
      assert.is_nil(ran.t)
    end)

    it("is retried by hand with the same time anew", function()
      local scheduler = open(function() return "done" end, { container = container() })
      scheduler:pause()
      scheduler:add { id = "t", expires = 0.02 }
      ltsh.sleep(0.04)
      scheduler:resume()
      assert.equal("expired", within(8, scheduler.wait, scheduler, "t").reason)
      assert(scheduler:retry "t")
      local task = within(8, scheduler.wait, scheduler, "t")
      assert.equal("success", task.status)
    end)
  end)
end

describe("a time that never comes", function()
  for name, container in pairs(CONTAINERS) do
    it("may be a delay, a date, or when a task expires, in a " .. name, function()
      local scheduler = open(nil, { container = container() })
      scheduler:add { id = "delayed", delay = 1e308 }
      scheduler:add { id = "dated", run_at = 1e308 }
      scheduler:add { id = "expires", expires = 1e308 }
      assert.equal("success", within(5, scheduler.wait, scheduler, "expires").status)
      assert.equal(2, scheduler:stats().delayed)
      for _, id in ipairs { "delayed", "dated" } do
        assert.matches("beyond the year 9999", (scheduler:explain(id)))
        assert.equal("waiting", scheduler:get(id).status)
      end
    end)
  end
end)

describe("a timer beside very many tasks", function()
  local lateness = scene.lateness

  local BOUND = os.getenv "LTSH_TEST_PRESET" == "release" and 0.15 or 1

  local function many(count, fields)
    local list = {}
    for i = 1, count do
      list[i] = { id = tostring(i) }
      for field, value in pairs(fields or {}) do list[i][field] = value end
    end
    return list
  end

  for _, name in ipairs { "queue", "priority" } do
    it("is in time when they expire in a " .. name, function()
      local scheduler = open(nil, { container = ltsh.container[name] {}, finished_size = 0 })
      scheduler:pause()
      scheduler:add_all(many(30000, { expires = 0.2 }))
      local worst = lateness(function()
        eventually("all have expired", function() return scheduler:stats().failed == 30000 end)
      end)
      assert.is_true(worst < BOUND, worst)
    end)
  end

  it("is in time when they become due and run", function()
    local scheduler = open(nil, { limit = 1000, finished_size = 0, keep = { tasks = 10 } })
    scheduler:add_all(many(30000, { delay = 0.2 }))
    local worst = lateness(function()
      eventually("all have run", function() return scheduler:stats().success == 30000 end)
    end)
    assert.is_true(worst < BOUND, worst)
  end)

  it("is in time when they all start, and each start takes its time", function()
    for _, mode in ipairs { "actuator", "function" } do
      local function burn()
        local began = uv.hrtime()
        while uv.hrtime() - began < 300000 do end
      end
      local actuator = mode == "function" and ltsh.actuator.func(burn) or {
        attach = function() end,
        start = function()
          burn()
          return true
        end,
        stop = function() return true end,
      }
      local scheduler = open(nil, { actuator = actuator, limit = 400 })
      scheduler:pause()
      scheduler:add_all(many(400))
      local worst = lateness(function()
        ltsh.sleep(0.02)
        scheduler:resume()
        eventually("all have started", function()
          local stats = scheduler:stats()
          return stats.running + stats.success == 400
        end)
      end)
      assert.is_true(worst < math.max(0.06, BOUND / 2), mode .. ": " .. worst)
    end
  end)

  it("is in time when they end at once, and when they are stopped at once", function()
    for _, how in ipairs { "end", "timeout", "close" } do
      local notify, runs = nil, {}
      local scheduler = open({
        attach = function(_, push) notify = push end,
        start = function(_, task)
          runs[#runs + 1] = { id = task.id, run = task.run, status = "success" }
          return true
        end,
        stop = function() return true end,
      }, { limit = 2000, timeout = how == "timeout" and 0.3 or nil })
      local ended = 0
      scheduler:on("finished", function() ended = ended + 1 end)
      scheduler:add_all(many(2000))
      eventually("all run", function() return #runs == 2000 end)
      local worst = lateness(function()
        if how == "end" then
          for _, record in ipairs(runs) do notify(record) end
        elseif how == "close" then
          within(20, scheduler.close, scheduler, { drain = 0 })
        end
        eventually("all have ended", function() return ended == 2000 end)
      end)
      assert.is_true(worst < math.max(0.1, BOUND), how .. ": " .. worst)
    end
  end)

  it("is in time when they wait at a close", function()
    local scheduler = open(function() end, { finished_size = 0 })
    scheduler:pause()
    local stopped = 0
    for i = 1, 400000 do scheduler:add { delay = i % 2 == 0 and 60 or nil } end
    scheduler:on("finished", function() stopped = stopped + 1 end)
    local worst = lateness(function() within(20, scheduler.close, scheduler, { drain = 0 }) end)
    assert.equal(400000, stopped)
    assert.is_true(worst < BOUND, worst)
  end)

  it("is in time when many fail and are retried at once", function()
    local scheduler = open(function(task)
      if task.attempts == 1 then error "not yet" end
    end, { limit = 2000, max_retries = 1, backoff = 0.2, finished_size = 0 })
    scheduler:add_all(many(5000))
    local worst = lateness(function()
      eventually("all have succeeded", function() return scheduler:stats().success == 5000 end)
    end)
    assert.is_true(worst < BOUND, worst)
  end)
end)

describe("the wall clock, when it is set", function()
  local it_when_set = clock.it(it, pending)

  lazy_setup(clock.open)
  lazy_teardown(clock.close)

  -- What a script prints; the clock jumps by so many seconds, 0.2 s after its start.
  local function jump(by, script)
    local child = run.ltsh({ "-e", [[
      local ltsh, uv = require "ltsh", require "luv"
      local table_container = require "spec.support.table"
      local t0 = uv.hrtime()
      local function seconds() return (uv.hrtime() - t0) / 1e9 end
      local function soon(from, to) return seconds() >= from and seconds() < to end
    ]] .. script .. " os.exit(0)" }, {
      limit = 60, env = clock.env(0.2, by),
    })
    assert.equal(0, child.code, child.stderr)
    return child.stdout
  end

  for _, by in ipairs { -3600, 3600 } do
    local how = by < 0 and " back" or " forward"

    it_when_set("changes no delay, backoff, snooze, timeout or expiry:" .. how, function()
      local out = jump(by, [[
        local runs = {}
        local s = ltsh.scheduler { container = ltsh.container.queue {}, limit = 9, max_retries = 1, backoff = 0.6,
          actuator = ltsh.actuator.func(function(task)
            runs[task.id] = (runs[task.id] or 0) + 1
            if task.id == "backoff" and runs[task.id] == 1 then return nil, "no" end
            if task.id == "snooze" and runs[task.id] == 1 then return nil, { reason = "not yet", snooze = 0.6 } end
            if task.id == "timeout" then ltsh.sleep(100) end
          end) }
        s:add { id = "delay", delay = 0.6 }
        s:add { id = "far", delay = 600 }
        s:add { id = "backoff" }
        s:add { id = "snooze" }
        s:add { id = "timeout", timeout = 0.6, max_retries = 0 }
        for _, id in ipairs { "delay", "backoff", "snooze", "timeout" } do
          local task = s:wait(id, 10)
          local took = seconds()
          print(id, task and task.status, took > 0.5 and took < 30)
        end
        print("far", s:get("far").status)
        s:pause()
        s:add { id = "expires", expires = 0.4 }
        local before = seconds()
        print("expires", s:wait("expires", 10).reason, seconds() - before < 30)
      ]])
      assert.equal("delay\tsuccess\ttrue\nbackoff\tsuccess\ttrue\nsnooze\tsuccess\ttrue\ntimeout\tfailed\ttrue\n" ..
        "far\twaiting\nexpires\texpired\ttrue\n", out)
    end)

    it_when_set("changes no rate, timeout, drain or time of a wait:" .. how, function()
      assert.equal("true\ntimeout\ttrue\ntimeout\ttrue\ntrue\n", jump(by, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.queue {}, limit = 5, rate = { 1, per = 0.2 },
          actuator = ltsh.actuator.func(function(task) if task.item then ltsh.sleep(3600) end end) }
        for i = 1, 4 do scheduler:add { id = tostring(i) } end
        scheduler:wait "4"
        print(soon(0.5, 30))
        t0 = uv.hrtime()
        scheduler:set { rate = false }
        scheduler:add { id = "t", item = true, timeout = 0.3 }
        print(scheduler:wait("t", 20).reason, soon(0.25, 30))
        t0 = uv.hrtime()
        scheduler:add { id = "u", item = true }
        print(select(3, scheduler:wait("u", 0.3)), soon(0.25, 30))
        t0 = uv.hrtime()
        scheduler:close { drain = 0.3 }
        print(soon(0.25, 30))
      ]]))
    end)

    it_when_set("changes no time of a poll, and of what asks a table that announces nothing:" .. how, function()
      assert.equal("success\ttrue\n", jump(by, [[
        local store = table_container()
        getmetatable(store).attach = nil
        local scheduler = ltsh.scheduler {
          container = store, poll_interval = 0.3, callback = false, schedule_interval = 0.3,
          actuator = {
            start = function() return true end, stop = function() return true end,
            status = function(_, tasks)
              for i in ipairs(tasks) do tasks[i] = { status = seconds() > 0.4 and "success" or "running" } end
              return tasks
            end,
          } }
        scheduler:add { id = "t" }
        local task = scheduler:wait("t", 20)
        print(task and task.status, seconds() < 30)
      ]]))
    end)

    it_when_set("leaves all times of a task in their order of a run:" .. how, function()
      assert.equal("success\ttrue\ttrue\n", jump(by, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.queue {}, actuator = ltsh.actuator.func(function() ltsh.sleep(0.5) end) }
        scheduler:add { id = "t" }
        local task = scheduler:wait("t", 20)
        local stats = scheduler:stats()
        print(task.status, stats.run.p50 >= 0.3 and stats.run.p50 < 30, stats.wait.p50 >= 0 and stats.wait.p50 < 30)
      ]]))
    end)
  end

  it_when_set("forward makes what has a date due at once", function()
    local out = jump(3600, [[
      local s = ltsh.scheduler { container = ltsh.container.queue {}, actuator = ltsh.actuator.func(function() end) }
      s:add { id = "dated", run_at = ltsh.now() + 1800 }
      s:add { id = "later", run_at = ltsh.now() + 7200 }
      print(s:wait("dated", 30).status, seconds() < 30, s:get("later").status)
    ]])
    assert.equal("success\ttrue\twaiting\n", out)
  end)

  it_when_set("back makes what has a date wait for it", function()
    local out = jump(-3600, [[
      local s = ltsh.scheduler { container = ltsh.container.queue {}, actuator = ltsh.actuator.func(function() end) }
      local added = ltsh.now()
      s:add { id = "dated", run_at = added + 0.6 }
      local task, _, code = s:wait("dated", 1.5)
      if ltsh.now() > added then task, code = nil, "timeout" end -- it began so late that the clock had jumped already
      print(task, code)
    ]])
    assert.equal("nil\ttimeout\n", out)
  end)
end)
