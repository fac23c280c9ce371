-- What is left of a run: outputs and progress of those that did not succeed, what was half saved, the history, and how
-- much of all this is kept.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"
local stage = require "spec.support.stage"
local run = require "spec.support.run"
local table_container = require "spec.support.table"

local open, eventually = scene.open, scene.eventually
local within = stage.within

after_each(function()
  stage.close()
  run.clean()
end)

local REPORT = { code = 3, stderr = "boom" }

describe("what is reported of a run that", function()
  -- Ends a task by a report, and checks what is known of it everywhere.
  local function assert_kept(record, expected, options)
    local held = stage.open(options or {})
    held.scheduler:add { id = "t" }
    eventually("it runs", function()
      local task = held.scheduler:get "t"
      return task.handle == "handle"
    end)
    held.finish(record)
    for task in held.scheduler:finished() do
      assert.same(expected, { task.status, task.reason, task.output, task.progress })
    end
    local task = held.scheduler:get "t"
    assert.same(expected, { task.status, task.reason, task.output, task.progress })
    assert.same(expected[3], (held.scheduler:output "t"))
    assert.same(expected[3], held.ends[1].output)
    assert.equal(0, held.saves)
  end

  for _, combination in ipairs {
    { store = "queue", mode = "callback" }, { store = "queue", mode = "poll" }, { store = "late", mode = "both" },
    { store = "durable", mode = "callback" }, { store = "durable", mode = "poll" },
  } do
    local how = (" (%s, %s)"):format(combination.store, combination.mode)

    local function options(more)
      more = more or {}
      more.store, more.mode = combination.store, combination.mode
      return more
    end

    it("failed is kept" .. how, function()
      assert_kept({ status = "failed", reason = "exit code 3", output = REPORT },
        { "failed", "exit code 3", REPORT }, options())
    end)

    it("failed is kept with its progress" .. how, function()
      assert_kept({ status = "failed", reason = "exit code 3", output = false, progress = { 1, 2 } },
        { "failed", "exit code 3", false, { 1, 2 } }, options())
    end)

    it("was stopped outside is kept" .. how, function()
      assert_kept({ status = "stopped", reason = "killed", output = REPORT, progress = 7 },
        { "failed", "killed", REPORT, 7 }, options())
    end)

    it("failed is that of the last one, when it is retried" .. how, function()
      local held = stage.open(options { max_retries = 1 })
      held.scheduler:add { id = "t" }
      eventually("it runs", function() return held.scheduler:get("t").handle == "handle" end)
      held.finish { status = "failed", reason = "first", output = "of the first" }
      if combination.mode == "poll" then
        eventually("it has failed", function() return held.scheduler:stats().retried == 1 end)
      end
      eventually("it runs again", function() return held.starts == 2 end)
      held.record = nil
      if combination.mode ~= "poll" then
        eventually("its handle is known", function() return held.scheduler:get("t").handle == "handle" end)
      end
      held.finish { status = "failed", reason = "second" }
      local task = within(5, held.scheduler.wait, held.scheduler, "t")
      assert.equal("failed", task.status)
      assert.is_true(task.output == nil or combination.mode == "poll")
    end)
  end

  it("succeeded after a failure is only its own", function()
    local runs, notify = 0, nil
    local scheduler = open({
      attach = function(_, push) notify = push end,
      start = function(_, task)
        runs = runs + 1
        if runs == 1 then
          notify { id = task.id, run = task.run, status = "failed", reason = "no", output = "old", progress = "old" }
        else
          notify { id = task.id, run = task.run, status = "success" }
        end
        return true
      end,
      stop = function() return true end,
    }, { max_retries = 1 })
    scheduler:add { id = "t" }
    local task = within(5, scheduler.wait, scheduler, "t")
    assert.equal("success", task.status)
    assert.is_nil(task.output)
    assert.is_nil(task.reason)
    assert.is_nil((scheduler:output "t"))
  end)

  it("is retried by hand is cleared", function()
    local held = stage.open {}
    held.scheduler:add { id = "t" }
    eventually("it runs", function() return held.scheduler:get("t").handle == "handle" end)
    held.finish { status = "failed", reason = "no", output = REPORT }
    within(5, held.scheduler.wait, held.scheduler, "t")
    held.scheduler:pause()
    held.scheduler:retry "t"
    local task = held.scheduler:get "t"
    assert.is_nil(task.output)
    assert.is_nil(task.reason)
  end)

  it("is being stopped is kept, and does not change how it ended", function()
    local actuator = { start = function() return true end }
    function actuator:attach(notify) self.notify = notify end
    function actuator:stop(task)
      self.notify { id = task.id, run = task.run, status = "failed", reason = "signal 15", output = "half" }
      return true
    end
    local scheduler = open(actuator, { timeout = 0.05 })
    scheduler:add { id = "late" }
    local late = scheduler:wait("late", 5)
    assert.same({ "failed", "timeout", "half" }, { late.status, late.reason, late.output })
    scheduler:add { id = "stopped", timeout = 60 }
    eventually("it runs", function() return scheduler:get("stopped").status == "running" end)
    local stopped = scheduler:stop("stopped", "enough")
    assert.same({ "stopped", "enough", "half" }, { stopped.status, stopped.reason, stopped.output })
  end)

  it("succeeded is not what could not be saved", function()
    local persister = { load = function() end, delete = function() return true end }
    function persister:save() error "disk full" end
    local scheduler = open(function() return 42 end, { persister = persister })
    scheduler:add { id = "a" }
    local task = scheduler:wait("a", 5)
    assert.same({ "failed", "disk full", nil }, { task.status, task.reason, task.output })
  end)
end)

