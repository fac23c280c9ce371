-- Limits hold for the queue: over all hosts that share it, whatever the container is.

local ltsh = require "ltsh"
local redis = require "spec.support.redis"
local scene = require "spec.support.scene"
local shared_queues = require "spec.support.shared_queues"

local eventually = scene.eventually

local function add_many(scheduler, name, count, key)
  local list = {}
  for i = 1, count do list[i] = { id = name .. i, key = key } end
  assert(scheduler:add_all(list))
end

local function all_succeed(scheduler, count)
  eventually("all of them end", function() return scheduler:count { status = "success" } == count end)
end

-- A task that takes so many seconds, and how many ran at once at most.
local function counted(seconds)
  local work, now_running = { most = 0 }, 0
  function work.run()
    now_running = now_running + 1
    work.most = math.max(work.most, now_running)
    ltsh.sleep(seconds)
    now_running = now_running - 1
  end
  return work
end

for _, kind in ipairs(shared_queues) do
  local name, place, open, host = kind.name, kind.place, kind.open, kind.host

  describe(name, function()
    lazy_teardown(redis.stop)
    after_each(scene.close)

    describe("holds over all hosts", function()
      it("the rate", function()
        local queue, starts = place(), {}
        local function start() table.insert(starts, ltsh.now()) end
        local one = open(queue, start, { limit = 10, rate = { 3, per = 0.3 } })
        open(queue, start, { limit = 10, rate = { 3, per = 0.3 } })
        local before = ltsh.now()
        add_many(one, "t", 12)
        all_succeed(one, 12)
        table.sort(starts)
        for i, at in ipairs(starts) do assert.is_true(at >= before + (i - 3) * 0.1 - 0.03, "start " .. i) end
      end)

      it("the rate of processes that are at work together", function()
        local queue = place()
        local text = [[
          local scheduler = ltsh.scheduler {
            container = container {}, limit = 10, rate = { 2, per = 0.4 },
            actuator = ltsh.actuator.func(function() return ltsh.now() end),
          }
          print "ready"
          scheduler:run()
        ]]
        local one = open(queue, function() return ltsh.now() end, { limit = 10, rate = { 2, per = 0.4 } })
        local child = host(queue, text)
        child:expect "ready"
        add_many(one, "t", 8)
        all_succeed(one, 8)
        local starts = {}
        for i = 1, 8 do starts[i] = one:get("t" .. i).output end
        table.sort(starts)
        for i = 3, 8 do assert.is_true(starts[i] - starts[1] > (i - 2) * 0.2 - 0.1, "start " .. i) end
        child:kill "sigterm"
        child:wait()
      end)

      it("a rate that is used up, over the end of a host", function()
        local queue = place()
        local options = { limit = 10, rate = { 2, per = 1000 } }
        local one = open(queue, function() end, options)
        add_many(one, "t", 2)
        all_succeed(one, 2)
        one:close()
        options.container = nil
        local two = open(queue, function() end, options)
        assert(two:add { id = "late" })
        eventually("it waits for the rate", function() return select(2, two:explain "late") == "rate" end)
        assert.matches("the rate of the queue is used up: the next start may be in %d", two:explain "late")
        two:set { rate = false }
        all_succeed(two, 3)
      end)

      it("global_limit, as it was set last, whatever a host was given that comes later", function()
        local queue, work = place(), counted(0.01)
        local one = open(queue, work.run, { limit = 10, global_limit = 4 })
        local two = open(queue, work.run, { limit = 10, global_limit = 4 })
        add_many(one, "t", 40)
        all_succeed(two, 40)
        assert.equal(4, work.most)
        two:set { global_limit = 1 }
        local other = host(queue, [[
          local scheduler = ltsh.scheduler {
            container = container {}, limit = 10, global_limit = 6,
            actuator = ltsh.actuator.func(function() ltsh.sleep(0.01) end),
          }
          print "ready"
          scheduler:run()
        ]])
        other:expect "ready"
        other:expect("the queue has other limits than this scheduler was given", "stderr")
        other:kill "sigterm"
        assert.matches("global_limit 1 instead of 6", other:wait().stderr)
        work.most = 0
        add_many(one, "again", 20)
        all_succeed(two, 60)
        assert.equal(1, work.most)
      end)

      it("what was set, and taken back, on a host that had no limits of its own", function()
        local queue, work = place(), counted(0.01)
        local one = open(queue, work.run, { limit = 10, global_limit = 1, rate = { 1, per = 1000 } })
        add_many(one, "t", 1)
        all_succeed(one, 1)
        local two = open(queue, work.run, { limit = 10 })
        two:set { rate = false, global_limit = 3 }
        add_many(two, "more", 30)
        all_succeed(two, 31)
        assert.equal(3, work.most)
      end)

      it("a number as key_limit", function()
        local queue, work = place(), counted(0.005)
        local one = open(queue, work.run, { limit = 10, key_limit = 2 })
        open(queue, work.run, { limit = 10, key_limit = 2 })
        add_many(one, "t", 30, "k")
        all_succeed(one, 30)
        assert.equal(2, work.most)
      end)

      it("what was set before, and what a host is given that finds nobody at work", function()
        local queue, work = place(), counted(0.01)
        local one = open(queue, work.run, { limit = 10, global_limit = 1, key_limit = 1, rate = { 1, per = 1000 } })
        add_many(one, "t", 1)
        all_succeed(one, 1)
        one:close()
        local two = open(queue, work.run, { limit = 10, global_limit = 3 })
        add_many(two, "more", 12, "k")
        all_succeed(two, 13)
        assert.equal(3, work.most)
        two:set { global_limit = 2, rate = false }
        add_many(two, "last", 2)
        all_succeed(two, 15)
        two:close()
        work.most = 0
        local three = open(queue, work.run, { limit = 10, global_limit = 6, rate = { 1, per = 1000 } })
        add_many(three, "set", 12, "k")
        all_succeed(three, 27)
        assert.equal(2, work.most)
      end)
    end)

    it("goes on with each end that makes room in a limit of the queue", function()
      for limit, options in pairs { global_limit = { global_limit = 1 }, key_limit = { key_limit = 1 } } do
        options.limit = 8
        local scheduler = open(place(), function() end, options)
        add_many(scheduler, limit, 100, limit)
        all_succeed(scheduler, 100) -- by news every 2 seconds it would take minutes
      end
    end)

    it("takes over what a host left that was killed, however full the limits of the queue are with it", function()
      local queue = place()
      local giver = open(queue, function() end, {
        limit = 10, global_limit = 2, key_limit = 1, rate = { 2, per = 1000 }, container = { lease = 1 },
      })
      giver:pause()
      for i = 1, 2 do assert(giver:add { id = "t" .. i, key = "k" .. i }) end
      local child = host(queue, [[
        local scheduler = ltsh.scheduler {
          container = container { lease = 1 }, limit = 10, global_limit = 2, key_limit = 1, rate = { 2, per = 1000 },
          actuator = ltsh.actuator.func(function() ltsh.sleep(100) end),
        }
        local running = 0
        scheduler:on("started", function() running = running + 1 if running == 2 then print "full" end end)
        scheduler:run()
      ]])
      child:expect "full"
      child:kill "sigkill"
      child:wait()
      giver:resume()
      eventually("they wait, for the rate", function() return giver:count { status = "waiting" } == 2 end)
      assert.equal("rate", select(2, giver:explain "t1"))
      giver:set { rate = false }
      all_succeed(giver, 2)
      assert.equal(1, giver:get("t1").attempts)
    end)

    it("says which limit of the queue a task waits for", function()
      local queue, gate = place(), scene.door()
      local one = open(queue, gate.pass, { limit = 10, global_limit = 2 })
      local two = open(queue, gate.pass, { limit = 10, global_limit = 2 })
      add_many(one, "t", 3)
      eventually("two of them run", function() return gate.waiting == 2 end)
      for _, scheduler in ipairs { one, two } do
        eventually("it knows", function() return select(2, scheduler:explain "t3") == "limit" end)
        assert.matches("all hosts together run as many as global_limit allows: 2", scheduler:explain "t3")
      end
      gate.is_open = true
      all_succeed(two, 3)
    end)
  end)
end
