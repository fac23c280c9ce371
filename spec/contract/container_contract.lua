-- What every container must do, built-in or written in Lua, as seen through a scheduler:
--
--   contract("the queue", function(options) return ltsh.container.queue(options) end, { priorities = false })
--
-- make(options) returns a new container; options.size, if given, is the number of unfinished tasks for which it has
-- room. `supports` says how it differs: priorities = true, it has them; keeps_all = true, the scheduler's `keep` does
-- not matter to it; slow = true; unlimited = true, it has room for all that there is a disk for; durable = true, its
-- tasks outlive the host. To be loaded with the environment of the spec that applies it, where `describe` is.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"

local eventually, door = scene.eventually, scene.door

local function ids_of(tasks)
  local ids = {}
  for i, task in ipairs(tasks) do ids[i] = task.id end
  return ids
end

-- Counts how many are inside at once.
local function gauge()
  local self = { now = 0, most = 0 }
  function self.enter()
    self.now = self.now + 1
    self.most = math.max(self.most, self.now)
  end
  function self.leave() self.now = self.now - 1 end
  return self
end

local function same_number(a, b)
  return math.type(a) == math.type(b) and string.pack("n", a) == string.pack("n", b)
end

return function(name, make, supports)
  supports = supports or {}

  describe(name, function()
    -- A scheduler that is closed after the test.
    local function open(run, options, container)
      options = options or {}
      options.container = container or make {}
      options.actuator = ltsh.actuator.func(run or function() end)
      return scene.keep(ltsh.scheduler(options))
    end

    local function ends_of(scheduler)
      local ends = {}
      for task in scheduler:finished() do ends[#ends + 1] = task end
      return ends
    end

    local function add(scheduler, task)
      local id, message, code = scheduler:add(task)
      if not id then error(string.format("add: %s (%s)", message, code), 2) end
      return id
    end

    after_each(scene.close)

    -- Of containers that have room for so many tasks.
    local function sized(title, test)
      if not supports.unlimited then it(title, test) end
    end

    describe("order", function()
      it("is first in, first out", function()
        local seen = {}
        local scheduler = open(function(task) seen[#seen + 1] = task.id end, { limit = 1 })
        scheduler:pause()
        for i = 1, 20 do add(scheduler, { id = "t" .. i }) end
        scheduler:resume()
        ends_of(scheduler)
        local expected = {}
        for i = 1, 20 do expected[i] = "t" .. i end
        assert.same(expected, seen)
      end)

      if supports.priorities then
        it("is by priority first", function()
          local seen = {}
          local scheduler = open(function(task) seen[#seen + 1] = task.id end, { limit = 1 })
          scheduler:pause()
          local priorities = { a = 0, b = 5, c = -3, d = 5, e = math.maxinteger, f = math.mininteger, g = 0 }
          for _, id in ipairs { "a", "b", "c", "d", "e", "f", "g" } do
            add(scheduler, { id = id, priority = priorities[id] })
          end
          scheduler:resume()
          ends_of(scheduler)
          assert.same({ "e", "b", "d", "a", "g", "c", "f" }, seen)
        end)
      else
        it("knows no priorities and refuses them", function()
          local scheduler = open()
          local id, message, code = scheduler:add { id = "a", priority = 1 }
          assert.is_nil(id)
          assert.matches("priorit", message)
          assert.equal("refused", code)
          assert.equal("a", scheduler:add { id = "a", priority = 0 })
        end)
      end

      it("lets others pass when a task fails and is retried", function()
        local seen = {}
        local scheduler = open(function(task)
          seen[#seen + 1] = task.id .. task.attempts
          if task.id == "a" and task.attempts == 1 then return nil, "again" end
        end, { limit = 1, max_retries = 1 })
        scheduler:pause()
        add(scheduler, { id = "a" })
        add(scheduler, { id = "b" })
        scheduler:resume()
        ends_of(scheduler)
        assert.same({ "a1", "b1", "a2" }, seen)
      end)
    end)

    describe("add", function()
      it("makes up an id", function()
        local scheduler = open()
        local first, second = add(scheduler, { item = 1 }), add(scheduler, { item = 2 })
        assert.is_string(first)
        assert.not_equal(first, second)
      end)

      it("refuses an id whose task has not ended", function()
        local gate = door()
        local scheduler = open(gate.pass, { limit = 1 })
        add(scheduler, { id = "running" })
        add(scheduler, { id = "waiting" })
        add(scheduler, { id = "delayed", delay = 100 })
        eventually("one runs", function() return gate.waiting == 1 end)
        for _, id in ipairs { "running", "waiting", "delayed" } do
          local added, message, code = scheduler:add { id = id, item = "another" }
          assert.is_nil(added)
          assert.matches(id, message, 1, true)
          assert.equal("exists", code)
        end
        assert.is_nil(scheduler:get("waiting").item)
      end)

      it("replaces a task that has ended", function()
        local scheduler = open(function(task) return task.item end)
        add(scheduler, { id = "a", item = 1 })
        local first = scheduler:wait("a", 10)
        add(scheduler, { id = "a", item = 2 })
        local second = scheduler:wait("a", 10)
        assert.equal(1, first.output)
        assert.equal(2, second.output)
        assert.equal(1, second.attempts)
        assert.is_true(second.run > first.run)
      end)

      it("refuses any known id with `once`", function()
        local scheduler = open()
        assert.equal("a", scheduler:add { id = "a", once = true })
        assert.equal("success", scheduler:wait("a", 10).status)
        local id, _, code = scheduler:add { id = "a", once = true }
        assert.is_nil(id)
        assert.equal("exists", code)
        assert.equal("a", scheduler:add { id = "a" })
      end)

      sized("refuses a task for which there is no room", function()
        local gate = door()
        local scheduler = open(gate.pass, { limit = 1 }, make { size = 2 })
        add(scheduler, { id = "a" })
        add(scheduler, { id = "b" })
        eventually("one runs", function() return gate.waiting == 1 end)
        local id, message, code = scheduler:add { id = "c" }
        assert.is_nil(id)
        assert.is_string(message)
        assert.equal("full", code)
        assert.is_nil(scheduler:get("c"))
        gate.is_open = true
        scheduler:wait("b", 10)
        assert.equal("c", scheduler:add { id = "c" })
      end)

      sized("waits for room if it is told to", function()
        local gate = door()
        local scheduler = open(gate.pass, { limit = 1 }, make { size = 1 })
        add(scheduler, { id = "a" })
        assert.is_nil(scheduler:add({ id = "b" }, 0.01))
        local job = ltsh.spawn(function() return scheduler:add({ id = "b" }, 10) end)
        ltsh.sleep(0.01)
        gate.is_open = true
        assert.equal("b", job:wait())
        assert.equal("success", scheduler:wait("b", 10).status)
      end)

      sized("lets in the next one when the first of those who wait for room gives up", function()
        local scheduler = open(nil, nil, make { size = 3 })
        for i = 1, 2 do add(scheduler, { id = "later" .. i, delay = 3600 }) end
        local many = ltsh.spawn(function() return scheduler:add_all({ { id = "a" }, { id = "b" } }, 0.05) end)
        local one = ltsh.spawn(function() return scheduler:add({ id = "c" }, 10) end)
        assert.equal("full", select(3, many:wait()))
        assert.equal("c", one:wait())
        assert.equal("success", scheduler:wait("c", 5).status)
      end)

      it("takes all of a list or none", function()
        local scheduler = open(nil, nil, make { size = 3 })
        scheduler:pause()
        add(scheduler, { id = "b" })
        local ids, message, code = scheduler:add_all { { id = "a" }, { id = "b" } }
        assert.is_nil(ids)
        assert.matches("b", message, 1, true)
        assert.equal("exists", code)
        if not supports.unlimited then
          assert.equal("full", select(3, scheduler:add_all { { id = "c" }, { id = "d" }, { id = "e" } }))
        end
        for _, id in ipairs { "a", "c", "d", "e" } do assert.is_nil(scheduler:get(id)) end
        assert.equal(1, scheduler:count())
        assert.same({ "c", "d" }, scheduler:add_all { { id = "c" }, { id = "d" } })
        scheduler:resume()
        assert.equal(3, #ends_of(scheduler))
      end)

      it("refuses a list with an id twice", function()
        local scheduler = open()
        scheduler:pause()
        local ids, _, code = scheduler:add_all { { id = "a" }, { id = "a" } }
        assert.is_nil(ids)
        assert.equal("exists", code)
        assert.equal(0, scheduler:count())
        assert.equal("a", scheduler:add { id = "a" })
      end)
    end)

    describe("time", function()
      it("keeps a task with a delay until then", function()
        local started = {}
        local scheduler = open(function(task) started[task.id] = ltsh.now() end, { limit = 5 })
        local began = ltsh.now()
        assert(scheduler:add_all {
          { id = "later", delay = 0.15 }, { id = "at", run_at = began + 0.08 }, { id = "now" },
          { id = "past", run_at = began - 100 },
        })
        local delayed = scheduler:stats().delayed
        if ltsh.now() < began + 0.08 then assert.equal(2, delayed) end
        assert.equal(4, #ends_of(scheduler))
        assert.is_true(started.later >= began + 0.15)
        assert.is_true(started.at >= began + 0.08)
        assert.is_number(started.now)
        assert.is_number(started.past)
      end)

      it("keeps a failed task until its retry", function()
        local starts = {}
        local scheduler = open(function()
          starts[#starts + 1] = ltsh.now()
          return nil, "no"
        end, { max_retries = 2, backoff = 0.05 })
        add(scheduler, { id = "a" })
        local task = scheduler:wait("a", 10)
        assert.equal("failed", task.status)
        assert.equal("no", task.reason)
        assert.equal(3, task.attempts)
        assert.equal(3, #starts)
        assert.is_true(starts[2] - starts[1] >= 0.05)
        assert.is_true(starts[3] - starts[2] >= 0.05)
      end)

      it("counts no attempt for a snooze", function()
        local calls = 0
        local scheduler = open(function(task)
          calls = calls + 1
          if calls < 4 then return nil, { reason = "not yet", snooze = 0.02 } end
          return task.attempts
        end)
        add(scheduler, { id = "a" })
        local task = scheduler:wait("a", 10)
        assert.equal("success", task.status)
        assert.equal(1, task.output)
        assert.equal(4, calls)
      end)

      it("fails a task that did not begin before it expired", function()
        local calls = 0
        local scheduler = open(function() calls = calls + 1 end)
        scheduler:pause()
        add(scheduler, { id = "a", expires = 0.03 })
        add(scheduler, { id = "b", expires = 100 })
        ltsh.sleep(0.06)
        scheduler:resume()
        local task = scheduler:wait("a", 10)
        assert.equal("failed", task.status)
        assert.equal("expired", task.reason)
        assert.equal("success", scheduler:wait("b", 10).status)
        assert.equal(1, calls)
        assert.equal(0, scheduler:count { status = "waiting" })
      end)
    end)

    describe("stop", function()
      it("ends a waiting task at once", function()
        local gate = door()
        local scheduler = open(gate.pass, { limit = 1 })
        add(scheduler, { id = "running" })
        add(scheduler, { id = "waiting" })
        add(scheduler, { id = "delayed", delay = 100 })
        eventually("one runs", function() return gate.waiting == 1 end)
        local task = scheduler:stop("waiting", "not wanted")
        assert.equal("stopped", task.status)
        assert.equal("not wanted", task.reason)
        assert.equal("stopped", scheduler:stop("delayed").status)
        assert.equal("stopped", scheduler:get("waiting").status)
        local again, message = scheduler:stop("waiting")
        assert.is_nil(again)
        assert.is_string(message)
        gate.is_open = true
        assert.same({ "waiting", "delayed", "running" }, ids_of(ends_of(scheduler)))
      end)

      it("leaves nothing to wait for", function()
        local scheduler = open()
        local began = ltsh.now()
        add(scheduler, { id = "a", delay = 100 })
        add(scheduler, { id = "b", delay = 100 })
        ltsh.sleep(0.03)
        scheduler:stop "a"
        scheduler:delete "b"
        assert.same({ "a" }, ids_of(ends_of(scheduler)))
        assert.is_true(ltsh.now() < began + 10)
      end)

      it("ends a running task when it is dead", function()
        local gate = door()
        local scheduler = open(gate.pass, { max_retries = 5 })
        add(scheduler, { id = "a" })
        eventually("it runs", function() return gate.waiting == 1 end)
        local task = scheduler:stop "a"
        assert.equal("stopped", task.status)
        assert.equal("stopped", scheduler:get("a").status)
        assert.same({ "a" }, ids_of(ends_of(scheduler)))
      end)

      it("finds no unknown task", function()
        local task, message, code = open():stop "nobody"
        assert.is_nil(task)
        assert.is_string(message)
        assert.equal("unknown", code)
      end)
    end)

    describe("delete", function()
      it("takes out a waiting task and an ended one", function()
        local scheduler = open()
        add(scheduler, { id = "ended" })
        scheduler:wait("ended", 10)
        scheduler:pause()
        add(scheduler, { id = "waiting" })
        for _, id in ipairs { "ended", "waiting" } do
          assert.is_truthy(scheduler:delete(id))
          assert.is_nil(scheduler:get(id))
          assert.is_nil(scheduler:delete(id))
        end
        assert.equal(0, scheduler:count())
        assert.equal("waiting", scheduler:add { id = "waiting" })
        scheduler:resume()
        assert.equal("success", scheduler:wait("waiting", 10).status)
      end)

      it("refuses a running task", function()
        local gate = door()
        local scheduler = open(gate.pass)
        add(scheduler, { id = "a" })
        eventually("it runs", function() return gate.waiting == 1 end)
        assert.is_nil(scheduler:delete "a")
        gate.is_open = true
        assert.equal("success", scheduler:wait("a", 10).status)
      end)
    end)

    describe("retry", function()
      it("begins an ended task anew", function()
        local fails = true
        local scheduler = open(function(task)
          if fails then return nil, "no" end
          return task.item
        end, { max_retries = 1 })
        local priority = supports.priorities and 3 or 0
        add(scheduler, { id = "a", item = { 1, 2 }, priority = priority, key = "k", timeout = 50 })
        local failed = scheduler:wait("a", 10)
        assert.equal(2, failed.attempts)
        fails = false
        local waiting = scheduler:retry "a"
        assert.equal("waiting", waiting.status)
        assert.equal(0, waiting.attempts)
        assert.is_nil(waiting.reason)
        local task = scheduler:wait("a", 10)
        assert.equal("success", task.status)
        assert.same({ 1, 2 }, task.output)
        assert.equal(1, task.attempts)
        assert.equal("k", task.key)
        assert.equal(50, task.timeout)
        assert.equal(priority, task.priority)
        assert.is_true(task.run > failed.run)
        assert.equal("failed", failed.status)
      end)

      it("refuses a task that has not ended", function()
        local scheduler = open()
        scheduler:pause()
        add(scheduler, { id = "a" })
        assert.is_nil(scheduler:retry "a")
        assert.is_nil(scheduler:retry "nobody")
      end)
    end)

    describe("looking", function()
      it("finds a task in every status", function()
        local gate = door()
        local scheduler = open(function(task)
          if task.id == "running" then gate.pass() end
          if task.id == "failed" then return nil, "why not" end
          return "done"
        end, { limit = 1 })
        add(scheduler, { id = "success", item = { n = 1 } })
        add(scheduler, { id = "failed" })
        scheduler:wait("failed", 10)
        add(scheduler, { id = "running" })
        add(scheduler, { id = "waiting", key = "k" })
        eventually("it runs", function() return gate.waiting == 1 end)
        for _, status in ipairs { "success", "failed", "running", "waiting" } do
          local task = scheduler:get(status)
          assert.equal(status, task.status)
          assert.equal(status, task.id)
          assert.is_number(task.added_at)
        end
        assert.same({ n = 1 }, scheduler:get("success").item)
        assert.equal("done", scheduler:get("success").output)
        assert.equal("why not", scheduler:get("failed").reason)
        assert.equal("k", scheduler:get("waiting").key)
        assert.equal(1, scheduler:get("running").attempts)
        assert.is_number(scheduler:get("running").started_at)
        assert.is_nil(scheduler:get("running").ended_at)
        assert.is_number(scheduler:get("failed").ended_at)
        assert.is_nil(scheduler:get "nobody")
      end)

      it("lists in the order of adding, and by status, key, limit and offset", function()
        local scheduler = open()
        for i = 1, 3 do add(scheduler, { id = "e" .. i, key = "k" }) end
        ends_of(scheduler)
        scheduler:pause()
        for i = 1, 3 do add(scheduler, { id = "w" .. i, key = i == 2 and "k" or "other" }) end
        assert.same({ "e1", "e2", "e3", "w1", "w2", "w3" }, ids_of(scheduler:list()))
        assert.same({ "w3", "w2", "w1", "e3", "e2", "e1" }, ids_of(scheduler:list { order = "newest" }))
        assert.same({ "w1", "w2", "w3" }, ids_of(scheduler:list { status = "waiting" }))
        assert.same({ "e1", "e2", "e3", "w2" }, ids_of(scheduler:list { key = "k" }))
        assert.same({ "e2", "e3" }, ids_of(scheduler:list { limit = 2, offset = 1 }))
        for order, expected in pairs { oldest = "e1 e2 e3 w1 w2 w3", newest = "w3 w2 w1 e3 e2 e1" } do
          local seen, cursor = {}, nil
          repeat
            local page, after = assert(scheduler:list { limit = 2, order = order, after = cursor })
            for _, id in ipairs(ids_of(page)) do seen[#seen + 1] = id end
            cursor = after
          until #page < 2
          assert.equal(expected, table.concat(seen, " "))
        end
        assert.same({ "w2" }, ids_of(scheduler:list { limit = 1, offset = 1, order = "newest" }))
        assert.same({}, ids_of(scheduler:list { status = "running" }))
        assert.same({}, ids_of(scheduler:list { offset = 100 }))
      end)

      it("counts by status", function()
        local gate = door()
        local scheduler = open(function(task)
          if task.id == "failed" then return nil, "no" end
          if task.id == "running" then gate.pass() end
        end, { limit = 1 })
        assert.equal(0, scheduler:count())
        for _, id in ipairs { "a", "b", "failed" } do add(scheduler, { id = id }) end
        ends_of(scheduler)
        add(scheduler, { id = "running" })
        add(scheduler, { id = "waiting" })
        add(scheduler, { id = "delayed", delay = 100 })
        eventually("it runs", function() return gate.waiting == 1 end)
        assert.equal(6, scheduler:count())
        assert.equal(2, scheduler:count { status = "success" })
        assert.equal(1, scheduler:count { status = "failed" })
        assert.equal(1, scheduler:count { status = "running" })
        assert.equal(2, scheduler:count { status = "waiting" })
        assert.equal(0, scheduler:count { status = "stopped" })
        local stats = scheduler:stats()
        assert.equal(1, stats.waiting)
        assert.equal(1, stats.delayed)
      end)

      if not supports.keeps_all then
        it("keeps as many ended tasks as it is told to", function()
          local scheduler = open(nil, { keep = { tasks = 3 } })
          for i = 1, 5 do add(scheduler, { id = "t" .. i }) end
          ends_of(scheduler)
          assert.is_nil(scheduler:get "t1")
          assert.is_nil(scheduler:get "t2")
          assert.equal("success", scheduler:get("t5").status)
          assert.equal(3, scheduler:count())
        end)
      end
    end)

    describe("values", function()
      local numbers = {
        0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2 ^ 31 | 0, -2 ^ 31 | 0, 2 ^ 53 | 0, (2 ^ 53 | 0) + 1,
        math.maxinteger, math.mininteger, 0.0, -0.0, 1.0, -1.5, 0.1, 2 ^ 53, 1e300, 5e-324, 1 / 0, -1 / 0,
      }

      it("come back as they went in", function()
        local bytes = {}
        for i = 0, 255 do bytes[i + 1] = string.char(i) end
        local item = {
          numbers = numbers,
          binary = table.concat(bytes),
          empty = "",
          text = "grüße, 世界, \u{1F600}",
          yes = true,
          no = false,
          null = ltsh.json.null,
          nested = { { { { deep = { "a", { b = "c" } } } } } },
          [1] = "one",
          [3] = "three",
          [-5] = "negative",
          [1.5] = "float",
          long = ("x"):rep(100000),
        }
        local scheduler = open(function(task) return task.item end)
        add(scheduler, { id = "a", item = item })
        local task = scheduler:wait("a", 10)
        assert.equal("success", task.status)
        for _, value in ipairs { task.item, task.output, scheduler:get("a").output } do
          for i, number in ipairs(numbers) do
            assert.is_true(same_number(number, value.numbers[i]), "number " .. i)
          end
          assert.equal(ltsh.json.null, value.null)
          value.numbers, item.numbers = nil, nil
          assert.same(item, value)
        end
      end)

      it("may be no table, or none at all", function()
        local scheduler = open(function(task) return task.item end, { limit = 10 })
        local items = { a = 5, b = "text", c = true, d = false, e = 1.0, f = ltsh.json.null, g = {} }
        for id, item in pairs(items) do add(scheduler, { id = id, item = item }) end
        add(scheduler, { id = "nothing" })
        for id, item in pairs(items) do
          local task = scheduler:wait(id, 10)
          assert.same(item, task.item)
          assert.same(item, task.output)
        end
        local nothing = scheduler:wait("nothing", 10)
        assert.is_nil(nothing.item)
        assert.is_nil(nothing.output)
      end)

      it("may be ids and reasons of any text", function()
        local reason = "a\0b\255 ü"
        local scheduler = open(function() return nil, reason end)
        for _, id in ipairs { "grüße", "a b/c?d=e", ("x"):rep(255), "%s", "'; --" } do
          add(scheduler, { id = id })
          assert.equal(reason, scheduler:wait(id, 10).reason)
          assert.equal(id, scheduler:get(id).id)
        end
      end)

      it("are copies", function()
        local item = { n = 1 }
        local scheduler = open(function(task)
          task.item.n = task.item.n + 1
          return task.item
        end)
        add(scheduler, { id = "a", item = item })
        local task = scheduler:wait("a", 10)
        assert.same({ n = 1 }, item)
        assert.same({ n = 1 }, task.item)
        assert.same({ n = 2 }, task.output)
        task.item.n = 3
        assert.same({ n = 1 }, scheduler:get("a").item)
      end)
    end)

    describe("limits", function()
      it("are never exceeded", function()
        local inside = gauge()
        local scheduler = open(function(task)
          inside.enter()
          if task.item % 3 > 0 then ltsh.sleep(task.item % 3 / 1000) end
          inside.leave()
          if task.item % 7 == 0 and task.attempts == 1 then return nil, "again" end
        end, { limit = 3, max_retries = 1 })
        for i = 1, 200 do add(scheduler, { id = "t" .. i, item = i }) end
        assert.equal(200, #ends_of(scheduler))
        assert.is_true(inside.most <= 3)
      end)

      it("are used", function()
        local gate = door()
        local scheduler = open(gate.pass, { limit = 3 })
        for i = 1, 10 do add(scheduler, { id = "t" .. i }) end
        eventually("all slots are taken", function() return gate.waiting == 3 end)
        scheduler:set { limit = 5 }
        eventually("the new ones too", function() return gate.waiting == 5 end)
        ltsh.sleep(0.01)
        assert.equal(5, gate.waiting)
        gate.is_open = true
        assert.equal(10, #ends_of(scheduler))
      end)

      it("hold for each key, and let others pass", function()
        local gate, keys = door(), { a = gauge(), b = gauge(), c = gauge() }
        local scheduler = open(function(task)
          keys[task.key].enter()
          gate.pass()
          keys[task.key].leave()
        end, { limit = 10, key_limit = 2 })
        scheduler:pause()
        for _, key in ipairs { "a", "b", "c" } do
          for i = 1, 15 do add(scheduler, { id = key .. i, key = key }) end
        end
        scheduler:resume()
        eventually("all keys have what they may", function() return gate.waiting == 6 end)
        ltsh.sleep(0.01)
        assert.equal(6, gate.waiting)
        gate.is_open = true
        assert.equal(45, #ends_of(scheduler))
        for _, key in pairs(keys) do assert.equal(2, key.most) end
      end)

      it("do not hold back those without a key", function()
        local gate, seen = door(), {}
        local scheduler = open(function(task)
          if task.key then gate.pass() else seen[#seen + 1] = task.id end
        end, { limit = 4, key_limit = 1 })
        scheduler:pause()
        for i = 1, 10 do add(scheduler, { id = "key" .. i, key = "k" }) end
        for i = 1, 10 do add(scheduler, { id = "free" .. i }) end
        scheduler:resume()
        eventually("all without a key have run", function() return #seen == 10 end)
        assert.equal(1, gate.waiting)
        gate.is_open = true
        assert.equal(20, #ends_of(scheduler))
      end)

      it("hold for starts in a time", function()
        local starts = {}
        local scheduler = open(function() starts[#starts + 1] = ltsh.now() end, { limit = 10, rate = { 2, per = 0.1 } })
        local began = ltsh.now() -- the first may run some time after it was let in
        for i = 1, 6 do add(scheduler, { id = "t" .. i }) end
        assert.equal(6, #ends_of(scheduler))
        assert.is_true(starts[6] - began >= 0.19)
      end)
    end)

    describe("runs", function()
      it("have numbers that are never used again", function()
        local seen, twice = {}, false
        local scheduler = open(function(task)
          local number = task.id .. "/" .. task.run
          twice = twice or seen[number] ~= nil
          seen[number] = true
          if task.attempts < 3 then return nil, "again" end
        end, { limit = 4, max_retries = 5 })
        for _ = 1, 3 do
          for i = 1, 10 do add(scheduler, { id = "t" .. i }) end
          ends_of(scheduler)
        end
        assert.is_false(twice)
        local count = 0
        for _ in pairs(seen) do count = count + 1 end
        assert.equal(90, count)
      end)

      it("end once, with output saved before the slot is free", function()
        local saved, gate, most = {}, door(), gauge()
        local scheduler = open(function(task)
          most.enter()
          return task.item
        end, {
          persister = {
            save = function(_, task, data)
              assert(task.status == "exporting")
              if task.id == "t1" then gate.pass() end
              saved[task.id] = data
              most.leave()
            end,
            load = function(_, task) return saved[task.id] end,
            delete = function(_, task) saved[task.id] = nil end,
          },
        })
        for i = 1, 5 do add(scheduler, { id = "t" .. i, item = i }) end
        eventually("the first is being saved", function() return gate.waiting == 1 end)
        assert.equal("exporting", scheduler:get("t1").status)
        assert.equal(1, scheduler:count { status = "exporting" })
        gate.is_open = true
        assert.equal(5, #ends_of(scheduler))
        assert.equal(1, most.most)
        assert.equal(3, scheduler:output "t3")
        assert.is_truthy(scheduler:delete "t3")
        assert.is_nil(saved.t3)
      end)

      it("come and go by the thousand", function()
        local scheduler = open(function(task) return task.item end, { limit = 50, finished_size = 5000 })
        local is_slow = supports.slow or os.getenv "LTSH_TEST_PRESET" == "debug"
        local many = is_slow and 200 or 2000
        for i = 1, many do add(scheduler, { id = "t" .. i, item = i }) end
        local sum, count = 0, 0
        for task in scheduler:finished() do
          sum, count = sum + task.output, count + 1
        end
        assert.equal(many, count)
        assert.equal(many * (many + 1) // 2, sum)
        assert.equal(0, scheduler:count { status = "waiting" })
      end)
    end)

    describe("its scheduler", function()
      it("is the only one", function()
        local container = make {}
        open(nil, nil, container)
        assert.has_error(function() open(nil, nil, container) end)
      end)

      it("knows the hosts on its queue: this one, and what it runs", function()
        local scheduler = open(function() ltsh.sleep(100) end, { limit = 2 })
        for i = 1, 3 do add(scheduler, { id = "t" .. i }) end
        scene.eventually("two run", function() return scheduler:stats().running == 2 end)
        local hosts = assert(scheduler:hosts())
        assert.equal(1, #hosts)
        local host = hosts[1]
        assert.same({ uv.os_gethostname(), ltsh.version, uv.os_getpid(), 2, true },
          { host.name, host.version, host.pid, host.running, host.self })
        assert.is_true(math.abs(host.heartbeat - ltsh.now()) < 5)
        assert.is_true(not host.lease_end or host.lease_end > ltsh.now())
        scheduler:close { drain = 0 }
        assert.equal("closed", select(3, scheduler:hosts()))
      end)

      it("pauses and goes on", function()
        local calls = 0
        local scheduler = open(function() calls = calls + 1 end)
        scheduler:pause()
        add(scheduler, { id = "a" })
        ltsh.sleep(0.02)
        assert.equal(0, calls)
        scheduler:resume()
        assert.equal("success", scheduler:wait("a", 10).status)
      end)

      it("stops what waits when it is closed, and answers with `closed` after that", function()
        local gate, ended = door(), {}
        local scheduler = open(gate.pass)
        scheduler:on("finished", function(task) ended[task.id] = task.status end)
        for _, id in ipairs { "running", "waiting" } do add(scheduler, { id = id }) end
        add(scheduler, { id = "delayed", delay = 100 })
        eventually("one runs", function() return gate.waiting == 1 end)
        scheduler:close { drain = 0 }
        local stopped = { running = "stopped", waiting = "stopped", delayed = "stopped" }
        assert.same(supports.durable and {} or stopped, ended)
        for _, call in ipairs {
          function() return scheduler:add { id = "b" } end,
          function() return scheduler:get "waiting" end,
          function() return scheduler:stop "waiting" end,
          function() return scheduler:retry "waiting" end,
          function() return scheduler:delete "waiting" end,
          function() return scheduler:list() end,
          function() return scheduler:count() end,
        } do
          local value, message, code = call()
          assert.is_nil(value)
          assert.is_string(message)
          assert.equal("closed", code)
        end
        scheduler:close()
      end)

      it("lets what runs end in the time it is given", function()
        local began, ended
        local scheduler = open(function()
          began = true
          ltsh.sleep(0.05)
        end)
        scheduler:on("finished", function(task) ended = task.status end)
        add(scheduler, { id = "a" })
        eventually("it runs", function() return began end)
        scheduler:close { drain = 10 }
        assert.equal("success", ended)
      end)
    end)
  end)
end
