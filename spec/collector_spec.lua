-- The collector at every step of everything that calls back. A collection takes the longer, the more is left of the
-- specs before it: so these have a file of their own, which comes early.

local ltsh = require "ltsh"
local scene = require "spec.support.scene"

local open, eventually = scene.open, scene.eventually

after_each(function()
  scene.close()
  collectgarbage()
end)

local ends_of = scene.ends_of

describe("the collector", function()
  -- Everything that calls back, with a collection in each.
  local function strain(collect)
    local calls = 0
    local function hook()
      calls = calls + 1
      collect()
    end
    local saved = {}
    local notify
    local scheduler = open(function(task)
      hook()
      task:report { at = task.item.n }
      hook()
      if task.item.n % 4 == 0 and task.attempts == 1 then error { reason = "broken " .. task.id } end
      if task.item.n % 4 == 1 then ltsh.sleep(0) end
      hook()
      return { n = task.item.n, text = ("x"):rep(task.item.n % 3 * 400) }
    end, {
      limit = 5,
      max_retries = 2,
      backoff = function()
        hook()
        return 0
      end,
      key_limit = function()
        hook()
        return 2
      end,
      persister = {
        save = function(_, task, data)
          hook()
          saved[task.id] = data
          return true
        end,
        load = function(_, task)
          hook()
          return saved[task.id]
        end,
        delete = function()
          hook()
          return true
        end,
      },
    })
    for _, event in ipairs { "added", "started", "progress", "retried", "finished" } do scheduler:on(event, hook) end
    for i = 1, 20 do scheduler:add { id = tostring(i), item = { n = i }, key = "k" .. i % 5 } end
    local count = 0
    for task in scheduler:finished() do
      hook()
      count = count + 1
      assert(task.status == "success" and task.output.n == task.item.n)
    end
    assert.equal(20, count)
    for i = 1, 20 do
      hook()
      assert.equal(i, scheduler:output(tostring(i)).n)
      assert.is_truthy(scheduler:delete(tostring(i)))
    end

    local other = open(nil, {
      limit = 3,
      actuator = {
        attach = function(_, push)
          hook()
          notify = push
        end,
        init = function(_, task)
          hook()
          return task
        end,
        start = function(_, task)
          hook()
          local id, run, item = task.id, task.run, task.item
          ltsh.spawn(function()
            ltsh.sleep(0)
            hook()
            notify { id = id, run = run, status = "success" }
            hook()
          end)
          return { handle = item }
        end,
        output = function(_, task)
          hook()
          return task.handle
        end,
        stop = function()
          hook()
          return true
        end,
      },
    })
    for i = 1, 15 do other:add { id = tostring(i), item = i } end
    for _, task in ipairs(ends_of(other)) do assert.same({ handle = task.item }, task.output) end
    assert.is_true(calls > 300)
  end

  it("may run in full at every callback", function()
    strain(function() collectgarbage() end)
  end)

  it("may run in small steps at every callback", function()
    strain(function() collectgarbage "step" end)
  end)

  it("may be generational", function()
    collectgarbage "generational"
    local ok, message = pcall(strain, function() collectgarbage "step" end)
    collectgarbage "incremental"
    assert(ok, message)
  end)

  it("may change its mode at every callback", function()
    local generational = false
    local ok, message = pcall(strain, function()
      generational = not generational
      collectgarbage(generational and "generational" or "incremental")
    end)
    collectgarbage "incremental"
    assert(ok, message)
  end)

  it("may never rest", function()
    local pause, speed = collectgarbage("setpause", 1), collectgarbage("setstepmul", 200)
    local ok, message = pcall(strain, function() return { {}, {} } end)
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", speed)
    assert(ok, message)
  end)

  it("may be stopped", function()
    collectgarbage "stop"
    local ok, message = pcall(strain, function() end)
    collectgarbage "restart"
    assert(ok, message)
  end)

  it("may come with finalizers that use the scheduler", function()
    local scheduler = open(function() setmetatable({}, { __gc = function() collectgarbage "step" end }) end,
      { limit = 3 })
    local finalized, stats = 0, nil
    for i = 1, 50 do
      scheduler:add { id = tostring(i) }
      setmetatable({}, { __gc = function()
        finalized = finalized + 1
        stats = pcall(scheduler.stats, scheduler)
      end })
      if i % 5 == 0 then collectgarbage() end
    end
    assert.equal(50, #ends_of(scheduler))
    collectgarbage()
    assert.equal(50, finalized)
    assert.is_true(stats)
  end)

  it("takes a scheduler that nobody refers to, after its tasks have ended", function()
    local ran, objects = 0, setmetatable({}, { __mode = "k" })
    do
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function()
          collectgarbage()
          ltsh.sleep(0.001)
          ran = ran + 1
        end),
      }
      objects[scheduler] = true
      for _ = 1, 5 do scheduler:add {} end
    end
    collectgarbage()
    eventually("all have run", function() return ran == 5 end)
    eventually("it is gone", function()
      collectgarbage()
      return next(objects) == nil
    end)
  end)
end)
