-- Hot reload: module files that change while they are used.

local ltsh = require "ltsh"
local uv = require "luv"
local run_child = require "spec.support.run"
local scene = require "spec.support.scene"

local eventually = scene.eventually

local folder

before_each(function()
  folder = os.tmpname()
  os.remove(folder)
  assert(uv.fs_mkdir(folder, 448))
end)

after_each(function()
  scene.close()
  os.execute("rm -rf " .. folder)
end)

-- ltsh.reload, without what it says of the modules of earlier tests, as long as they are not collected: they are gone.
local function reload_all()
  local result = ltsh.reload()
  for path, message in pairs(result.failed) do
    if not message:find(folder, 1, true) then result.failed[path] = nil end
  end
  return result
end

local function open(options)
  options.container = options.container or ltsh.container.queue {}
  return scene.keep(ltsh.scheduler(options))
end

local function path_of(name) return folder .. "/" .. name end

local function write(name, text)
  local file = assert(io.open(path_of(name), "w"))
  file:write(text)
  file:close()
  return path_of(name)
end

local next_id = 0

local function run(scheduler, item)
  next_id = next_id + 1
  local id = scheduler:add { id = "t" .. next_id, item = item }
  return scheduler:wait(id, 10)
end

local ACTUATOR = [[
local actuator = {}
function actuator.attach(self, notify) self.notify = notify end
function actuator.start(self, task)
  self.count = (self.count or 0) + 1
  self.notify { id = task.id, run = task.run, status = "success", output = { VERSION, self.count } }
  return true
end
function actuator.stop() return true end
EXTRA
return actuator
]]

local function actuator_text(version, extra)
  return (ACTUATOR:gsub("VERSION", ("%q"):format(version)):gsub("EXTRA", function() return extra or "" end))
end

