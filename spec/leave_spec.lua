-- on_shutdown = "leave": durable tasks go on without their host, and the next one takes them up.

local ltsh = require "ltsh"
local redis = require "spec.support.redis"
local scene = require "spec.support.scene"
local shared_queues = require "spec.support.shared_queues"

local eventually = scene.eventually

-- Work that does not end with its host: what runs, by id; what each host was asked.
local function new_world()
  local world = { running = {}, asked = {} }

  function world.actuator(name)
    local push
    local function note(what, task) table.insert(world.asked, name .. " " .. what .. " " .. task.id) end
    local function runs(task)
      world.running[task.id] = function(record)
        record.id, record.run = task.id, task.run
        world.running[task.id] = nil
        push(record)
      end
      return true
    end
    return {
      attach = function(_, notify) push = notify end,
      start = function(_, task)
        note("start", task)
        return runs(task)
      end,
      stop = function(_, task)
        note("stop", task)
        world.running[task.id] = nil
        return true
      end,
      recover = function(_, task)
        note("recover", task)
        return world.running[task.id] and runs(task)
      end,
    }
  end

  function world.runs(...)
    for _, id in ipairs { ... } do
      eventually(id .. " runs", function() return world.running[id] end)
    end
  end

  return world
end

for _, kind in ipairs(shared_queues) do
  describe("work that is left running, with " .. kind.name .. ",", function()
    lazy_teardown(redis.stop)
    after_each(scene.close)

    local place, world
    before_each(function() place, world = kind.place(), new_world() end)

    local function open(name, options)
      options = options or {}
      options.limit, options.container = options.limit or 5, { lease = 2 }
      return kind.open(place, options.actuator or world.actuator(name), options)
    end

    it("is not stopped, and its end is the next host's, as one run", function()
      local first = open("first", { on_shutdown = "leave" })
      assert(first:add_all { { id = "a" }, { id = "b" }, { id = "later", delay = 100 } })
      world.runs("a", "b")
      local run = first:get("a").run
      first:close { drain = 0 }

      local second = open("second", { on_shutdown = "leave", max_lost = 0 })
      eventually("they are known", function() return second:stats().running == 2 end)
      world.running.a { status = "success", output = "done" }
      local task = second:wait("a", 60)
      assert.same({ "success", "done", 1, run }, { task.status, task.output, task.attempts, task.run })
      assert.equal(1, #second:history "a")
      assert.equal("running", second:get("b").status)
      assert.equal("stopped", second:stop("b").status)
      assert.equal("waiting", second:get("later").status)
      table.sort(world.asked)
      assert.same({ "first start a", "first start b", "second recover a", "second recover b", "second stop b" },
        world.asked)
    end)

    it("is taken up by a host that is at work already", function()
      local first = open("first", { on_shutdown = "leave" })
      assert(first:add { id = "a" })
      world.runs "a"
      local second = open "second"
      first:close { drain = 0 }
      eventually("it is taken up", function() return second:stats().running == 1 end)
      world.running.a { status = "failed", reason = "broken" }
      assert.equal("broken", second:wait("a", 60).reason)
      assert.same({ "first start a", "second recover a" }, world.asked)
    end)

    it("is work that has the time to end, and does not use it", function()
      local first = open("first", { on_shutdown = "leave" })
      assert(first:add_all { { id = "ends" }, { id = "stays" } })
      world.runs("ends", "stays")
      local closed = ltsh.spawn(first.close, first, { drain = 1 })
      world.running.ends { status = "success" }
      closed:wait()
      local second = open "second"
      assert.equal("success", second:get("ends").status)
      eventually("it is taken up", function() return second:stats().running == 1 end)
      assert.same({ "first start ends", "first start stays", "second recover stays" }, world.asked)
    end)

    it("is taken as ended if that comes while others still end", function()
      local gate = scene.door()
      local actuator = world.actuator "first"
      function actuator.stop()
        gate.pass()
        return true
      end
      local first = open("first", { on_shutdown = "leave", actuator = actuator })
      assert(first:add_all { { id = "ends" }, { id = "is stopped" } })
      world.runs("ends", "is stopped")
      local stopped = ltsh.spawn(first.stop, first, "is stopped")
      eventually("it is being stopped", function() return gate.waiting == 1 end)
      local closed = ltsh.spawn(first.close, first, { drain = 0 })
      ltsh.sleep(0.05)
      world.running.ends { status = "success" }
      gate.is_open = true
      closed:wait()
      assert.equal("stopped", stopped:wait().status)
      assert.equal("success", open("second"):get("ends").status)
    end)

    it("is stopped if that was asked for before", function()
      local first = open("first", { on_shutdown = "leave" })
      assert(first:add { id = "a" })
      world.runs "a"
      assert.equal("stopped", first:stop("a").status)
      first:close { drain = 0 }
      assert.equal("stopped", open("second"):get("a").status)
      assert.same({ "first start a", "first stop a" }, world.asked)
    end)

    it("is none without that option, or where nothing outlives its host: it waits again", function()
      local first = open "first"
      assert(first:add { id = "a" })
      world.runs "a"
      first:close { drain = 0 }
      assert.same({ "first start a", "first stop a" }, world.asked)
      local lives = open("function", {
        on_shutdown = "leave", actuator = ltsh.actuator.func(function() ltsh.sleep(100) end),
      })
      eventually("it runs again", function() return lives:stats().running == 1 end)
      lives:close { drain = 0 }
      local last = open "last"
      world.runs "a"
      assert.equal(1, last:get("a").attempts)
      last:stop "a"
    end)

    it("is decided by what was set last", function()
      local first = open "first"
      assert(first:add { id = "a" })
      world.runs "a"
      first:set { on_shutdown = "leave" }
      first:set { limit = 3 }
      first:close { drain = 0 }
      assert.same({ "first start a" }, world.asked)
      assert.is_truthy(world.running.a)
    end)
  end)
end
