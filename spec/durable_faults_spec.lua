-- Tasks in SQLite when the file, the disk or other processes do not do as they should: nothing that was accepted is
-- lost, and what cannot go on waits, and says so once.

local ltsh = require "ltsh"
local uv = require "luv"
local clock = require "spec.support.clock"
local disk = require "spec.support.disk"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local eventually = scene.eventually

local function open(run_task, options)
  options = options or {}
  local path = options.path or scene.temporary ".db"
  options.path = nil
  options.container = ltsh.container.sqlite { path = path, durability = options.durability or "normal" }
  options.durability = nil
  return scene.open(run_task, options), path
end

local function program(text, ...)
  return { "-e", "local ltsh = require 'ltsh'; local path = arg[1]; " .. text, ... }
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

describe("a durable store", function()
  lazy_setup(clock.open)
  lazy_teardown(clock.close)
  lazy_setup(disk.open)
  lazy_teardown(disk.close)
  after_each(scene.close)

  local it_when_set = clock.it(it, pending)
  for name, by in pairs { ["three years ahead"] = 1e8, ["three years back"] = -1e8 } do
    it_when_set("takes no living host for dead when its clock is set " .. name, function()
      local path = scene.temporary ".db"
      local holder = run.start(program([[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, durability = "normal", lease = 1 },
          actuator = ltsh.actuator.func(function(task) print("runs " .. task.run) ltsh.sleep(3) return "there" end),
        }
        assert(scheduler:add { id = "a" })
        print(scheduler:wait("a").output)
      ]], path))
      holder:expect "runs"
      local watcher = run.start(program([[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, durability = "normal", lease = 1 },
          actuator = ltsh.actuator.func(function() print "taken" end),
        }
        print(scheduler:wait("a").output)
      ]], path), { env = clock.env(0.5, by) })
      assert.matches("^runs %d+\nthere\n$", holder:wait().stdout)
      assert.equal("there\n", watcher:wait().stdout)
    end)
  end

  it("keeps what it accepted though another part of the host opens and closes its file", function()
    local path = scene.temporary ".db"
    -- io.open and close drop the process's locks; the next process that opens the database thinks that it is alone, and
    -- removes the log when it is done.
    local child = run.start(program([[
      local scheduler = ltsh.scheduler {
        container = ltsh.container.sqlite { path = path }, actuator = ltsh.actuator.func(function() end),
      }
      scheduler:pause()
      assert(scheduler:add { id = "before" })
      io.open(path, "rb"):close()
      local other = ltsh.exec { arg[-1], "-e", "local db = require('ltsh').sqlite.open(arg[1]) " ..
        "print(db:value 'select count(*) from ltsh_tasks') db:close()", path }
      print("other " .. other.stdout .. other.stderr)
      for i = 1, 20 do assert(scheduler:add { id = "after" .. i }) end
      print "ready"
      ltsh.sleep(100)
    ]], path))
    child:expect "ready"
    child:kill "sigkill"
    local result = child:wait()
    local scheduler = open(function() end, { path = path })
    assert.is_not_nil(scheduler:get "before", result.stderr)
    for i = 1, 20 do assert.is_not_nil(scheduler:get("after" .. i), "after" .. i .. "\n" .. result.stderr) end
  end)

  local it_on_disk = disk.it(it, pending)

  it_on_disk("is on disk with each commit, if it is to be", function()
    for durability, syncs in pairs { full = 10, normal = 0 } do
      local path = scene.temporary ".db"
      local result = run.start(program(disk.HEAD .. [[
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, durability = arg[2] },
          actuator = ltsh.actuator.func(function() end),
        }
        scheduler:pause()
        assert(scheduler:add { id = "first" })
        local before = disk_syncs()
        for i = 1, 10 do assert(scheduler:add { id = "t" .. i }) end
        print(disk_syncs() - before)
        os.exit(0)
      ]], path, durability), { env = disk.env(path) }):wait()
      assert.equal(syncs .. "\n", result.stdout, result.stderr)
    end
  end)

  for _, fault in ipairs { "no space", "writes", "syncs" } do
    it_on_disk("starts nothing while its disk fails, says so, and goes on when that is over: " .. fault, function()
      local path = scene.temporary ".db"
      local result = run.start(program(disk.HEAD .. [[
        local starts = 0
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path }, limit = 4,
          actuator = ltsh.actuator.func(function() starts = starts + 1 ltsh.sleep(0.002) end),
        }
        for i = 1, 300 do assert(scheduler:add { id = "t" .. i }) end
        while starts < 20 do ltsh.sleep(0.001) end
        disk_fails(arg[2])
        ltsh.sleep(0.02)
        local before = starts
        local id, message = scheduler:add { id = "meanwhile" }
        print(id, message)
        ltsh.sleep(0.3)
        print(starts - before)
        disk_fails(nil)
        local ended = 0
        for task in scheduler:finished() do ended = ended + (task.status == "success" and 1 or 0) end
        print(ended, starts)
      ]], path, fault), { env = disk.env(path) }):wait()
      assert.matches("^nil\t[^\n]*" .. path:gsub("%p", "%%%0") .. "[^\n]*\n0\n30[01]\t30[01]\n$", result.stdout,
        1, false)
      assert.equal(1, count(result.stderr, "the store is down"), result.stderr)
      assert.equal(1, count(result.stderr, "the store is back"), result.stderr)
    end)
  end

  it("waits for a process that holds the database, and goes on then", function()
    local scheduler, path = open(function() end)
    local child = run.start(program([[
      local db = ltsh.sqlite.open(path)
      db:transaction(function() print "holds" ltsh.sleep(1) end)
      db:close()
    ]], path))
    child:expect "holds"
    local began = uv.hrtime()
    assert(scheduler:add { id = "a" })
    assert.equal("success", scheduler:wait("a", 10).status)
    assert.is_true(uv.hrtime() - began > 0.3e9)
    child:wait()
  end)

  it("ends when it is told to though another process holds the database", function()
    local path = scene.temporary ".db"
    local host = run.start(program([[
      local scheduler = ltsh.scheduler {
        container = ltsh.container.sqlite { path = path, durability = "normal" }, shutdown_grace = 0.2,
        actuator = ltsh.actuator.func(function() print "runs" ltsh.sleep(100) end),
      }
      scheduler:add { id = "a" }
      scheduler:run()
    ]], path))
    host:expect "runs"
    local holder = run.start(program([[
      local db = ltsh.sqlite.open(path)
      db:transaction(function() print "holds" ltsh.sleep(100) end)
    ]], path))
    holder:expect "holds"
    host:kill "sigterm"
    local result = host:wait()
    assert.equal(143, result.code)
    assert.matches("another process holds the database", result.stderr, 1, true)
    holder:kill "sigkill"
    holder:wait()
    local scheduler = open(function() return "again" end, { path = path })
    assert.equal("again", scheduler:wait("a", 10).output)
  end)

  it("lets two schedulers end though another process holds the database", function()
    local path = scene.temporary ".db"
    local host = run.start(program([[
      local schedulers = {}
      for i = 1, 2 do
        schedulers[i] = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path, queue = "q" .. i, durability = "normal" },
          shutdown_grace = i * 0.3, actuator = ltsh.actuator.func(function() print("runs " .. i) ltsh.sleep(100) end),
        }
        schedulers[i]:add { id = "a" }
      end
      schedulers[2]:run()
    ]], path))
    host:expect "runs 1"
    host:expect "runs 2"
    local holder = run.start(program([[
      local db = ltsh.sqlite.open(path)
      db:transaction(function() print "holds" ltsh.sleep(100) end)
    ]], path))
    holder:expect "holds"
    local began = uv.hrtime()
    host:kill "sigterm"
    assert.equal(143, host:wait().code)
    assert.is_true(uv.hrtime() - began < 12e9)
    holder:kill "sigkill"
    holder:wait()
  end)

  it("may be opened by many at once", function()
    local path = scene.temporary ".db"
    local children = {}
    for i = 1, 6 do
      children[i] = run.start(program([[
        local scheduler <close> = ltsh.scheduler {
          container = ltsh.container.sqlite { path = path }, actuator = ltsh.actuator.func(function() end),
        }
        assert(scheduler:add {})
        for _ in scheduler:finished() do end
      ]], path))
    end
    for _, child in ipairs(children) do
      local result = child:wait()
      assert.equal("", result.stderr)
      assert.equal(0, result.code)
    end
    local scheduler = open(function() end, { path = path })
    assert.equal(6, scheduler:count { status = "success" })
  end)

  it("does not begin anew when its file is removed, and says so", function()
    local path = scene.temporary ".db"
    local result = run.ltsh(program([[
      local scheduler = ltsh.scheduler {
        container = ltsh.container.sqlite { path = path }, actuator = ltsh.actuator.func(function() end),
      }
      scheduler:pause()
      assert(scheduler:add { id = "a" })
      assert(os.rename(path, path .. ".away"))
      print(scheduler:add { id = "b" })
      print(scheduler:add { id = "not stored" })
      assert(os.rename(path .. ".away", path))
      print(scheduler:add { id = "c" })
      print(scheduler:get "a")
      print(scheduler:get "not stored")
    ]] .. "scheduler:close()", path))
    assert.matches("removed or replaced", result.stdout)
    assert.matches("\nc\n", result.stdout)
    assert.matches('task "a"', result.stdout)
    assert.matches("nil\tno such task\tunknown\n$", result.stdout)
    assert.equal(1, count(result.stderr, "not in its place"))
  end)

  it("goes on when a full disk has room again, and runs nothing twice", function()
    local script = [[
      local runs = {}
      local scheduler = ltsh.scheduler {
        container = ltsh.container.sqlite { path = path, durability = "normal" }, limit = 8,
        actuator = ltsh.actuator.func(function(task)
          runs[task.id] = (runs[task.id] or 0) + 1
          ltsh.sleep(0.001)
          return ("x"):rep(1000)
        end),
      }
      local accepted, message = 0
      for i = 1, 100000 do
        local id
        id, message = scheduler:add { id = "t" .. i, item = ("y"):rep(900) }
        if not id then break end
        accepted = i
      end
      print("refused: " .. message)
      ltsh.sleep(0.3)
      os.remove(arg[2])
      for _ in scheduler:finished() do end
      for i = 1, accepted do
        local task = scheduler:get("t" .. i)
        assert(task and task.status == "success", i)
        assert(runs[task.id] == 1, runs[task.id])
      end
      print "all done once"
    ]]
    local file = scene.temporary ".lua"
    local out = assert(io.open(file, "w"))
    out:write("local ltsh = require 'ltsh'; local path = arg[1]; " .. script)
    out:close()
    -- A small disk of its own, where the machine allows that.
    local mount = "mount -t tmpfs -o size=12m none /mnt"
    if ltsh.exec { "unshare", "-rm", "sh", "-c", mount }.code ~= 0 then
      pending "no file system can be mounted here"
      return
    end
    local result = ltsh.exec {
      "unshare", "-rm", "sh", "-c",
      mount .. ' && head -c 8000000 /dev/zero > /mnt/ballast && exec "$0" "$1" /mnt/q.db /mnt/ballast',
      run.program, file, timeout = 60,
    }
    assert.matches("refused: .*full", result.stdout, nil, result.stderr)
    assert.matches("all done once", result.stdout, 1, true)
    -- Once; or twice, where a small end found room before a large one did.
    assert.is_true(count(result.stderr, "the store is down") <= 2)
    assert.equal(count(result.stderr, "the store is down"), count(result.stderr, "the store is back"))
  end)

  it("cuts its log back though somebody reads for long", function()
    local scheduler, path = open(function() return ("x"):rep(2000) end, { limit = 64 })
    assert(scheduler:add { id = "first" })
    local child = run.start(program([[
      local db = ltsh.sqlite.open(path)
      for row in db:rows "select id from ltsh_tasks" do
        print "reads"
        ltsh.sleep(100)
      end
    ]], path))
    child:expect "reads"
    local list = {}
    for i = 1, 2000 do list[i] = { id = "t" .. i } end
    assert(scheduler:add_all(list))
    eventually("all are done", function() return scheduler:count { status = "success" } == 2001 end)
    child:kill "sigkill"
    child:wait()
    for i = 1, 300 do assert(scheduler:add { id = "more" .. i, item = ("y"):rep(900) }) end
    eventually("the log is short", function()
      assert(scheduler:add {})
      return uv.fs_stat(path .. "-wal").size <= 24 << 20
    end)
  end)
end)