describe("an actuator's file", function()
  it("is taken up when it has changed, and self stays", function()
    local path = write("a.lua", actuator_text "one")
    local scheduler = open { actuator = ltsh.actuator.load(path) }
    assert.same({ "one", 1 }, run(scheduler).output)
    assert.same({ changed = {}, failed = {} }, reload_all())
    write("a.lua", actuator_text "two")
    assert.same({ changed = { path }, failed = {} }, reload_all())
    local task = run(scheduler)
    assert.same({ "two", 2 }, task.output)
    assert.matches("^2%-%x%x%x%x%x%x%x%x$", task.version)
  end)

  it("may be a function of options, which is called again", function()
    local path = write("a.lua", [[
      return function(options)
        local self = { prefix = options.prefix, made = 0 }
        function self:attach(notify) self.notify = notify end
        function self:start(task)
          self.made = self.made + 1
          self.notify { id = task.id, run = task.run, status = "success", output = "1" .. self.prefix .. self.made }
          return true
        end
        function self:stop() return true end
        return self
      end]])
    local scheduler = open { actuator = ltsh.actuator.load(path, { prefix = "x" }) }
    assert.equal("1x1", run(scheduler).output)
    local text = io.open(path):read "a"
    write("a.lua", (text:gsub('"1"', '"2"')))
    reload_all()
    assert.equal("2x2", run(scheduler).output)
  end)

  it("may inherit its methods", function()
    local text = [[
      local Class = {}
      Class.__index = Class
      function Class:attach(notify) self.notify = notify end
      function Class:start(task)
        self.notify { id = task.id, run = task.run, status = "success", output = self:what() }
        return true
      end
      function Class:stop() return true end
      function Class:what() return VERSION end
      return function() return setmetatable({}, Class) end]]
    local path = write("a.lua", (text:gsub("VERSION", "1")))
    local scheduler = open { actuator = ltsh.actuator.load(path) }
    assert.equal(1, run(scheduler).output)
    write("a.lua", (text:gsub("VERSION", "2")))
    reload_all()
    assert.equal(2, run(scheduler).output)
  end)

  for what, broken in pairs {
    ["does not compile"] = { "return {", "a.lua:1: " },
    ["raises"] = { "local x = nil + 1", "a.lua:1: attempt to perform arithmetic on a nil value" },
    ["is empty"] = { "", "must return a table of methods" },
    ["lacks a method"] = { "return { start = print, status = print }", "the method 'stop' is missing" },
    ["has something else as a method"] = { "return { start = 5, stop = print, status = print }",
      "'start' must be a function" },
  } do
    it("that " .. what .. " changes nothing", function()
      local path = write("a.lua", actuator_text "one")
      local scheduler = open { actuator = ltsh.actuator.load(path) }
      write("a.lua", broken[1])
      for _ = 1, 2 do
        local result = reload_all()
        assert.same({}, result.changed)
        assert.matches(broken[2], result.failed[path])
      end
      local task = run(scheduler)
      assert.same({ "one", 1 }, task.output)
      assert.matches("^1%-", task.version)
      write("a.lua", actuator_text "three")
      assert.same({ changed = { path }, failed = {} }, reload_all())
      assert.same({ "three", 2 }, run(scheduler).output)
    end)
  end

  for what, case in pairs {
    ["nil"] = { "error()", "an error that is nil" },
    ["a table"] = { "error {}", "an error that is a table without a reason" },
    ["a table with a reason"] = { "error { reason = 'mine' }", "mine" },
    ["a value with __tostring"] = { "error(setmetatable({}, { __tostring = function() return 'text' end }))", "text" },
    ["a value whose __tostring raises"] = { "error(setmetatable({}, { __tostring = error }))",
      "an error whose __tostring raises" },
    ["os.exit"] = { "os.exit(7)", "os.exit: a task or a module cannot end the host" },
    ["os.exit in a job"] = { "require('ltsh').spawn(os.exit, 7) error 'no exit'", "no exit" },
  } do
    it("that raises " .. what .. " is named, and others are taken up", function()
      local bad = write("bad.lua", "return function() return 1 end")
      local good = write("good.lua", "return function() return 1 end")
      local first = open { actuator = ltsh.actuator.func { module = bad } }
      local second = open { actuator = ltsh.actuator.func { module = good } }
      write("bad.lua", case[1])
      write("good.lua", "return function() return 2 end")
      local result = reload_all()
      assert.same({ good }, result.changed)
      assert.equal(bad, next(result.failed))
      assert.equal(1, result.failed[bad]:find(bad, 1, true))
      assert.truthy(result.failed[bad]:find(case[2], 1, true), result.failed[bad])
      assert.same({ 1, 2 }, { run(first).output, run(second).output })
    end)
  end

  it("that is gone has failed until it is there again", function()
    local path = write("a.lua", actuator_text "one")
    local scheduler = open { actuator = ltsh.actuator.load(path) }
    os.remove(path)
    for _ = 1, 2 do
      assert.same({ changed = {}, failed = { [path] = "cannot open " .. path .. ": No such file or directory" } },
        reload_all())
    end
    assert.same({ "one", 1 }, run(scheduler).output)
    write("a.lua", actuator_text "one")
    assert.same({ changed = {}, failed = {} }, reload_all())
    os.remove(path)
    reload_all()
    write("a.lua", actuator_text "two")
    assert.same({ changed = { path }, failed = {} }, reload_all())
    assert.same({ "two", 2 }, run(scheduler).output)
  end)

  it("that failed and is what it was has not changed", function()
    local path = write("a.lua", actuator_text "one")
    local scheduler = open { actuator = ltsh.actuator.load(path) }
    write("a.lua", "return {")
    assert.is_string(reload_all().failed[path])
    write("a.lua", actuator_text "one")
    assert.same({ changed = {}, failed = {} }, reload_all())
    assert.matches("^1%-", run(scheduler).version)
  end)

  it("is found where it was after a change of directory", function()
    local before = uv.cwd()
    finally(function() uv.chdir(before) end)
    uv.chdir(folder)
    write("a.lua", actuator_text "one")
    local scheduler = open { actuator = ltsh.actuator.load "a.lua" }
    uv.chdir "/"
    assert.same({ changed = {}, failed = {} }, reload_all())
    write("a.lua", actuator_text "two")
    assert.same({ changed = { "a.lua" }, failed = {} }, reload_all())
    assert.same({ "two", 1 }, run(scheduler).output)
  end)

  it("goes on in the version that a run began with", function()
    local text = [[
      local ltsh = require "ltsh"
      return { start = function(self, task)
          ltsh.sleep(0.1)
          self.notify { id = task.id, run = task.run, status = "success", output = VERSION }
          return true
        end, stop = function() return true end, attach = function(self, notify) self.notify = notify end }]]
    local path = write("a.lua", (text:gsub("VERSION", "1")))
    local scheduler = open { actuator = ltsh.actuator.load(path), limit = 2 }
    scheduler:add { id = "old" }
    eventually("it runs", function() return scheduler:get("old").status == "running" end)
    write("a.lua", (text:gsub("VERSION", "2")))
    reload_all()
    scheduler:add { id = "new" }
    local old, new = scheduler:wait("old", 5), scheduler:wait("new", 5)
    assert.same({ 1, 2 }, { old.output, new.output })
    assert.same({ "1", "2" }, { old.version:match "^%d+", new.version:match "^%d+" })
  end)

  it("is told by reloaded(self), whose errors are logged", function()
    local path = write("a.lua", actuator_text "one")
    local actuator = ltsh.actuator.load(path)
    local scheduler = open { actuator = actuator }
    write("a.lua", actuator_text("two", "function actuator.reloaded(self) self.told = (self.told or 0) + 1 end"))
    reload_all()
    eventually("told", function() return actuator.told == 1 end)
    write("a.lua", actuator_text("three", "function actuator.reloaded() error 'broken' end"))
    reload_all()
    assert.same({ "three", 1 }, run(scheduler).output)
  end)

  it("takes what it requires with it", function()
    package.path = folder .. "/?.lua;" .. package.path
    local script = arg[0]
    rawset(arg, 0, folder .. "/script.lua")
    finally(function()
      rawset(arg, 0, script)
      package.path = package.path:match ";(.*)"
    end)
    write("inner_part.lua", "return 1")
    write("outer_part.lua", "return { value = require 'inner_part' }")
    local path = write("a.lua", actuator_text "one":gsub('"one"', [[require("outer_part").value]]))
    local scheduler = open { actuator = ltsh.actuator.load(path) }
    assert.same({ 1, 1 }, run(scheduler).output)
    write("inner_part.lua", "return 2")
    assert.same({ path }, reload_all().changed)
    assert.same({ 2, 2 }, run(scheduler).output)
    write("inner_part.lua", "return nil + 1")
    assert.matches("inner_part.lua:1: ", reload_all().failed[path])
    assert.same({ 2, 3 }, run(scheduler).output)
    write("inner_part.lua", "")
    assert.equal(path_of "inner_part.lua" .. ": the file is empty", reload_all().failed[path])
    os.remove(path_of "inner_part.lua")
    assert.equal("cannot open " .. path_of "inner_part.lua" .. ": No such file or directory",
      reload_all().failed[path])
    assert.same({ 2, 4 }, run(scheduler).output)
    write("inner_part.lua", "return 3")
    assert.same({ changed = { path }, failed = {} }, reload_all())
    assert.same({ 3, 5 }, run(scheduler).output)
    package.loaded.inner_part, package.loaded.outer_part = nil, nil
  end)

  it("that nobody uses any more is forgotten", function()
    local path = write("a.lua", actuator_text "one")
    ltsh.actuator.load(path)
    collectgarbage()
    collectgarbage()
    write("a.lua", actuator_text "two")
    assert.same({ changed = {}, failed = {} }, reload_all())
  end)
end)

