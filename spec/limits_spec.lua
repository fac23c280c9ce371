-- What may run at once and when: the limit, limits and rates of keys, priorities, delays, expiry.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"

local open, eventually = scene.open, scene.eventually

after_each(scene.close)

local ends_of = scene.ends_of

local function ids_of(tasks)
  local ids = {}
  for i, task in ipairs(tasks) do ids[i] = task.id end
  return ids
end

local function seconds()
  return uv.hrtime() / 1e9
end

-- Counts who is inside, until the function has really ended, however that comes.
local function meter()
  local self = { inside = 0, most = 0, entered = 0 }
  local leave = { __close = function() self.inside = self.inside - 1 end }
  function self.enter()
    self.inside = self.inside + 1
    self.entered = self.entered + 1
    self.most = math.max(self.most, self.inside)
    return setmetatable({}, leave)
  end
  return self
end

local modes = {
  { name = "with callbacks", options = {} },
  { name = "with polls", options = { poll_interval = 0.005, callback = false } },
  { name = "with both", options = { poll_interval = 0.005, callback = true } },
}

local function with(mode, options)
  for name, value in pairs(mode.options) do options[name] = value end
  return options
end

for _, mode in ipairs(modes) do
  describe("the limit " .. mode.name, function()
    for _, limit in ipairs { 1, 2, 7 } do
      it("of " .. limit .. " is used up and never exceeded", function()
        local inside = meter()
        local scheduler = open(function()
          local _ <close> = inside.enter()
          ltsh.sleep(0.002)
        end, with(mode, { limit = limit }))
        for i = 1, 40 do scheduler:add { id = tostring(i) } end
        assert.equal(40, #ends_of(scheduler))
        assert.equal(limit, inside.most)
        assert.equal(40, inside.entered)
        assert.equal(0, inside.inside)
      end)
    end

    it("holds through retries, timeouts and stops", function()
      local inside = meter()
      local scheduler = open(function(task)
        local _ <close> = inside.enter()
        local kind = task.item % 4
        if kind == 0 then return nil, "broken" end
        if kind == 1 then ltsh.sleep(3600) end -- times out
        if kind == 2 then -- takes its time to die
          pcall(ltsh.sleep, 3600)
          return
        end
        ltsh.sleep(0.001)
      end, with(mode, { limit = 3, max_retries = 2, timeout = 0.03 }))
      for i = 1, 24 do scheduler:add { id = tostring(i), item = i } end
      scheduler:on("started", function(task)
        if task.item == 6 or task.item == 9 then
          ltsh.spawn(function() scheduler:stop(task.id) end)
        end
      end)
      local statuses = { success = 0, failed = 0, stopped = 0 }
      for task in scheduler:finished() do statuses[task.status] = statuses[task.status] + 1 end
      assert.equal(24, statuses.success + statuses.failed + statuses.stopped)
      assert.equal(2, statuses.stopped)
      assert.equal(3, inside.most)
      assert.equal(0, inside.inside)
    end)

    it("holds a slot until the work of a timed out task is dead", function()
      local inside = meter()
      local scheduler = open(function(task)
        local _ <close> = inside.enter()
        if task.id == "stubborn" then
          pcall(ltsh.sleep, 3600)
          local until_ = seconds() + 0.03
          while seconds() < until_ do end -- goes on after it was told
        end
      end, with(mode, { limit = 1, timeout = 0.02 }))
      scheduler:add { id = "stubborn" }
      scheduler:add { id = "next", timeout = 10 }
      local ends = ends_of(scheduler)
      assert.same({ "stubborn", "next" }, ids_of(ends))
      assert.equal("timeout", ends[1].reason)
      assert.equal(1, inside.most)
    end)
  end)
end

describe("the limit", function()
  it("counts a task that is saved", function()
    local saving, most = 0, 0
    local scheduler = open(function() return 1 end, {
      limit = 2,
      persister = {
        save = function()
          saving = saving + 1
          most = math.max(most, saving)
          ltsh.sleep(0.002)
          saving = saving - 1
          return true
        end,
        load = function() end,
        delete = function() return true end,
      },
    })
    for _ = 1, 20 do scheduler:add {} end
    assert.equal(20, #ends_of(scheduler))
    assert.equal(2, most)
  end)

  it("leaves no slot behind after stops of every kind", function()
    local inside = meter()
    local scheduler = open(function()
      local _ <close> = inside.enter()
      ltsh.sleep(0.002)
    end, { limit = 2 })
    for i = 1, 60 do scheduler:add { id = tostring(i) } end
    local stoppers = {}
    for i = 1, 60, 3 do
      stoppers[#stoppers + 1] = ltsh.spawn(function()
        ltsh.sleep(i / 4000)
        scheduler:stop(tostring(i))
      end)
    end
    assert.equal(60, #ends_of(scheduler))
    for _, job in ipairs(stoppers) do job:wait() end
    assert.equal(2, inside.most)
    assert.equal(0, scheduler:stats().running)
    for i = 1, 4 do scheduler:add { id = "after " .. i } end -- both slots are there
    assert.equal(4, #ends_of(scheduler))
  end)

  it("is each scheduler's own", function()
    local inside = meter()
    local function run()
      local _ <close> = inside.enter()
      ltsh.sleep(0.01)
    end
    local a, b = open(run, { limit = 2 }), open(run, { limit = 3 })
    for _ = 1, 10 do
      a:add {}
      b:add {}
    end
    ends_of(a)
    ends_of(b)
    assert.equal(5, inside.most)
  end)
end)

-- Runs tasks of the keys and returns how many ran at once of each, and in all.
local function run_keys(options, keys, each)
  local all, inside = meter(), {}
  for _, key in ipairs(keys) do inside[key] = meter() end
  local scheduler = open(function(task)
    local _ <close> = all.enter()
    local _ <close> = inside[task.key].enter()
    ltsh.sleep(0.003)
  end, options)
  for i = 1, each do
    for _, key in ipairs(keys) do scheduler:add { id = key .. i, key = key } end
  end
  assert.equal(each * #keys, #ends_of(scheduler))
  local most = {}
  for key, one in pairs(inside) do most[key] = one.most end
  return most, all.most
end

describe("the limit of a key", function()
  it("as a number holds for each key", function()
    local most, all = run_keys({ limit = 10, key_limit = 2 }, { "a", "b", "c" }, 8)
    assert.same({ a = 2, b = 2, c = 2 }, most)
    assert.equal(6, all)
  end)

  it("as a function is asked for each key", function()
    local asked = {}
    local most = run_keys({
      limit = 10,
      key_limit = function(key)
        asked[key] = true
        return key == "a" and 1 or 3
      end,
    }, { "a", "b" }, 8)
    assert.same({ a = 1, b = 3 }, most)
    assert.same({ a = true, b = true }, asked)
  end)

  it("does not pass the limit of all", function()
    local most, all = run_keys({ limit = 3, key_limit = 2 }, { "a", "b", "c" }, 6)
    assert.equal(3, all)
    for _, n in pairs(most) do assert.is_true(n <= 2) end
  end)

  it("does not concern tasks without a key", function()
    local inside = meter()
    local scheduler = open(function()
      local _ <close> = inside.enter()
      ltsh.sleep(0.003)
    end, { limit = 5, key_limit = 1 })
    for _ = 1, 20 do scheduler:add {} end
    ends_of(scheduler)
    assert.equal(5, inside.most)
  end)

  it("does not hold up tasks of other keys", function()
    local release = false
    local scheduler = open(function(task)
      while task.key == "full" and not release do ltsh.sleep(0.001) end
    end, { limit = 2, key_limit = 1 })
    for i = 1, 50 do scheduler:add { id = "full " .. i, key = "full" } end
    for i = 1, 5 do scheduler:add { id = "other " .. i, key = "other" } end
    scheduler:add { id = "keyless" }
    for i = 1, 5 do assert.equal("success", scheduler:wait("other " .. i, 10).status) end
    assert.equal("success", scheduler:wait("keyless", 10).status)
    assert.equal(49, scheduler:stats().waiting)
    release = true
    assert.equal(56, #ends_of(scheduler))
  end)

  it("keeps the order within the key", function()
    local order = {}
    local scheduler = open(function(task)
      order[#order + 1] = task.item
      ltsh.sleep(0.001)
    end, { limit = 4, key_limit = 1 })
    for i = 1, 20 do scheduler:add { item = i, key = "k" } end
    ends_of(scheduler)
    for i = 1, 20 do assert.equal(i, order[i]) end
  end)

  it("is free again after failures, stops and timeouts", function()
    local inside = meter()
    local scheduler = open(function(task)
      local _ <close> = inside.enter()
      if task.item == 1 then return nil, "broken" end
      if task.item == 2 then ltsh.sleep(3600) end
    end, { limit = 4, key_limit = 1, timeout = 0.01, max_retries = 1 })
    for i = 1, 12 do scheduler:add { id = tostring(i), item = i % 3, key = "k" } end
    scheduler:stop "2"
    assert.equal(12, #ends_of(scheduler))
    assert.equal(1, inside.most)
  end)

  it("is held while a task of it waits for its retry: not", function()
    local scheduler = open(function(task)
      if task.id == "a" and task.attempts < 2 then return nil, "broken" end
    end, { limit = 2, key_limit = 1, max_retries = 1, backoff = 0.05 })
    scheduler:add { id = "a", key = "k" }
    scheduler:add { id = "b", key = "k" }
    assert.same({ "b", "a" }, ids_of(ends_of(scheduler)))
  end)

  it("can be set while tasks run", function()
    local running, most = 0, 0
    local scheduler = open(function()
      running = running + 1
      most = math.max(most, running)
      ltsh.sleep(0.003)
      running = running - 1
    end, { limit = 8, key_limit = 1 })
    for i = 1, 30 do scheduler:add { id = tostring(i), key = "k" } end
    scheduler:wait "3"
    assert.equal(1, most)
    scheduler:set { key_limit = 4 }
    assert.equal(30, #ends_of(scheduler))
    assert.equal(4, most)
  end)

  it("is none where its function says math.huge", function()
    local most = run_keys({ limit = 8, key_limit = function() return math.huge end }, { "a" }, 16)
    assert.same({ a = 8 }, most)
  end)

  local table_container = require "spec.support.table"
  for what, container in pairs {
    ["a queue"] = function() return ltsh.container.queue {} end,
    ["a table"] = function() return table_container {} end,
  } do
    it("of 0 by its function holds up this key and no other, until it says more: in " .. what, function()
      local limits, gate = { a = 0, b = 2 }, scene.door()
      local running = { a = 0, b = 0 }
      local scheduler = open(function(task)
        running[task.key] = running[task.key] + 1
        gate.pass()
        running[task.key] = running[task.key] - 1
      end, { container = container(), limit = 20, key_limit = function(key) return limits[key] end })
      for _, key in ipairs { "a", "b" } do
        for i = 1, 5 do scheduler:add { id = key .. i, key = key } end
      end
      eventually("two of b run", function() return running.b == 2 end)
      ltsh.sleep(0.15) -- asked again meanwhile
      assert.same({ a = 0, b = 2 }, running)
      local text, code = scheduler:explain "a1"
      assert.equal("key", code)
      if what == "a queue" then assert.matches("its limit is 0", text) end
      limits.a = 3
      eventually("three of a run", function() return running.a == 3 end)
      limits.a, limits.b = 1, 4
      eventually("four of b run", function() return running.b == 4 end)
      assert.equal(3, running.a)
      limits.a = 0
      gate.is_open = true
      eventually("all of b have run", function() return scheduler:count { status = "success" } >= 8 end)
      ltsh.sleep(0.05)
      assert.same({ a = 0, b = 0 }, running)
      assert.equal(2, scheduler:count { status = "waiting" })
      limits.a = 1
      eventually("all have run", function() return scheduler:count { status = "success" } == 10 end)
    end)
  end

  it("falls back to one when its function fails", function()
    local most = run_keys({ limit = 4, key_limit = function() error "broken limit" end }, { "a" }, 4)
    assert.same({ a = 1 }, most)
  end)
end)

-- The times at which tasks started, in seconds since they were added: the first may begin late, when it has its token.
local function starts_of(options, tasks)
  local starts = {}
  options.limit = options.limit or 100
  local scheduler = open(function(task)
    table.insert(starts, { at = seconds(), key = task.key }) -- by one call: it may be cut anywhere, and another begin
  end, options)
  local added = seconds()
  scheduler:add_all(tasks)
  assert.equal(#tasks, #ends_of(scheduler))
  for _, start in ipairs(starts) do start.at = start.at - added end
  return starts
end

local function many(count, key)
  local tasks = {}
  for i = 1, count do tasks[i] = { key = key } end
  return tasks
end

-- No window of `per` seconds may have more starts than the bucket had at most plus what came in.
local function assert_rate(starts, burst, per)
  for i = 1, #starts do
    local j = i
    while j < #starts and starts[j + 1].at - starts[i].at < per * 0.95 do j = j + 1 end
    assert.is_true(j - i + 1 <= 2 * burst, ("%d starts in %g s"):format(j - i + 1, per))
  end
end

describe("the rate", function()
  it("lets a burst through and then so many in each period", function()
    local starts = starts_of({ rate = { 5, per = 0.1 } }, many(15))
    assert_rate(starts, 5, 0.1)
    -- five at once; the other ten come one each 20 ms
    assert.is_true(starts[15].at >= 0.18, "the last came after " .. starts[15].at)
    local scheduler = open(nil, { rate = { 5, per = 3600 }, limit = 100 })
    for i = 1, 6 do scheduler:add { id = tostring(i) } end
    eventually("the burst", function() return scheduler:stats().success == 5 end)
    assert.equal("rate", select(2, scheduler:explain "6"))
  end)

  it("spreads starts evenly after the burst", function()
    local starts = starts_of({ rate = { 1, per = 0.02 } }, many(8))
    for i = 2, 8 do
      local gap = starts[i].at - starts[i - 1].at
      assert.is_true(starts[i].at >= (i - 1) * 0.02 - 0.005, ("start %d after %g, gap %g"):format(i, starts[i].at, gap))
    end
  end)

  it("counts retries as starts", function()
    local starts = {}
    local scheduler = open(function()
      starts[#starts + 1] = { at = seconds() }
      return nil, "broken"
    end, { rate = { 2, per = 0.05 }, max_retries = 5 })
    local added = seconds()
    scheduler:add {}
    ends_of(scheduler)
    assert.equal(6, #starts)
    assert_rate(starts, 2, 0.05)
    assert.is_true(starts[6].at - added >= 0.085)
  end)

  it("for each key counts the starts of each key alone", function()
    local tasks = {}
    for i = 1, 18 do tasks[i] = { key = ("abc"):sub(i % 3 + 1, i % 3 + 1) } end
    local starts = starts_of({ rate = { 2, per = 0.06, key = true } }, tasks)
    local by_key = { a = {}, b = {}, c = {} }
    for _, start in ipairs(starts) do table.insert(by_key[start.key], start) end
    for _, list in pairs(by_key) do
      assert.equal(6, #list)
      assert_rate(list, 2, 0.06)
      assert.is_true(list[6].at >= 0.1, "it took " .. list[6].at)
    end
  end)

  it("for each key does not concern tasks without one, nor hold them up", function()
    local scheduler = open(nil, { limit = 2, rate = { 1, per = 3600, key = true } })
    scheduler:add { id = "a", key = "k" }
    scheduler:add { id = "b", key = "k" }
    for i = 1, 20 do scheduler:add { id = tostring(i) } end
    scheduler:add { id = "other", key = "other" }
    assert.equal("success", scheduler:wait("20", 5).status)
    assert.equal("success", scheduler:wait("other", 5).status)
    assert.equal("waiting", scheduler:get("b").status)
  end)

  it("can be set and taken away while tasks wait", function()
    local scheduler = open(nil, { limit = 10, rate = { 1, per = 3600 } })
    for i = 1, 10 do scheduler:add { id = tostring(i) } end
    scheduler:wait "1"
    assert.equal(9, scheduler:stats().waiting)
    scheduler:set { rate = false }
    assert.equal(10, #ends_of(scheduler))
  end)
end)

describe("priority", function()
  it("goes first, then first in, first out", function()
    local scheduler = open(nil, { container = ltsh.container.priority {} })
    scheduler:pause()
    local expected = {}
    for _, priority in ipairs { 0, 5, -3, 5, 0, 100, math.mininteger, math.maxinteger } do
      local id = scheduler:add { priority = priority }
      expected[#expected + 1] = { id = id, priority = priority, place = #expected }
    end
    table.sort(expected, function(a, b)
      if a.priority ~= b.priority then return a.priority > b.priority end
      return a.place < b.place
    end)
    scheduler:resume()
    assert.same(ids_of(expected), ids_of(ends_of(scheduler)))
  end)

  it("is zero by default", function()
    local scheduler = open(nil, { container = ltsh.container.priority {} })
    scheduler:pause()
    scheduler:add { id = "low", priority = -1 }
    scheduler:add { id = "none" }
    scheduler:add { id = "high", priority = 1 }
    scheduler:resume()
    assert.same({ "high", "none", "low" }, ids_of(ends_of(scheduler)))
    assert.equal(0, scheduler:get("none").priority)
  end)

  it("lets a task that comes late overtake those that wait", function()
    local scheduler = open(nil, { container = ltsh.container.priority {} })
    scheduler:on("started", function(task)
      if task.id == "1" then scheduler:add { id = "late", priority = 9 } end
    end)
    for i = 1, 3 do scheduler:add { id = tostring(i) } end
    assert.same({ "1", "late", "2", "3" }, ids_of(ends_of(scheduler)))
  end)

  it("holds for retries", function()
    local scheduler = open(function(task)
      if task.id == "high" and task.attempts == 1 then return nil, "broken" end
    end, { container = ltsh.container.priority {}, max_retries = 1 })
    scheduler:pause()
    for i = 1, 3 do scheduler:add { id = tostring(i) } end
    scheduler:add { id = "high", priority = 1 }
    scheduler:resume()
    assert.same({ "high", "1", "2", "3" }, ids_of(ends_of(scheduler)))
  end)

  it("does not pass a full key", function()
    local release = false
    local scheduler = open(function(task)
      while task.id == "first" and not release do ltsh.sleep(0.001) end
    end, { container = ltsh.container.priority {}, limit = 2, key_limit = 1 })
    scheduler:add { id = "first", key = "k", priority = 9 }
    scheduler:add { id = "second", key = "k", priority = 9 }
    scheduler:add { id = "low", priority = 0 }
    assert.equal("success", scheduler:wait("low", 10).status)
    release = true
    assert.equal(3, #ends_of(scheduler))
  end)
end)

describe("first in, first out", function()
  it("is the order of a queue", function()
    local scheduler = open()
    local expected = {}
    for i = 1, 100 do expected[i] = scheduler:add {} end
    assert.same(expected, ids_of(ends_of(scheduler)))
  end)

  it("is the order of starts with any limit", function()
    local order = {}
    local scheduler = open(function(task)
      order[#order + 1] = task.item
      ltsh.sleep(0.001 * (task.item % 3))
    end, { limit = 4 })
    for i = 1, 50 do scheduler:add { item = i } end
    ends_of(scheduler)
    for i = 1, 50 do assert.equal(i, order[i]) end
  end)
end)

describe("a delay", function()
  it("holds a task back, and no other", function()
    local scheduler = open()
    local before = seconds()
    scheduler:add { id = "late", delay = 0.06 }
    scheduler:add { id = "now" }
    local ends = ends_of(scheduler)
    assert.same({ "now", "late" }, ids_of(ends))
    assert.is_true(seconds() - before >= 0.055)
    assert.is_true(ends[2].started_at - ends[2].added_at >= 0.055)
  end)

  it("may be a time", function()
    local scheduler = open()
    scheduler:add { id = "late", run_at = ltsh.now() + 0.05 }
    scheduler:add { id = "past", run_at = ltsh.now() - 1000 }
    scheduler:add { id = "long ago", run_at = 1 }
    local ends = ends_of(scheduler)
    assert.equal("late", ends[3].id)
    assert.is_true(ends[3].started_at - ends[3].added_at >= 0.045)
  end)

  it("orders tasks by their times", function()
    local scheduler = open()
    for i, delay in ipairs { 0.06, 0.02, 0.04, 0 } do scheduler:add { id = tostring(i), delay = delay } end
    assert.same({ "4", "2", "3", "1" }, ids_of(ends_of(scheduler)))
  end)

  it("takes no slot", function()
    local scheduler = open()
    for i = 1, 100 do scheduler:add { id = tostring(i), delay = 3600 } end
    scheduler:add { id = "now" }
    assert.equal("success", scheduler:wait("now", 10).status)
    assert.equal(100, scheduler:stats().delayed)
    assert.equal(0, scheduler:stats().waiting)
  end)

  it("does not count as waiting time", function()
    local scheduler = open()
    scheduler:add { delay = 3 }
    ends_of(scheduler)
    assert.is_true(scheduler:stats().wait.p99 < 2.9)
  end)

  it("counts from the call, however long Lua has run before it", function()
    local started
    local scheduler = open(function() started = seconds() end)
    local busy = seconds() + 0.04
    while seconds() < busy do end
    local before = seconds()
    scheduler:add { id = "t", delay = 0.05 }
    scheduler:wait "t"
    assert.is_true(started - before >= 0.045, "it started after " .. started - before)
  end)

  it("is shortened for nobody by a task with a shorter one", function()
    local scheduler = open()
    scheduler:add { id = "long", delay = 0.5 }
    ltsh.sleep(0.005)
    scheduler:add { id = "short", delay = 0.01 }
    assert.equal("success", scheduler:wait("short", 10).status)
    assert.equal("waiting", scheduler:get("long").status)
    assert.equal("success", scheduler:wait("long", 10).status)
  end)
end)

describe("expires", function()
  it("fails a task that has not begun in time", function()
    local ran = {}
    local scheduler = open(function(task)
      ran[task.id] = true
      ltsh.sleep(0.08)
    end)
    scheduler:add { id = "first", expires = 10 }
    scheduler:add { id = "second", expires = 0.02 }
    scheduler:add { id = "third", expires = 10 }
    local ends = ends_of(scheduler)
    assert.same({ first = true, third = true }, ran)
    local by_id = {}
    for _, task in ipairs(ends) do by_id[task.id] = task end
    assert.equal(3, #ends)
    assert.equal("failed", by_id.second.status)
    assert.equal("expired", by_id.second.reason)
    assert.equal(0, by_id.second.attempts)
    assert.equal("success", by_id.first.status)
  end)

  it("comes when the time is over, though no slot is free", function()
    local release = false
    local scheduler = open(function() while not release do ltsh.sleep(0.001) end end)
    scheduler:add { id = "first" }
    eventually("it runs", function() return scheduler:get("first").status == "running" end)
    scheduler:add { id = "second", expires = 0.02 }
    local task = scheduler:wait("second", 10)
    release = true
    assert.is_truthy(task)
    assert.equal("expired", task.reason)
  end)

  it("counts from the call, however long Lua has run before it", function()
    local scheduler = open()
    local busy = seconds() + 0.5
    while seconds() < busy do end
    scheduler:add { id = "t", expires = 0.4 }
    assert.equal("success", scheduler:wait("t", 5).status)
  end)

  it("leaves a task alone that has begun", function()
    local scheduler = open(function() ltsh.sleep(0.5) end)
    scheduler:add { id = "t", expires = 0.4 }
    assert.equal("success", scheduler:wait("t").status)
  end)

  it("leaves a task alone that began and is tried again", function()
    local scheduler = open(function(task)
      if task.attempts == 1 then return nil, "broken" end
    end, { max_retries = 1, backoff = 0.5 })
    scheduler:add { id = "t", expires = 0.4 }
    assert.equal("success", scheduler:wait("t").status)
  end)

  it("fails a delayed task whose time comes too late", function()
    local ran = false
    local scheduler = open(function() ran = true end)
    scheduler:add { id = "t", delay = 0.05, expires = 0.01 }
    local task = scheduler:wait("t", 5)
    assert.equal("expired", task.reason)
    assert.is_false(ran)
  end)

  it("tells the events and is not retried", function()
    local scheduler = open(nil, { max_retries = 5 })
    local finished, retried = 0, 0
    scheduler:on("finished", function(task) finished = finished + (task.reason == "expired" and 1 or 0) end)
    scheduler:on("retried", function() retried = retried + 1 end)
    scheduler:add { id = "t", delay = 0.05, expires = 0.01 }
    ends_of(scheduler)
    assert.equal(1, finished)
    assert.equal(0, retried)
  end)

  it("does not concern those that were stopped or deleted before", function()
    local scheduler = open()
    scheduler:add { id = "stopped", delay = 3600, expires = 0.01 }
    scheduler:add { id = "deleted", delay = 3600, expires = 0.01 }
    scheduler:stop "stopped"
    scheduler:delete "deleted"
    ltsh.sleep(0.02)
    local ends = ends_of(scheduler)
    assert.same({ "stopped" }, ids_of(ends))
    assert.equal("stopped", ends[1].status)
  end)
end)

describe("set", function()
  after_each(scene.close)

  it("takes nothing of what a key's rate has earned", function()
    local scheduler = scene.open(nil, { limit = 50, rate = { 5, per = 0.5, key = true } })
    for i = 1, 15 do scheduler:add { id = tostring(i), key = "k" } end
    local over = false
    local job = ltsh.spawn(function()
      while not over do
        scheduler:set { timeout = 5 }
        ltsh.sleep(0.02)
      end
    end)
    assert.equal("success", scheduler:wait("15", 5).status) -- a second; without what is earned it takes for ever
    over = true
    job:wait()
  end)
end)
