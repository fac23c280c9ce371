-- scheduler:explain(id) in every state of a run, and over every kind of container: the code, and what the sentence
-- names.

local ltsh = require "ltsh"
local scene = require "spec.support.scene"
local stage = require "spec.support.stage"
local table_container = require "spec.support.table"

local open, eventually = scene.open, scene.eventually
local later, within = stage.later, stage.within

after_each(stage.close)

local CODES = {}
for code in ("due limit rate key delayed paused capacity down running exporting stopping ended unknown"):gmatch "%S+" do
  CODES[code] = true
end

-- Asserts the code and that the sentence has each of the texts, and returns the sentence.
local function assert_why(scheduler, id, code, ...)
  local sentence, got = within(5, scheduler.explain, scheduler, id)
  assert.is_string(sentence)
  assert.is_true(CODES[got], tostring(got))
  assert.equal(code, got, sentence)
  for _, text in ipairs { ... } do assert.matches(text, sentence, 1, true) end
  return sentence
end

local WHY = {
  waiting = "paused", delayed = "delayed", starting = "running", running = "running", ["the last look"] = "running",
  stopping = "stopping", ["stopping again"] = "stopping", output = "exporting", saving = "exporting",
  resting = "exporting",
}

for _, combination in ipairs {
  { store = "queue", mode = "callback" }, { store = "queue", mode = "poll" }, { store = "table", mode = "callback" },
  { store = "durable", mode = "callback" }, { store = "late", mode = "poll" },
} do
  local store, mode = combination.store, combination.mode

  describe(("with a %s and %s, a task"):format(store, mode), function()
    for _, state in ipairs(stage.states(store, mode)) do
      if WHY[state] then
        it("is " .. state, function()
          local held = stage.hold(state, { store = store, mode = mode })
          assert_why(held.scheduler, "t", WHY[state], "t")
        end)
      end
    end

    it("has ended, in each way", function()
      local scheduler = open(function(task)
        if task.id == "fails" then error "on fire" end
        if task.id == "stops" then ltsh.sleep(3600) end
        if task.id == "late" then ltsh.sleep(3600) end
      end, {
        limit = 5,
        container = store == "queue" and ltsh.container.queue {}
          or table_container { late = store == "late", durable = store == "durable" },
      })
      for _, id in ipairs { "fails", "stops", "fine" } do scheduler:add { id = id } end
      scheduler:add { id = "late", timeout = 0.02 }
      eventually("it runs", function() return scheduler:get("stops").status == "running" end)
      within(5, scheduler.stop, scheduler, "stops", "by me")
      for _, id in ipairs { "fails", "fine", "late" } do within(5, scheduler.wait, scheduler, id) end
      assert_why(scheduler, "fails", "ended", "failed", "on fire")
      assert_why(scheduler, "stops", "ended", "stopped", "by me")
      assert_why(scheduler, "late", "ended", "timeout")
      assert_why(scheduler, "fine", "ended", "success")
      assert_why(scheduler, "nobody", "unknown", "nobody")
    end)

    it("waits for the limit, for its key, and for both", function()
      local gate = scene.door()
      local scheduler = open(function() gate.pass() end, {
        limit = 2, key_limit = function(key) return key == "disk" and 1 or 5 end,
        container = store == "queue" and ltsh.container.queue {}
          or table_container { late = store == "late", durable = store == "durable" },
      })
      scheduler:add { id = "one", key = "disk" }
      eventually("it runs", function() return gate.waiting == 1 end)
      scheduler:add { id = "waits", key = "disk" }
      local sentence = assert_why(scheduler, "waits", "key", "disk", "one", "1")
      assert.not_matches("two", sentence)
      scheduler:add { id = "two" }
      eventually("both run", function() return gate.waiting == 2 end)
      scheduler:add { id = "three" }
      assert_why(scheduler, "three", "limit", "2", "one", "two")
      local _, code = scheduler:explain "waits"
      assert.is_true(code == "key" or code == "limit", code)
      gate.is_open = true
      for _, id in ipairs { "one", "two", "three", "waits" } do within(5, scheduler.wait, scheduler, id) end
      assert_why(scheduler, "waits", "ended")
    end)
  end)
end

