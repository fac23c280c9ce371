-- Tasks in SQLite: that they outlive their host, whatever ends it, and that hosts share them.

local ltsh = require "ltsh"
local uv = require "luv"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local eventually = scene.eventually

local function database(options)
  options = options or {}
  options.path = options.path or scene.temporary ".db"
  options.durability = options.durability or "normal"
  return ltsh.container.sqlite(options), options.path
end

local function open(run_task, options)
  local path
  options = options or {}
  options.container, path = database(options.container)
  return scene.open(run_task, options), path
end

-- The program of another host. It gets `path` and `ltsh`.
local function host(path, text, options)
  return run.start({ "-e", "local ltsh = require 'ltsh'; local path = arg[1]; " .. text, path }, options)
end

local function exists(path)
  return uv.fs_stat(path) ~= nil
end

-- Rows of a query, as one text.
local function query(path, sql)
  local db <close> = assert(ltsh.sqlite.open(path))
  return db:value(sql)
end

local VALUES = {
  { a = 1, list = { 1, 2, 3 }, nested = { deep = { true, false } }, text = "ü\0x", float = 1.5, whole = 2.0 },
  math.maxinteger, math.mininteger, 1e300, -0.0, "text", true, 0.1, "",
  { bytes = "\xff\xfe", inf = math.huge, [3] = "key", [2.5] = 1, [true] = false },
  math.huge, "\xff", ltsh.json.array {}, {}, ltsh.json.null, { n = ltsh.json.null },
  ("long "):rep(1000), { ("x"):rep(5000), "\xff" },
}

