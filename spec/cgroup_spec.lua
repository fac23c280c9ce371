-- Processes in cgroups of their own, in a folder of cgroup v2 that is given to the host. It needs root and such a
-- hierarchy; the limits need its controllers, which many machines give to the older hierarchies.
local run = require "spec.support.run"
local uv = require "luv"

local function read(path)
  local file = io.open(path)
  local text = file and file:read "a" or ""
  if file then file:close() end
  return text
end

local mount = read("/proc/self/mounts"):match "%S+ (%S+) cgroup2 rw"
local folder = mount and ("%s/ltsh-specs-%d"):format(mount, uv.os_getpid())
if not folder or not uv.fs_mkdir(folder, 493) then
  pending "processes in cgroups of their own: no folder of cgroup v2 can be made"
  return
end
local enabled = read(mount .. "/cgroup.subtree_control")

local function remove_tree(path)
  for name, kind in function(entries) return uv.fs_scandir_next(entries) end, assert(uv.fs_scandir(path)) do
    if kind == "directory" then remove_tree(path .. "/" .. name) end
  end
  uv.fs_rmdir(path)
end

local function folders_of(path)
  local found = {}
  for name, kind in function(entries) return uv.fs_scandir_next(entries) end, assert(uv.fs_scandir(path)) do
    if kind == "directory" then found[#found + 1] = name end
  end
  return found
end

local function host_of(code)
  local path = run.folder { ["s.lua"] = [[
    local ltsh = require "ltsh"
    local FOLDER, MOUNT, PROGRAM = ]] .. ("%q, %q, %q"):format(folder, mount, run.program) .. [[

    local actuator = ltsh.actuator.process { stop_grace = 0.5 }
    local scheduler = ltsh.scheduler { container = ltsh.container.queue {}, actuator = actuator, limit = 8 }
    local function result_of(item, options)
      local task = { item = item }
      for name, value in pairs(options or {}) do task[name] = value end
      return scheduler:wait(scheduler:add(task))
    end
  ]] .. code }
  return { path .. "/s.lua" }
end

local function options_of(options)
  options = options or {}
  options.env = { LTSH_CGROUP = options.cgroup or folder }
  return options
end

local function host(code, options)
  local result = run.ltsh(host_of(code), options_of(options))
  assert.equal(0, result.code, result.stderr)
  return result
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines
end

local lives = run.lives

local number = 0
local function mark()
  number = number + 1
  return string.format("7%d.%06d", math.tointeger(uv.os_getpid()), number)
end

describe("a process in a cgroup of its own", function()
  after_each(run.clean)
  teardown(function() remove_tree(folder) end)

  it("is told apart from the host and from other tasks", function()
    local result = host [[
      local show = { shell = "grep ^0:: /proc/self/cgroup" }
      io.write(result_of(show).output.stdout, result_of(show).output.stdout, io.open("/proc/self/cgroup"):read "a")
    ]]
    local place = "0::" .. folder:sub(#mount + 1):gsub("%p", "%%%0") .. "/ltsh%-[%x-]+/"
    assert.matches(place .. "1\n" .. place .. "2\n", result.stdout)
    assert.matches(place .. "host\n", result.stdout)
  end)

  it("leaves nothing behind, whatever it is hidden by", function()
    local one, two = mark(), mark()
    local result = host(([[
      local task = result_of { shell = "env -i setsid sleep %s & env -i setsid setsid -f sleep %s; echo ended" }
      io.write(task.status, " ", task.output.stdout)
    ]]):format(one, two))
    assert.equal("success ended\n", result.stdout)
    assert.matches("processes that a task left behind were ended", result.stderr)
    assert.is_false(lives(one) or lives(two))
  end)

  it("may make cgroups in it, which go with it", function()
    local result = host [[
      local own = ("$(sed -n s,^0::,%s,p /proc/self/cgroup)"):format(MOUNT)
      local task = result_of { shell = "d=" .. own .. "; mkdir -p $d/a/b; " ..
        "(echo 0 > $d/a/b/cgroup.procs; exec sleep 60) & while ! grep -q . $d/a/b/cgroup.procs; do :; done; echo $d" }
      io.write(task.status, " ", tostring(io.open(task.output.stdout:match "[^\n]+")), "\n")
    ]]
    assert.equal("success nil\n", result.stdout)
  end)

  it("is ended at its timeout, with all that it started", function()
    local hidden = mark()
    local result = host(([[
      local task = result_of({ shell = "env -i setsid sleep %s & trap '' TERM; sleep 60; sleep 60" }, { timeout = 0.3 })
      io.write(task.status, " ", task.reason, "\n")
    ]]):format(hidden))
    assert.equal("failed timeout\n", result.stdout)
    assert.is_false(lives(hidden))
  end)

  it("does not outlive what cannot be started", function()
    local result = host [[
      local task = result_of { "/there/is/none" }
      local path = io.popen("ls -d " .. FOLDER .. "/ltsh-*/[0-9]* 2>&1"):read "a"
      io.write(task.reason, "\n", path)
    ]]
    assert.matches("not found: /there/is/none\nls: cannot access", result.stdout)
  end)

  it("that a killed host left behind is ended and removed when the next one starts", function()
    local hidden = mark()
    local child = run.start(host_of(([[
      scheduler:add { item = { shell = "env -i setsid sleep %s & echo $!; exec sleep 60" } }
      scheduler:on("output", function(_, _, bytes) print(bytes) end)
      scheduler:wait "none"
      require "ltsh".sleep(60)
    ]]):format(hidden)), options_of())
    child:expect "%d+\n"
    child:kill "sigkill"
    child:wait()
    assert.is_true(lives(hidden))
    host [[
      result_of { "true" }
      local deadline = os.time() + 20
      while #io.popen("ls -d " .. FOLDER .. "/ltsh-*"):read "a" > #FOLDER + 50 do
        assert(os.time() < deadline)
        require "ltsh".sleep(0.01)
      end
    ]]
    assert.is_false(lives(hidden))
    assert.equal(1, #folders_of(folder))
  end)

  it("is not had where none is wanted, and the log says what limits are made of", function()
    local show = [[
      io.write(result_of { shell = "grep ^0:: /proc/self/cgroup", limits = { open_files = 64 } }.output.stdout)
      result_of { "true", limits = { open_files = 64 } }
    ]]
    local own = read("/proc/self/cgroup"):match "0::[^\n]*\n"
    local none = host(show, { cgroup = "none" })
    assert.equal(own, none.stdout)
    local wrong = host(show, { cgroup = "/tmp" })
    assert.equal(own, wrong.stdout)
    assert.matches("LTSH_CGROUP names no folder of cgroup v2 that can be used%s+path=/tmp", wrong.stderr)
    local given = host(show)
    for text, result in pairs {
      ["no cgroup is delegated to the host: limits are rlimits of each process"] = none,
      ["each process has a cgroup of its own"] = given,
    } do
      local _, times = result.stderr:gsub(text, "")
      assert.equal(1, times)
    end
  end)
end)

-- What is limited where its controller is there.
local function limit_it(controller, name, fn)
  local there = read(mount .. "/cgroup.controllers"):find(controller, 1, true)
  if there then
    it(name, fn)
  else
    pending(("%s: the controller %s is not in %s"):format(name, controller, mount))
  end
end

describe("the limits of a cgroup", function()
  setup(function()
    uv.fs_mkdir(folder, 493)
    for controller in (read(mount .. "/cgroup.controllers")):gmatch "%S+" do
      local file = io.open(mount .. "/cgroup.subtree_control", "w")
      if file then file:write("+" .. controller) file:close() end
    end
  end)
  teardown(function()
    remove_tree(folder)
    for controller in read(mount .. "/cgroup.subtree_control"):gmatch "%S+" do
      local file = not enabled:find(controller, 1, true) and io.open(mount .. "/cgroup.subtree_control", "w")
      if file then file:write("-" .. controller) file:close() end
    end
  end)
  after_each(run.clean)

  limit_it("memory", "end what takes more memory, and say so", function()
    local result = host [[
      local function show(command)
        local task = result_of { shell = command, limits = { memory = "32M" } }
        print(task.status, task.reason, task.output.code, task.output.signal)
      end
      local hog = PROGRAM .. " -e 'x = (\"x\"):rep(100 << 20)' 2>/dev/null"
      show("exec " .. hog)
      show(hog .. " || exit 1")
      show(hog .. "; exit 0")
      show "kill -9 $$"
    ]]
    assert.same({
      "failed\tmemory limit\tnil\t9",
      "failed\texit code 1 (memory limit)\t1\tnil",
      "success\tnil\t0\tnil",
      "failed\tsignal 9 (killed)\tnil\t9",
    }, lines_of(result.stdout))
  end)

  limit_it("memory", "count for all of its processes together", function()
    local result = host [[
      local hog = "(" .. PROGRAM .. " -e 'x = (\"x\"):rep(8 << 20) require(\"ltsh\").sleep(60)' || echo killed) & "
      local task = result_of({ shell = hog:rep(4) .. "wait", limits = { memory = "32M" } }, { timeout = 5 })
      print(task.reason, task.output.stdout:match "killed")
      task = result_of({ shell = hog .. "wait", limits = { memory = "32M" } }, { timeout = 5 })
      print(task.reason, task.output.stdout:match "killed")
    ]]
    assert.equal("timeout\tkilled\ntimeout\tnil\n", result.stdout)
  end)

  limit_it("cpu", "give so many cores, and no more", function()
    local result = host [[
      local task = result_of({ shell = "while :; do :; done", limits = { cpu = 0.2 } }, { timeout = 1 })
      print(task.reason, task.output.usage.user + task.output.usage.system < 0.6)
    ]]
    assert.equal("timeout\ttrue\n", result.stdout)
  end)

  limit_it("pids", "count the processes of the task, and no others, also for root", function()
    local result = host [[
      local task = result_of { shell = ("sleep 60 & "):rep(5) .. "echo all", limits = { processes = 4 } }
      print(task.status, task.output.stdout:find "all" ~= nil, task.reason:match "[^:]*")
      task = result_of { shell = "sleep 0.01 & sleep 0.01 & wait; echo all", limits = { processes = 4 } }
      print(task.status, task.output.stdout)
    ]]
    assert.matches("failed\tfalse\texit code %d+\nsuccess\tall\n", result.stdout)
  end)
end)