describe("the files of other parts", function()
  it("are taken up: a container, a persister and a receiver", function()
    local text = io.open("examples/lua_container.lua"):read "a"
    local container_path = write("container.lua", text)
    local persister_text = [[return { saved = {},
      save = function(self, task, data) self.saved[task.id] = { VERSION, data } end,
      load = function(self, task) return self.saved[task.id] end, delete = function() end }]]
    local persister_path = write("persister.lua", (persister_text:gsub("VERSION", "1")))
    local receiver_path = write("receiver.lua", "return { receive = function(self, push) self.push = push end }")
    local container, receiver = ltsh.container.load(container_path), ltsh.callback.load(receiver_path)
    local scheduler = open { container = container, callback = receiver,
      persister = ltsh.persister.load(persister_path),
      actuator = { start = function() return true end, stop = function() return true end,
        status = function(_, tasks)
          local list = {}
          for i = 1, #tasks do list[i] = { status = "running" } end
          return list
        end } }
    local function finish(id)
      scheduler:add { id = id }
      eventually("it runs", function() return scheduler:get(id).status == "running" end)
      receiver.push { id = id, status = "success", output = "out" }
      assert.equal("success", scheduler:wait(id, 5).status)
    end
    finish "a"
    write("container.lua", "-- changed\n" .. text)
    write("persister.lua", (persister_text:gsub("VERSION", "2")))
    write("receiver.lua", "return { receive = function() end, reloaded = function(self) self.told = true end }")
    local result = reload_all()
    assert.same({}, result.failed)
    assert.equal(3, #result.changed)
    finish "b"
    assert.same({ 1, "out" }, scheduler:output "a")
    assert.same({ 2, "out" }, scheduler:output "b")
    eventually("told", function() return receiver.told end)
  end)
end)

describe("a module of tasks", function()
  for what, options in pairs {
    ["in the host's state"] = {},
    ["in threads"] = { workers = 2 },
    ["in processes"] = { workers = 2, isolate = "process" },
  } do
    it("is taken up " .. what, function()
      local path = write("tasks.lua", "return function(task) return 1 end")
      options.module = path
      local scheduler = open { actuator = ltsh.actuator.func(options), limit = 2 }
      local task = run(scheduler)
      assert.equal(1, task.output)
      assert.matches("^1%-%x+$", task.version)
      write("tasks.lua", "return function(task) return 2 end")
      assert.same({ path }, reload_all().changed)
      task = run(scheduler)
      assert.equal(2, task.output)
      assert.matches("^2%-%x+$", task.version)
      for _, broken in ipairs { "return function(", "return 5", "error 'broken'" } do
        write("tasks.lua", broken)
        local result = reload_all()
        assert.same({}, result.changed)
        assert.is_string(result.failed[path])
        assert.same({ "success", 2 }, { run(scheduler).status, run(scheduler).output })
      end
      write("tasks.lua", "return { run = function(task) return 3 end }")
      assert.same({ path }, reload_all().changed)
      assert.equal(3, run(scheduler).output)
    end)

    it("goes on in the version that its run began with " .. what, function()
      options.module = write("tasks.lua", [[
        local ltsh = require "ltsh"
        return function(task)
          task:report "begun"
          ltsh.sleep(0.2)
          return 1
        end]])
      local scheduler = open { actuator = ltsh.actuator.func(options), limit = 2 }
      scheduler:add { id = "old" }
      eventually("it runs", function() return scheduler:get("old").progress == "begun" end)
      write("tasks.lua", "return function() return 2 end")
      reload_all()
      assert.equal(2, run(scheduler).output)
      local old = scheduler:wait("old", 60)
      assert.same({ 1, "1" }, { old.output, old.version:match "^%d+" })
    end)
  end
end)

describe("a scheduler whose module is reloaded", function()
  local path, loads, actuator

  -- A version whose loads are counted, since each writes a byte.
  local function write_version(version, before)
    write("tasks.lua", ([[
      local f = io.open(%q, "a") f:write "x" f:close()
      %s return function() return %d end]]):format(loads, before or "", version))
  end

  local function loaded() return #assert(io.open(loads)):read "a" end

  before_each(function()
    path, loads = write("tasks.lua", "return function() return 0 end"), write("loads", "")
    actuator = ltsh.actuator.func { module = path, workers = 1 }
  end)

  it("while it is made does not keep the old version", function()
    for version = 1, 10 do
      local schedulers = { open { actuator = actuator } }
      write("loads", "")
      write_version(version)
      -- When the loop comes around after all had tried it, and before it is put in its place.
      local prepare = uv.new_prepare()
      prepare:start(function()
        if loaded() == #schedulers then schedulers[#schedulers + 1] = open { actuator = actuator } end
      end)
      assert.same({ path }, reload_all().changed)
      prepare:close()
      for _, scheduler in ipairs(schedulers) do
        local task = run(scheduler)
        assert.equal(version, task.output)
        assert.matches("^" .. version + 1 .. "%-", task.version)
        scheduler:close()
      end
    end
  end)

  it("while it is closed does not hold up the new version", function()
    local scheduler = open { actuator = actuator }
    write_version(1, "require 'ltsh'.sleep(0.05)")
    local closer = ltsh.spawn(function()
      eventually("it is tried", function() return loaded() == 1 end)
      scheduler:close()
    end)
    assert.same({ changed = { path }, failed = {} }, reload_all())
    closer:wait()
    assert.equal(1, run(open { actuator = actuator }).output)
  end)
end)

describe("watching", function()
  local reload = require "ltsh.reload"

  local ways = {
    ["written in place"] = function(name, text) write(name, text) end,
    ["written and renamed over"] = function(name, text)
      write(name .. "~", text)
      assert(os.rename(path_of(name .. "~"), path_of(name)))
    end,
    ["deleted and created"] = function(name, text)
      os.remove(path_of(name))
      ltsh.sleep(0.01)
      write(name, text)
    end,
    ["a link that is switched"] = function(name, text)
      write("version-" .. #text .. name, text)
      os.remove(path_of(name))
      assert(uv.fs_symlink(path_of("version-" .. #text .. name), path_of(name)))
    end,
    ["in a folder whose link is switched"] = function(name, text, round)
      assert(uv.fs_mkdir(path_of("release" .. round), 448))
      write("release" .. round .. "/" .. name, text)
      os.remove(path_of "current")
      assert(uv.fs_symlink("release" .. round, path_of "current"))
    end,
    ["checked out by git"] = function(name, text)
      write(name, text)
      local git = "cd " .. folder .. " && git -c user.name=a -c user.email=b "
      os.execute("cd " .. folder .. " && [ -d .git ] || git init -q . 2>/dev/null")
      assert(os.execute(git .. "add -A && " .. git .. "commit -qm x"))
      write(name, "return function() return 'work' end")
      assert(os.execute(git .. "checkout -q -- " .. name))
    end,
  }

  for what, change in pairs(ways) do
    it("notices a file that is " .. what, function()
      local function text(n) return "return function() return " .. n .. " end" .. (" "):rep(n) end
      local name = "tasks.lua"
      change(name, text(1), 1)
      local path = path_of(what:find "folder" and "current/tasks.lua" or name)
      local scheduler = open { actuator = ltsh.actuator.func { module = path } }
      reload.watch()
      assert.equal(1, run(scheduler).output)
      for n = 2, 4 do
        change(name, text(n), n)
        eventually("version " .. n, function() return run(scheduler).output == n end)
      end
    end)
  end

  -- Bytes that this process occupies.
  local function resident()
    collectgarbage()
    collectgarbage()
    return tonumber(io.open("/proc/self/statm"):read "a":match "^%d+ (%d+)") * 4096
  end

  it("never uses what is broken, and loses nothing, while an actuator is edited a thousand times under load", function()
    local EDITS = 1000
    local path = write("a.lua", actuator_text(0))
    local scheduler = open { actuator = ltsh.actuator.load(path), limit = 64, finished_size = 0,
      keep = { tasks = 100, bytes = "1M" } }
    reload.watch()
    local ends, wrong, versions, added = {}, {}, {}, 0
    scheduler:on("finished", function(task)
      local number = task.output and tonumber(task.output[1])
      if ends[task.id] or task.status ~= "success" or number % 2 ~= 0 or task.attempts ~= 1 then
        wrong[#wrong + 1] = string.format("%s %s %s %s", task.id, task.status, task.reason, number)
      end
      ends[task.id] = true
      versions[task.version] = true
    end)
    local edits = ltsh.spawn(function()
      for n = 1, EDITS do
        write("a.lua~", n % 2 == 0 and actuator_text(n) or actuator_text(n) .. "end")
        assert(os.rename(path_of "a.lua~", path))
        ltsh.sleep(0.015)
      end
      return true
    end)
    local over, before = false, nil
    ltsh.spawn(function()
      edits:wait()
      over = true
    end)
    while not over do
      for _ = 1, 100 do
        added = added + 1
        scheduler:add { id = tostring(added) }
      end
      ltsh.sleep(0.01)
      if not before and added > 5000 then before = resident() end
    end
    eventually("all have ended", function() return scheduler:stats().success >= added end)
    assert.same({}, wrong)
    local count, ended = 0, 0
    for _ in pairs(versions) do count = count + 1 end
    for _ in pairs(ends) do ended = ended + 1 end
    assert.equal(added, ended)
    assert.is_true(count > 20, "versions seen: " .. count)
    ends = nil
    local grown = (resident() - before) / 2 ^ 20
    if os.getenv "LTSH_TEST_PRESET" == "release" then -- a sanitizer keeps what was freed
      assert.is_true(grown < 32, "it has grown by MiB " .. grown)
    end
  end)
end)

describe("the program", function()
  local SCRIPT = [[
    local ltsh = require "ltsh"
    local scheduler = ltsh.scheduler {
      container = ltsh.container.queue {},
      actuator = ltsh.actuator.func { module = arg[1] },
    }
    local shown
    while shown ~= "last" do
      local task = scheduler:wait(scheduler:add {})
      if task.output ~= shown then
        shown = task.output
        print(shown)
        io.stdout:flush()
      end
      ltsh.sleep(0.005)
    end]]

  for what, options in pairs { ["--watch"] = { "--watch" }, SIGHUP = {} } do
    it("reloads by " .. what, function()
      local path = write("tasks.lua", "return function() return 'first' end")
      local child = run_child.start { options[1] or "-ldebug", "-e", SCRIPT, path }
      child:expect "first"
      write("tasks.lua", "return function() return")
      if not options[1] then child:kill "sighup" end
      child:expect("a module was not reloaded, the old version stays", "stderr")
      write("tasks.lua", "return function() return 'last' end")
      if not options[1] then child:kill "sighup" end
      local result = child:wait()
      assert.equal(0, result.code)
      assert.equal("first\nlast\n", result.stdout)
    end)
  end

  it("goes on when a script has made its globals strict", function()
    local child = run_child.start { "-e", [[
      local ltsh, print = require "ltsh", print
      require = nil
      setmetatable(_G, { __index = function(_, name) error("no global " .. name) end })
      print "ready"
      io.stdout:flush()
      ltsh.sleep(10)]] }
    child:expect "ready"
    child:kill "sighup"
    child:expect("reloading failed", "stderr")
    child:kill "sigterm"
    assert.equal(128 + 15, child:wait().code)
  end)
end)
