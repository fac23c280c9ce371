-- The func actuator's workers: threads and processes with a Lua state each.

local ltsh = require "ltsh"
local run_child = require "spec.support.run"
local scene = require "spec.support.scene"

local eventually = scene.eventually

local endless, unyielding = table.unpack((require "spec.support.endless"))

after_each(function()
  scene.close()
  run_child.clean()
end)

local MODULE = "spec/support/tasks/various.lua"

local function open(options, more)
  options.module = options.module or MODULE
  local given = { container = ltsh.container.queue {}, actuator = ltsh.actuator.func(options), limit = 16 }
  for name, value in pairs(more or {}) do given[name] = value end
  return scene.keep(ltsh.scheduler(given))
end

local next_id = 0

-- Runs one task to its end.
local function run(scheduler, what, item, options)
  local task = options or {}
  next_id = next_id + 1
  task.id = "t" .. next_id
  task.item = item or {}
  task.item["do"] = what
  assert(scheduler:add(task))
  return assert(scheduler:wait(task.id, 20))
end

-- The tasks after one that went wrong find everything as it should be.
local function still_works(scheduler)
  for i = 1, 4 do
    local task = run(scheduler, "echo", { value = i })
    assert.same({ "success", i }, { task.status, task.output or task.reason })
  end
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

