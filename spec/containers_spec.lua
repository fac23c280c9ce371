-- Every container is held to the same contract; and what a container in Lua may do wrong.

local ltsh = require "ltsh"
local uv = require "luv"
local files = require "spec.support.files"
local plain = require "spec.support.plain"
local redis = require "spec.support.redis"
local scene = require "spec.support.scene"

local eventually = scene.eventually

local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."
local contract = assert(loadfile(here .. "/contract/container_contract.lua", "t", _ENV))()
local EXAMPLE = here .. "/../examples/lua_container.lua"

contract("ltsh.container.queue", function(options) return ltsh.container.queue(options) end)

contract("ltsh.container.priority", function(options) return ltsh.container.priority(options) end, {
  priorities = true,
})

contract("ltsh.container.priority, fair", function(options)
  options = options or {}
  options.fair = true
  return ltsh.container.priority(options)
end, { priorities = true })

contract("ltsh.container.sqlite", function()
  return ltsh.container.sqlite { path = scene.temporary ".db", durability = "normal" }
end, { priorities = true, keeps_all = true, unlimited = true, durable = true })

local function in_file(options)
  options = options or {}
  return ltsh.container.sqlite {
    path = options.path or scene.temporary ".db", durability = "normal", fair = options.fair,
  }
end

contract("ltsh.container.sqlite, fair", function() return in_file { fair = true } end, {
  priorities = true, keeps_all = true, unlimited = true, durable = true,
})

contract("queue and sqlite combined, fair", function()
  return ltsh.container.combine(ltsh.container.queue { fair = true }, in_file { fair = true })
end, { keeps_all = true, unlimited = true, durable = true })

contract("queue and sqlite combined", function()
  return ltsh.container.combine(ltsh.container.queue {}, in_file())
end, { keeps_all = true, unlimited = true, durable = true })

contract("priority and sqlite combined", function()
  return ltsh.container.combine(ltsh.container.priority {}, in_file())
end, { priorities = true, keeps_all = true, unlimited = true, durable = true })

contract("a small queue and sqlite combined", function()
  return ltsh.container.combine(ltsh.container.queue { size = 3 }, in_file())
end, { keeps_all = true, unlimited = true, durable = true })

lazy_teardown(redis.stop)

contract("ltsh.container.redis", function()
  return ltsh.container.redis { url = redis.url(), queue = redis.queue() }
end, { priorities = true, keeps_all = true, unlimited = true, durable = true })

contract("ltsh.container.redis, fair", function()
  return ltsh.container.redis { url = redis.url(), queue = redis.queue(), fair = true }
end, { priorities = true, keeps_all = true, unlimited = true, durable = true })

contract("queue and redis combined", function()
  return ltsh.container.combine(ltsh.container.queue {},
    ltsh.container.redis { url = redis.url(), queue = redis.queue() })
end, { keeps_all = true, unlimited = true, durable = true })

contract("the example in SQL", function(options)
  return ltsh.container.load(here .. "/../examples/sql_container.lua", {
    path = scene.temporary ".db", size = options and options.size,
  })
end, { priorities = true, keeps_all = true, slow = true, durable = true })

contract("the example in Lua", function(options) return ltsh.container.load(EXAMPLE, options) end, {
  priorities = true,
})

-- The same container behind methods that wait before and after what they do.
local function slow(options)
  local container = ltsh.container.load(EXAMPLE, options)
  local proxy = { durable = false }
  for _, method in ipairs {
    "add", "claim", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted", "running",
    "running_count", "update_running", "attach",
  } do
    proxy[method] = function(_, ...)
      ltsh.sleep(0)
      local results = table.pack(container[method](container, ...))
      ltsh.sleep(0)
      return table.unpack(results, 1, results.n)
    end
  end
  return proxy
end

contract("the example with methods that wait", slow, { priorities = true, slow = true })

contract("a container with waiting, to_running, get, list and count", plain, { keeps_all = true, slow = true })

-- A folder of its own, that is removed after the test.
local function folder()
  local path = scene.temporary ".d"
  assert(uv.fs_mkdir(path, 448))
  return path
end

contract("a container in Lua on luv and files", function(options)
  return files { folder = folder(), size = options and options.size }
end, { keeps_all = true, slow = true, durable = true })