describe("the sentence of explain", function()
  it("names the limit that is set now", function()
    local gate = scene.door()
    local scheduler = open(function() gate.pass() end, { limit = 1 })
    for i = 1, 6 do scheduler:add { id = "task-" .. i } end
    eventually("it runs", function() return gate.waiting == 1 end)
    assert_why(scheduler, "task-6", "limit", "1", "task-1")
    scheduler:set { limit = 4 }
    eventually("four run", function() return gate.waiting == 4 end)
    assert_why(scheduler, "task-6", "limit", "4", "task-1", "task-4")
    scheduler:pause()
    assert_why(scheduler, "task-6", "paused")
    scheduler:resume()
    gate.is_open = true
    within(5, scheduler.wait, scheduler, "task-6")
  end)

  it("does not name thousands of holders", function()
    local gate = scene.door()
    local scheduler = open(function() gate.pass() end, { limit = 500 })
    for i = 1, 501 do scheduler:add { id = "a task with a long name " .. i } end
    eventually("all run", function() return gate.waiting == 500 end)
    local sentence = assert_why(scheduler, "a task with a long name 501", "limit", "500")
    assert.is_true(#sentence < 2000, #sentence)
    gate.is_open = true
  end)

  it("names the key, its limit and all who hold it, and nobody else", function()
    local gate = scene.door()
    local scheduler = open(function() gate.pass() end, { limit = 10, key_limit = 2 })
    for _, id in ipairs { "a1", "a2", "a3" } do scheduler:add { id = id, key = "a key" } end
    for _, id in ipairs { "b1", "b2", "b3" } do scheduler:add { id = id, key = "b" } end
    eventually("four run", function() return gate.waiting == 4 end)
    local sentence = assert_why(scheduler, "a3", "key", "a key", "2", "a1", "a2")
    assert.not_matches("b1", sentence)
    scheduler:set { key_limit = 3 }
    eventually("all run", function() return gate.waiting == 6 end)
    assert_why(scheduler, "a3", "running")
    gate.is_open = true
  end)

  it("says until when a task waits: a delay, a date, a backoff, a snooze", function()
    local scheduler = open(function(task)
      if task.item == "snooze" then return nil, { reason = "busy", snooze = 7200 } end
      error "broken"
    end, { max_retries = 3, backoff = 7200, limit = 5 })
    local day = os.date("%Y-%m-%d", math.floor(ltsh.now() + 7200))
    scheduler:add { id = "delay", delay = 7200 }
    scheduler:add { id = "date", run_at = ltsh.now() + 7200 }
    scheduler:add { id = "backoff" }
    scheduler:add { id = "snooze", item = "snooze" }
    eventually("they have run", function() return scheduler:stats().delayed == 4 end)
    if day ~= os.date("%Y-%m-%d", math.floor(ltsh.now() + 7200)) then return end -- it is midnight
    for _, id in ipairs { "delay", "date", "backoff", "snooze" } do assert_why(scheduler, id, "delayed", day) end
    assert_why(scheduler, "backoff", "delayed", "broken")
  end)

  it("says since when it is being stopped, and what the actuator last answered", function()
    local held = stage.open { mode = "callback" }
    held.failing_stops = 1000
    held.scheduler:add { id = "t" }
    eventually("it runs", function() return held.scheduler:get("t").handle == "handle" end)
    local answer = later(held.scheduler.stop, held.scheduler, "t", "by me")
    eventually("a stop has failed", function() return held.stops == 1 end)
    ltsh.sleep(0.01)
    assert_why(held.scheduler, "t", "stopping", "since", "no connection")
    held.failing_stops = 0
    answer()
    assert_why(held.scheduler, "t", "ended", "by me")
  end)

  it("says that a timeout is what stops it", function()
    local held = stage.open { mode = "callback", timeout = 0.02 }
    held.shut "stop"
    held.scheduler:add { id = "t" }
    held.is_at "stop"
    assert_why(held.scheduler, "t", "stopping", "since")
    held.release()
    within(5, held.scheduler.wait, held.scheduler, "t")
  end)

  it("says which rate, and of which key", function()
    local scheduler = open(nil, { limit = 5, rate = { 1, per = 600, key = true } })
    for _, id in ipairs { "a1", "a2", "b1" } do scheduler:add { id = id, key = "disk-" .. id:sub(1, 1) } end
    within(5, scheduler.wait, scheduler, "b1")
    eventually("a1 has run", function() return scheduler:stats().success == 2 end)
    assert_why(scheduler, "a2", "rate", "disk-a")
    scheduler:set { rate = false }
    within(5, scheduler.wait, scheduler, "a2")
    assert_why(scheduler, "a2", "ended")
  end)

  it("goes with a task through its life", function()
    local gate, codes = scene.door(), {}
    local scheduler = open(function() gate.pass() end)
    local function note() codes[#codes + 1] = select(2, scheduler:explain "t") end
    note()
    scheduler:pause()
    scheduler:add { id = "t" }
    note()
    scheduler:resume()
    eventually("it runs", function() return gate.waiting == 1 end)
    note()
    gate.is_open = true
    within(5, scheduler.wait, scheduler, "t")
    note()
    scheduler:delete "t"
    note()
    assert.same({ "unknown", "paused", "running", "ended", "unknown" }, codes)
  end)

  it("is asked for with an id, and not of a closed scheduler", function()
    local scheduler = open()
    assert.has_error(function() scheduler:explain() end)
    assert.has_error(function() scheduler:explain(5) end)
    scheduler:close()
    assert.equal("closed", select(3, scheduler:explain "t"))
  end)

  it("may be asked for by events and by the task itself", function()
    local codes, scheduler = {}, nil
    scheduler = open(function(task) codes.run = select(2, scheduler:explain(task.id)) end)
    for _, event in ipairs { "added", "started", "finished" } do
      scheduler:on(event, function(task) codes[event] = select(2, scheduler:explain(task.id)) end)
    end
    scheduler:add { id = "t" }
    within(5, scheduler.wait, scheduler, "t")
    eventually("all were called", function() return codes.finished end)
    assert.same({ added = "due", started = "running", run = "running", finished = "ended" }, codes)
  end)

  it("says how many are due before a task", function()
    local scheduler = open()
    for i = 1, 3 do scheduler:add { id = "t" .. i } end
    assert_why(scheduler, "t1", "due", "'t1'")
    assert_why(scheduler, "t3", "due", "2 due before it")
  end)

  it("says what capacity the actuator has", function()
    local actuator = ltsh.actuator.func { module = "spec/support/tasks/various.lua", workers = 1 }
    local scheduler = open(nil, { actuator = actuator, limit = 5 })
    scheduler:add { id = "a", item = { ["do"] = "sleep", seconds = 0.2 } }
    scheduler:add { id = "b", item = { ["do"] = "sleep", seconds = 0 } }
    eventually("it runs", function() return scheduler:get("a").status == "running" end)
    assert_why(scheduler, "b", "capacity", "1")
  end)

  it("says since when a task runs, and how long it may", function()
    local gate = scene.door()
    local scheduler = open(gate.pass, { timeout = 100 })
    scheduler:add { id = "a" }
    eventually("it runs", function() return gate.waiting == 1 end)
    assert_why(scheduler, "a", "running", "since", "100.0 s")
    gate.is_open = true
  end)

  it("says why an export is tried again", function()
    local full = true
    local persister = { load = function() end, delete = function() return true end }
    function persister:save()
      if full then return nil, "disk full" end
      return true
    end
    local scheduler = open(nil, { persister = persister, max_retries = 1000, backoff = 0.01 })
    scheduler:add { id = "a" }
    eventually("it was tried", function()
      return (scheduler:explain "a"):find("disk full", 1, true) and select(2, scheduler:explain "a") == "exporting"
    end)
    full = false
    assert.equal("success", scheduler:wait("a", 5).status)
  end)

  it("says that the store is down, for an end and for what waits", function()
    local down = true
    local container = dofile("examples/lua_container.lua")({})
    local to_success = container.to_success
    container.to_success = function(self, task)
      if down then error "connection refused" end
      return to_success(self, task)
    end
    local scheduler = open(nil, { container = container })
    scheduler:add { id = "a" }
    scheduler:add { id = "b" }
    eventually("it is down", function() return select(2, scheduler:explain "a") == "down" end)
    assert_why(scheduler, "b", "down")
    down = false
    assert.equal("success", scheduler:wait("b", 5).status)
  end)
end)
