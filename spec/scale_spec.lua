-- Many hosts on one queue: what that costs the Redis server, counted by itself, and that the simulation of
-- docs/scale.md says the same.

local ltsh = require "ltsh"
local Costs = require "spec.scale.costs"
local redis = require "spec.support.redis"
local run = require "spec.support.run"
local scene = require "spec.support.scene"
local Simulation = require "spec.scale.simulation"

local HOSTS = 50
local RENEWALS = 2 -- seconds between two of a host

local function scripts_called(server)
  return tonumber(server:cli("INFO", "commandstats"):match "cmdstat_fcall:calls=(%d+)")
end

describe("several queues on servers of their own", function()
  lazy_teardown(redis.stop)

  it("share tasks by their keys, as docs/scale.md does it", function()
    local file = assert(io.open "docs/scale.md")
    local text = file:read("a"):match "<!%-%- the specs run this %-%->\n\n(.-)\n\n%w"
    file:close()
    text = text:gsub("\n    ", "\n"):gsub("^    ", "")
    local child = run.start { "-e", text, redis.start {}.url, redis.start {}.url }
    local done = child:wait()
    assert.equal("", done.stderr)
    local queue_of, count = {}, 0
    for queue, key in done.stdout:gmatch "(%d+)\t(customer %d+)\tsent to customer %d+\n" do
      assert.equal(queue_of[key] or queue, queue, key)
      queue_of[key] = queue
      count = count + 1
    end
    assert.equal(40, count)
    local used = {}
    for _, queue in pairs(queue_of) do used[queue] = true end
    assert.same({ ["1"] = true, ["2"] = true }, used)
  end)
end)

describe("fifty schedulers on a queue with a limit of 100 each", function()
  local server, queue, schedulers

  lazy_teardown(redis.stop)
  after_each(scene.close)

  local function open(limit)
    local container = ltsh.container.redis { url = server.url, queue = queue }
    return scene.open(function() ltsh.sleep(0.05) end, { container = container, limit = limit })
  end

  local function open_all()
    server, queue, schedulers = redis.start {}, redis.queue(), {}
    for i = 1, HOSTS do schedulers[i] = open(100) end
    for _, scheduler in ipairs(schedulers) do scheduler:hosts() end
  end

  -- Calls of the script for each of so many tasks, of which `add` adds the i-th; without renewals; and the seconds.
  local function calls_for_each(count, add)
    local before, began = scripts_called(server), ltsh.now()
    for i = 1, count do add(i, began) end
    scene.eventually("all have ended", function() return schedulers[1]:count { status = "success" } == count end)
    local calls, seconds = scripts_called(server) - before, ltsh.now() - began
    return (calls - seconds * HOSTS / RENEWALS) / count, seconds
  end

  it("that add 100 tasks a second make fewer than five calls for each", function()
    open_all()
    local calls = calls_for_each(300, function(i, began)
      assert(schedulers[i % HOSTS + 1]:add { id = "t" .. i })
      ltsh.sleep(math.max(0, began + i / 100 - ltsh.now()))
    end)
    assert.is_true(calls < 5, calls .. " calls")
  end)

  it("make as many for what another adds as the simulation says", function()
    open_all()
    local adder = open(1)
    adder:pause()
    local calls, seconds = calls_for_each(300, function(i, began)
      assert(adder:add { id = "t" .. i })
      ltsh.sleep(math.max(0, began + i / 100 - ltsh.now()))
    end)
    local simulated = Simulation {
      hosts = HOSTS, limit = 100, rate = 300 / seconds, run = 0.05, seconds = 20,
      costs = Costs(redis.start {}), renews = false,
    }
    assert.is_true(math.abs(simulated.calls - calls) < 1, ("%.2f calls, simulated %.2f"):format(calls, simulated.calls))
  end)

  it("are not all woken each time that the queue is empty", function()
    open_all()
    local adder = open(1)
    adder:pause()
    local calls = calls_for_each(20, function(i)
      assert(adder:add { id = "t" .. i })
      assert(adder:wait("t" .. i))
    end)
    assert.is_true(calls < 12, calls .. " calls") -- and not fifty
  end)
end)