describe("a list of many tasks in memory", function()
  after_each(scene.close)

  local MANY = 60000

  local function many()
    local scheduler = scene.open(function() end, { container = ltsh.container.queue {}, keep = { tasks = MANY } })
    scheduler:pause()
    local tasks = {}
    for i = 1, MANY do tasks[i] = { id = "t" .. i } end
    assert(scheduler:add_all(tasks))
    return scheduler
  end

  it("holds the loop for a moment only: it takes many turns", function()
    local scheduler, turns = many(), 0
    local counts <close> = setmetatable({ check = uv.new_check() }, { __close = function(self) self.check:close() end })
    counts.check:start(function() turns = turns + 1 end)
    for _, order in ipairs { "newest", "oldest" } do
      turns = 0
      local tasks = assert(scheduler:list { order = order, limit = 50 })
      assert.is_true(turns > MANY / 10000, turns)
      assert.equal(order == "newest" and "t" .. MANY or "t1", tasks[1].id)
      turns = 0
      assert.same({}, (scheduler:list { text = "none", order = order }))
      assert.is_true(turns > MANY / 10000, turns)
    end
  end)

  it("has each that stays as it is, once and in its place, whatever becomes of others meanwhile", function()
    local scheduler, over = many(), false
    local changes = 0
    local job = ltsh.spawn(function() -- every third goes, or ends, or comes anew
      for i = 3, MANY, 3 do
        if over then break end
        local id = "t" .. i
        if i % 2 == 0 then
          scheduler:delete(id)
        else
          scheduler:stop(id)
          if i % 5 == 0 then scheduler:retry(id) end
        end
        if i % 7 == 0 then scheduler:add { id = "new" .. i } end
        changes = changes + 1
        if i % 30 == 0 then ltsh.sleep(0) end
      end
    end)
    local asked = { status = "waiting", order = "newest", limit = 7000 }
    local last, seen = MANY + 1, {}
    repeat
      local tasks, after = assert(scheduler:list(asked))
      for _, task in ipairs(tasks) do
        assert.is_nil(seen[task.id], task.id)
        seen[task.id] = true
        local number = tonumber(task.id:match "^t(%d+)$")
        if number then
          assert.is_true(number < last, task.id)
          last = number
        end
      end
      asked.after = after
    until not after or #tasks == 0
    assert.is_true(changes > 100, changes)
    over = true
    job:wait()
    for i = 1, MANY do
      if i % 3 ~= 0 then assert.is_true(seen["t" .. i] ~= nil, i) end
    end
  end)

  it("is full as long as there are others, also when the first ones are gone by the end", function()
    local scheduler = many()
    local job = ltsh.spawn(function() return scheduler:list { status = "waiting", limit = 100 } end)
    for i = 1, 150 do assert(scheduler:stop("t" .. i)) end
    local tasks = job:wait()
    assert.equal(100, #tasks)
    for i, task in ipairs(tasks) do assert.equal("t" .. 150 + i, task.id) end
  end)
end)

describe("a container in Lua on luv and files", function()
  after_each(scene.close)

  it("gives the next what it had", function()
    local path = folder()
    local first = scene.open(nil, { container = files { folder = path } })
    first:pause()
    for i = 1, 5 do assert(first:add { id = "t" .. i, item = { n = i, bytes = "\xff\0" } }) end
    first:close()
    local second = scene.open(function(task) return task.item.n end, { container = files { folder = path } })
    for i = 1, 5 do assert.equal(i, assert(second:wait("t" .. i, 10)).output) end
  end)
end)

contract("a container in Lua and sqlite combined", function()
  return ltsh.container.combine(ltsh.container.load(EXAMPLE), in_file())
end, { priorities = true, keeps_all = true, unlimited = true, durable = true })

contract("queue and a container in Lua combined", function(options)
  return ltsh.container.combine(ltsh.container.queue {}, plain(options))
end, { keeps_all = true, slow = true })

contract("two containers in Lua combined", function(options)
  return ltsh.container.combine(ltsh.container.load(EXAMPLE), plain(options))
end, { keeps_all = true, slow = true })

describe("a container in Lua", function()
  -- A scheduler on the container that is closed after the test.
  local function open(container, run, options)
    options = options or {}
    options.container = container
    options.actuator = ltsh.actuator.func(run or function(task) return task.item end)
    options.schedule_interval = options.schedule_interval or 0.02
    return scene.keep(ltsh.scheduler(options))
  end

  after_each(scene.close)

  local METHODS = {
    "add", "claim", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted", "running",
    "running_count", "update_running",
  }

  -- The example without `attach`, with some methods replaced: each of them gets the container's own method first.
  local function changed(replacements)
    local container = ltsh.container.load(EXAMPLE)
    local proxy = {}
    for _, name in ipairs(METHODS) do
      local function own(...) return container[name](container, ...) end
      local replacement = replacements[name]
      proxy[name] = function(_, ...)
        if replacement then return replacement(own, ...) end
        return own(...)
      end
    end
    return proxy
  end

  -- One that agrees to everything and has nothing, but for these methods.
  local function bare(methods)
    local container = {}
    for _, name in ipairs {
      "add", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted",
    } do
      container[name] = function() return true end
    end
    function container.claim() return {} end
    function container.running() return {} end
    function container.running_count() return 0 end
    for name, method in pairs(methods) do container[name] = method end
    return container
  end

  local ends_of = scene.ends_of

  -- What `fn` returns; if it takes for ever, nil and "cancelled".
  local function in_time(fn)
    local job = ltsh.spawn(fn)
    local guard = ltsh.spawn(function()
      ltsh.sleep(5)
      job:cancel()
    end)
    local results = table.pack(job:wait())
    guard:cancel()
    return table.unpack(results, 1, results.n)
  end

  describe("may claim nonsense:", function()
    for what, value in pairs {
      ["a number"] = 5, ["a text"] = "task", ["a boolean"] = true, ["one task"] = { id = "a" },
    } do
      it(what .. " is no list", function()
        local calls = 0
        local scheduler = open(changed { claim = function(own, ...)
          calls = calls + 1
          if calls < 3 then return value end
          return own(...)
        end })
        scheduler:add { id = "a", item = 1 }
        assert.equal(1, scheduler:wait("a", 10).output)
        assert.equal(1, #ends_of(scheduler))
      end)
    end

    it("nil, an error and a call that takes too long leave everything as it was", function()
      local calls = 0
      local scheduler = open(changed { claim = function(own, ...)
        calls = calls + 1
        if calls == 1 then return nil end
        if calls == 2 then return nil, "no connection" end
        if calls == 3 then error "no connection" end
        if calls == 4 then ltsh.sleep(100) end
        return own(...)
      end }, nil, { container_timeout = 0.02 })
      scheduler:add { id = "a", item = 1 }
      local task = scheduler:wait("a", 10)
      assert.equal(1, task.output)
      assert.equal(1, task.attempts)
    end)

    it("what is no task is left out, the others are used", function()
      local first = true
      local scheduler = open(changed { claim = function(own, ...)
        local tasks = own(...)
        if first and #tasks > 0 then
          first = false
          return { 5, tasks[1], {}, "x", { id = "" }, { id = "x", item = print }, { id = "y", status = "success" } }
        end
        return tasks
      end }, nil, { limit = 10 })
      scheduler:add { id = "a", item = 1 }
      assert.equal(1, scheduler:wait("a", 10).output)
      assert.is_nil(scheduler:get "x")
      assert.equal(1, #ends_of(scheduler))
    end)

    -- Two run at once of a table that returns three more each time; what it is told of others.
    local function greedy(methods, work)
      local claimed, back = 0, {}
      methods.claim = function(own, limit, keys)
        local tasks, next_run_at = own(limit + 3, keys)
        claimed = claimed + #tasks
        return tasks, next_run_at
      end
      methods.to_waiting = function(own, task)
        back[#back + 1] = { task.status, task.attempts }
        return own(task)
      end
      local scheduler = open(changed(methods), work, { limit = 2 })
      scheduler:pause()
      for i = 1, 20 do scheduler:add { id = "t" .. i } end
      scheduler:resume()
      return scheduler, back, function() return claimed end
    end

    it("more than was asked for starts when it may, in order, and does not go back", function()
      local running, most, order = 0, 0, {}
      local scheduler, back = greedy({}, function(task)
        running = running + 1
        most = math.max(most, running)
        order[#order + 1] = task.id
        ltsh.sleep(0.001)
        running = running - 1
      end)
      local ends = ends_of(scheduler)
      assert.equal(20, #ends)
      assert.equal(2, most)
      for i, task in ipairs(ends) do assert.same({ 1, "t" .. i }, { task.attempts, order[i] }) end
      assert.same({}, back)
    end)

    it("more than was asked for waits until it starts, and goes back at the close, without an attempt", function()
      local scheduler, back, claimed = greedy({}, function() ltsh.sleep(100) end)
      eventually("more is claimed than runs", function() return claimed() == 5 end)
      eventually("two run", function() return scheduler:stats().running == 2 end)
      assert.same({ "waiting", 0 }, { scheduler:get("t3").status, scheduler:get("t3").attempts })
      scheduler:close { drain = 0 }
      assert.equal(5, #back)
      for _, seen in ipairs(back) do assert.same({ "waiting", 0 }, seen) end
    end)

    it("more than was asked for does not start after a stop whose answer is lost", function()
      local lost, ran = 0, {}
      local scheduler, _, claimed = greedy({ to_stopped = function(own, task)
        local done, message = own(task)
        lost = lost + 1
        if lost <= 2 then error "the connection broke" end
        return done, message
      end }, function(task)
        ran[task.id] = true
        while lost < 2 do ltsh.sleep(0.001) end
      end)
      eventually("more is claimed than runs", function() return claimed() == 5 end)
      assert.is_nil((scheduler:stop "t3"))
      local ends = {}
      for _, task in ipairs(ends_of(scheduler)) do ends[task.id] = task.status end
      assert.same({ "success", "stopped", "success" }, { ends.t2, ends.t3, ends.t4 })
      assert.is_nil(ran.t3)
    end)

    it("more than was asked for can be stopped and deleted before it starts", function()
      local deleted, stopped = {}, {}
      local scheduler, back, claimed
      scheduler, back, claimed = greedy({
        to_stopped = function(own, task)
          stopped[#stopped + 1] = task.id
          return own(task)
        end,
        to_deleted = function(own, task)
          deleted[#deleted + 1] = { task.id, #back }
          return own(task)
        end,
      }, function(task) while not deleted[1] do ltsh.sleep(0.001) end return task.id end)
      eventually("more is claimed than runs", function() return claimed() == 5 end)
      assert.equal("stopped", scheduler:stop("t3").status)
      assert.is_true(scheduler:delete "t4")
      assert.same({ { "t3" }, { { "t4", 1 } } }, { stopped, deleted })
      local ends = {}
      for _, task in ipairs(ends_of(scheduler)) do ends[task.id] = task.status end
      assert.same({ "stopped", nil, "success" }, { ends.t3, ends.t4, ends.t5 })
      assert.equal(1, #back)
    end)

    it("a task twice, or one that runs, runs once", function()
      local again
      local calls = {}
      local scheduler = open(changed { claim = function(own, ...)
        local tasks, next_run_at = own(...)
        if tasks[1] then
          again = tasks[1]
          tasks[#tasks + 1] = again
        elseif again then
          tasks[1] = again
        end
        return tasks, next_run_at
      end }, function(task)
        calls[#calls + 1] = task.id
        ltsh.sleep(0.1)
      end, { limit = 5 })
      scheduler:add { id = "a" }
      ltsh.sleep(0.07)
      again = nil
      assert.equal("success", scheduler:wait("a", 10).status)
      assert.same({ "a" }, calls)
    end)

    it("a task that it was never given is run", function()
      local given = false
      local scheduler = open(changed { claim = function(own, ...)
        local tasks = own(...)
        if not given then
          given = true
          tasks[#tasks + 1] = { id = "foreign", item = { 1, 2 }, key = "k", added_at = 5 }
        end
        return tasks
      end, to_success = function() return true end })
      eventually("it has run", function() return scheduler:get "foreign" and scheduler:get("foreign").ended_at end)
      local task = scheduler:get "foreign"
      assert.same({ 1, 2 }, task.output)
      assert.equal("success", task.status)
      assert.equal(1, task.attempts)
      assert.is_true(task.run >= 1)
      assert.equal("k", task.key)
      assert.equal(5, task.added_at)
    end)

    it("run numbers of its own are used, but not twice", function()
      local offered, waiting, runs = { 10, 10, 3, 20 }, {}, {}
      local function put(_, task)
        waiting[1] = task
        return true
      end
      local scheduler = open(bare {
        add = put,
        to_waiting = put,
        claim = function()
          local task = table.remove(waiting)
          if not task then return {} end
          task.status, task.attempts, task.run = "running", task.attempts + 1, table.remove(offered, 1)
          return { task }
        end,
      }, function(task)
        runs[#runs + 1] = task.run
        return nil, "again"
      end, { max_retries = 3 })
      scheduler:add { id = "a" }
      assert.equal(4, scheduler:wait("a", 10).attempts)
      assert.same({ 10, 11, 12, 20 }, runs)
    end)
  end)

  describe("may be slow or fail in transitions:", function()
    it("an end is stored again until it is, and the slot is held until then", function()
      local calls, down, started = 0, true, {}
      local scheduler = open(changed { to_success = function(own, task)
        calls = calls + 1
        if down then error "no connection" end
        return own(task)
      end }, function(task) started[task.id] = ltsh.now() end)
      scheduler:add { id = "a" }
      scheduler:add { id = "b" }
      eventually("it was tried again", function() return calls >= 3 end)
      assert.equal("running", scheduler:get("a").status)
      assert.is_nil(started.b)
      local back_at = ltsh.now()
      down = false
      assert.equal(2, #ends_of(scheduler))
      assert.is_true(started.b >= back_at)
    end)

    it("one that was done although its call failed is not done twice", function()
      for _, method in ipairs { "to_success", "to_failed", "to_waiting", "to_exporting" } do
        local calls, runs = {}, 0
        local container = changed { [method] = function(own, task)
          calls[#calls + 1] = task.run
          local done, message = own(task)
          if #calls == 1 then error "the connection broke" end
          return done, message
        end }
        local scheduler = open(container, function(task)
          runs = runs + 1
          if method == "to_failed" then return nil, { reason = "broken", retry = false } end
          if method == "to_waiting" and runs == 1 then return nil, "again" end
          return task.item
        end, {
          max_retries = 1,
          persister = method == "to_exporting" and {
            save = function() end, load = function() end, delete = function() end,
          } or nil,
        })
        scheduler:add { id = "a", item = 7 }
        local task = scheduler:wait("a", 10)
        assert.equal(method == "to_failed" and "failed" or "success", task.status, method)
        assert.equal(method == "to_waiting" and 2 or 1, runs, method)
        assert.same({ 1, 1 }, calls, method)
        assert.equal(1, #ends_of(scheduler))
      end
    end)

    it("a task shows the new state to the method and the old one to everybody else", function()
      local seen, scheduler
      scheduler = open(changed { to_success = function(own, task)
        ltsh.sleep(0.01)
        seen = { task.status, task.output, type(task.ended_at), scheduler:get("a").status, scheduler:get("a").output }
        return own(task)
      end })
      scheduler:add { id = "a", item = "out" }
      scheduler:wait("a", 10)
      assert.same({ "success", "out", "number", "running" }, seen)
    end)

    it("one that is refused is dropped: the task is elsewhere by now", function()
      local scheduler = open(changed { to_success = function() return nil, "another host has it" end })
      local finished = 0
      scheduler:on("finished", function() finished = finished + 1 end)
      scheduler:add { id = "a" }
      eventually("it is over", function() return scheduler:stats().stale == 1 end)
      assert.equal(0, finished)
      assert.same({}, ends_of(scheduler))
    end)

    it("the reason comes with to_failed", function()
      local given
      local scheduler = open(changed { to_failed = function(own, task, reason)
        given = { task.status, task.reason, reason }
        return own(task)
      end }, function() return nil, "broken" end)
      scheduler:add { id = "a" }
      scheduler:wait("a", 10)
      assert.same({ "failed", "broken", "broken" }, given)
    end)

    it("a refused stop says why, and changes nothing", function()
      local scheduler = open(changed { to_stopped = function() return nil, "it is being moved" end })
      scheduler:pause()
      scheduler:add { id = "a", item = 1 }
      local task, message = scheduler:stop "a"
      assert.is_nil(task)
      assert.equal("it is being moved", message)
      assert.equal("waiting", scheduler:get("a").status)
      scheduler:resume()
      assert.equal(1, scheduler:wait("a", 10).output)
    end)

    it("a stop that is overtaken by a claim stops the run", function()
      local scheduler
      local overtaken = false
      scheduler = open(changed {
        claim = function(own, ...)
          local tasks = own(...)
          if tasks[1] then
            overtaken = true
            ltsh.sleep(0.05)
          end
          return tasks
        end,
      }, function() ltsh.sleep(100) end)
      scheduler:add { id = "a" }
      eventually("it is being claimed", function() return overtaken end)
      assert.equal("waiting", scheduler:get("a").status)
      local task = scheduler:stop "a"
      assert.equal("stopped", task.status)
      assert.equal(1, task.attempts)
    end)

    it("several stops at once are one end, and each is answered with it", function()
      local calls = 0
      local scheduler = open(changed { to_stopped = function(own, task)
        calls = calls + 1
        ltsh.sleep(0.01)
        return own(task)
      end })
      local ends = 0
      scheduler:on("finished", function() ends = ends + 1 end)
      scheduler:pause()
      scheduler:add { id = "a" }
      local jobs = {}
      for i = 1, 3 do jobs[i] = ltsh.spawn(function() return scheduler:stop "a" end) end
      local stopped = 0
      for _, job in ipairs(jobs) do stopped = stopped + (job:wait() and 1 or 0) end
      assert.equal(3, stopped)
      assert.equal(1, calls)
      assert.equal(1, ends)
    end)

    it("to wait for room ends with its time, also when the container says late that it is full", function()
      local scheduler = open(changed { add = function(own, task)
        if task.id == "a" then return own(task) end
        ltsh.sleep(0.05)
        return nil, "it is full", "full"
      end })
      scheduler:pause()
      scheduler:add { id = "a" }
      local id, _, code = in_time(function() return scheduler:add({ id = "b" }, 0.01) end)
      assert.is_nil(id)
      assert.equal("full", code)
    end)

    it("to wait for an end ends with its time, also when the container says late how the task is", function()
      local container = plain()
      local get = container.get
      function container.get(...)
        ltsh.sleep(0.05)
        return get(...)
      end
      local scheduler = open(container)
      scheduler:pause()
      scheduler:add { id = "a" }
      local task, _, code = in_time(function() return scheduler:wait("a", 0.01) end)
      assert.is_nil(task)
      assert.equal("timeout", code)
    end)

    it("of several tasks none is added if one is refused, also when a claim holds them meanwhile", function()
      for _, claim_takes in ipairs { 0, 0.01 } do
        local deleted = {}
        local scheduler = open(changed {
          add = function(own, task)
            ltsh.sleep(0.002)
            if task.id == "c" then return nil, "not this one" end
            return own(task)
          end,
          claim = function(own, ...)
            local tasks, next_run_at = own(...)
            ltsh.sleep(claim_takes)
            return tasks, next_run_at
          end,
          to_deleted = function(own, task)
            ltsh.sleep(0.002)
            local done, message = own(task)
            if done then deleted[#deleted + 1] = task.id end
            return done, message
          end,
        }, nil, { schedule_interval = 0.001 })
        local ids, message, code = scheduler:add_all { { id = "a" }, { id = "b" }, { id = "c" }, { id = "d" } }
        assert.is_nil(ids)
        assert.equal("not this one", message)
        assert.equal("refused", code)
        assert.same({ "b", "a" }, deleted)
        assert.same({}, ends_of(scheduler))
        assert.same({ "a", "b" }, scheduler:add_all { { id = "a" }, { id = "b" } })
        assert.equal(2, #ends_of(scheduler))
      end
    end)
  end)

  describe("is asked in one order:", function()
    -- The example whose methods take a moment, and what was under way at the beginning of each.
    local function watched(options)
      local under_way, seen = {}, { most = 0, of_one = 0, alone = 0, times = {} }
      local replacements = {}
      for _, name in ipairs(METHODS) do
        replacements[name] = function(own, task, ...)
          local id = type(task) == "userdata" and task.id or nil
          local is_alone = name == "add" or name == "claim"
          for other in pairs(under_way) do
            if is_alone or other.is_alone then seen.alone = seen.alone + 1 end
            if other.id == id then seen.of_one = seen.of_one + 1 end
          end
          local call = { id = id, is_alone = is_alone }
          under_way[call] = true
          local count = 0
          for _ in pairs(under_way) do count = count + 1 end
          seen.most = math.max(seen.most, count)
          seen.times[name] = (seen.times[name] or 0) + 1
          ltsh.sleep(0.002)
          local results = table.pack(own(task, ...))
          under_way[call] = nil
          return table.unpack(results, 1, results.n)
        end
      end
      local container = changed(replacements)
      container.running, container.running_count = function() return {} end, function() return 0 end
      for name, method in pairs(options or {}) do container[name] = method end
      return container, seen
    end

    it("claim and add alone, transitions of different tasks side by side, those of one after the other", function()
      local container, seen = watched()
      local runs = {}
      local scheduler = open(container, function(task)
        runs[task.id] = (runs[task.id] or 0) + 1
        task:report(1)
        if runs[task.id] == 1 and task.item % 3 == 0 then return nil, "again" end
      end, { limit = 10, max_retries = 1 })
      local jobs = {}
      for i = 1, 40 do
        jobs[i] = ltsh.spawn(function()
          assert.equal("t" .. i, scheduler:add { id = "t" .. i, item = i })
          if i % 5 == 0 then scheduler:stop("t" .. i) end
          if i % 7 == 0 then
            scheduler:wait("t" .. i)
            scheduler:delete("t" .. i)
          end
        end)
      end
      for _, job in ipairs(jobs) do job:wait() end
      for i = 1, 40 do scheduler:wait("t" .. i, 10) end
      assert.same({ 0, 0 }, { seen.alone, seen.of_one })
      assert.is_true(seen.most > 3, seen.most)
      for _, name in ipairs { "add", "claim", "to_waiting", "to_success", "to_deleted", "update_running" } do
        assert.is_true((seen.times[name] or 0) > 0, name)
      end
    end)

    it("a claim waits for a slow transition, and what comes after it for the claim", function()
      local order, gate = {}, scene.door()
      local function noted(name)
        return function(own, task, ...)
          order[#order + 1] = name .. (type(task) == "userdata" and task.id or "")
          if name == "to_success " then gate.pass() end
          return own(task, ...)
        end
      end
      local scheduler = open(changed {
        add = noted "add ", claim = noted "claim", to_success = noted "to_success ", to_stopped = noted "to_stopped ",
      }, nil, { schedule_interval = 100 })
      scheduler:pause()
      for _, id in ipairs { "a", "b", "c" } do scheduler:add { id = id } end
      scheduler:resume()
      eventually("its end is being stored", function() return gate.waiting == 1 end)
      local stopped = ltsh.spawn(function() return scheduler:stop("c") end)
      assert.equal("stopped", stopped:wait().status) -- side by side
      local added = ltsh.spawn(function() return scheduler:add { id = "d" } end)
      ltsh.sleep(0.005)
      local late = ltsh.spawn(function() return scheduler:stop("b") end)
      ltsh.sleep(0.005)
      assert.same({ "add a", "add b", "add c", "claim", "to_success a", "to_stopped c" }, order)
      gate.is_open = true
      assert.equal("d", added:wait())
      late:wait()
      assert.same({ "add d", "to_stopped b" }, { order[7], order[8] })
    end)

    -- What a method gets that asks its own scheduler.
    local function asked_within(name, ask)
      local scheduler, got, began
      local replacement = function(own, ...)
        if scheduler and not got and began then
          local before = ltsh.now()
          got = table.pack(ask(scheduler))
          got.seconds = ltsh.now() - before
        end
        return own(...)
      end
      scheduler = open(changed { [name] = replacement }, function(task)
        if task.item == "long" then ltsh.sleep(100) end
        if task.item == "bad" then return nil, "bad" end
      end, { limit = 3 })
      scheduler:add { id = "long", item = "long" }
      scheduler:add { id = "delayed", delay = 100 }
      scheduler:add { id = "ended" }
      eventually("one runs", function() return scheduler:get("long").status == "running" end)
      scheduler:wait("ended", 5)
      began = true
      scheduler:add { id = "first", item = name == "to_failed" and "bad" or nil }
      eventually("it asked", function() return got end)
      scheduler:wait("first", 5)
      return got, scheduler
    end

    local changes = {
      add = function(scheduler) return scheduler:add { id = "inner" } end,
      add_all = function(scheduler) return scheduler:add_all { { id = "inner" } } end,
      ["add with seconds"] = function(scheduler) return scheduler:add({ id = "inner" }, 5) end,
      ["stop of what waits"] = function(scheduler) return scheduler:stop "delayed" end,
      ["stop of what runs"] = function(scheduler) return scheduler:stop "long" end,
      retry = function(scheduler) return scheduler:retry "ended" end,
      delete = function(scheduler) return scheduler:delete "ended" end,
      wait = function(scheduler) return scheduler:wait "long" end,
      close = function(scheduler) return scheduler:close() end,
    }
    for name, ask in pairs(changes) do
      it(name .. " from within a method is refused at once", function()
        for _, method in ipairs { "add", "claim", "to_success", "to_failed" } do
          local got, scheduler = asked_within(method, ask)
          assert.is_nil(got[1])
          assert.matches("ltsh.spawn", got[2], 1, true)
          assert.equal("refused", got[3])
          assert.is_true(got.seconds < 10) -- and not after a timeout
          assert.equal("long", scheduler:get("long").id)
          assert.is_nil((scheduler:get "inner"))
        end
      end)
    end

    it("what need not wait may be asked from within a method, and the rest from a job", function()
      for _, method in ipairs { "add", "claim", "to_success" } do
        local got = asked_within(method, function(scheduler)
          ltsh.spawn(function() scheduler:add { id = "inner" } end)
          local task = scheduler:get "long"
          return task.status, scheduler:wait("ended").status, scheduler:count { status = "running" } > 0,
            #scheduler:list { status = "running" } > 0
        end)
        assert.same({ "running", "success", true, true }, { table.unpack(got, 1, 4) })
      end
      local _, scheduler = asked_within("to_success", function(scheduler)
        ltsh.spawn(function() scheduler:add { id = "inner" } end)
      end)
      eventually("it was added", function() return scheduler:get "inner" end)
    end)

    it("an announcement from within claim brings no storm", function()
      local announce, claims = nil, 0
      local container = bare {
        attach = function(_, given) announce = given end,
        claim = function()
          claims = claims + 1
          announce()
          return {}
        end,
      }
      local scheduler = open(container, nil, { schedule_interval = 100 })
      ltsh.sleep(0.3)
      assert.is_true(claims >= 1 and claims < 10, claims)
      scheduler:close()
    end)
  end)

  describe("with keys", function()
    -- Claims whatever comes first, with keys and without asking; counts what it gets back.
    local function careless(options)
      local container = { durable = options.durable, waiting = {}, back = 0, claimed = 0 }
      local places, orders, runs = {}, 0, 0
      local function put(place)
        local i = 1
        while container.waiting[i] and container.waiting[i].order < place.order do i = i + 1 end
        table.insert(container.waiting, i, place)
      end
      function container.add(_, task)
        orders = orders + 1
        places[task.id] = { task = task, order = orders }
        put(places[task.id])
        return true
      end
      function container.claim(_, limit)
        local tasks = {}
        while #tasks < limit and container.waiting[1] do
          local task = table.remove(container.waiting, 1).task
          runs = runs + 1
          task.status, task.run, task.attempts = "running", runs, task.attempts + 1
          tasks[#tasks + 1] = task
        end
        container.claimed = container.claimed + #tasks
        return tasks
      end
      function container.to_waiting(_, task)
        container.back = container.back + 1
        places[task.id].task = task
        put(places[task.id])
        return true
      end
      local function agree() return true end
      container.to_success, container.to_failed, container.to_stopped = agree, agree, agree
      container.to_exporting, container.to_deleted, container.update_running = agree, agree, agree
      function container.running() return {} end
      function container.running_count() return 0 end
      function container.attach() end
      return container
    end

    local function add_many(scheduler)
      local tasks = {}
      for i = 1, 640 do tasks[i] = { id = "t" .. i, key = "k" .. i % 4 } end
      assert.equal(640, #scheduler:add_all(tasks))
    end

    it("the example never gives anything back", function()
      local claimed, back = 0, 0
      local scheduler = open(changed {
        claim = function(own, ...)
          local tasks, next_run_at = own(...)
          claimed = claimed + #tasks
          return tasks, next_run_at
        end,
        to_waiting = function(own, task)
          back = back + 1
          return own(task)
        end,
      }, nil, { limit = 64, key_limit = 1 })
      add_many(scheduler)
      assert.equal(640, #ends_of(scheduler))
      assert.same({ 640, 0 }, { claimed, back })
    end)

    for _, durable in ipairs { true, false } do
      it((durable and "a durable" or "another") .. " one that does not look at them is asked for less", function()
        local container = careless { durable = durable }
        local scheduler = open(container, nil, { limit = 64, key_limit = 1 })
        add_many(scheduler)
        assert.equal(640, #ends_of(scheduler))
        assert.is_true(container.back < 1500, container.back)
      end)
    end

    it("what stands behind many of a full key is reached", function()
      for _, durable in ipairs { true, false } do
        local container = careless { durable = durable }
        local scheduler = open(container, function(task) ltsh.sleep(task.key == "a" and 100 or 0) end,
          { limit = 2, key_limit = 1 })
        local tasks = {}
        for i = 1, 1000 do tasks[i] = { id = "a" .. i, key = "a" } end
        scheduler:add_all(tasks)
        scheduler:add { id = "b", key = "b" }
        scheduler:add { id = "none" }
        assert.equal("success", scheduler:wait("b", 5).status)
        assert.equal("success", scheduler:wait("none", 5).status)
        assert.is_true(container.back < 5000, container.back)
        local back = container.back
        ltsh.sleep(0.5)
        assert.is_true(container.back - back < 10, container.back - back)
        scheduler:close()
      end
    end)

    it("admit takes places for one claim, and those that are not used are free again", function()
      local admit, answers = nil, {}
      local scheduler = open(bare { attach = function() end, claim = function(_, _, _, given)
        if not admit then
          answers = { given "a", given "a", given(nil), given(nil), given "b" }
          assert.has_error(function() given(5) end, "admit: key must be a string or nil, got 5 (a number)")
        end
        admit = given
        return {}
      end }, nil, { limit = 3, key_limit = 1 })
      eventually("it was asked", function() return admit end)
      assert.same({ true, false, true, true, false }, answers)
      assert.is_false(admit "a")
      assert.equal(0, scheduler:stats().running)
      scheduler:close()
      assert.is_false(admit "a")
    end)

    it("admit's place is that of the task that is claimed", function()
      local most, running = 0, 0
      local scheduler = open(changed { claim = function(own, limit, keys, admit)
        admit "none of this key"
        return own(limit, keys, admit)
      end }, function()
        running = running + 1
        most = math.max(most, running)
        ltsh.sleep(0.002)
        running = running - 1
      end, { limit = 4, key_limit = 2 })
      for i = 1, 50 do scheduler:add { id = "t" .. i, key = "k" .. i % 3 } end
      assert.equal(50, #ends_of(scheduler))
      assert.is_true(most == 3 or most == 4, most)
    end)
  end)

  describe("and time:", function()
    it("a task that began and snoozed has not expired", function()
      local runs = 0
      local scheduler = open(changed {}, function()
        runs = runs + 1
        if runs == 1 then return nil, { reason = "not yet", snooze = 0.4 } end
        return runs
      end)
      scheduler:add { id = "a", expires = 0.2 }
      local task = scheduler:wait("a", 10)
      assert.same({ "success", 2 }, { task.status, task.output })
    end)

    it("many expire in several claims", function()
      local scheduler = open(ltsh.container.load(EXAMPLE), nil, { limit = 1000 })
      scheduler:pause()
      local tasks = {}
      for i = 1, 1000 do tasks[i] = { id = "t" .. i, expires = 0.01 } end
      scheduler:add_all(tasks)
      ltsh.sleep(0.02)
      scheduler:resume()
      local ends = ends_of(scheduler)
      assert.equal(1000, #ends)
      for _, task in ipairs(ends) do assert.same({ "failed", "expired" }, { task.status, task.reason }) end
    end)

    it("earlier runs are remembered, also by a retry", function()
      local runs = 0
      local scheduler = open(changed {}, function()
        runs = runs + 1
        if runs < 3 then return nil, "failure " .. runs end
      end, { max_retries = 1 })
      scheduler:add { id = "a" }
      assert.equal("failed", scheduler:wait("a", 10).status)
      assert.equal(2, #scheduler:history "a")
      scheduler:retry "a"
      eventually("it has run", function() return scheduler:get("a").status == "success" end)
      local history = scheduler:history "a"
      assert.same({ "failure 1", "failure 2" }, { history[1].reason, history[2].reason })
      assert.equal(3, #history)
      assert.is_string(history[1].host)
    end)
  end)

  describe("that cannot take out again what was not added", function()
    -- Adds a, b and one that is refused, and then "good"; what ran, when that has ended.
    local function run_with(replacements, container_timeout)
      local ran = {}
      replacements.add = function(own, task)
        ltsh.sleep(0.002)
        if task.id == "refused" then return nil, "not this one" end
        return own(task)
      end
      local scheduler = open(changed(replacements), function(task) ran[task.id] = (ran[task.id] or 0) + 1 end,
        { container_timeout = container_timeout, schedule_interval = 0.001, limit = 1 })
      assert.equal("refused", select(3, scheduler:add_all { { id = "a" }, { id = "b" }, { id = "refused" } }))
      scheduler:add { id = "good" }
      assert.equal("success", scheduler:wait("good", 10).status)
      return ran
    end

    it("at once tells it later, and does not run it", function()
      local failures = 0
      local deleted = {}
      local ran = run_with { to_deleted = function(own, task)
        failures = failures + 1
        if failures <= 2 then error "no connection" end
        local done, message = own(task)
        if done then deleted[task.id] = true end
        return done, message
      end }
      eventually("they are deleted", function() return deleted.a and deleted.b end)
      assert.same({ good = 1 }, ran)
    end)

    it("as it does not take back what it gave away tells it that first", function()
      local failures = 0
      local ran = run_with {
        claim = function(own, ...)
          local tasks, next_run_at = own(...)
          ltsh.sleep(0.004)
          return tasks, next_run_at
        end,
        to_waiting = function(own, task)
          failures = failures + 1
          if failures <= 2 then error "no connection" end
          return own(task)
        end,
      }
      ltsh.sleep(1.2) -- it is told again after a second
      assert.same({ good = 1 }, ran)
    end)

    it("at all goes on with the others", function()
      local ran = run_with({ to_deleted = function() ltsh.sleep(100) end }, 0.5)
      assert.same({ good = 1 }, ran)
    end)
  end)

  describe("may know better:", function()
    it("it says when it is to be asked again", function()
      local due, started
      local asked = 0
      local scheduler = open(bare {
        attach = function() end,
        claim = function()
          asked = asked + 1
          due = due or ltsh.now() + 0.05
          if started then return {} end
          if ltsh.now() < due then return {}, due end
          return { { id = "timed" } }
        end,
      }, function() started = ltsh.now() end, { schedule_interval = 100 })
      eventually("it has run", function() return scheduler:stats().success == 1 end)
      assert.is_true(started >= due)
      assert.is_true(asked < 10)
    end)

    it("it announces what came from elsewhere", function()
      local announce
      local tasks = {}
      local scheduler = open(bare {
        attach = function(_, given) announce = given end,
        claim = function()
          local taken = tasks
          tasks = {}
          return taken
        end,
      }, nil, { schedule_interval = 100 })
      local timer = require("luv").new_timer()
      timer:start(10, 0, function()
        tasks = { { id = "announced" } }
        announce()
        timer:close()
      end)
      eventually("it has run", function() return scheduler:stats().success == 1 end)
      scheduler:close()
      announce()
    end)

    it("it is not asked again and again when its claim announces something", function()
      local announce
      local asked, refilled, tasks = 0, false, {}
      local scheduler = open(bare {
        attach = function(_, given) announce = given end,
        claim = function()
          asked = asked + 1
          local taken = tasks
          tasks = not refilled and { { id = "refilled" } } or {}
          refilled = true
          announce()
          return taken
        end,
      }, nil, { schedule_interval = 100 })
      eventually("what it announced has run", function() return scheduler:stats().success == 1 end)
      asked = 0
      ltsh.sleep(0.2)
      assert.is_true(asked > 0 and asked < 30, "asked: " .. asked)
    end)

    it("what a host left running waits again, with no attempt used", function()
      local waiting = {}
      local left = { { id = "left", item = 7, status = "running", run = 5, attempts = 2, started_at = 1000 } }
      local scheduler = open(bare {
        claim = function()
          local tasks = waiting
          waiting = {}
          return tasks
        end,
        to_waiting = function(_, task)
          waiting[#waiting + 1] = task
          return true
        end,
        running = function() return left end,
      })
      local ends = ends_of(scheduler)
      assert.equal(1, #ends)
      assert.equal("success", ends[1].status)
      assert.equal(7, ends[1].output)
      assert.equal(2, ends[1].attempts)
      assert.is_true(ends[1].run > 5)
    end)

    it("its progress and its close are called", function()
      local progress, closed = {}, 0
      local container = changed { update_running = function(own, task)
        progress[#progress + 1] = task.progress
        return own(task)
      end }
      container.close = function() closed = closed + 1 end
      local scheduler = open(container, function(task)
        task:report { done = 1 }
        ltsh.sleep(0.01)
        task:report { done = 2 }
        ltsh.sleep(0.01)
      end)
      scheduler:add { id = "a" }
      scheduler:wait("a", 10)
      assert.same({ { done = 1 }, { done = 2 } }, progress)
      assert.equal(0, closed)
      scheduler:close()
      scheduler:close()
      assert.equal(1, closed)
    end)

    it("waiting tasks stay where they are when it outlives its scheduler", function()
      local stopped, back = 0, 0
      local container = changed {
        to_stopped = function(own, task)
          stopped = stopped + 1
          return own(task)
        end,
        to_waiting = function(own, task)
          back = back + 1
          return own(task)
        end,
      }
      local scheduler = open(container, function() ltsh.sleep(100) end)
      scheduler:add { id = "a" }
      scheduler:add { id = "b" }
      eventually("one runs", function() return scheduler:stats().running == 1 end)
      scheduler:close { drain = 0 }
      assert.equal(0, stopped)
      assert.equal(1, back)
    end)
  end)
end)
