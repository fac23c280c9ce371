-- A run in each of its states, and what may come then: a stop, two of them, its deadline, the end of the scheduler. The
-- same over a queue, tables in Lua that answer at once and late, durable ones, and however ends are noticed.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"
local stage = require "spec.support.stage"
local table_container = require "spec.support.table"

local open, eventually = scene.open, scene.eventually
local later, within = stage.later, stage.within

after_each(stage.close)

local COMBINATIONS = {
  { store = "queue", mode = "callback" }, { store = "queue", mode = "poll" }, { store = "queue", mode = "both" },
  { store = "table", mode = "callback" }, { store = "late", mode = "callback" }, { store = "late", mode = "poll" },
  { store = "durable", mode = "callback" }, { store = "durable", mode = "poll" },
}

local UNBORN = { waiting = true, delayed = true, claimed = true }
local BEING_STOPPED = { stopping = true, ["stopping again"] = true }

-- Nothing is left of the task: no slot is held, and it ended once.
local function assert_over(held, status)
  local scheduler = held.scheduler
  assert.equal(status, scheduler:get("t").status)
  assert.equal(status, within(5, scheduler.wait, scheduler, "t", 3).status)
  eventually("its end is told", function() return #held.ends > 0 end)
  scheduler:resume()
  assert(scheduler:add { id = "u" })
  assert.equal("success", within(8, scheduler.wait, scheduler, "u", 6).status)
  local of_t = {}
  for _, task in ipairs(held.ends) do
    if task.id == "t" then of_t[#of_t + 1] = task.status end
  end
  assert.same({ status }, of_t)
  local stats = scheduler:stats()
  assert.same({ 0, 0, 0 }, { stats.waiting, stats.running, stats.exporting })
  assert.is_false(held.alive)
end

for _, combination in ipairs(COMBINATIONS) do
  local store, mode = combination.store, combination.mode
  local function hold(state, options)
    options = options or {}
    options.store, options.mode = store, mode
    return stage.hold(state, options)
  end

  describe("with a " .. store .. " and " .. mode .. ",", function()
    for _, state in ipairs(stage.states(store, mode)) do
      if state ~= "settling" then
        it("a stop: " .. state, function()
          local held = hold(state)
          local answer = later(held.scheduler.stop, held.scheduler, "t", "enough")
          ltsh.sleep(0.005)
          held.release()
          local task, message = answer()
          assert.is_nil(message)
          assert.equal("stopped", task.status)
          if BEING_STOPPED[state] then
            assert.equal("stopped", held.first().status)
          else
            assert.equal("enough", task.reason)
          end
          assert.equal(UNBORN[state] and 0 or 1, held.starts)
          assert.is_nil(held.saved.t)
          assert_over(held, "stopped")
        end)

        it("two stops at once: " .. state, function()
          local held = hold(state)
          local is_answered = false
          local first = later(function()
            local task, message = held.scheduler:stop("t", "enough")
            is_answered = true
            return task, message
          end)
          local is_late = is_answered
          local second = later(held.scheduler.stop, held.scheduler, "t", "enough")
          ltsh.sleep(0.005)
          held.release()
          local task, message = first()
          assert.is_nil(message)
          assert.equal("stopped", task.status)
          task, message = second()
          if is_late then
            assert.matches("stopped", message)
          else
            assert.is_nil(message)
            assert.equal("stopped", task.status)
          end
          assert_over(held, "stopped")
        end)
      end

      it("the close: " .. state, function()
        local held = hold(state)
        local answer = later(held.scheduler.close, held.scheduler, { drain = 0 })
        ltsh.sleep(0.005)
        held.release()
        assert.is_truthy((answer()))
        assert.is_false(held.alive)
        local ends = {}
        for i, task in ipairs(held.ends) do ends[i] = task.status .. ": " .. (task.reason or "") end
        local reason = held.ends[1] and held.ends[1].reason
        if state == "settling" then
          assert.same({ "success: " }, ends)
        elseif BEING_STOPPED[state] then
          assert.same({ "stopped: the first" }, ends)
          assert.equal("stopped", held.first().status)
        elseif store ~= "durable" then
          assert.same({ "stopped" }, { held.ends[1].status, #ends > 1 and "and more" or nil })
          assert.is_true(reason == "closed" or reason == "shutdown", reason)
        else
          assert.same({}, ends)
          local place = held.store.places.t
          assert.equal("waiting", place.task.status)
          assert.equal(0, place.task.attempts)
          local last = held.store:last "t"
          if state ~= "waiting" and state ~= "delayed" then
            assert.same({ "to_waiting", 0 }, { last.name, last.attempts })
          end
          if not UNBORN[state] then assert.equal("shutdown", last.reason) end
        end
      end)
    end

    for _, state in ipairs { "starting", "running" } do
      it("the deadline: " .. state, function()
        local held = hold(state, { timeout = 0.06 })
        ltsh.sleep(0.08)
        held.release()
        local task = within(8, held.scheduler.wait, held.scheduler, "t")
        assert.same({ "failed", "timeout", 1 }, { task.status, task.reason, task.attempts })
        assert.equal(1, held.stops)
        assert_over(held, "failed")
      end)
    end

    for _, state in ipairs { "output", "saving" } do
      it("the deadline, which is over: " .. state, function()
        local held = hold(state, { timeout = 0.06 })
        ltsh.sleep(0.08)
        held.release()
        local task = within(8, held.scheduler.wait, held.scheduler, "t")
        assert.same({ "success", 1 }, { task.status, task.attempts })
        assert.equal(0, held.stops)
        assert_over(held, "success")
      end)
    end

    for _, state in ipairs { "starting", "stopping" } do
      for _, retries in ipairs { 0, 2 } do
        it(("the deadline after a stop: %s, with %d retries"):format(state, retries), function()
          local held = hold(state, { timeout = 0.05, max_retries = retries })
          local answer = later(held.scheduler.stop, held.scheduler, "t", "enough")
          ltsh.sleep(0.07)
          held.release()
          local task, message = answer()
          assert.is_nil(message)
          assert.equal("stopped", task.status)
          assert.equal(state == "stopping" and "the first" or "enough", task.reason)
          assert.equal(1, task.attempts)
          assert.equal(1, held.starts)
          assert_over(held, "stopped")
        end)
      end
    end

    it("a stop after the deadline, before start has returned", function()
      local held = hold("starting", { timeout = 0.02, max_retries = 3 })
      ltsh.sleep(0.04)
      local answer = later(held.scheduler.stop, held.scheduler, "t", "enough")
      ltsh.sleep(0.005)
      held.release()
      assert.equal("stopped", answer().status)
      assert.equal(1, held.starts)
      assert_over(held, "stopped")
    end)

    it("a stop after the deadline, while the work is being stopped", function()
      local held = stage.open { store = store, mode = mode, timeout = 0.02, max_retries = 3 }
      held.shut "stop"
      held.scheduler:add { id = "t" }
      held.is_at "stop"
      local answer = later(held.scheduler.stop, held.scheduler, "t", "enough")
      ltsh.sleep(0.005)
      held.release()
      assert.equal("stopped", answer().status)
      assert.equal(1, held.starts)
      assert_over(held, "stopped")
    end)

    it("the deadline after the close, before start has returned", function()
      local held = hold("starting", { timeout = 0.04, max_retries = 3 })
      local answer = later(held.scheduler.close, held.scheduler, { drain = 0.01 })
      ltsh.sleep(0.06)
      held.release()
      assert.is_truthy((answer()))
      if store == "durable" then
        local last = held.store:last "t"
        assert.same({ "to_waiting", 0, "shutdown" }, { last.name, last.attempts, last.reason })
        assert.same({}, held.ends)
      else
        assert.equal(1, #held.ends)
        assert.equal("stopped", held.ends[1].status)
        assert.not_equal("timeout", held.ends[1].reason)
      end
    end)

    it("an end that comes while start is under way, and then a stop or a close", function()
      if mode == "poll" then return end
      for _, method in ipairs { "stop", "close" } do
        local held = hold "starting"
        held.finish { status = "success" }
        local answer = later(held.scheduler[method], held.scheduler, method == "stop" and "t" or nil)
        ltsh.sleep(0.005)
        held.release()
        answer()
        assert.is_true(#held.ends <= 1)
        if #held.ends == 1 then
          assert.is_true(held.ends[1].status == "success" or held.ends[1].status == "stopped")
        end
      end
    end)

    if store ~= "queue" then
      it("a stop that comes too late: settling", function()
        local held = hold "settling"
        local answer = later(held.scheduler.stop, held.scheduler, "t", "enough")
        ltsh.sleep(0.005)
        held.release()
        local task, message = answer()
        assert.is_nil(task)
        assert.is_string(message)
        assert_over(held, "success")
      end)

      it("two stops while the store is slow to note the first", function()
        local held = hold "running"
        held.shut "settle"
        held.store.before.to_stopped = function() held.at "settle" end
        local first = later(held.scheduler.stop, held.scheduler, "t", "the first")
        held.is_at "settle"
        local second = later(held.scheduler.stop, held.scheduler, "t", "the second")
        ltsh.sleep(0.005)
        held.release()
        assert.same({ "stopped", "the first" }, { first().status, first().reason })
        assert.equal("stopped", second().status)
        assert_over(held, "stopped")
      end)

      it("two stops of one that was claimed by a paused scheduler, over a slow store", function()
        local held = hold "claimed"
        held.scheduler:pause()
        held.release()
        eventually("the claim is over", function() return held.scheduler:get "t" ~= nil end)
        ltsh.sleep(0.005)
        held.shut "settle"
        held.store.before.to_stopped = function() held.at "settle" end
        local first = later(held.scheduler.stop, held.scheduler, "t")
        local second = later(held.scheduler.stop, held.scheduler, "t")
        ltsh.sleep(0.01)
        held.release()
        assert.equal("stopped", first().status)
        assert.equal("stopped", second().status)
        assert_over(held, "stopped")
      end)
    end
  end)
end

describe("the last look before a timeout", function()
  -- One look, which takes until the door is opened.
  local function looking(options)
    options = options or {}
    options.mode = "poll"
    return stage.hold("the last look", options)
  end

  it("may find a success", function()
    local held = looking { max_retries = 2 }
    held.finish { status = "success" }
    held.release()
    local task = within(8, held.scheduler.wait, held.scheduler, "t")
    assert.same({ "success", "result", 1 }, { task.status, task.output, held.starts })
    assert.equal(0, held.stops)
  end)

  it("may find a failure, which is not a timeout", function()
    local held = looking()
    held.finish { status = "failed", reason = "broken" }
    held.release()
    assert.equal("broken", within(8, held.scheduler.wait, held.scheduler, "t").reason)
  end)

  it("may fail: then it is a timeout", function()
    local held = looking()
    held.release()
    held.at = function(name) if name == "status" then error "no connection" end end
    local task = within(8, held.scheduler.wait, held.scheduler, "t")
    assert.equal("failed", task.status)
    assert.equal(1, held.stops)
  end)

  it("that takes too long is waited for no longer than a call may take", function()
    local held = looking { callback_timeout = 0.1 }
    local task = within(8, held.scheduler.wait, held.scheduler, "t")
    assert.equal("failed", task.status)
    assert.equal(1, held.stops)
  end)
end)

describe("timeouts of tasks that are polled", function()
  -- An actuator whose work never ends, and whose `status` takes what `look` takes.
  local function endless(look)
    return {
      start = function() return true end,
      stop = function() return true end,
      status = function(_, tasks)
        look(tasks)
        local records = {}
        for i = 1, #tasks do records[i] = { status = "running" } end
        return records
      end,
    }
  end

  local function ran(task) return task.ended_at - task.started_at end

  for _, interval in ipairs { 0.01, 0.05, 0.15, 5 } do
    it(("hold beside a slow poll every %g s"):format(interval), function()
      local scheduler = open(endless(function() ltsh.sleep(0.1) end),
        { poll_interval = interval, callback = false, timeout = 0.2 })
      scheduler:add { id = "t" }
      local task = within(8, scheduler.wait, scheduler, "t")
      assert.equal("timeout", task.reason)
      assert.is_true(ran(task) >= 0.19 and ran(task) < 3, ran(task))
    end)
  end

  for _, count in ipairs { 1, 5 } do
    it("hold for " .. count .. " that a poll under way does not ask about", function()
      local looks, gate = 0, scene.door()
      local scheduler = open(endless(function()
        looks = looks + 1
        if looks == 1 then gate.pass() end
      end), { poll_interval = 0.02, callback = false, limit = 10 })
      scheduler:add { id = "a", timeout = 60 }
      eventually("a poll is under way", function() return gate.waiting == 1 end)
      for i = 1, count do scheduler:add { id = "b" .. i, timeout = 0.05 } end
      for i = 1, count do
        local task, message = within(8, scheduler.wait, scheduler, "b" .. i, 6)
        assert.is_nil(message)
        assert.equal("timeout", task.reason)
        assert.is_true(ran(task) < 5, ran(task))
      end
      assert.equal(1, gate.waiting)
      gate.is_open = true
    end)
  end

  it("are each at their own time, whatever a slow poll is about", function()
    local scheduler = open(endless(function() ltsh.sleep(0.05) end),
      { poll_interval = 0.02, callback = false, limit = 10 })
    for i = 1, 8 do scheduler:add { id = tostring(i), timeout = 0.05 * i } end
    for i = 1, 8 do
      local task = within(8, scheduler.wait, scheduler, tostring(i))
      assert.equal("timeout", task.reason)
      assert.is_true(ran(task) >= 0.05 * i - 0.01 and ran(task) < 0.05 * i + 3, ran(task))
    end
  end)

  it("go by what is set while a long poll interval is under way", function()
    local scheduler = open(endless(function() end), { poll_interval = 3600, callback = false })
    scheduler:add { id = "t", timeout = 0.05 }
    local task = within(8, scheduler.wait, scheduler, "t", 5)
    assert.equal("timeout", task.reason)
  end)
end)

describe("set{ poll_interval }", function()
  local function pollable(polls)
    return {
      start = function() return true end,
      stop = function() return true end,
      status = function(_, tasks)
        polls.count = (polls.count or 0) + 1
        local records = {}
        for i = 1, #tasks do records[i] = { status = polls.status or "success" } end
        return records
      end,
    }
  end

  it("counts at once, though a longer one is under way", function()
    local scheduler = open(pollable {}, { poll_interval = 3600, callback = false })
    scheduler:add { id = "t" }
    eventually("it runs", function() return scheduler:get("t").status == "running" end)
    scheduler:set { poll_interval = 0.02 }
    local task, message = within(8, scheduler.wait, scheduler, "t", 3)
    assert.is_nil(message)
    assert.equal("success", task.status)
  end)

  it("counts from the last poll on, and may be said again and again", function()
    local scheduler = open(pollable {}, { poll_interval = 3600, callback = false, limit = 2 })
    scheduler:add { id = "t" }
    scheduler:add { id = "u" }
    eventually("both run", function() return scheduler:stats().running == 2 end)
    for _ = 1, 20 do
      scheduler:set { poll_interval = 0.05 }
      ltsh.sleep(0.01)
    end
    for _, id in ipairs { "t", "u" } do
      local task, message = within(8, scheduler.wait, scheduler, id, 3)
      assert.is_nil(message)
      assert.equal("success", task.status)
    end
  end)

  it("may make it longer, though a shorter one is under way", function()
    local polls = { status = "running" }
    local scheduler = open(pollable(polls), { poll_interval = 0.01, callback = false })
    scheduler:add { id = "t" }
    eventually("it is polled", function() return (polls.count or 0) > 2 end)
    scheduler:set { poll_interval = 3600 }
    ltsh.sleep(0.02)
    local count = polls.count
    ltsh.sleep(0.1)
    assert.is_true(polls.count <= count + 1)
  end)
end)

describe("a task that was left behind by a host", function()
  local function recovered(tasks, recover, options)
    local store = table_container { durable = true }
    for _, task in ipairs(tasks) do store:leave(task) end
    local saved, calls = {}, {}
    local actuator = {
      start = function(_, task)
        calls[#calls + 1] = "start " .. task.id
        return true
      end,
      stop = function(_, task)
        calls[#calls + 1] = "stop " .. task.id
        return true
      end,
      attach = function() end,
      recover = recover,
    }
    options = options or {}
    options.container = store
    options.persister = {
      save = function(_, task, data)
        saved[#saved + 1] = task.id
        saved[task.id] = data
        return true
      end,
      load = function(_, task) return saved[task.id] end,
      delete = function() return true end,
    }
    return open(actuator, options), saved, store, calls
  end

  local function exporting(id, run) return { id = id, status = "exporting", run = run } end
  local function running(id, run) return { id = id, status = "running", run = run } end

  for _, status in ipairs { "exporting", "running" } do
    it("while " .. status .. ", and has ended with success, is saved", function()
      local scheduler, saved, store = recovered({ { id = "t", status = status, run = 7 } }, function()
        return { status = "success", output = "kept by the engine" }
      end)
      local task, message = within(8, scheduler.wait, scheduler, "t", 3)
      assert.is_nil(message)
      assert.same({ "success", 7 }, { task.status, task.run })
      assert.same({ "t" }, { table.unpack(saved) })
      assert.equal("kept by the engine", scheduler:output "t")
      local stats = scheduler:stats()
      assert.same({ 0, 0, 1 }, { stats.running, stats.exporting, stats.success })
      assert.equal(0, store.unfinished)
    end)

    it("while " .. status .. ", and has failed, is retried or fails", function()
      local scheduler = recovered({ { id = "t", status = status, run = 7 } }, function()
        return { status = "failed", reason = "broken" }
      end)
      local task, message = within(8, scheduler.wait, scheduler, "t", 3)
      assert.is_nil(message)
      assert.same({ "failed", "broken" }, { task.status, task.reason })
      assert.same({ 0, 0 }, { scheduler:stats().running, scheduler:stats().exporting })
    end)

    it("while " .. status .. ", and is gone, waits and runs again", function()
      local scheduler, _, store, calls = recovered({ { id = "t", status = status, run = 7 } }, function() end)
      eventually("it runs", function() return #calls > 0 end)
      assert.same({ "start t" }, calls)
      assert.equal("to_waiting", store:transitions("t")[1])
      assert.equal("stopped", within(8, scheduler.stop, scheduler, "t").status)
    end)

    it("while " .. status .. ", can be stopped", function()
      local scheduler = recovered({ { id = "t", status = status, run = 7 } }, function() return true end)
      eventually("it is known", function() return scheduler:stats().running + scheduler:stats().exporting == 1 end)
      assert.equal("stopped", within(8, scheduler.stop, scheduler, "t").status)
      assert.same({ 0, 0 }, { scheduler:stats().running, scheduler:stats().exporting })
    end)

    it("while " .. status .. ", can be stopped though `recover` is under way", function()
      local gate = scene.door()
      local scheduler = recovered({ { id = "t", status = status, run = 7 } }, function()
        gate.pass()
        return true
      end)
      eventually("it is asked for", function() return gate.waiting == 1 end)
      local answer = later(scheduler.stop, scheduler, "t")
      ltsh.sleep(0.005)
      gate.is_open = true
      assert.equal("stopped", answer().status)
    end)
  end

  it("and others, some exporting, some running: each comes to its end", function()
    local tasks = {}
    for i = 1, 20 do tasks[i] = (i % 2 == 0 and exporting or running)("t" .. i, i) end
    local scheduler, saved = recovered(tasks, function(_, task) return { status = "success", output = task.id } end,
      { limit = 3 })
    for i = 1, 20 do
      local task, message = within(8, scheduler.wait, scheduler, "t" .. i, 5)
      assert.is_nil(message)
      assert.equal("success", task.status)
      assert.equal("t" .. i, saved["t" .. i])
    end
    assert.equal(20, #saved)
  end)

  it("keeps its slot: nothing starts beyond the limit, and the key", function()
    local scheduler, _, _, calls = recovered({ running("a", 1), running("b", 2) }, function() return true end,
      { limit = 2 })
    eventually("both are known", function() return scheduler:stats().running == 2 end)
    scheduler:add { id = "c" }
    ltsh.sleep(0.02)
    assert.same({}, calls)
    within(8, scheduler.stop, scheduler, "a")
    eventually("there is room", function() return calls[#calls] == "start c" end)
  end)
end)

describe("an end, and a stop at the same moment", function()
  for _, first in ipairs { "end", "stop" } do
    it("the " .. first .. " first: there is one end", function()
      local notify
      local scheduler = open {
        attach = function(_, push) notify = push end,
        start = function() return true end,
        stop = function() return true end,
      }
      local ends = {}
      scheduler:on("finished", function(task) ends[#ends + 1] = task.status end)
      scheduler:add { id = "t" }
      eventually("it runs", function() return scheduler:get("t").status == "running" end)
      local record = { id = "t", run = scheduler:get("t").run, status = "success" }
      local answer
      if first == "end" then notify(record) end
      answer = later(scheduler.stop, scheduler, "t")
      if first == "stop" then notify(record) end
      answer()
      local task = within(5, scheduler.wait, scheduler, "t")
      assert.same({ task.status }, ends)
      local before = uv.hrtime()
      scheduler:close()
      assert.is_true(uv.hrtime() - before < 5e9)
    end)
  end
end)