describe("ltsh.container.sqlite", function()
  after_each(scene.close)

  describe("keeps", function()
    it("what was added when it is closed, and gives it to the next", function()
      local scheduler, path = open(function() end)
      scheduler:pause()
      for i = 1, 5 do assert(scheduler:add { id = "t" .. i, item = i, priority = i % 2 }) end
      scheduler:close()
      assert.is_false(exists(path .. "-wal"))
      local again = open(function(task) return task.item * 2 end, { container = { path = path } })
      local ended = {}
      for task in again:finished() do ended[#ended + 1] = task.id .. "=" .. task.output end
      assert.same({ "t1=2", "t3=6", "t5=10", "t2=4", "t4=8" }, ended)
    end)

    it("values as they were given", function()
      local scheduler = open(function(task) return task.item end)
      for i, value in ipairs(VALUES) do assert(scheduler:add { id = "v" .. i, item = value }) end
      for i, value in ipairs(VALUES) do
        local task = assert(scheduler:wait("v" .. i, 10))
        assert.equal("success", task.status)
        for _, given in ipairs { task.item, task.output, scheduler:get("v" .. i).item, scheduler:output("v" .. i) } do
          assert.same(value, given)
          if math.type(value) then assert.equal(math.type(value), math.type(given)) end
        end
      end
    end)

    it("values as JSON where that holds them", function()
      local scheduler, path = open(function() return { sum = 3 } end)
      assert(scheduler:add { id = "a", item = { x = { 1, 2 } } })
      assert(scheduler:add { id = "large", item = { x = ("y"):rep(5000) } })
      assert(scheduler:wait("a", 10))
      assert(scheduler:wait("large", 10))
      assert.equal(2, query(path, "select json_extract(item, '$.x[1]') from ltsh_view where id = 'a'"))
      assert.equal(3, query(path, "select json_extract(output, '$.sum') from ltsh_view where id = 'a'"))
      assert.equal(5000, query(path, "select length(json_extract(item, '$.x')) from ltsh_view where id = 'large'"))
    end)

    it("the options of a task, delays and dates", function()
      local scheduler, path = open(function() end)
      scheduler:pause()
      local at = ltsh.now() + 3600
      assert(scheduler:add {
        id = "a", run_at = at, key = "k", timeout = 5, max_retries = 7, backoff = { base = 1, factor = 3, max = 9 },
      })
      scheduler:close()
      local again = open(function() end, { container = { path = path } })
      local task = again:get "a"
      assert.equal(at, task.run_at)
      assert.equal("k", task.key)
      assert.equal(5, task.timeout)
      assert.equal(7, task.max_retries)
      assert.equal("waiting", task.status)
      assert.equal(1, again:stats().delayed)
    end)

    it("the history of a task, also after a restart", function()
      local scheduler, path = open(function(task)
        if task.attempts < 3 then return nil, "no " .. task.attempts end
      end, { max_retries = 5 })
      assert(scheduler:add { id = "a" })
      assert.equal("success", scheduler:wait("a", 10).status)
      scheduler:close()
      local again = open(function() end, { container = { path = path } })
      assert(again:retry "a")
      assert.equal("success", again:wait("a", 10).status)
      local reasons = {}
      for i, past in ipairs(again:history "a") do reasons[i] = past.reason or "" end
      assert.same({ "no 1", "no 2", "", "" }, reasons)
    end)

    it("a bounded history", function()
      local tries = 0
      local scheduler = open(function()
        tries = tries + 1
        if tries < 400 then return nil, { reason = "later", snooze = 0.0001 } end
      end)
      assert(scheduler:add { id = "a" })
      assert.equal("success", scheduler:wait("a", 30).status)
      local history = scheduler:history "a"
      assert.is_true(#history >= 100 and #history <= 151, #history)
    end)
  end)

  describe("lists", function()
    local scheduler

    before_each(function()
      scheduler = open(function(task) if task.item == 0 then return nil, "bad" end end)
      for i = 1, 30 do
        assert(scheduler:add { id = "t_" .. i, item = i % 3, key = "k" .. i % 2 })
      end
      for i = 1, 30 do assert(scheduler:wait("t_" .. i, 10)) end
    end)

    it("page by page, by a cursor", function()
      for _, order in ipairs { "oldest", "newest" } do
        local seen, after = {}, nil
        repeat
          local tasks, cursor = scheduler:list { limit = 7, after = after, order = order }
          for _, task in ipairs(tasks) do seen[#seen + 1] = task.id end
          after = cursor
        until not cursor
        assert.equal(30, #seen)
        assert.equal(order == "oldest" and "t_1" or "t_30", seen[1])
      end
    end)

    it("by status, key, and a part of the id as it stands there", function()
      assert.equal(10, #scheduler:list { status = "failed" })
      assert.equal(20, #scheduler:list { status = "success" })
      assert.equal(15, #scheduler:list { key = "k1" })
      assert.equal(5, #scheduler:list { key = "k1", status = "failed" })
      assert.equal(11, #scheduler:list { text = "t_1" })
      assert.equal(0, #scheduler:list { text = "t%" })
      assert.equal(0, #scheduler:list { text = "T_1" })
      assert.equal(10, scheduler:count { status = "failed" })
      assert.equal(30, scheduler:count())
    end)
  end)

  it("adds all of a long list or none, and names what is wrong", function()
    local scheduler = open(function() end)
    scheduler:pause()
    local list = {}
    for i = 1, 20000 do list[i] = { id = "t" .. i } end
    list[20001] = { id = "t5" }
    local ids, message, code = scheduler:add_all(list)
    assert.is_nil(ids)
    assert.equal("exists", code)
    assert.matches("'t5'", message, 1, true)
    assert.equal(0, scheduler:count())
    list[20001] = nil
    assert.equal(20000, #scheduler:add_all(list))
    assert.equal(20000, scheduler:count())
  end)

  it("remembers ids that were added with `once` though their tasks are forgotten", function()
    local scheduler = open(function() end, { container = { keep = { success = 0.01, failed = 0.01, stopped = 0.01 } } })
    assert(scheduler:add { id = "tick", once = true })
    eventually("it is forgotten", function() return scheduler:get "tick" == nil and scheduler:count() == 0 end)
    assert.equal("exists", select(3, scheduler:add { id = "tick", once = true }))
    assert(scheduler:add { id = "tick" })
  end)

  it("forgets what ended long ago, and goes on claiming meanwhile", function()
    local scheduler, path = open(function() end, { limit = 8, container = { keep = { success = 0.2 } } })
    local list = {}
    for i = 1, 3000 do list[i] = { id = "t" .. i } end
    assert(scheduler:add_all(list))
    eventually("all are done and forgotten", function() return scheduler:count() == 0 end)
    assert.equal(0, query(path, "select count(*) from ltsh_tasks"))
  end)

  it("lets what runs wait again when its host is told to end, with no attempt used", function()
    local path = scene.temporary ".db"
    local child = host(path, [[
      local scheduler = ltsh.scheduler {
        container = ltsh.container.sqlite { path = path, durability = "normal" }, shutdown_grace = 0.1, limit = 2,
        actuator = ltsh.actuator.func(function(task) print("runs " .. task.id) ltsh.sleep(100) end),
      }
      for i = 1, 3 do assert(scheduler:add { id = "t" .. i }) end
      print "ready"
      scheduler:run()
    ]])
    child:expect "runs t2"
    child:expect "ready"
    child:kill "sigterm"
    assert.equal(143, child:wait().code)
    assert.is_false(exists(path .. "-wal"))
    assert.same({ 0, 0 }, { query(path, "select sum(attempts) from ltsh_tasks"),
      query(path, "select count(*) from ltsh_owners") })
    local scheduler = open(function(task) return task.attempts end, { container = { path = path } })
    local ends = scene.ends_of(scheduler)
    assert.equal(3, #ends)
    for _, task in ipairs(ends) do assert.equal(1, task.output) end
  end)

  it("knows the hosts that share its queue, and not those that died or have another", function()
    local path = scene.temporary ".db"
    local RUN = [[
      local scheduler = ltsh.scheduler {
        container = ltsh.container.sqlite { path = path, durability = "normal", queue = arg[2] },
        actuator = ltsh.actuator.func(function() print "runs" ltsh.sleep(100) end),
      }
      if arg[2] == "default" then scheduler:add {} end
      print "ready"
      scheduler:run()
    ]]
    local function other(queue)
      local child = run.start { "-e", "local ltsh = require 'ltsh'; local path = arg[1]; " .. RUN, path, queue }
      child:expect "ready"
      return child
    end
    local child, stranger = other "default", other "another"
    child:expect "runs"
    local scheduler = open(function() end, { container = { path = path, lease = 5 } })
    local same_process = open(function() end, { container = { path = path, lease = 5 } })
    local hosts
    scene.eventually("this one is known", function()
      hosts = assert(scheduler:hosts())
      return #hosts == 2
    end)
    assert.same({ child.pid, 1, false, ltsh.version },
      { hosts[1].pid, hosts[1].running, hosts[1].self, hosts[1].version })
    assert.same({ uv.os_getpid(), 0, true }, { hosts[2].pid, hosts[2].running, hosts[2].self })
    assert.is_true(hosts[1].heartbeat <= ltsh.now() + 1 and hosts[1].lease_end > ltsh.now())
    assert.equal(2, #same_process:hosts())
    child:kill "sigstop"
    scene.eventually("it is not heard", function() return scheduler:hosts()[1].heartbeat < ltsh.now() - 1.5 end)
    child:kill "sigkill"
    child:wait()
    scene.eventually("it is given up", function() return #scheduler:hosts() == 1 end)
    stranger:kill "sigkill"
    stranger:wait()
  end)

  describe("when its host is killed", function()
    local RUN = [[
      local scheduler = ltsh.scheduler {
        container = ltsh.container.sqlite { path = path, durability = "normal" }, limit = 4, max_lost = 2,
        actuator = ltsh.actuator.func(function(task)
          if task.item == "hold" then print("runs " .. task.id) ltsh.sleep(1000) end
          return task.id
        end),
      }
    ]]

    it("loses nothing that was added, and runs what ran again", function()
      local path = scene.temporary ".db"
      local child = host(path, RUN .. [[
        for i = 1, 20 do assert(scheduler:add { id = "t" .. i, item = i < 4 and "hold" or nil }) end
        for i = 4, 20 do assert(scheduler:wait("t" .. i)) end
        print "ready"
        scheduler:run()
      ]])
      child:expect "ready"
      child:kill "sigkill"
      child:wait()
      local scheduler = open(function(task) return task.id end, { container = { path = path } })
      local ended = {}
      for task in scheduler:finished() do ended[#ended + 1] = task.id end
      table.sort(ended)
      assert.same({ "t1", "t2", "t3" }, ended)
      assert.equal(20, scheduler:count { status = "success" })
      local task = scheduler:get "t1"
      assert.equal(1, task.attempts)
      assert.equal("lost", scheduler:history("t1")[1].reason)
    end)

    it("gives its tasks to another that lives", function()
      local scheduler, path = open(function(task) return task.id end)
      local child = host(path, RUN .. [[
        scheduler:add { id = "a", item = "hold" }
        scheduler:run()
      ]])
      scheduler:pause()
      child:expect "runs a"
      scheduler:resume()
      child:kill "sigkill"
      child:wait()
      local task = assert(scheduler:wait("a", 10))
      assert.equal("success", task.status)
    end)

    it("convicts the one that kills, and lets the others run", function()
      local path = scene.temporary ".db"
      local text = RUN:gsub("if task.item.-end\n", [[
        if task.item == "kill" then require("luv").kill(require("luv").os_getpid(), "sigkill") ltsh.sleep(1) end
        if task.item == "slow" then ltsh.sleep(0.05) end
      ]])
      host(path, text .. [[
        scheduler:add_all {
          { id = "a", item = "slow" }, { id = "b", item = "slow" }, { id = "k", item = "kill" }, { id = "c" },
        }
        scheduler:run()
      ]]):wait()
      local crashes = 1
      while crashes < 10 do
        local result = host(path, text .. "for _ in scheduler:finished() do end"):wait()
        if not result.signal or result.signal == 0 then break end
        crashes = crashes + 1
      end
      local scheduler = open(function() end, { container = { path = path } })
      assert.equal("failed", scheduler:get("k").status)
      assert.equal("lost", scheduler:get("k").reason)
      for _, id in ipairs { "a", "b", "c" } do assert.equal("success", scheduler:get(id).status) end
      assert.equal(3, crashes)
    end)
  end)

  describe("shared by hosts", function()
    it("gives each task to one of them", function()
      local path = scene.temporary ".db"
      local text = [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, durability = "normal" }, limit = 8, finished_size = 10000,
          actuator = ltsh.actuator.func(function(task) ltsh.sleep(0.001) return task.id end),
        }
        for task in scheduler:finished() do print(task.id .. " " .. task.attempts .. " " .. task.status) end
      ]]
      local scheduler = open(function() end, { container = { path = path } })
      scheduler:pause()
      local list = {}
      for i = 1, 400 do list[i] = { id = "t" .. i } end
      assert(scheduler:add_all(list))
      scheduler:close()
      local children, seen, count = {}, {}, 0
      for i = 1, 3 do children[i] = host(path, text) end
      for _, child in ipairs(children) do
        local result = child:wait()
        assert.equal("", result.stderr)
        for id, attempts, status in result.stdout:gmatch "(%S+) (%d+) (%S+)" do
          assert.is_nil(seen[id])
          assert.equal("1 success", attempts .. " " .. status)
          seen[id] = true
          count = count + 1
        end
      end
      assert.equal(400, count)
    end)

    it("tells who waits of ends elsewhere, and stops there what is to be stopped", function()
      local path = scene.temporary ".db"
      local child = host(path, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, durability = "normal" }, limit = 4,
          actuator = ltsh.actuator.func(function(task)
            if task.item == "hold" then print("runs " .. task.id) ltsh.sleep(1000) end
            return "there"
          end),
        }
        print "ready"
        scheduler:run()
      ]])
      child:expect "ready"
      local scheduler = open(function() return "here" end, { container = { path = path } })
      scheduler:pause()
      assert(scheduler:add { id = "a" })
      assert.equal("there", assert(scheduler:wait("a", 10)).output)
      assert(scheduler:add { id = "b", item = "hold" })
      child:expect "runs b"
      local task = assert(scheduler:stop "b")
      assert.equal("stopped", task.status)
      child:kill "sigterm"
      child:wait()
    end)

    it("shows the ends of what it added, wherever that ran", function()
      local path = scene.temporary ".db"
      local child = host(path, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, durability = "normal" }, limit = 4,
          actuator = ltsh.actuator.func(function() ltsh.sleep(0.01) return "there" end),
        }
        print "ready"
        scheduler:run()
      ]])
      child:expect "ready"
      local scheduler = open(function() return "here" end, { container = { path = path } })
      scheduler:pause()
      for i = 1, 20 do assert(scheduler:add { id = "t" .. i }) end
      local seen, count = {}, 0
      for task in scheduler:finished() do
        assert.is_nil(seen[task.id])
        seen[task.id] = true
        assert.equal("there", task.output)
        count = count + 1
      end
      assert.equal(20, count)
      child:kill "sigterm"
      child:wait()
    end)

    it("is paused and resumed for all", function()
      local first, path = open(function() return 1 end)
      local second = open(function() return 2 end, { container = { path = path } })
      assert(first:pause { queue = true })
      assert(first:add { id = "a" })
      assert.is_nil(second:wait("a", 0.1))
      assert.equal("paused", select(2, second:explain "a"))
      assert(second:resume { queue = true })
      assert(second:wait("a", 10))
    end)

    it("begins at once what another scheduler of the process adds", function()
      local first, path = open(function() return "first" end)
      local second = open(function() return "second" end, { container = { path = path } })
      first:pause()
      assert(second:add { id = "warm" })
      assert(second:wait("warm", 10))
      assert(first:add { id = "a" })
      assert.equal("second", assert(first:wait("a", 10)).output)
      assert.equal("first", (function()
        second:pause()
        first:resume()
        assert(second:add { id = "b" })
        return assert(second:wait("b", 10)).output
      end)())
    end)

    it("starts nothing that is paused for all, from the moment of the answer", function()
      local first, path = open(function() return 1 end)
      local child = host(path, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, durability = "normal" },
          actuator = ltsh.actuator.func(function() return 2 end),
        }
        print "ready"
        scheduler:run()
      ]])
      child:expect "ready"
      for round = 1, 20 do
        assert(first:pause { queue = true })
        assert(first:add { id = "t" .. round })
        ltsh.sleep(0.01)
        assert.equal("waiting", first:get("t" .. round).status)
        assert(first:resume { queue = true })
        assert(first:wait("t" .. round, 10))
      end
      child:kill "sigterm"
      child:wait()
    end)

    it("answers who waits for a task that another deletes", function()
      local first, path = open(function() end)
      local second = open(function() end, { container = { path = path } })
      first:pause()
      second:pause()
      for _, by in ipairs { first, second } do
        assert(first:add { id = "a" })
        local job = ltsh.spawn(function() return select(3, first:wait("a", 10)) end)
        local other = ltsh.spawn(function() return select(3, second:wait("a", 10)) end)
        ltsh.sleep(0.02)
        assert(by:delete "a")
        assert.equal("unknown", job:wait())
        assert.equal("unknown", other:wait())
      end
    end)

    it("ends there what is to be stopped, for the reason that was given", function()
      local first, path = open(function() ltsh.sleep(100) end)
      local second = open(function() ltsh.sleep(100) end, { container = { path = path } })
      second:pause()
      assert(first:add { id = "a" })
      eventually("it runs", function() return first:get("a").status == "running" end)
      assert.equal("not wanted", assert(second:stop("a", "not wanted")).reason)
      assert.equal("not wanted", first:get("a").reason)
    end)

    it("keep a rate also when the clock that it goes by has begun anew", function()
      local path = scene.temporary ".db"
      local options = { limit = 1, rate = { 1, per = 0.2 }, container = { path = path } }
      local before = open(function() end, options)
      assert(before:add { id = "a" })
      assert.equal("success", before:wait("a", 10).status)
      before:close()
      do
        local db <close> = assert(ltsh.sqlite.open(path))
        db:exec "UPDATE ltsh_queues SET tokens = 0, tokens_at = 1e12" -- of a machine that was started anew since
      end
      local after = open(function() end, { limit = 1, rate = { 1, per = 0.2 }, container = { path = path } })
      assert(after:add { id = "b" })
      assert.equal("success", after:wait("b", 30).status)
    end)

    it("finds the tasks of other keys behind a long line of one that is full", function()
      local order, gate = {}, scene.door()
      local scheduler = open(function(task)
        order[#order + 1] = task.id
        if task.key == "full" then gate.pass() end
      end, { limit = 10, key_limit = 1 })
      local list = {}
      for i = 1, 3000 do list[i] = { id = "full" .. i, key = "full" } end
      for i = 1, 6 do
        list[#list + 1] = { id = "b" .. i, key = "b", priority = i > 3 and 1 or 0 }
        list[#list + 1] = { id = "c" .. i, key = "c" }
      end
      assert(scheduler:add_all(list))
      for i = 1, 6 do
        assert(scheduler:wait("b" .. i, 20))
        assert(scheduler:wait("c" .. i, 20))
      end
      assert.equal(13, #order)
      local of_b = {}
      for id in table.concat(order, " "):gmatch "b%d" do of_b[#of_b + 1] = id end
      assert.equal("b4 b5 b6 b1 b2 b3", table.concat(of_b, " "))
      assert.equal("key", select(2, scheduler:explain "full2"))
      for i = 2, 3000 do assert(scheduler:delete("full" .. i)) end
      gate.is_open = true
    end)

    it("takes over what a host that does not move has, and refuses what that says later", function()
      local path = scene.temporary ".db"
      local child = host(path, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, durability = "normal", lease = 1 },
          actuator = ltsh.actuator.func(function(task) print("runs " .. task.id) ltsh.sleep(30) return "there" end),
        }
        scheduler:add { id = "a" }
        scheduler:run()
      ]])
      child:expect "runs a"
      local scheduler = open(function() return "here" end, { container = { path = path, lease = 1 } })
      ltsh.sleep(2.5) -- it lives, so its tasks are its own for as long as it wants
      assert.equal("running", scheduler:get("a").status)
      child:kill "sigstop"
      assert.equal("here", assert(scheduler:wait("a", 10)).output)
      child:kill "sigcont"
      eventually("it is told", function() return child.stderr:find("taken for dead", 1, true) end)
      child:kill "sigterm"
      child:wait()
      assert.equal("here", scheduler:get("a").output)
    end)

    it("takes no word of a run whose task another has taken over, and which waits again", function()
      local starts = 0
      local scheduler, path = open(function() starts = starts + 1 end, { container = { lease = 1 } })
      scheduler:pause()
      assert(scheduler:add { id = "a", key = "k" })
      local child = host(path, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, lease = 1 }, on_lease_lost = "continue",
          actuator = ltsh.actuator.func(function()
            print "runs"
            io.stdout:flush()
            ltsh.sleep(0.5)
            error("late", 0)
          end),
        }
        scheduler:on("started", function() scheduler:pause() end)
        scheduler:on("finished", function(task) print(task.status .. ".") end)
        repeat ltsh.sleep(0.01) until scheduler:stats().stale > 0
        print "refused."
        io.stdout:flush()
        scheduler:run()
      ]])
      child:expect "runs"
      child:kill "sigstop"
      scheduler:set { key_limit = function() return 0 end }
      scheduler:resume()
      eventually("it waits again", function() return scheduler:get("a").status == "waiting" end)
      child:kill "sigcont"
      assert.equal("refused", child:expect "(%a+)%.\n")
      scheduler:set { key_limit = false }
      assert.same({ "success", 1 }, { scheduler:wait("a").status, starts })
      child:kill "sigkill"
      child:wait()
    end)
  end)

  describe("refuses", function()
    local function refusal(options)
      local ok, message = pcall(ltsh.container.sqlite, options)
      assert.is_false(ok)
      return message
    end

    it("what is no path", function()
      assert.matches("path must be", refusal {})
      assert.matches("path of a file", refusal { path = ":memory:" })
      assert.matches("No such file or directory", refusal { path = "/nowhere/at/all/q.db" })
      assert.matches("unable to open", refusal { path = "/tmp" })
      assert.matches("durability must be", refusal { path = "/tmp/x.db", durability = "none" })
    end)

    it("a file that is no database, and leaves it as it is", function()
      local path = scene.temporary ".db"
      local file = assert(io.open(path, "w"))
      file:write(("this is a text\n"):rep(100))
      file:close()
      assert.matches("not a database", refusal { path = path })
      assert.equal(1500, uv.fs_stat(path).size)
    end)

    it("a damaged file, and leaves it as it is", function()
      local scheduler, path = open(function() end)
      scheduler:pause()
      local list = {}
      for i = 1, 3000 do list[i] = { id = "t" .. i, item = { a = i } } end
      assert(scheduler:add_all(list))
      scheduler:close()
      local file = assert(io.open(path, "r+b"))
      file:seek("set", 4096 * 20)
      file:write(("\xff"):rep(4096 * 3))
      file:seek "set"
      local before = file:read "a"
      assert.matches("Page 2%d", refusal { path = path })
      file:seek "set"
      assert.is_true(before == file:read "a")
      file:close()
    end)

    it("a folder or a file that it may not write, and says whose it is", function()
      if uv.getuid() ~= 0 or ltsh.exec { "setpriv", "--version" }.code ~= 0 then
        pending "only root can become somebody else"
        return
      end
      local folder = scene.temporary ".d"
      assert(uv.fs_mkdir(folder, 493))
      local scheduler = open(function() end, { container = { path = folder .. "/q.db" } })
      scheduler:close()
      local function as_other(name)
        local result = ltsh.exec {
          "setpriv", "--reuid", "12345", "--clear-groups", run.program, "-e",
          "print(select(2, pcall(require('ltsh').container.sqlite, { path = arg[1] })))", folder .. "/" .. name,
        }
        return result.stdout .. result.stderr
      end
      assert.matches("q.db cannot be written: its owner is root, this process runs as user 12345", as_other "q.db", 1,
        true)
      assert.matches(folder .. " cannot be written: its owner is root", as_other "new.db", 1, true)
    end)

    it("a file of a later version", function()
      local scheduler, path = open(function() end)
      scheduler:close()
      local db <close> = assert(ltsh.sqlite.open(path))
      db:exec "update ltsh_queues set version = 99 where queue = 0"
      assert.matches("later version", refusal { path = path })
    end)
  end)

  it("makes exactly the file that is named", function()
    for _, name in ipairs { "jobs#1.db", "q?mode=memory.db", "a%20b.db", "file:x.db" } do
      local path = scene.temporary "-" .. name
      local scheduler = open(function() end, { container = { path = path } })
      assert(scheduler:add { id = "a" })
      assert.is_true(exists(path))
      scheduler:close()
    end
  end)

  -- A file as the first version made it, with tasks.
  local function old_file()
    local scheduler, path = open(function() end)
    scheduler:pause()
    for i = 1, 5 do assert(scheduler:add { id = "t" .. i, key = i % 2 == 0 and "even" or nil }) end
    scheduler:close()
    local db <close> = assert(ltsh.sqlite.open(path))
    db:exec "DROP INDEX ltsh_due"
    db:exec "DROP INDEX ltsh_due_keyed"
    db:exec "CREATE INDEX ltsh_due ON ltsh_tasks(queue, priority DESC, place, key) WHERE state = 1"
    db:exec "DROP TABLE ltsh_turns"
    db:exec "DROP INDEX ltsh_suspect_of"
    for _, name in ipairs { "fair", "limit_global", "limit_key", "limit_burst", "limit_per", "tokens", "tokens_at",
      "limits_set" } do
      db:exec("ALTER TABLE ltsh_queues DROP COLUMN " .. name)
    end
    db:exec "UPDATE ltsh_queues SET version = 1 WHERE queue = 0"
    return path
  end

  local function schema(path)
    return query(path, "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_master ORDER BY name)")
  end

  it("takes over what an earlier version made, also two at once", function()
    local path = old_file()
    local hosts = {}
    for i = 1, 2 do
      hosts[i] = host(path, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, durability = "normal" },
          actuator = ltsh.actuator.func(function(task) print(task.id) end),
        }
        for _ in scheduler:finished() do end
      ]])
    end
    local said = {}
    for _, child in ipairs(hosts) do
      local result = child:wait()
      assert.equal(0, result.code, result.stderr)
      for line in result.stdout:gmatch "[^\n]+" do said[#said + 1] = line end
    end
    table.sort(said)
    assert.same({ "t1", "t2", "t3", "t4", "t5" }, said)
    local _, new = open(function() end)
    assert.equal(schema(new), schema(path))
    assert.equal(4, query(path, "SELECT version FROM ltsh_queues WHERE queue = 0"))
  end)

  it("begins nothing and writes nothing once a later version has changed its file", function()
    local started = 0
    local scheduler, path = open(function() started = started + 1 end)
    do
      local db <close> = assert(ltsh.sqlite.open(path))
      db:exec "UPDATE ltsh_queues SET version = 99 WHERE queue = 0"
    end
    local id, message = scheduler:add { id = "a" }
    assert.is_nil(id)
    assert.matches("later version of ltsh", message)
    assert.equal(0, started)
    assert.equal(0, query(path, "SELECT count(*) FROM ltsh_tasks"))
    do
      local db <close> = assert(ltsh.sqlite.open(path))
      db:exec "UPDATE ltsh_queues SET version = 4 WHERE queue = 0"
    end
    eventually("it is back", function() return scheduler:add { id = "b" } end)
    assert.equal("success", scheduler:wait("b", 10).status)
  end)

  it("gives back the room of what is forgotten", function()
    local scheduler, path = open(function() end, { container = { keep = { success = 0.1 } } })
    local tasks = {}
    for i = 1, 5000 do tasks[i] = { id = "t" .. i, item = ("x"):rep(900) } end
    assert(scheduler:add_all(tasks))
    for _ in scheduler:finished() do end
    eventually("the file is small again", function()
      return query(path, "SELECT count(*) FROM ltsh_tasks") == 0 and query(path, "PRAGMA page_count") < 200
    end, 20)
  end)

  it("lets no long line of full keys hold up a task without a key, or with another", function()
    local free, gate = {}, scene.door()
    local scheduler = open(function(task)
      if task.id:match "^k" then gate.pass() else free[task.id] = true end
    end, { limit = 10, key_limit = 1 })
    scheduler:pause()
    local tasks = {}
    for i = 1, 2400 do tasks[i] = { id = "k" .. i, key = "k" .. i % 2 } end
    tasks[#tasks + 1] = { id = "without" }
    tasks[#tasks + 1] = { id = "other", key = "zz" }
    assert(scheduler:add_all(tasks))
    scheduler:resume()
    eventually("the others have run", function() return free.without and free.other end)
    assert.equal(2, gate.waiting)
    gate.is_open = true
    assert.equal("success", scheduler:wait("k2400", 20).status)
  end)

  it("finds what it needs by an index", function()
    local scheduler, path = open(function() end)
    assert(scheduler:add { id = "a" })
    assert(scheduler:wait("a", 10))
    local db <close> = assert(ltsh.sqlite.open(path))
    for sql, index in pairs {
      ["SELECT seq, priority, place FROM ltsh_tasks WHERE queue = 1 AND state = 1 AND key IS NULL UNION ALL " ..
        "SELECT seq, priority, place FROM ltsh_tasks WHERE queue = 1 AND state = 1 AND key IS NOT NULL " ..
        "ORDER BY priority DESC, place LIMIT 64"] = "ltsh_due_keyed",
      ["SELECT count(*) FROM ltsh_tasks WHERE queue = 1 AND state >= 2 AND state <= 3"] = "ltsh_running",
      ["SELECT seq FROM ltsh_tasks WHERE queue = 1 AND state = 0 AND run_at <= 5 ORDER BY run_at"] = "ltsh_delayed",
      ["SELECT seq FROM ltsh_tasks WHERE queue = 1 AND state = 4 AND ended_at IS NOT NULL ORDER BY seq"] = "ltsh_ended",
    } do
      local plan = {}
      for row in db:rows("EXPLAIN QUERY PLAN " .. sql) do plan[#plan + 1] = row.detail end
      plan = table.concat(plan, "; ")
      assert.matches(index, plan, 1, true)
      assert.not_matches("TEMP B-TREE", plan, 1, true)
    end
  end)
end)
