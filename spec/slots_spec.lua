-- Who may start: limits, keys and rates that change while tasks run, claims that ask, and tasks that were taken over.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"
local stage = require "spec.support.stage"
local table_container = require "spec.support.table"

local open, eventually = scene.open, scene.eventually
local later, within = stage.later, stage.within

after_each(stage.close)

local CONTAINERS = stage.containers

local function ends_of(scheduler)
  return within(20, function()
    local ends = {}
    for task in scheduler:finished() do ends[#ends + 1] = task end
    return ends
  end)
end

local function succeeds(scheduler, id)
  local task, message = within(8, scheduler.wait, scheduler, id, 5)
  assert.is_nil(message)
  assert.equal("success", task.status)
end

for name, container in pairs(CONTAINERS) do
  describe("over a " .. name .. ",", function()
    -- Tasks that run until they are let go: `running` counts them, by key too.
    local function gated(options)
      local self = { running = 0, by_key = {}, started = 0, most = 0, most_of_key = 0, gate = scene.door() }
      options.container = container()
      self.scheduler = open(function(task)
        local key = task.key or ""
        self.started = self.started + 1
        self.running, self.by_key[key] = self.running + 1, (self.by_key[key] or 0) + 1
        self.most = math.max(self.most, self.running)
        if task.key then self.most_of_key = math.max(self.most_of_key, self.by_key[key]) end
        local _ <close> = setmetatable({}, { __close = function()
          self.running, self.by_key[key] = self.running - 1, self.by_key[key] - 1
        end })
        if task.item then ltsh.sleep(task.item) else self.gate.pass() end
      end, options)
      function self.runs(count)
        eventually(count .. " run", function() return self.running == count end)
        ltsh.sleep(0.01)
        assert.equal(count, self.running)
      end
      return self
    end

    it("the limit of a key is raised and taken away while tasks run", function()
      local g = gated { limit = 10, key_limit = 1 }
      for i = 1, 6 do g.scheduler:add { id = tostring(i), key = "k" } end
      g.runs(1)
      g.scheduler:set { key_limit = 3 }
      g.runs(3)
      g.scheduler:set { key_limit = false }
      g.runs(6)
      g.gate.is_open = true
      assert.equal(6, #ends_of(g.scheduler))
    end)

    it("the limit of a key is lowered: what runs goes on, and nothing starts before there is room", function()
      local g = gated { limit = 10, key_limit = 3 }
      for i = 1, 9 do g.scheduler:add { id = tostring(i), key = "k" } end
      g.runs(3)
      g.scheduler:set { key_limit = 1 }
      g.most_of_key = 0
      within(5, g.scheduler.stop, g.scheduler, "1")
      within(5, g.scheduler.stop, g.scheduler, "2")
      g.runs(1)
      assert.equal(3, g.started)
      within(5, g.scheduler.stop, g.scheduler, "3")
      g.runs(1)
      assert.equal(4, g.started)
      g.gate.is_open = true
      assert.equal(9, #ends_of(g.scheduler))
      assert.equal(1, g.most_of_key)
    end)

    it("the limit of a key is another function", function()
      local g = gated { limit = 10, key_limit = function() return 1 end }
      for i = 1, 4 do g.scheduler:add { id = "a" .. i, key = "a" } end
      for i = 1, 4 do g.scheduler:add { id = "b" .. i, key = "b" } end
      g.runs(2)
      g.scheduler:set { key_limit = function(key) return key == "a" and 3 or 1 end }
      g.runs(4)
      assert.same({ 3, 1 }, { g.by_key.a, g.by_key.b })
      g.gate.is_open = true
      assert.equal(8, #ends_of(g.scheduler))
    end)

    it("limits are never exceeded while both change at random", function()
      local g = gated { limit = 4, key_limit = 2 }
      local seed = 7
      local function random(n)
        seed = (seed * 1103515245 + 12345) % (1 << 31)
        return seed // 65536 % n + 1
      end
      for i = 1, 200 do g.scheduler:add { id = tostring(i), key = "k" .. i % 3, item = 0.001 * random(3) } end
      local before_all = uv.hrtime()
      while g.scheduler:stats().success < 200 do
        assert.is_true(uv.hrtime() - before_all < 20e9)
        local limit, key_limit = random(8), random(4)
        g.scheduler:set { limit = limit, key_limit = key_limit }
        -- From here on no start may find more than this; what runs already may be more.
        g.most, g.most_of_key = 0, 0
        local held = {}
        local before, of_key = g.scheduler:stats().running, 0 -- some of them are about to begin their function
        for _, task in ipairs(g.scheduler:list { status = "running" }) do
          local count = (held[task.key] or 0) + 1
          held[task.key], of_key = count, math.max(of_key, count)
        end
        ltsh.sleep(0.003)
        assert.is_true(g.most <= math.max(limit, before), ("%d of %d"):format(g.most, limit))
        assert.is_true(g.most_of_key <= math.max(key_limit, of_key), ("%d of %d"):format(g.most_of_key, key_limit))
      end
      assert.equal(200, #ends_of(g.scheduler))
    end)

    it("tasks without a key, and of other keys, are not held up by a full one", function()
      local g = gated { limit = 4, key_limit = 1 }
      for i = 1, 50 do g.scheduler:add { id = "a" .. i, key = "a" } end
      g.scheduler:add { id = "b", key = "b" }
      g.scheduler:add { id = "none" }
      g.runs(3)
      assert.same({ 1, 1, 1 }, { g.by_key.a, g.by_key.b, g.by_key[""] })
      g.gate.is_open = true
      assert.equal(52, #ends_of(g.scheduler))
    end)

    it("a key whose holder fails, is stopped, snoozes or waits for a retry is free again", function()
      local runs = {}
      local scheduler = open(function(task)
        runs[#runs + 1] = task.id
        if task.id == "fails" then error { reason = "no", retry = false } end
        if task.id == "retried" and task.attempts == 1 then error "no" end
        if task.id == "snoozes" and #runs < 5 then error { reason = "busy", snooze = 0.01 } end
      end, { container = container(), limit = 2, key_limit = 1, max_retries = 1, backoff = 0.01 })
      for _, id in ipairs { "fails", "retried", "snoozes", "last" } do scheduler:add { id = id, key = "k" } end
      assert.equal(4, #ends_of(scheduler))
      assert.equal("success", scheduler:get("last").status)
    end)

    it("a rate is raised while tasks wait for it", function()
      local scheduler = open(nil, { container = container(), limit = 10, rate = { 1, per = 3600 } })
      for i = 1, 5 do scheduler:add { id = tostring(i) } end
      eventually("one has run", function() return scheduler:stats().success == 1 end)
      ltsh.sleep(0.01)
      assert.equal(1, scheduler:stats().success)
      scheduler:set { rate = { 1000, per = 1 } }
      succeeds(scheduler, "5")
    end)

    it("a rate is taken away while tasks wait for it", function()
      local scheduler = open(nil, { container = container(), limit = 10, rate = { 1, per = 3600 } })
      for i = 1, 5 do scheduler:add { id = tostring(i) } end
      eventually("one has run", function() return scheduler:stats().success == 1 end)
      scheduler:set { rate = false }
      succeeds(scheduler, "5")
    end)

    it("a rate for each key becomes one for all, and the other way round", function()
      local scheduler = open(nil, { container = container(), limit = 10, rate = { 1, per = 3600, key = true } })
      for _, id in ipairs { "a1", "b1", "a2", "b2" } do scheduler:add { id = id, key = id:sub(1, 1) } end
      eventually("two have run", function() return scheduler:stats().success == 2 end)
      ltsh.sleep(0.01)
      assert.equal(2, scheduler:stats().success)
      scheduler:set { rate = { 100, per = 1 } }
      within(8, scheduler.wait, scheduler, "b2", 5)
      assert.equal(4, scheduler:stats().success)
      scheduler:set { rate = { 1, per = 3600, key = true } }
      scheduler:add { id = "c1", key = "c" }
      succeeds(scheduler, "c1")
    end)

    it("a rate and keys with one slot each: all run, in no more than their time", function()
      local running, most = {}, 0
      local scheduler = open(function(task)
        running[task.key] = (running[task.key] or 0) + 1
        most = math.max(most, running[task.key])
        ltsh.sleep(0.001)
        running[task.key] = running[task.key] - 1
      end, { container = container(), limit = 8, key_limit = 1, rate = { 100, per = 0.2 } })
      local before = uv.hrtime()
      for i = 1, 200 do scheduler:add { id = tostring(i), key = "k" .. i % 4 } end
      assert.equal(200, #ends_of(scheduler))
      assert.equal(1, most)
      local seconds = (uv.hrtime() - before) / 1e9
      assert.is_true(seconds >= 0.15 and seconds < 20, seconds)
    end)
  end)
end

describe("claim", function()
  -- A table that claims by the keys and by `admit`, as far as it is told to look at them.
  local function keyed(looks)
    local store = { waiting = {}, claimed = 0, given_back = 0, run = 0, durable = looks.durable, admits = {} }
    function store:add(task)
      self.waiting[#self.waiting + 1] = task
      return true
    end
    function store:claim(limit, full_keys, admit)
      local full, tasks, rest = {}, {}, {}
      if looks.keys then
        for _, key in ipairs(full_keys) do full[key] = true end
      end
      for _, task in ipairs(self.waiting) do
        local is_due = #tasks < limit and not (task.key and full[task.key])
        if is_due and looks.admit then
          local answer = admit(task.key)
          self.admits[tostring(answer)] = true
          is_due = answer
          if not answer and task.key then full[task.key] = true end
        end
        if is_due then
          self.run = self.run + 1
          task.status, task.run, task.attempts = "running", self.run, task.attempts + 1
          tasks[#tasks + 1] = task
        else
          rest[#rest + 1] = task
        end
      end
      self.waiting, self.claimed = rest, self.claimed + #tasks
      return tasks
    end
    function store:to_waiting(task)
      self.given_back = self.given_back + 1
      table.insert(self.waiting, 1, task)
      return true
    end
    local methods = { "to_success", "to_failed", "to_stopped", "to_exporting", "to_deleted", "update_running" }
    for _, method in ipairs(methods) do
      store[method] = function() return true end
    end
    function store.running() return {} end
    function store.running_count() return 0 end
    function store.attach() end
    return store
  end

  local function run_all(store, options)
    local running, most = {}, 0
    options.container = store
    local scheduler = open(function(task)
      local key = task.key or ""
      running[key] = (running[key] or 0) + 1
      if task.key then most = math.max(most, running[key]) end
      ltsh.sleep(0.001)
      running[key] = running[key] - 1
    end, options)
    scheduler:pause()
    for i = 1, 640 do scheduler:add { id = tostring(i), key = "k" .. i % 4 } end
    scheduler:resume()
    assert.equal(640, #ends_of(scheduler))
    assert.equal(options.key_limit, most)
  end

  for _, key_limit in ipairs { 1, 3 } do
    it("that asks `admit` for each task gives nothing back, with " .. key_limit .. " of a key", function()
      local store = keyed { keys = true, admit = true }
      run_all(store, { limit = 64, key_limit = key_limit })
      assert.same({ 640, 0 }, { store.claimed, store.given_back })
      assert.is_true(store.admits["true"] and store.admits["false"])
    end)

    it("that asks `admit` and does not look at the full keys gives nothing back, with " .. key_limit, function()
      local store = keyed { admit = true }
      run_all(store, { limit = 64, key_limit = key_limit })
      assert.same({ 640, 0 }, { store.claimed, store.given_back })
    end)
  end

  for _, durable in ipairs { false, true } do
    local kind = durable and " (durable)" or ""
    it("that looks at the full keys only brings no storm" .. kind, function()
      local store = keyed { keys = true, durable = durable }
      run_all(store, { limit = 64, key_limit = 1 })
      assert.is_true(store.given_back <= 2000, store.given_back)
      assert.equal(640 + store.given_back, store.claimed)
    end)

    it("that looks at nothing brings no storm" .. kind, function()
      local store = keyed { durable = durable }
      run_all(store, { limit = 64, key_limit = 1 })
      assert.is_true(store.given_back <= 2000, store.given_back)
    end)
  end

  it("whose `admit` is asked for tasks without a key says whether there is a slot at all", function()
    local answers
    local store = keyed { admit = true }
    local claim = store.claim
    function store:claim(limit, full_keys, admit)
      if #self.waiting > 0 and not answers then
        answers = { limit }
        for i = 1, 3 do answers[i + 1] = admit(nil) end
        return {}
      end
      return claim(self, limit, full_keys, admit)
    end
    local scheduler = open(nil, { container = store, limit = 2 })
    scheduler:add { id = "t" }
    eventually("it was asked", function() return answers end)
    assert.same({ 2, true, true, false }, answers)
    scheduler:add { id = "u" }
    for _, id in ipairs { "t", "u" } do
      succeeds(scheduler, id)
    end
  end)

  it("whose `admit` was asked in vain loses no slot", function()
    local store = keyed { keys = true, admit = true }
    local claim = store.claim
    function store:claim(limit, full_keys, admit)
      for _ = 1, 10 do
        admit "a key of none"
        admit(nil)
      end
      return claim(self, 0, full_keys, admit)
    end
    local scheduler = open(nil, { container = store, limit = 3, key_limit = 1, schedule_interval = 0.01 })
    for i = 1, 3 do scheduler:add { id = tostring(i), key = "a key of none" } end
    ltsh.sleep(0.05)
    store.claim = claim
    scheduler:add { id = "last" }
    for _, id in ipairs { "1", "2", "3", "last" } do
      succeeds(scheduler, id)
    end
  end)

  it("with a rate admits no more than there are tokens", function()
    local store = keyed { keys = true, admit = true }
    local scheduler = open(nil, { container = store, limit = 64, rate = { 5, per = 3600 } })
    for i = 1, 20 do scheduler:add { id = tostring(i) } end
    eventually("five have run", function() return scheduler:stats().success == 5 end)
    ltsh.sleep(0.02)
    assert.same({ 5, 0 }, { store.claimed, store.given_back })
  end)
end)

describe("tasks that were taken over from a host that died", function()
  -- So many of them; `recover` says of each what `found` says.
  local function taken_over(count, found, options)
    local store = table_container { durable = true }
    for i = 1, count do
      store:leave { id = "x" .. i, key = options.key, status = "running", run = i, host = "elsewhere" }
    end
    local starts, actuator = {}, {}
    function actuator.attach(_, notify) actuator.notify = notify end
    function actuator.start(_, task)
      starts[#starts + 1] = task.id
      actuator.notify { id = task.id, run = task.run, status = "success" }
      return true
    end
    function actuator.stop() return true end
    if found then
      function actuator.recover(_, task) return found(task) end
    end
    options.key = nil
    options.container = store
    return open(actuator, options), starts, actuator, store
  end

  it("and still run take no tokens: others begin at once", function()
    local scheduler, starts = taken_over(20, function() return true end, { limit = 30, rate = { 2, per = 3600 } })
    eventually("they are known", function() return scheduler:stats().running == 20 end)
    for i = 1, 4 do scheduler:add { id = tostring(i) } end
    eventually("two have started", function() return #starts == 2 end)
    ltsh.sleep(0.01)
    assert.equal(2, #starts)
  end)

  it("and have ended take no tokens", function()
    local scheduler, starts = taken_over(20, function() return { status = "success" } end,
      { limit = 30, rate = { 1, per = 3600 } })
    for i = 1, 20 do
      succeeds(scheduler, "x" .. i)
    end
    scheduler:add { id = "t" }
    succeeds(scheduler, "t")
    assert.same({ "t" }, starts)
  end)

  it("and are gone wait again, and begin at the rate, from the start on", function()
    local scheduler, starts = taken_over(20, nil, { limit = 100, rate = { 10, per = 0.5 } })
    local before = uv.hrtime()
    eventually("one has started", function() return #starts > 0 end)
    assert.is_true(uv.hrtime() - before < 5e9)
    for i = 1, 20 do within(8, scheduler.wait, scheduler, "x" .. i, 6) end
    assert.equal(20, #starts)
  end)

  it("hold the slots of the scheduler, even if they are more", function()
    local scheduler, starts, actuator, store = taken_over(5, function() return true end, { limit = 3 })
    eventually("they are known", function() return scheduler:stats().running == 5 end)
    scheduler:add { id = "t" }
    for i = 1, 3 do
      ltsh.sleep(0.005)
      assert.same({}, starts)
      actuator.notify { id = "x" .. i, run = i, status = "success" }
      within(5, scheduler.wait, scheduler, "x" .. i)
    end
    succeeds(scheduler, "t")
    assert.equal(2, store:running_count())
  end)

  it("hold the slots of their key", function()
    local scheduler, starts, actuator = taken_over(1, function() return true end,
      { limit = 5, key_limit = 1, key = "k" })
    eventually("it is known", function() return scheduler:stats().running == 1 end)
    scheduler:add { id = "t", key = "k" }
    scheduler:add { id = "u", key = "other" }
    within(5, scheduler.wait, scheduler, "u")
    assert.same({ "u" }, starts)
    actuator.notify { id = "x1", run = 1, status = "success" }
    succeeds(scheduler, "t")
  end)

  it("are taken over while `recover` is slow, and others start beside it where there is room", function()
    local gate = scene.door()
    local scheduler, starts = taken_over(2, function()
      gate.pass()
      return { status = "success" }
    end, { limit = 3 })
    eventually("it is asked", function() return gate.waiting > 0 end)
    local answer = later(scheduler.add, scheduler, { id = "t" })
    ltsh.sleep(0.005)
    gate.is_open = true
    assert.equal("t", (answer()))
    for _, id in ipairs { "x1", "x2", "t" } do
      succeeds(scheduler, id)
    end
    assert.same({ "t" }, starts)
  end)
end)
