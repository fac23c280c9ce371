-- Stores that answer late: what happens between a question and its answer is not missed, and nothing hangs.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"
local stage = require "spec.support.stage"
local table_container = require "spec.support.table"

local open, eventually = scene.open, scene.eventually
local later, within = stage.later, stage.within

local gates = {}

-- A door that is opened after the test at the latest.
local function door()
  local gate = scene.door()
  gates[#gates + 1] = gate
  return gate
end

after_each(function()
  for _, gate in ipairs(gates) do gate.is_open = true end
  gates = {}
  stage.close()
end)

describe("add over a store whose answers are late", function()
  -- A store with room for two, both taken, whose first answer "full" is held at a door. What makes room meanwhile is
  -- stored after that, since `add` is called alone, and must be seen although it was asked for before.
  local function full()
    local store, gate = table_container { size = 2 }, door()
    store.after.add = function(results)
      if results[1] == nil then gate.pass() end
    end
    local ends = {}
    local scheduler = open(function(task)
      while not ends[task.id] do ltsh.sleep(0.001) end
    end, { container = store, limit = 2 })
    scheduler:add { id = "a" }
    scheduler:add { id = "b" }
    eventually("both run", function() return scheduler:stats().running == 2 end)
    return scheduler, gate, ends, store
  end

  it("sees the room that an end before the answer makes, which says that there is none", function()
    local scheduler, gate, ends, store = full()
    local answer = later(scheduler.add, scheduler, { id = "c" }, 5)
    eventually("it is full", function() return gate.waiting == 1 end)
    ends.a = true
    local ended = later(scheduler.wait, scheduler, "a")
    ltsh.sleep(0.01)
    assert.is_nil(store:last("a"))
    local before = uv.hrtime()
    gate.is_open = true
    assert.equal("success", ended().status)
    local id, message = answer()
    assert.is_nil(message)
    assert.equal("c", id)
    assert.is_true(uv.hrtime() - before < 4e9)
  end)

  it("sees room that a stop made", function()
    local scheduler, gate = full()
    local answer = later(scheduler.add, scheduler, { id = "c" }, 5)
    eventually("it is full", function() return gate.waiting == 1 end)
    local stopped = later(scheduler.stop, scheduler, "a")
    ltsh.sleep(0.005)
    gate.is_open = true
    assert.equal("stopped", stopped().status)
    assert.equal("c", (answer()))
  end)

  it("sees room that a delete made", function()
    local store, gate = table_container { size = 1 }, door()
    store.after.add = function(results)
      if results[1] == nil then gate.pass() end
    end
    local scheduler = open(nil, { container = store })
    scheduler:pause()
    scheduler:add { id = "a" }
    local answer = later(scheduler.add, scheduler, { id = "c" }, 5)
    eventually("it is full", function() return gate.waiting == 1 end)
    local deleted = later(scheduler.delete, scheduler, "a")
    ltsh.sleep(0.005)
    gate.is_open = true
    assert.is_truthy((deleted()))
    assert.equal("c", (answer()))
  end)

  it("sees it for all that wait, in order", function()
    local scheduler, gate, ends = full()
    local added, answers = {}, {}
    for i, id in ipairs { "c", "d", "e" } do
      answers[i] = later(function()
        local got = scheduler:add({ id = id }, 5)
        added[#added + 1] = got
        ends[id] = true
      end)
    end
    eventually("it is full", function() return gate.waiting >= 1 end)
    ends.a, ends.b = true, true
    ltsh.sleep(0.005)
    gate.is_open = true
    for i = 1, 3 do answers[i]() end
    assert.same({ "c", "d", "e" }, added)
  end)

  it("sees it for a list", function()
    local store, gate = table_container { size = 2 }, door()
    local refused = 0
    store.after.add = function(results)
      if results[1] ~= nil then return end
      refused = refused + 1
      if refused == 1 then gate.pass() end
    end
    local release = door()
    local scheduler = open(release.pass, { container = store, limit = 2 })
    scheduler:add { id = "a" }
    eventually("it runs", function() return release.waiting == 1 end)
    local answer = later(scheduler.add_all, scheduler, { { id = "c" }, { id = "d" } }, 5)
    eventually("it is full", function() return gate.waiting == 1 end)
    release.is_open = true
    local ended = later(scheduler.wait, scheduler, "a")
    gate.is_open = true
    assert.equal("success", ended().status)
    local ids, message = answer()
    assert.is_nil(message)
    assert.same({ "c", "d" }, ids)
  end)

  it("says `full` when its seconds are over, and `closed` at the close", function()
    local scheduler, gate = full()
    local answer = later(scheduler.add, scheduler, { id = "c" }, 0.03)
    eventually("it is full", function() return gate.waiting == 1 end)
    ltsh.sleep(0.05)
    gate.is_open = true
    assert.equal("full", select(3, answer()))
    local waits = later(scheduler.add, scheduler, { id = "d" }, 60)
    ltsh.sleep(0.01)
    within(5, scheduler.close, scheduler)
    assert.equal("closed", select(3, waits()))
  end)
end)

describe("wait over a store that answers late", function()
  -- A task that waits, in a store whose `get` is held at a door; what `resume` begins ends as `run` says.
  local function asked(run, options)
    local store, question = table_container():knows(), door()
    store.after.get = question.pass
    options = options or {}
    options.container = store
    local scheduler = open(function(task)
      if run then return run(task) end
      return task.item
    end, options)
    scheduler:pause()
    scheduler:add { id = "t", item = 5 }
    return scheduler, question
  end

  -- Somebody waits, the store is asked, and meanwhile the task comes to this end.
  local function ended(scheduler, question, status)
    eventually("the store is asked", function() return question.waiting >= 1 end)
    scheduler:resume()
    eventually("it has ended", function() return scheduler:stats()[status] == 1 end)
    question.is_open = true
  end

  for _, seconds in ipairs { false, 5 } do
    local how = seconds and " with seconds" or ""

    it("sees a success that came before the answer" .. how, function()
      local scheduler, question = asked()
      local answer = later(scheduler.wait, scheduler, "t", seconds or nil)
      ended(scheduler, question, "success")
      local task, message = answer(3)
      assert.is_nil(message)
      assert.same({ "success", 5 }, { task.status, task.output })
    end)

    it("sees a failure that came before the answer" .. how, function()
      local scheduler, question = asked(function() error "broken" end)
      local answer = later(scheduler.wait, scheduler, "t", seconds or nil)
      ended(scheduler, question, "failed")
      assert.equal("failed", answer(3).status)
    end)

    it("sees a stop that came before the answer" .. how, function()
      local scheduler, question = asked()
      local answer = later(scheduler.wait, scheduler, "t", seconds or nil)
      eventually("the store is asked", function() return question.waiting >= 1 end)
      local stop = later(scheduler.stop, scheduler, "t")
      ltsh.sleep(0.01)
      question.is_open = true
      assert.equal("stopped", stop(3).status)
      assert.equal("stopped", answer(3).status)
    end)

    it("sees a stop of the run that began meanwhile" .. how, function()
      local scheduler, question = asked(function() ltsh.sleep(3600) end)
      local answer = later(scheduler.wait, scheduler, "t", seconds or nil)
      eventually("the store is asked", function() return question.waiting >= 1 end)
      scheduler:resume()
      eventually("it runs", function() return scheduler:stats().running == 1 end)
      local stop = later(scheduler.stop, scheduler, "t")
      ltsh.sleep(0.01)
      question.is_open = true
      assert.equal("stopped", stop(3).status)
      assert.equal("stopped", answer(3).status)
    end)

    it("sees that it was deleted" .. how, function()
      local scheduler, question = asked()
      local answer = later(scheduler.wait, scheduler, "t", seconds or nil)
      eventually("the store is asked", function() return question.waiting >= 1 end)
      local deleted = later(scheduler.delete, scheduler, "t")
      ltsh.sleep(0.01)
      question.is_open = true
      assert.is_truthy((deleted(3)))
      assert.equal("unknown", select(3, answer(3)))
    end)
  end

  it("is answered for everybody", function()
    local scheduler, question = asked()
    local answers = {}
    for i = 1, 5 do answers[i] = later(scheduler.wait, scheduler, "t") end
    ended(scheduler, question, "success")
    for i = 1, 5 do assert.equal("success", answers[i](3).status) end
  end)

  it("sees the end of the last of several runs", function()
    local runs = 0
    local scheduler, question = asked(function()
      runs = runs + 1
      if runs < 3 then error "not yet" end
      return runs
    end, { max_retries = 5 })
    local answer = later(scheduler.wait, scheduler, "t")
    ended(scheduler, question, "success")
    assert.equal(3, answer(3).output)
  end)

  it("gives up when its seconds are over, and says so", function()
    local scheduler, question = asked()
    local answer = later(scheduler.wait, scheduler, "t", 0.03)
    eventually("the store is asked", function() return question.waiting == 1 end)
    ltsh.sleep(0.05)
    question.is_open = true
    local task, _, code = answer(3)
    assert.is_nil(task)
    assert.equal("timeout", code)
  end)

  it("does not know one that nobody knows", function()
    local scheduler, question = asked()
    local answer = later(scheduler.wait, scheduler, "nobody", 5)
    ltsh.sleep(0.01)
    question.is_open = true
    local task, _, code = answer(3)
    assert.is_nil(task)
    assert.equal("unknown", code)
  end)

  it("is answered at the close", function()
    local scheduler, question = asked()
    local answer = later(scheduler.wait, scheduler, "t")
    eventually("the store is asked", function() return question.waiting == 1 end)
    local closed = later(scheduler.close, scheduler, { drain = 0 })
    ltsh.sleep(0.01)
    question.is_open = true
    closed()
    local task, _, code = answer(3)
    assert.is_true(task ~= nil and task.status == "stopped" or code == "closed")
  end)
end)

describe("questions over a store that answers late", function()
  local function slow()
    local store, gate = table_container():knows(), door()
    for _, name in ipairs { "get", "list", "count" } do
      store.after[name] = gate.pass
    end
    local scheduler = open(function() return 1 end, { container = store })
    local ends = {}
    scheduler:on("finished", function(task) ends[#ends + 1] = task.id end)
    scheduler:pause()
    scheduler:add { id = "t" }
    return scheduler, gate, store, ends
  end

  it("are answered in one of the states of the meanwhile", function()
    local scheduler, gate, _, ends = slow()
    local answers = {
      get = later(scheduler.get, scheduler, "t"),
      list = later(scheduler.list, scheduler),
      count = later(scheduler.count, scheduler),
      wait = later(scheduler.wait, scheduler, "t", 5),
      stats = later(scheduler.stats, scheduler),
    }
    ltsh.sleep(0.005)
    scheduler:resume()
    eventually("it has ended", function() return #ends == 1 end)
    gate.is_open = true
    local status = answers.get(3).status
    assert.is_true(status == "waiting" or status == "success")
    assert.is_true(#answers.list(3) <= 1)
    assert.is_true(answers.count(3) <= 1)
    assert.is_table(answers.stats(3))
    assert.equal("success", answers.wait(3).status)
  end)

  it("hold up neither starts nor ends", function()
    local scheduler, gate, _, ends = slow()
    local answer = later(scheduler.list, scheduler)
    eventually("it is asked", function() return gate.waiting == 1 end)
    scheduler:resume()
    for i = 1, 20 do scheduler:add { id = "u" .. i } end
    eventually("all have ended", function() return #ends == 21 end)
    assert.is_false(gate.is_open)
    gate.is_open = true
    assert.is_table(answer(3))
  end)
end)

describe("two requests about one task, over a store that answers late", function()
  -- A task "t" in a state, and a store of which one method is held at a door.
  local function with(method, state)
    local store, gate, work = table_container(), door(), door()
    store.before[method] = gate.pass
    local scheduler = open(function(task)
      if task.item == "wait" then work.pass() end
    end, { container = store })
    if state == "waiting" then scheduler:pause() end
    scheduler:add { id = "t", item = state == "running" and "wait" or nil }
    if state == "running" then eventually("it runs", function() return work.waiting == 1 end) end
    if state == "ended" then within(5, scheduler.wait, scheduler, "t") end
    return scheduler, gate, work
  end

  it("two stops of one that waits: both are answered with the task", function()
    local scheduler, gate = with("to_stopped", "waiting")
    local first = later(scheduler.stop, scheduler, "t", "the first")
    eventually("the store is asked", function() return gate.waiting == 1 end)
    local second = later(scheduler.stop, scheduler, "t", "the second")
    ltsh.sleep(0.005)
    gate.is_open = true
    for _, answer in ipairs { first, second } do
      local task, message = answer(3)
      assert.is_nil(message)
      assert.same({ "stopped", "the first" }, { task.status, task.reason })
    end
    assert.equal(1, scheduler:stats().stopped)
  end)

  it("a stop and a delete of one that waits: one of them has it", function()
    for _, method in ipairs { "to_stopped", "to_deleted" } do
      local scheduler, gate = with(method, "waiting")
      local requests = method == "to_stopped" and { "stop", "delete" } or { "delete", "stop" }
      local first = later(scheduler[requests[1]], scheduler, "t")
      eventually("the store is asked", function() return gate.waiting == 1 end)
      local second = later(scheduler[requests[2]], scheduler, "t")
      ltsh.sleep(0.005)
      gate.is_open = true
      assert.is_truthy((first(3)))
      second(3)
      assert.is_true(scheduler:stats().stopped <= 1)
      assert.equal(0, scheduler:stats().waiting)
    end
  end)

  it("a stop and a resume: it is stopped, or it has run", function()
    local scheduler, gate = with("to_stopped", "waiting")
    local answer = later(scheduler.stop, scheduler, "t")
    eventually("the store is asked", function() return gate.waiting == 1 end)
    scheduler:resume()
    ltsh.sleep(0.01)
    gate.is_open = true
    local task = answer(3)
    local ends = scheduler:stats()
    assert.equal(1, ends.success + ends.stopped)
    assert.equal(task and 1 or 0, ends.stopped)
  end)

  it("two retries of one that has ended: it waits once", function()
    local scheduler, gate = with("to_waiting", "ended")
    scheduler:pause()
    local answers = {}
    for i = 1, 2 do answers[i] = later(scheduler.retry, scheduler, "t") end
    ltsh.sleep(0.005)
    gate.is_open = true
    local given = 0
    for i = 1, 2 do given = given + (answers[i](3) and 1 or 0) end
    assert.is_true(given >= 1)
    assert.equal(1, scheduler:stats().waiting)
    scheduler:resume()
    assert.equal("success", within(5, scheduler.wait, scheduler, "t").status)
    assert.equal(2, scheduler:stats().success)
  end)

  it("a retry and an add of its id: it waits once", function()
    local scheduler, gate = with("to_waiting", "ended")
    scheduler:pause()
    local retried = later(scheduler.retry, scheduler, "t")
    eventually("the store is asked", function() return gate.waiting == 1 end)
    local added = later(scheduler.add, scheduler, { id = "t" })
    ltsh.sleep(0.005)
    gate.is_open = true
    local task, id = retried(3), added(3)
    assert.is_true(task ~= nil or id ~= nil)
    assert.equal(1, scheduler:stats().waiting)
    scheduler:resume()
    assert.equal("success", within(5, scheduler.wait, scheduler, "t").status)
  end)

  it("a stop of one that is being added", function()
    local store, gate = table_container(), door()
    store.before.add = gate.pass
    local scheduler = open(nil, { container = store })
    local added = later(scheduler.add, scheduler, { id = "t" })
    eventually("the store is asked", function() return gate.waiting == 1 end)
    local stopped = later(scheduler.stop, scheduler, "t")
    ltsh.sleep(0.005)
    gate.is_open = true
    assert.equal("t", (added(3)))
    local task, message = stopped(3)
    assert.is_true(task ~= nil or type(message) == "string")
    assert.equal(task and "stopped" or "success", within(5, scheduler.wait, scheduler, "t", 3).status)
  end)

  it("a second add of one that is being added is refused", function()
    local store, gate = table_container(), door()
    store.before.add = gate.pass
    local scheduler = open(nil, { container = store })
    local first = later(scheduler.add, scheduler, { id = "t" })
    local second = later(scheduler.add, scheduler, { id = "t" })
    ltsh.sleep(0.005)
    gate.is_open = true
    assert.equal("t", (first(3)))
    assert.equal("exists", select(3, second(3)))
  end)
end)

describe("a container whose close is under way", function()
  -- The methods that ask, and what they are given.
  local questions = {
    get = { "t" }, list = {}, count = {}, wait = { "t", 3 }, stop = { "t" }, retry = { "t" }, delete = { "t" },
    output = { "t" }, history = { "t" }, stats = {}, add = { { id = "new" } },
  }

  for _, reads in ipairs { true, false } do
    for _, state in ipairs { "waiting", "running", "ended" } do
      local function closing()
        local store, gate, work = table_container(), door(), door()
        if reads then store:knows() end
        local metatable = getmetatable(store)
        function metatable.close() gate.pass() end
        local scheduler = open(function(task)
          if task.item then work.pass() end
        end, { container = store })
        if state == "waiting" then scheduler:pause() end
        scheduler:add { id = "t", item = state == "running" or nil }
        if state == "running" then eventually("it runs", function() return work.waiting == 1 end) end
        if state == "ended" then within(5, scheduler.wait, scheduler, "t") end
        local closed = later(scheduler.close, scheduler, { drain = 0 })
        eventually("its close is under way", function() return gate.waiting == 1 end)
        return scheduler, gate, closed
      end

      for name, arguments in pairs(questions) do
        it(("answers %s of one that was %s, %s"):format(name, state, reads and "from its store" or "by itself"),
          function()
            local scheduler, gate, closed = closing()
            local answer = later(scheduler[name], scheduler, table.unpack(arguments))
            ltsh.sleep(0.002)
            gate.is_open = true
            local result, message, code = answer(5)
            if result == nil and message ~= nil then
              assert.is_string(message)
              assert.is_true(code == "closed" or name == "stop" or name == "retry" or name == "delete", code)
            end
            assert.is_true(name ~= "add" or result == nil)
            assert.is_truthy((closed(5)))
            assert.equal("closed", select(3, scheduler:get "t"))
          end)
      end
    end
  end

  it("does not hang those who wait already", function()
    local store, gate = table_container(), door()
    function store:close() gate.pass() end
    local scheduler = open(function() ltsh.sleep(3600) end, { container = store })
    scheduler:add { id = "t" }
    scheduler:add { id = "u", delay = 3600 }
    local answers = {
      later(scheduler.wait, scheduler, "t"), later(scheduler.wait, scheduler, "u"),
      later(function() for _ in scheduler:finished() do end end), later(scheduler.run, scheduler),
    }
    ltsh.sleep(0.005)
    local closed = later(scheduler.close, scheduler, { drain = 0 })
    ltsh.sleep(0.005)
    gate.is_open = true
    for i = 1, #answers do answers[i](5) end
    assert.is_truthy((closed(5)))
  end)

  it("that takes too long ends after the limit of a call", function()
    local store, gate = table_container(), door()
    function store:close() gate.pass() end
    local scheduler = open(nil, { container = store, container_timeout = 0.1 })
    local before = uv.hrtime()
    later(scheduler.close, scheduler)(8)
    assert.is_true(uv.hrtime() - before < 5e9)
  end)
end)