for _, isolate in ipairs { "thread", "process" } do
  describe("workers, each a " .. isolate .. ",", function()
    it("get items, and give outputs, as they are", function()
      local scheduler = open { isolate = isolate }
      for _, value in ipairs { 1, 1.0, math.mininteger, -0.0, "\0\xff", true, { 1, { a = {} } }, ("x"):rep(3000000) } do
        local task = run(scheduler, "echo", { value = value })
        assert.same({ "success", value }, { task.status, task.output })
        assert.equal(math.type(value), math.type(task.output))
      end
      assert.is_nil(run(scheduler, "echo").output)
    end)

    it("see the task", function()
      local scheduler = open({ isolate = isolate }, { max_retries = 2, container = ltsh.container.priority {} })
      local output = run(scheduler, "fields", nil, { key = "k", priority = 7 }).output
      assert.same("running", output.status)
      assert.same({ "k", 7, 1, 1 }, { output.key, output.priority, output.attempts, output.run })
      assert.matches("^1%-%x+$", output.version)
      assert.equal("fields", output.item["do"])
    end)

    it("keep their state from task to task, each its own", function()
      local scheduler = open({ isolate = isolate, workers = 1 })
      for i = 1, 3 do assert.equal(i, run(scheduler, "count").output) end
      assert.is_nil(run(scheduler, "global").output)
      assert.is_true(run(scheduler, "global").output)
      assert.is_nil(rawget(_G, "shared"))
      assert.equal(1, run(open { isolate = isolate }, "count").output)
    end)

    it("run as many tasks at once as there are workers", function()
      local scheduler = open({ isolate = isolate, workers = 3 })
      local most = 0
      scheduler:on("started", function() most = math.max(most, scheduler:stats().running) end)
      for i = 1, 9 do scheduler:add { id = tostring(i), item = { ["do"] = "sleep", seconds = 0.01 } } end
      for i = 1, 9 do assert.equal("success", scheduler:wait(tostring(i), 10).status) end
      assert.equal(3, most)
    end)

    it("may wait, report, log and use luv", function()
      local scheduler = open { isolate = isolate }
      local steps = {}
      scheduler:on("progress", function(task) steps[#steps + 1] = task.progress.step end)
      local task = run(scheduler, "report")
      assert.same({ "success", false }, { task.status, task.output })
      assert.same({ 1, 2, 3 }, steps)
      assert.equal("value", run(scheduler, "luv", { value = "value" }).output)
    end)

    it("say what they do not have", function()
      local scheduler = open { isolate = isolate }
      for _, name in ipairs { "scheduler", "container", "actuator", "persister", "callback" } do
        local task = run(scheduler, "missing", { name = name })
        assert.equal("failed", task.status)
        assert.matches("ltsh." .. name .. ": a worker has no schedulers of its own", task.reason, 1, true)
      end
      assert.is_nil(run(scheduler, "missing", { name = "nonsense" }).output)
    end)

    it("fail as functions do in the host's state", function()
      local scheduler = open({ isolate = isolate }, { max_retries = 1 })
      local task = run(scheduler, "fail", { failure = "no room" })
      assert.same({ "failed", "no room", 2 }, { task.status, task.reason, task.attempts })
      task = run(scheduler, "fail", { failure = { reason = "never", retry = false } })
      assert.same({ "failed", "never", 1 }, { task.status, task.reason, task.attempts })
      task = run(scheduler, "raise", { failure = "broken" })
      assert.same({ "failed", "broken" }, { task.status, task.reason })
      assert.matches("various.lua:%d+: attempt to perform arithmetic on a nil value", run(scheduler, "bug").reason)
      assert.matches("output: a function cannot be stored", run(scheduler, "unstorable").reason)
      still_works(scheduler)
    end)

    for _, cases in ipairs { endless, unyielding } do
      it("end at their timeout, wherever they are: " .. (cases == endless and "in Lua" or "called by C"), function()
        local scheduler = open({ isolate = isolate, workers = 2 }, { timeout = 0.1, max_retries = 1 })
        for case in pairs(cases) do
          scheduler:add { id = case, item = { ["do"] = "endless", case = case } }
        end
        for case in pairs(cases) do
          local task = scheduler:wait(case, 30)
          assert.same({ "failed", "timeout", 2 }, { task.status, task.reason, task.attempts }, case)
          local took = task.ended_at - task.started_at
          assert.is_true(took < 0.1 + 3, case .. " took " .. took)
        end
        assert.equal(0, scheduler:stats().abandoned)
        still_works(scheduler)
      end)
    end

    it("execute programs that can be ended by signals", function()
      local scheduler = open({ isolate = isolate })
      assert.same({ nil, "signal", 15 }, run(scheduler, "execute", { command = "kill -TERM $$; exit 3" }).output)
      assert.same({ nil, "exit", 3 }, run(scheduler, "execute", { command = "exit 3" }).output)
      assert.same({ true, "exit", 0 }, run(scheduler, "execute", { command = "exit 0" }).output)
      assert.equal("", run(scheduler, "popen", { command = "kill -INT $$; echo on" }).output)
    end)

    it("are stopped while they wait, and may clean up", function()
      local scheduler = open({ isolate = isolate })
      local path = os.tmpname()
      scheduler:add { id = "a", item = { ["do"] = "sleep_and_clean", path = path } }
      eventually("it runs", function() return scheduler:get("a").status == "running" end)
      ltsh.sleep(0.1)
      assert.equal("stopped", scheduler:stop("a").status)
      assert.equal("false the task was stopped", io.open(path):read "a")
      os.remove(path)
      still_works(scheduler)
    end)

    it("are stopped before they have begun", function()
      local scheduler = open({ isolate = isolate, workers = 1 })
      scheduler:add { id = "a", item = { ["do"] = "sleep", seconds = 100 } }
      ltsh.sleep(0)
      assert.equal("stopped", scheduler:stop("a").status)
      still_works(scheduler)
    end)

    it("end a task that passes the memory limit, alone", function()
      local scheduler = open({ isolate = isolate, workers = 2, memory = "16M" }, { timeout = 15 })
      scheduler:add { id = "beside", item = { ["do"] = "sleep", seconds = 0.2 } }
      for what, item in pairs { fill = { {}, { catch = true } }, fill_at_once = { {} }, fill_in_a_job = { {} } } do
        for _, one in ipairs(item) do
          local task = run(scheduler, what, one)
          assert.same({ "failed", "memory limit" }, { task.status, task.reason }, what)
        end
      end
      assert.equal("success", scheduler:wait("beside", 10).status)
      assert.equal("done", run(scheduler, "garbage").output)
      still_works(scheduler)
    end)

    it("may retry what passed the memory limit, in a state made anew", function()
      local scheduler = open({ isolate = isolate, memory = "16M" }, { max_retries = 2 })
      local task = run(scheduler, "fill")
      assert.same({ "failed", "memory limit", 3 }, { task.status, task.reason, task.attempts })
      assert.equal(1, run(scheduler, "count").output)
    end)

    it("whose module raises fail its tasks with the reason", function()
      local path = os.tmpname()
      write(path, "local x = nil + 1")
      local scheduler = open { isolate = isolate, module = path }
      local task = run(scheduler, "echo")
      assert.equal("failed", task.status)
      assert.matches("attempt to perform arithmetic on a nil value", task.reason)
      write(path, "return 5")
      scheduler = open { isolate = isolate, module = path }
      assert.matches("it must return a function%(task%), or a table with one named 'run', got 5",
        run(scheduler, "echo").reason)
      os.remove(path)
    end)

    it("are closed with their scheduler while they wait and compute", function()
      for _ = 1, 5 do
        local scheduler = open({ isolate = isolate, workers = 2 })
        scheduler:add { item = { ["do"] = "sleep", seconds = 100 } }
        scheduler:add { item = { ["do"] = "endless", case = "a loop" } }
        ltsh.sleep(math.random() * 0.02)
        scheduler:close { drain = 0 }
      end
    end)

    it("are polled where nothing is pushed", function()
      local scheduler = open({ isolate = isolate }, { poll_interval = 0.01, callback = false })
      still_works(scheduler)
      assert.equal("timeout", run(scheduler, "endless", { case = "a loop" }, { timeout = 0.05 }).reason)
      still_works(scheduler)
    end)

    it("are fewer when the host is short of descriptors, and no task fails for that", function()
      local folder = run_child.folder {
        ["task.lua"] = "local ltsh = require 'ltsh' return function() ltsh.sleep(0.02) return 1 end",
        ["script.lua"] = [[
          local ltsh = require "ltsh"
          local scheduler = ltsh.scheduler {
            container = ltsh.container.queue {},
            actuator = ltsh.actuator.func { module = "task.lua", workers = 16, isolate = arg[1] },
            limit = 16,
          }
          for _ = 1, 48 do scheduler:add {} end
          for task in scheduler:finished() do print(task.status, task.reason) end
        ]],
      }
      local few = isolate == "thread" and "30" or "20" -- enough for some, not for 16
      local script = 'ulimit -n $2; exec "$0" script.lua "$1"'
      local options = { program = "/bin/sh", cwd = folder }
      local result = run_child.ltsh({ "-c", script, run_child.program, isolate, few }, options)
      assert.equal(("success\tnil\n"):rep(48), result.stdout)
      assert.matches("ERROR a worker could not ", result.stderr)
    end)

    it("leave no thread, no process and no descriptor behind", function()
      local function count(folder)
        local n, request = 0, require("luv").fs_scandir(folder)
        while require("luv").fs_scandir_next(request) do n = n + 1 end
        return n
      end
      local function all() return { count "/proc/self/fd", count "/proc/self/task" } end
      local first = open { isolate = isolate }
      run(first, "echo") -- what is made once
      first:close()
      local before
      eventually("the first is gone", function()
        local now = all()
        local same = before and before[1] == now[1] and before[2] == now[2]
        before = now
        return same
      end)
      for _ = 1, 10 do
        local scheduler = open { isolate = isolate }
        run(scheduler, "echo")
        scheduler:close()
      end
      eventually("they are gone", function()
        local now = all()
        return now[1] <= before[1] and now[2] <= before[2]
      end)
    end)

    it("lose none of many tasks", function()
      local scheduler = open({ isolate = isolate, workers = 2 })
      for i = 1, 1000 do scheduler:add { id = tostring(i), item = { ["do"] = "echo", value = i } } end
      local sum, n = 0, 0
      for task in scheduler:finished() do
        sum, n = sum + task.output, n + 1
      end
      assert.same({ 500500, 1000 }, { sum, n })
    end)
  end)
end

describe("a thread that does not come back", function()
  it("is abandoned, counted and replaced", function()
    local scheduler = open({ workers = 1, max_abandoned = 4 })
    local task = run(scheduler, "block", { seconds = 3 }, { timeout = 0.05 })
    assert.same({ "failed", "timeout" }, { task.status, task.reason })
    assert.equal(1, scheduler:stats().abandoned)
    still_works(scheduler)
    eventually("it came back", function() return scheduler:stats().abandoned == 0 end)
    still_works(scheduler)
  end)

  it("holds up all starts when there are too many, until it comes back", function()
    local scheduler = open({ workers = 1, max_abandoned = 1 })
    run(scheduler, "block", { seconds = 2.5 }, { timeout = 0.05 })
    scheduler:add { id = "later", item = { ["do"] = "echo" } }
    ltsh.sleep(0.05)
    assert.equal("waiting", scheduler:get("later").status)
    assert.equal("success", scheduler:wait("later", 10).status)
  end)

  it("is refused os.exit", function()
    local scheduler = open { workers = 1 }
    assert.matches("os.exit: a worker cannot end the host", run(scheduler, "exit", { code = 3 }).reason)
  end)
end)

describe("a process that does not come back", function()
  it("is killed", function()
    local scheduler = open { isolate = "process" }
    local task = run(scheduler, "find", nil, { timeout = 0.05 })
    assert.same({ "failed", "timeout" }, { task.status, task.reason })
    assert.equal(0, scheduler:stats().abandoned)
    still_works(scheduler)
  end)

  it("has died of a signal, or has exited: a failure like others", function()
    local scheduler = open({ isolate = "process" }, { max_retries = 1 })
    local task = run(scheduler, "crash")
    assert.same({ "failed", "worker died: signal 9", 2 }, { task.status, task.reason, task.attempts })
    task = run(scheduler, "exit", { code = 3 })
    assert.same({ "failed", "worker died: exit code 3", 2 }, { task.status, task.reason, task.attempts })
    still_works(scheduler)
  end)
end)

describe("the options of workers", function()
  local function refuses(options, message)
    assert.error_matches(function() ltsh.actuator.func(options) end, message)
  end

  it("are checked", function()
    refuses({ run = print, workers = 2 },
      "module must be the path of a Lua file %(a function cannot cross to a worker%)")
    refuses({ module = MODULE, run = print }, "run and module cannot be given together")
    refuses({ module = MODULE, workers = 0 }, "workers must be a positive integer, got 0")
    refuses({ module = MODULE, workers = 1.5 }, "workers must be a positive integer, got 1.5")
    refuses({ module = MODULE, workers = 5000 }, "workers must be at most 1000, got 5000")
    refuses({ module = MODULE, isolate = "vm" }, [[isolate must be "thread" or "process", got "vm"]])
    refuses({ module = MODULE, memory = "lots" }, "memory must be a number of bytes or a text")
    refuses({ module = MODULE, memory = 1000 }, "memory must be at least 1M, got 1000")
    refuses({ module = MODULE, max_abandoned = 0 }, "max_abandoned must be a positive integer")
    refuses({ module = "no/such.lua", workers = 1 }, "cannot open no/such.lua")
    refuses({ module = 5 }, "module must be the path of a Lua file, got 5")
    refuses({ modul = MODULE }, "unknown option \"modul\" %(did you mean 'module'%?%)")
    local path = os.tmpname()
    write(path, "return function( end")
    for _, workers in ipairs { 1, false } do
      local ok, message = pcall(ltsh.actuator.func, { module = path, workers = workers or nil })
      assert.is_false(ok)
      assert.matches("ltsh.actuator.func: " .. path .. ":1: ", message, 1, true)
    end
    os.remove(path)
  end)

  it("may be left out: then the module's function runs in the host's state", function()
    local scheduler = open {}
    still_works(scheduler)
  end)
end)
