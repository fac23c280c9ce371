-- `fair = true`: keys take turns. Every container that has it is held to the same contract; then what is only theirs.

local ltsh = require "ltsh"
local redis = require "spec.support.redis"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local eventually = scene.eventually

local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."
local fair_contract = assert(loadfile(here .. "/contract/fair_contract.lua", "t", _ENV))()

local function in_file(path, options)
  options = options or {}
  options.path, options.durability = path or scene.temporary ".db", "normal"
  if options.fair == nil then options.fair = true end
  return ltsh.container.sqlite(options)
end

local function queue() return ltsh.container.queue { fair = true } end
local function priority() return ltsh.container.priority { fair = true } end

fair_contract("ltsh.container.queue, fair", queue)
fair_contract("ltsh.container.priority, fair", priority, { priorities = true })
fair_contract("ltsh.container.sqlite, fair", in_file, { priorities = true })

fair_contract("queue and sqlite combined, fair", function()
  return ltsh.container.combine(queue(), in_file())
end, { combined = true })

fair_contract("priority and sqlite combined, fair", function()
  return ltsh.container.combine(priority(), in_file())
end, { priorities = true, combined = true })

lazy_teardown(redis.stop)

local function on_server(queue_name)
  return ltsh.container.redis { url = redis.url(), queue = queue_name or redis.queue(), fair = true }
end

fair_contract("ltsh.container.redis, fair", on_server, { priorities = true })
fair_contract("priority and redis combined, fair", function()
  return ltsh.container.combine(priority(), on_server())
end, { priorities = true, combined = true })

-- "a1 a2 b1": the letter is the key.
local function add(scheduler, text)
  for id in text:gmatch "%S+" do assert(scheduler:add { id = id, key = id:match "^%a" }) end
end