describe("the progress of a run that", function()
  local function reporting(finish, options)
    local scheduler = open(function(task)
      task:report { at = 40 }
      return finish()
    end, options)
    scheduler:add { id = "t" }
    return scheduler
  end

  it("fails is kept", function()
    local scheduler = reporting(function() error "broken" end)
    assert.same({ at = 40 }, within(5, scheduler.wait, scheduler, "t").progress)
    assert.same({ at = 40 }, scheduler:get("t").progress)
  end)

  it("is stopped is kept", function()
    local scheduler = reporting(function() ltsh.sleep(3600) end)
    eventually("it has reported", function() return scheduler:get("t").progress end)
    local task = within(5, scheduler.stop, scheduler, "t")
    assert.same({ "stopped", { at = 40 } }, { task.status, task.progress })
    assert.same({ at = 40 }, scheduler:get("t").progress)
  end)

  it("is timed out is kept", function()
    local scheduler = reporting(function() ltsh.sleep(3600) end, { timeout = 0.03 })
    for task in scheduler:finished() do
      assert.same({ "timeout", { at = 40 } }, { task.reason, task.progress })
    end
  end)
end)

describe("what was half saved", function()
  -- Half of it is there before anything can go wrong.
  local function persister(save)
    local own = { data = {}, saves = 0, deletes = 0 }
    function own:save(task, data)
      self.saves = self.saves + 1
      self.data[task.id] = data
      return save(self.saves, task, self)
    end
    function own:load(task) return self.data[task.id] end
    function own:delete(task)
      self.deletes = self.deletes + 1
      self.data[task.id] = nil
      return true
    end
    return own
  end

  local function after(own, options)
    options = options or {}
    options.persister = own
    local scheduler = open(function() return 42 end, options)
    scheduler:add { id = "t" }
    return within(8, scheduler.wait, scheduler, "t"), scheduler
  end

  for _, retries in ipairs { 0, 2 } do
    for how, fail in pairs {
      raises = function() error "disk full" end,
      ["returns nil"] = function() return nil, "disk full" end,
    } do
      it(("is erased once after the last of %d tries, when save %s"):format(retries + 1, how), function()
        local own = persister(fail)
        local task, scheduler = after(own, { max_retries = retries })
        assert.same({ "failed", "disk full" }, { task.status, task.reason })
        assert.same({ retries + 1, 1 }, { own.saves, own.deletes })
        assert.is_nil(own.data.t)
        assert.equal("failed", scheduler:get("t").status)
      end)
    end
  end

  it("is erased when save says that no try makes sense", function()
    local own = persister(function() error { reason = "never", retry = false } end)
    local task = after(own, { max_retries = 5 })
    assert.same({ "never", 1, 1 }, { task.reason, own.saves, own.deletes })
  end)

  it("stays when a later try succeeds", function()
    local own = persister(function(count) if count < 3 then error "disk full" end end)
    local task, scheduler = after(own, { max_retries = 3 })
    assert.same({ "success", 0 }, { task.status, own.deletes })
    assert.equal(42, scheduler:output "t")
  end)

  it("is erased when the export takes too long", function()
    local own = persister(function() ltsh.sleep(3600) end)
    local task = after(own, { export_timeout = 0.3 })
    assert.equal("failed", task.status)
    assert.same({ 1, 1 }, { own.saves, own.deletes })
    assert.is_nil(own.data.t)
  end)

  for _, moment in ipairs { "under way", "between two tries" } do
    it("is erased when the task is stopped: " .. moment, function()
      local own = persister(function()
        if moment == "under way" then ltsh.sleep(0.1) else error "disk full" end
      end)
      local scheduler = open(function() return 42 end, { persister = own, max_retries = 5, backoff = 3600 })
      scheduler:add { id = "t" }
      eventually("it is being saved", function() return own.saves == 1 end)
      ltsh.sleep(0.005)
      assert.equal("stopped", within(5, scheduler.stop, scheduler, "t").status)
      assert.equal(1, own.deletes)
      assert.is_nil(own.data.t)
      assert.is_nil((scheduler:output "t"))
      ltsh.sleep(0.12)
      assert.is_nil(own.data.t)
    end)
  end

  it("is erased at the close", function()
    local own = persister(function() ltsh.sleep(0.2) end)
    local scheduler = open(function() return 42 end, { persister = own })
    scheduler:add { id = "t" }
    eventually("it is being saved", function() return own.saves == 1 end)
    scheduler:close { drain = 0 }
    assert.same({ 1, nil }, { own.deletes, own.data.t })
  end)

  it("is erased before the end is told: who retries then saves anew", function()
    local own = persister(function(count) if count == 1 then error "disk full" end end)
    local scheduler = open(function() return 42 end, { persister = own })
    scheduler:on("finished", function(task) if task.status == "failed" then scheduler:retry "t" end end)
    scheduler:add { id = "t" }
    eventually("it succeeds", function() return scheduler:get("t").status == "success" end)
    assert.equal(42, scheduler:output "t")
    assert.equal(1, own.deletes)
  end)

  it("is not looked for when nothing was saved", function()
    local own = persister(function() return true end)
    local scheduler = open(function(task) error("broken " .. task.id) end, { persister = own })
    scheduler:add { id = "t" }
    assert.equal("failed", within(5, scheduler.wait, scheduler, "t").status)
    scheduler:add { id = "u", delay = 3600 }
    scheduler:stop "u"
    assert.same({ 0, 0 }, { own.saves, own.deletes })
  end)

  for how, delete in pairs {
    raises = function() error "no permission" end,
    ["returns nil"] = function() return nil, "no permission" end,
    ["takes too long"] = function() ltsh.sleep(3600) end,
  } do
    it("and cannot be erased, as delete " .. how .. ", holds nothing up", function()
      local own = persister(function() error "disk full" end)
      local deletes = 0
      function own.delete()
        deletes = deletes + 1
        return delete()
      end
      local scheduler = open(function() return 42 end, { persister = own, callback_timeout = 0.05 })
      scheduler:add { id = "t" }
      scheduler:add { id = "u" }
      for _, id in ipairs { "t", "u" } do
        local task, message = within(8, scheduler.wait, scheduler, id, 5)
        assert.is_nil(message)
        assert.same({ "failed", "disk full" }, { task.status, task.reason })
      end
      assert.is_true(deletes >= 2)
      assert.same({ 0, 0 }, { scheduler:stats().running, scheduler:stats().exporting })
    end)
  end

  it("and cannot be erased is in the log", function()
    local result = run.ltsh { "--log-format", "json", "-e", [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {}, actuator = ltsh.actuator.func(function() return 1 end),
        persister = {
          save = function() error "disk full" end, load = function() end,
          delete = function() error "no permission" end,
        },
      }
      scheduler:add { id = "t" }
      print(scheduler:wait("t").status)
    ]] }
    assert.equal("failed\n", result.stdout)
    assert.equal(0, result.code)
    assert.matches("no permission", result.stderr)
  end)
