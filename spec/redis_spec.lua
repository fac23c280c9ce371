-- Tasks in Redis: that hosts share them, whatever ends one of them or comes between it and the server.

local ltsh = require "ltsh"
local redis = require "spec.support.redis"
local run = require "spec.support.run"
local scene = require "spec.support.scene"
local uv = require "luv"
local Wire = require "spec.support.wire"

local eventually = scene.eventually

local function container(queue, options)
  options = options or {}
  options.url, options.queue = options.url or redis.url(), queue
  return ltsh.container.redis(options)
end

local function open(queue, run_task, options)
  options = options or {}
  options.container = container(queue, options.container)
  return scene.open(run_task, options)
end

-- The program of another host. It gets `url`, `queue` and `ltsh`.
local function host(queue, text, url)
  local before = "local ltsh = require 'ltsh'; local url, queue = arg[1], arg[2]; "
  return run.start { "-e", before .. text, url or redis.url(), queue }
end

local function add_many(scheduler, count, fields)
  local list = {}
  for i = 1, count do
    local task = { id = "t" .. i }
    for name, value in pairs(fields or {}) do task[name] = value end
    list[i] = task
  end
  assert(scheduler:add_all(list))
end

local function all_succeed(scheduler, count)
  eventually("all of them end", function() return scheduler:count { status = "success" } == count end)
end