describe("fair = true", function()
  after_each(scene.close)

  -- A scheduler that waits, and the ids of what has started.
  local function open(container, options, run_task)
    local seen = {}
    options = options or {}
    options.container, options.limit = container, options.limit or 1
    local scheduler = scene.open(function(task)
      table.insert(seen, task.id)
      if run_task then return run_task(task) end
    end, options)
    scheduler:pause()
    return scheduler, seen
  end

  local function run_all(scheduler, seen)
    scheduler:resume()
    scene.ends_of(scheduler)
    return table.concat(seen, " ")
  end

  it("is true or false", function()
    for name, make in pairs { queue = ltsh.container.queue, priority = ltsh.container.priority, sqlite = in_file } do
      local function wrong()
        return name == "sqlite" and make(nil, { fair = "yes" }) or make { fair = "yes" }
      end
      local ok, message = pcall(wrong)
      assert.is_false(ok)
      assert.equal(string.format('ltsh.container.%s: fair must be true or false, got "yes"', name), message)
    end
  end)

  it("is for both of two that are combined, or for neither", function()
    for _, case in ipairs {
      { ltsh.container.queue { fair = true }, in_file(nil, { fair = false }), "first" },
      { ltsh.container.priority {}, in_file(), "second" },
    } do
      local ok, message = pcall(ltsh.container.combine, case[1], case[2])
      assert.is_false(ok)
      assert.equal(string.format("ltsh.container.combine: only the %s one takes turns: give fair = true to both, or "
        .. "to neither", case[3]), message)
    end
  end)

  it("goes with an order in Lua, which then decides among the first of the store", function()
    local scheduler, seen = open(ltsh.container.combine(ltsh.container.load "examples/lua_container.lua", in_file()))
    add(scheduler, "a1 a2 b1")
    run_all(scheduler, seen)
    assert.equal(3, #seen)
  end)

  it("is told by explain, where tasks are in memory", function()
    for _, make in ipairs { queue, priority } do
      local scheduler = open(make())
      add(scheduler, "a1 a2 a3 b1 c1 c2")
      assert.matches("; 5 due before it", (scheduler:explain "a3"))
      assert.matches("; 3 due before it", (scheduler:explain "a2"))
      assert.matches("; 1 due before it", (scheduler:explain "b1"))
      assert.matches("; 4 due before it", (scheduler:explain "c2"))
      assert.is_nil((scheduler:explain "a1"):match "before it")
    end
  end)

  it("knows since when the oldest waits", function()
    local scheduler = open(queue())
    add(scheduler, "a1")
    local added = ltsh.now()
    ltsh.sleep(0.02)
    add(scheduler, "b1")
    local oldest = scheduler:stats().oldest_waiting
    assert.is_true(oldest >= 0.02 and oldest <= ltsh.now() - added + 0.02)
  end)

  it("gives a key the turn back of what was claimed and did not begin", function()
    -- Quick tasks are handed ahead to a worker; those behind one that takes longer go back.
    for _, container in ipairs { queue(), in_file() } do
      local scheduler = scene.keep(ltsh.scheduler {
        container = container, limit = 100, finished_size = 10000,
        actuator = ltsh.actuator.func { module = "spec/support/tasks/in_turn.lua", workers = 1 },
      })
      scheduler:pause()
      local keys = { "a", "b", "c", "d", "e" }
      for i = 1, 100 do
        for _, key in ipairs(keys) do
          assert(scheduler:add { id = key .. i, key = key, item = { slow = i > 40 and i % 20 == 1 } })
        end
      end
      scheduler:resume()
      local runs = {}
      for task in scheduler:finished() do runs[task.output] = task.key end
      local count = {}
      for i = 1, 500 do
        count[runs[i]] = (count[runs[i]] or 0) + 1
        local least, most = math.huge, 0
        for _, key in ipairs(keys) do
          least, most = math.min(least, count[key] or 0), math.max(most, count[key] or 0)
        end
        assert.is_true(most - least <= 3, "one key is ahead") -- three may be handed ahead
      end
      scheduler:close()
    end
  end)

  describe("in SQLite", function()
    after_each(run.clean)

    local function query(path, sql)
      local db <close> = assert(ltsh.sqlite.open(path))
      return db:value(sql)
    end

    it("turns outlive the host", function()
      local path = scene.temporary ".db"
      local first, seen = open(in_file(path), nil, function(task)
        if task.id == "b1" then ltsh.sleep(100) end
      end)
      add(first, "a1 a2 b1 b2 c1 c2")
      first:resume()
      eventually("two have started", function() return #seen == 2 end)
      first:close { drain = 0 } -- b1 waits again, behind b2
      local second, rest = open(in_file(path))
      assert.equal("c1 a2 b2 c2 b1", run_all(second, rest))
    end)

    it("what was lost with its host comes with its key's turn", function()
      local path = scene.temporary ".db"
      local host = run.start { "-e", [[
        local ltsh = require "ltsh"
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = arg[1], durability = "normal", fair = true },
          actuator = ltsh.actuator.func(function(task) print("runs " .. task.id) ltsh.sleep(100) end),
        }
        scheduler:pause()
        for _, id in ipairs { "b1", "a1", "a2", "a3", "b2", "c1", "-1" } do
          scheduler:add { id = id, key = id:match "^%a" }
        end
        scheduler:resume()
        scheduler:run()
      ]], path }
      host:expect "runs b1"
      host:kill "sigkill"
      host:wait()
      local scheduler, seen = open(in_file(path), { limit = 4 })
      assert(scheduler:wait("b1", 0) == nil)
      scheduler:resume()
      scene.ends_of(scheduler)
      assert.equal(7, #seen)
      local at = {}
      for i, id in ipairs(seen) do at[id] = i end
      assert.is_true(at.b1 > at.b2) -- it waits again behind b2
      assert.is_true(at.b2 < at.a2)
      assert.equal("success", scheduler:get("b1").status)
    end)

    it("what was lost does not wait for all of another key", function()
      local path = scene.temporary ".db"
      local filler = open(in_file(path))
      local many = {}
      for i = 1, 500 do many[i] = { id = "a" .. i, key = "a" } end
      assert(filler:add_all(many))
      filler:close()
      local host = run.start { "-e", [[
        local ltsh = require "ltsh"
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = arg[1], durability = "normal", fair = true },
          actuator = ltsh.actuator.func(function(task) print("runs " .. task.id) ltsh.sleep(100) end), limit = 2,
        }
        scheduler:add { id = "b1", key = "b" }
        scheduler:run()
      ]], path }
      host:expect "runs b1"
      host:kill "sigkill"
      host:wait()
      local scheduler, seen = open(in_file(path), { limit = 1, finished_size = 0 })
      scheduler:resume()
      assert(scheduler:wait("b1", 30))
      assert.is_true(#seen < 20)
    end)

    it("schedulers on a queue share the turns", function()
      local path, seen = scene.temporary ".db", {}
      local open_door = {}
      local function task_of(name)
        return function(task)
          table.insert(seen, task.id)
          while not open_door[task.id] do ltsh.sleep(0.001) end
          return name
        end
      end
      local hosts = {}
      for i = 1, 2 do
        hosts[i] = scene.open(task_of(i), { container = in_file(path), limit = 1 })
        hosts[i]:pause()
      end
      add(hosts[1], "a1 a2 b1 b2 c1 c2")
      local function runs_on(i, count)
        hosts[i]:resume()
        eventually("it runs", function() return #seen == count end)
        hosts[i]:pause()
      end
      runs_on(1, 1)
      runs_on(2, 2)
      open_door.a1 = true
      eventually("it has ended", function() return hosts[1]:get("a1").status == "success" end)
      runs_on(1, 3)
      open_door.b1 = true
      eventually("it has ended", function() return hosts[1]:get("b1").status == "success" end)
      runs_on(2, 4)
      assert.equal("a1 b1 c1 a2", table.concat(seen, " "))
      for _, id in ipairs { "a2", "b2", "c1", "c2" } do open_door[id] = true end
      for i = 1, 2 do hosts[i]:resume() end
      eventually("all have ended", function() return hosts[1]:count { status = "success" } == 6 end)
    end)

    it("gives turns to what waited before anybody was fair, and to what others add", function()
      local path = scene.temporary ".db"
      local unfair = open(in_file(path, { fair = false }))
      add(unfair, "a1 a2 a3 b1 b2 -1 -2")
      local scheduler, seen = open(in_file(path))
      eventually("it has turns", function() return query(path, "SELECT count(*) FROM ltsh_turns") == 3 end)
      add(unfair, "c1 c2 a4")
      unfair:close()
      assert.equal("a1 b1 -1 c1 a2 b2 -2 c2 a3 a4", run_all(scheduler, seen))
    end)

    it("keeps no turns in a queue that has none", function()
      local path = scene.temporary ".db"
      local scheduler, seen = open(in_file(path, { fair = false }))
      add(scheduler, "a1 a2 b1")
      assert.equal("a1 a2 b1", run_all(scheduler, seen))
      assert.equal(0, query(path, "SELECT count(*) FROM ltsh_turns"))
    end)

    it("forgets the turns of keys of which nothing waits", function()
      local path = scene.temporary ".db"
      local scheduler, seen = open(in_file(path))
      local list = {}
      for i = 1, 2500 do list[i] = { id = "t" .. i, key = "key" .. i } end
      assert(scheduler:add_all(list))
      for i = 1, 2500 do assert(scheduler:stop("t" .. i)) end
      add(scheduler, "a1 a2")
      assert.equal("a1 a2", run_all(scheduler, seen))
      assert.equal(0, query(path, "SELECT count(*) FROM ltsh_turns"))
    end)

    it("a combination begins with a key of another host, whatever it has in memory", function()
      local path = scene.temporary ".db"
      local filler, many = open(in_file(path)), {}
      for i = 1, 6000 do many[i] = { id = "a" .. i, key = "a" } end
      assert(filler:add_all(many))
      local scheduler, seen = open(ltsh.container.combine(queue(), in_file(path)), { finished_size = 0 }, function(task)
        while task.id == "a100" and not many.open do ltsh.sleep(0.001) end
      end)
      scheduler:resume()
      eventually("it waits there", function() return #seen == 100 end)
      add(filler, "b1 b2 c1")
      many.open = true
      eventually("they have run", function() return scheduler:get("b2").status == "success" end)
      local at = {}
      for i, id in ipairs(seen) do at[id] = i end
      assert.is_true(at.b1 <= 103 and at.c1 <= 104 and at.b2 <= 107, table.concat(seen, " ", 95))
    end)
  end)

  describe("in Redis", function()
    it("turns outlive the host, and hosts on a queue share them", function()
      local name, gate = redis.queue(), { b1 = true }
      local function hold(task)
        while gate[task.id] do ltsh.sleep(0.001) end
      end
      local first, seen = open(on_server(name), nil, hold)
      add(first, "a1 a2 b1 b2 c1 c2")
      first:resume()
      eventually("two have started", function() return #seen == 2 end)
      first:pause()
      local second, rest = open(on_server(name))
      second:resume()
      eventually("the others have run", function() return #rest == 4 end)
      assert.equal("c1 a2 b2 c2", table.concat(rest, " "))
      gate.b1 = nil
      scene.ends_of(first)
    end)

    it("gives turns to what waited before anybody was fair, and to what others add", function()
      local name = redis.queue()
      local function server(fair) return ltsh.container.redis { url = redis.url(), queue = name, fair = fair } end
      local unfair = open(server(false))
      local many = {}
      for i = 1, 1000 do many[i] = { id = "a" .. i, key = "a" } end
      assert(unfair:add_all(many))
      add(unfair, "b1 b2 -1 -2")
      local scheduler, seen = open(server(true), { finished_size = 0 })
      scheduler:resume()
      eventually("the first have run", function() return #seen > 20 end)
      add(unfair, "c1")
      eventually("all have run", function() return #seen == 1005 end)
      assert.equal("a1 b1 -1 a2 b2 -2 a3 a4", table.concat(seen, " ", 1, 8))
      local at = {}
      for i, id in ipairs(seen) do at[id] = i end
      assert.is_true(at.c1 < 1000)
    end)
  end)
end)