end)

describe("the history", function()
  for _, store in ipairs { "queue", "priority", "table", "durable table" } do
    local function container()
      if store == "queue" or store == "priority" then return ltsh.container[store] {} end
      return table_container { durable = store == "durable table" }
    end

    -- A task that fails `failures` times in all, with one retry by itself.
    local function failing(failures)
      local runs = 0
      local scheduler = open(function()
        runs = runs + 1
        if runs <= failures then error("failure " .. runs) end
        return runs
      end, { max_retries = 1, container = container() })
      scheduler:add { id = "t" }
      within(5, scheduler.wait, scheduler, "t")
      return scheduler
    end

    it("of a " .. store .. " has as many runs as there were, through retries", function()
      local scheduler = failing(4)
      assert.equal(2, #scheduler:history "t")
      for i = 2, 3 do
        assert(scheduler:retry "t")
        within(5, scheduler.wait, scheduler, "t")
        assert.equal(i == 2 and 4 or 5, #scheduler:history "t")
      end
      local history = scheduler:history "t"
      local last = 0
      for i, entry in ipairs(history) do
        assert.equal(i < 5 and "failure " .. i or nil, entry.reason)
        assert.is_string(entry.host)
        assert.is_true(entry.start >= last and entry["end"] >= entry.start)
        last = entry["end"]
      end
      assert.equal("success", scheduler:get("t").status)
    end)

    it("of a " .. store .. " has runs that were stopped, timed out and snoozed", function()
      local runs = 0
      local scheduler = open(function()
        runs = runs + 1
        if runs == 1 then return nil, { reason = "busy", snooze = 0.001 } end
        ltsh.sleep(3600)
      end, { container = container(), timeout = 0.3 })
      scheduler:add { id = "t" }
      assert.equal("timeout", within(5, scheduler.wait, scheduler, "t").reason)
      scheduler:retry "t"
      eventually("it runs again", function() return runs == 3 end)
      scheduler:set { timeout = false }
      within(5, scheduler.stop, scheduler, "t", "enough")
      local history = scheduler:history "t"
      assert.is_true(#history == 3 or #history == 2)
      assert.equal("timeout", history[#history - 1].reason)
      assert.equal("enough", history[#history].reason)
    end)
  end

  it("begins anew with a new task of the same id", function()
    local scheduler = open(function() error "broken" end)
    for _ = 1, 2 do
      scheduler:add { id = "t" }
      within(5, scheduler.wait, scheduler, "t")
      assert.equal(1, #scheduler:history "t")
    end
  end)

  it("of a task that is waiting after its retry shows what there was", function()
    local scheduler = open(function() error "broken" end)
    scheduler:add { id = "t" }
    within(5, scheduler.wait, scheduler, "t")
    scheduler:pause()
    scheduler:retry "t"
    assert.equal(1, #scheduler:history "t")
    assert.equal("broken", scheduler:history("t")[1].reason)
  end)

  it("keeps as many runs as keep.tasks says, the latest", function()
    local scheduler = open(function() return nil, "again" end, { max_retries = 30, keep = { tasks = 5 } })
    scheduler:add { id = "a" }
    local task = scheduler:wait("a", 5)
    local history = scheduler:history "a"
    assert.equal(31, task.attempts)
    assert.equal(6, #history) -- and the last one
    assert.equal(task.run, history[6].run)
    assert.equal(task.run - 5, history[1].run)
  end)

  it("costs the same however long it is", function()
    local scheduler = open(function() return nil, "again" end, { max_retries = 20000 })
    local began = uv.hrtime()
    scheduler:add { id = "a" }
    assert.equal(20001, scheduler:wait("a", 60).attempts)
    assert.is_true((uv.hrtime() - began) / 1e9 < 20)
    assert.is_true(#scheduler:history "a" > 5000)
  end)
end)

describe("keep.bytes", function()
  local SIZE, COUNT, KEPT = 100000, 60, 1 << 20

  -- Ends tasks that leave SIZE bytes each behind in one of their fields, and says how many are still known.
  local function known(run_task, task_of, options)
    options = options or {}
    options.keep = { bytes = KEPT, tasks = 10000 }
    options.finished_size = 0
    local scheduler = open(run_task, options)
    for i = 1, COUNT do
      assert(scheduler:add(task_of and task_of(i) or { id = tostring(i) }))
      within(5, scheduler.wait, scheduler, tostring(i))
    end
    return scheduler:count(), scheduler
  end

  local function assert_bounded(count, scheduler)
    assert.is_true(count >= 3 and count <= 15, count)
    assert.is_truthy(scheduler:get(tostring(COUNT)))
    assert.is_nil(scheduler:get "1")
  end

  local function big(i) return ("x"):rep(SIZE) .. i end

  it("counts items", function()
    assert_bounded(known(nil, function(i) return { id = tostring(i), item = big(i) } end))
  end)

  it("counts outputs", function()
    assert_bounded(known(function(task) return big(task.id) end))
  end)

  it("counts progress", function()
    assert_bounded(known(function(task) task:report(big(task.id)) end))
  end)

  it("counts reasons", function()
    local count = known(function(task) error(big(task.id), 0) end)
    assert.is_true(count <= COUNT) -- long ones may be cut
  end)

  it("counts what is left of failures", function()
    local actuator = {}
    function actuator.attach(_, notify) actuator.notify = notify end
    function actuator.start(_, task)
      actuator.notify {
        id = task.id, run = task.run, status = "failed", reason = "no", output = { log = big(task.id) },
      }
      return true
    end
    function actuator.stop() return true end
    assert_bounded(known(actuator))
  end)

  it("counts handles", function()
    local actuator = {}
    function actuator.attach(_, notify) actuator.notify = notify end
    function actuator.start(_, task)
      local id, number = task.id, task.run
      ltsh.spawn(function()
        ltsh.sleep(0)
        actuator.notify { id = id, run = number, status = "success" }
      end)
      return big(task.id)
    end
    function actuator.stop() return true end
    assert_bounded(known(actuator))
  end)

  it("counts the history, and keys", function()
    local scheduler = open(function() error(("long "):rep(40), 0) end, {
      max_retries = 50, keep = { bytes = 64 << 10, tasks = 10000 }, finished_size = 0,
    })
    for i = 1, 100 do
      scheduler:add { id = tostring(i), key = ("k"):rep(200) .. i }
      within(5, scheduler.wait, scheduler, tostring(i))
    end
    local count = scheduler:count()
    assert.is_true(count < 60, count)
    assert.is_truthy(scheduler:get "100")
  end)

  it("holds for the process", function()
    if os.getenv "LTSH_TEST_PRESET" ~= "release" then return end -- a sanitizer keeps what was freed
    local scheduler = open(function(task) task:report(("x"):rep(500000) .. task.id) end, {
      keep = { bytes = "2M" }, finished_size = 0,
    })
    local function round(from)
      for i = from, from + 99 do
        scheduler:add { id = tostring(i) }
        within(5, scheduler.wait, scheduler, tostring(i))
      end
      collectgarbage()
      collectgarbage()
      return uv.resident_set_memory()
    end
    local last, least = round(1), math.huge
    for i = 1, 4 do -- an allocator gives back later: what is kept for ever grows every time
      local size = round(100 * i + 1)
      least, last = math.min(least, size - last), size
    end
    assert.is_true(least < 20e6, least)
  end)
end)