describe("ltsh.container.redis", function()
  lazy_teardown(redis.stop)
  after_each(scene.close)

  it("keeps a rate also when the server's clock was set back", function()
    local queue = redis.queue()
    local scheduler = open(queue, function() end, { limit = 1, rate = { 1, per = 0.2 } })
    assert(scheduler:add { id = "a" })
    assert.equal("success", scheduler:wait("a", 10).status)
    redis.shared():cli("HSET", "ltsh:{" .. queue .. "}", "tokens", "0", "tokens_at", "9000000000")
    assert(scheduler:add { id = "b" })
    assert.equal("success", scheduler:wait("b", 30).status)
  end)

  it("adds a long list in steps, all or none", function()
    local queue, list = redis.queue(), {}
    local one, two = open(queue, function() end), open(queue, function() end)
    one:pause { queue = true }
    for i = 1, 20000 do list[i] = { id = "t" .. i } end
    assert(two:add { id = "t19999" })
    assert.same({ "task 't19999' exists and is waiting", "exists" }, { select(2, one:add_all(list)) })
    list[19999].id = "t1"
    assert.same({ "task 't1' is in the list twice", "exists" }, { select(2, one:add_all(list)) })
    assert.equal(1, one:count { status = "waiting" })
    list[19999].id = "another"
    -- Somebody adds one of them while they are being added: what was added is deleted again.
    local many = ltsh.spawn(function() return select("#", one:add_all(list)), one:count { status = "waiting" } end)
    eventually("it is on its way", function() return two:count { status = "waiting" } > 1000 end)
    local taken
    for i = 20000, 1, -1 do
      taken = two:add { id = "t" .. i }
      if taken then break end
    end
    many:wait()
    eventually("all or none", function()
      local count = two:count { status = "waiting" }
      return taken and count == 2 or count == 20001
    end)
  end)

  it("ends no script that waits for a task which another scheduler runs", function()
    local child = host(redis.queue(), [[
      local function open()
        return ltsh.scheduler {
          container = ltsh.container.redis { url = url, queue = queue }, actuator = ltsh.actuator.func(function() end),
        }
      end
      local one, two = open(), open()
      one:pause()
      for i = 1, 100 do
        assert(two:add { id = "t" .. i })
        assert(one:wait("t" .. i))
      end
      print "all"
    ]])
    local ended = child:wait()
    assert.same({ "all\n", 0 }, { ended.stdout, ended.code })
  end)

  it("knows the hosts on its queue, until they are given up", function()
    local queue = redis.queue()
    local one = open(queue, nil, { container = { lease = 1 } })
    open(queue, nil, { container = { lease = 1 } }) -- of the same process
    one:pause()
    assert(one:add { id = "a" })
    local child = host(queue, [[
      local scheduler = ltsh.scheduler {
        container = ltsh.container.redis { url = url, queue = queue, lease = 1 },
        actuator = ltsh.actuator.func(function() print "runs" ltsh.sleep(100) end),
      }
      scheduler:run()
    ]])
    -- Whichever of the three takes it.
    local hosts
    eventually("both are there", function()
      hosts = assert(one:hosts())
      return #hosts == 2 and hosts[1].heartbeat > ltsh.now() - 1
    end)
    table.sort(hosts, function(a, b) return a.self and not b.self end)
    assert.same({ uv.os_getpid(), true, child.pid, false },
      { hosts[1].pid, hosts[1].self, hosts[2].pid, hosts[2].self })
    for _, host_found in ipairs(hosts) do
      assert.same({ uv.os_gethostname(), ltsh.version }, { host_found.name, host_found.version })
      assert.is_true(host_found.lease_end > ltsh.now() - 1)
    end
    child:kill "sigkill"
    child:wait()
    one:resume()
    eventually("it is given up", function() return #one:hosts() == 1 end)
  end)

  describe("gives back", function()
    local HELD = [[
      local scheduler = ltsh.scheduler {
        container = ltsh.container.redis { url = url, queue = queue, lease = 1 }, limit = 10, global_limit = 3,
        key_limit = 1, actuator = ltsh.actuator.func(function() ltsh.sleep(100) end),
      }
      local running = 0
      scheduler:on("started", function() running = running + 1 if running == 3 then print "full" end end)
      scheduler:run()
    ]]

    it("the slots and the keys of a host that was killed", function()
      local queue = redis.queue()
      local giver = open(queue, nil, { global_limit = 3, key_limit = 1, container = { lease = 1 } })
      giver:pause()
      for i = 1, 6 do assert(giver:add { id = "t" .. i, key = "k" .. (i - 1) % 3 }) end
      local child = host(queue, HELD)
      child:expect "full"
      child:kill "sigkill"
      child:wait()
      giver:set { limit = 3 }
      giver:resume()
      all_succeed(giver, 6)
      assert.equal(1, giver:get("t1").attempts)
    end)

    it("what only one task is to blame for: it ends as lost, and none that ran beside it", function()
      local queue = redis.queue()
      local watcher = open(queue, nil, { container = { lease = 1 } })
      watcher:pause()
      for i = 1, 7 do assert(watcher:add { id = "t" .. i, item = "good" }) end
      assert(watcher:add { id = "killer", item = "kill" })
      local text = [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.redis { url = url, queue = queue, lease = 1 }, limit = 8,
          actuator = ltsh.actuator.func(function(task)
            if task.item == "kill" then
              local uv = require "luv"
              uv.kill(uv.os_getpid(), "sigkill")
            end
            ltsh.sleep(0.05)
          end),
        }
        for _ in scheduler:finished() do end
      ]]
      for _ = 1, 20 do
        host(queue, text):wait()
        if watcher:get("killer").status == "failed" then break end
      end
      assert.same({ "failed", "lost" }, { watcher:get("killer").status, watcher:get("killer").reason })
      host(queue, text):wait()
      assert.equal(7, watcher:count { status = "success" })
    end)
  end)

  describe("goes on", function()
    it("when its script is forgotten by the server, with all that is under way", function()
      local queue = redis.queue()
      local scheduler = open(queue, nil, { limit = 20 })
      for round = 1, 20 do
        local list = {}
        for i = 1, 50 do list[i] = { id = round .. "-" .. i } end
        assert(scheduler:add_all(list))
        redis.shared():cli("SCRIPT", "FLUSH")
      end
      all_succeed(scheduler, 1000)
      assert.equal(0, scheduler:stats().stale)
    end)

    it("when its connections are cut again and again: each task once", function()
      local queue, runs = redis.queue(), {}
      local scheduler = open(queue, function(task)
        runs[task.id] = (runs[task.id] or 0) + 1
        ltsh.sleep(0.002)
      end, { limit = 20 })
      add_many(scheduler, 1000)
      for _ = 1, 15 do
        redis.shared():cli("CLIENT", "KILL", "TYPE", "normal")
        redis.shared():cli("CLIENT", "KILL", "TYPE", "pubsub")
        ltsh.sleep(0.02)
      end
      all_succeed(scheduler, 1000)
      for i = 1, 1000 do
        local task = scheduler:get("t" .. i)
        assert.same({ 1, 1 }, { task.attempts, runs[task.id] }, task.id)
      end
    end)

    it("when the server answers nobody for a while: each end once, though it was asked twice", function()
      local server = redis.start {}
      local queue, ends = redis.queue(), {}
      local scheduler = open(queue, function(task) ltsh.sleep(0.05) return task.id end,
        { limit = 50, container = { url = server.url, lease = 2 } })
      scheduler:on("finished", function(task) ends[task.id] = (ends[task.id] or 0) + 1 end)
      add_many(scheduler, 200)
      eventually("some run", function() return scheduler:stats().running > 0 end)
      server:pause()
      ltsh.sleep(1)
      server:resume()
      all_succeed(scheduler, 200)
      for i = 1, 200 do assert.equal(1, ends["t" .. i], "t" .. i) end
    end)

    it("when the server was restarted: what was delayed starts when it is due", function()
      local server = redis.start { "--appendonly", "yes", "--appendfsync", "always" }
      local started
      local scheduler = open(redis.queue(), function() started = ltsh.now() end, { container = { url = server.url } })
      local due = ltsh.now() + 1
      assert(scheduler:add { id = "a", run_at = due })
      server:kill()
      server:restart()
      assert.equal("success", scheduler:wait("a").status)
      assert.is_true(started >= due - 0.01)
    end)

    it("when it is cut as it says which news it has read: each end is told once", function()
      local wire, queue = Wire(redis.shared().port), redis.queue()
      local giver = open(queue, nil, { container = { url = wire.url } })
      giver:pause()
      local told, cuts = {}, 0
      giver:on("finished", function(task) told[task.id] = (told[task.id] or 0) + 1 end)
      function wire.seen(bytes)
        if cuts == 3 or not bytes:find "%$1\r\nn\r\n%$[1-9]" then return end
        cuts = cuts + 1
        wire:cut()
      end
      local doer = open(queue)
      for round = 1, 4 do
        assert(giver:add { id = "t" .. round })
        doer:wait("t" .. round)
        eventually("it is told", function() return told["t" .. round] end)
      end
      assert.same({ 3, { t1 = 1, t2 = 1, t3 = 1, t4 = 1 } }, { cuts, told })
      wire:close()
    end)

    it("after the news were lost: who waits is told", function()
      local queue = redis.queue()
      local giver = open(queue, nil, { container = { lease = 4 } })
      giver:pause()
      assert(giver:add { id = "a" })
      local waiting = ltsh.spawn(function() return giver:wait("a").status end)
      local taker = open(queue, function()
        redis.shared():cli("CLIENT", "KILL", "TYPE", "pubsub")
        return true
      end)
      assert.equal("success", waiting:wait())
      assert.equal("success", taker:get("a").status)
    end)
  end)

  describe("an outage that is longer than the lease", function()
    local function starts_through(options)
      local server, starts = redis.start {}, 0
      options.container = { url = server.url, lease = 1 }
      local scheduler = open(redis.queue(), function()
        starts = starts + 1
        ltsh.sleep(starts == 1 and 2.5 or 0)
        return starts
      end, options)
      assert(scheduler:add { id = "a" })
      eventually("it runs", function() return starts == 1 end)
      server:pause()
      ltsh.sleep(1.5)
      server:resume()
      local task = assert(scheduler:wait "a")
      assert.same({ "success", 1 }, { task.status, task.attempts })
      return starts
    end

    it("ends what runs, which runs again", function()
      assert.equal(2, starts_through {})
    end)

    it("leaves it alone with on_lease_lost = \"continue\"", function()
      assert.equal(1, starts_through { on_lease_lost = "continue" })
    end)

    it("changes nothing of what has ended during it: that counts, and stays", function()
      local between, door, starts = Wire(redis.shared().port), scene.door(), 0
      local scheduler = open(redis.queue(), function(task)
        if task.id == "later" then return end
        starts = starts + 1
        door.pass()
      end, { container = { url = between.url, lease = 1 } })
      assert(scheduler:add { id = "a" })
      eventually("it runs", function() return door.waiting == 1 end)
      between:refuse()
      door.is_open = true
      ltsh.sleep(1.5)
      between:accept()
      assert.equal("success", scheduler:wait("a").status)
      assert(scheduler:add { id = "later", delay = 1.5 }) -- behind what might have been given back
      assert.equal("success", scheduler:wait("later").status)
      assert.same({ "success", 1, 1 }, { scheduler:get("a").status, scheduler:get("a").attempts, starts })
      scene.close()
      between:close()
    end)

    it("after which the server knows nothing of it: what runs is ended", function()
      local server, door = redis.start { "--save", "" }, scene.door()
      local scheduler = open(redis.queue(), door.pass, { container = { url = server.url } })
      assert(scheduler:add { id = "a" })
      eventually("it runs", function() return scheduler:stats().running == 1 end)
      server:kill()
      server:restart()
      eventually("it is ended", function() return scheduler:stats().running == 0 end)
      assert.equal(1, scheduler:stats().stale)
    end)

    it("is one for a host that was stopped, too: what it ran runs again, though nothing else happens", function()
      local child = host(redis.queue(), [[
        local starts = 0
        local scheduler = ltsh.scheduler {
          container = ltsh.container.redis { url = url, queue = queue, lease = 1 },
          actuator = ltsh.actuator.func(function()
            starts = starts + 1
            print("start " .. starts)
            if starts == 1 then ltsh.sleep(100) end
          end),
        }
        scheduler:add { id = "a" }
        print(scheduler:wait("a").status)
      ]])
      child:expect "start 1"
      child:kill "sigstop"
      ltsh.sleep(1.5)
      child:kill "sigcont"
      child:expect "start 2"
      child:expect "success"
      child:wait()
    end)

    it("is nothing for a container of one host", function()
      assert.has_error(function() scene.open(nil, { on_lease_lost = "continue" }) end,
        "ltsh.scheduler: on_lease_lost: only containers that several hosts share have leases")
      assert.has_error(function() open(redis.queue(), nil, { on_lease_lost = "wait" }) end,
        [[ltsh.scheduler: on_lease_lost must be "stop" or "continue", got "wait"]])
    end)
  end)

  describe("takes no word of a run that is over", function()
    it("from a host whose task another one has taken over, and that waits again", function()
      local queue = redis.queue()
      local child = host(queue, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.redis { url = url, queue = queue, lease = 1 }, on_lease_lost = "continue",
          actuator = ltsh.actuator.func(function()
            print "runs"
            io.stdout:flush()
            ltsh.sleep(0.5)
            error("late", 0)
          end),
          rate = { 1, per = 1000 },
        }
        scheduler:on("finished", function(task) print(task.status .. ".") end)
        repeat ltsh.sleep(0.01) until scheduler:stats().stale > 0
        scheduler:pause() -- it shall not be the one that takes it next
        print "refused."
        io.stdout:flush()
        scheduler:run()
      ]])
      local starts = 0
      local scheduler = open(queue, function() starts = starts + 1 end, { container = { lease = 1 } })
      scheduler:pause()
      assert(scheduler:add { id = "a" })
      child:expect "runs"
      child:kill "sigstop"
      scheduler:resume()
      eventually("it waits again, for a token", function() return scheduler:get("a").status == "waiting" end)
      child:kill "sigcont"
      assert.equal("refused", child:expect "(%a+)%.\n")
      assert.equal("waiting", scheduler:get("a").status)
      scheduler:set { rate = { 100, per = 1 } }
      assert.same({ "success", 1 }, { scheduler:wait("a").status, starts })
      child:kill "sigkill"
      child:wait()
    end)

    it("from one that could not tell of the end in time, and could then", function()
      local wire = Wire(redis.shared().port)
      local door = scene.door()
      local scheduler = open(redis.queue(), door.pass, { limit = 50, container = { url = wire.url, lease = 0.5 } })
      local told = {}
      scheduler:on("finished", function(task) table.insert(told, task.id) end)
      add_many(scheduler, 50)
      eventually("all of them run", function() return door.waiting == 50 end)
      wire:refuse()
      door.is_open = true
      ltsh.sleep(1) -- what could not be told is not worth a lease any more
      wire:accept()
      all_succeed(scheduler, 50)
      assert(scheduler:add { id = "behind what would run again" })
      assert(scheduler:wait "behind what would run again")
      assert.equal(51, #told)
      wire:close()
    end)
  end)

  describe("has one start", function()
    it("of a task that computes for several leases", function()
      local queue, runs = redis.queue(), 0
      local scheduler = open(queue, function()
        runs = runs + 1
        local started = ltsh.now()
        while ltsh.now() - started < 1.5 do for _ = 1, 1e5 do end end
      end, { container = { lease = 0.5 } })
      open(queue, function() runs = runs + 1 end, { container = { lease = 0.5 } }):pause()
      local other = host(queue, [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.redis { url = url, queue = queue, lease = 0.5 },
          actuator = ltsh.actuator.func(function() return "other" end),
        }
        print "ready"
        scheduler:run()
      ]])
      assert(scheduler:add { id = "a" })
      other:expect "ready"
      assert.equal("success", scheduler:wait("a").status)
      other:kill "sigkill"
      other:wait()
      assert.equal(1, scheduler:get("a").attempts)
    end)

    it("of a task that is delayed for more than a lease, on three hosts", function()
      local queue, starts = redis.queue(), 0
      local schedulers = {}
      for i = 1, 3 do
        schedulers[i] = open(queue, function() starts = starts + 1 end, { container = { lease = 0.2 } })
      end
      assert(schedulers[1]:add { id = "a", delay = 0.7 })
      assert.equal("success", schedulers[2]:wait("a").status)
      assert.equal(1, starts)
    end)
  end)

  it("runs what nobody knows to run again, without an attempt", function()
    local queue, runs = redis.queue(), {}
    local function count(task) runs[task.id] = (runs[task.id] or 0) + 1 end
    local scheduler = open(queue, count, { container = { lease = 1 } })
    -- A claim whose answer never came: this host's, and the connection is lost.
    assert(scheduler:add { id = "a" })
    scheduler:wait "a"
    scheduler:pause()
    assert(scheduler:add { id = "b" })
    local tasks, own = "ltsh:{" .. queue .. "}:tasks", "ltsh:{" .. queue .. "}:own"
    local server = redis.shared()
    server:cli("EVAL", [[
      local record = redis.call("HGET", KEYS[1], "b")
      local done = redis.call("HGET", KEYS[1], "a")
      local owner, order = done:sub(24, 31), record:sub(54, 60)
      record = "2" .. record:sub(2, 8) .. "\36" .. ("\0"):rep(5) .. "\9" .. "tokentok" .. owner .. ("\0"):rep(14) ..
        record:sub(10)
      redis.call("HSET", KEYS[1], "b", record)
      redis.call("ZADD", KEYS[2], 0, owner .. "b")
      redis.call("ZREM", KEYS[3], order .. "b")
      redis.call("ZINCRBY", KEYS[4], 2 ^ 48, "b")
    ]], "4", tasks, own, "ltsh:{" .. queue .. "}:ready", "ltsh:{" .. queue .. "}:index")
    assert.equal("running", scheduler:get("b").status)
    scheduler:resume()
    server:cli("CLIENT", "KILL", "TYPE", "normal")
    assert.equal("success", scheduler:wait("b").status)
    assert.same({ b = 1, a = 1 }, runs)
  end)
end)
