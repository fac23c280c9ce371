-- The process actuator and ltsh.exec, with real processes.
local ltsh = require "ltsh"
local run = require "spec.support.run"
local scene = require "spec.support.scene"
local uv = require "luv"

local actuator_contract = assert(loadfile("spec/contract/actuator_contract.lua", "t", _ENV))()

after_each(scene.close)

local function open(options)
  options = options or {}
  options.limit = options.limit or 4
  return scene.open(options.actuator or ltsh.actuator.process {}, options)
end

local function result_of(item, options)
  local scheduler = open(options)
  local id = assert(scheduler:add { item = item, timeout = options and options.timeout })
  local task = assert(scheduler:wait(id, 30))
  scheduler:close()
  return task
end

local lives = run.lives

local number = 0
-- A number that sleep(1) takes, and by which it is found.
local function mark()
  number = number + 1
  return string.format("6%d.%06d", math.tointeger(uv.os_getpid()), number)
end

actuator_contract("processes", {
  actuator = function() return ltsh.actuator.process { stop_grace = 0.5 } end,
  sleep = function() return { "sleep", "60" } end,
  ahead = 128 << 10,
  flood = function(bytes) return { "head", "-c", bytes, "/dev/zero" } end,
  flaky = function(folder) return { shell = "test -e x || { touch x; exit 1; }", cwd = folder } end,
})

describe("a process", function()
  it("has its output apart, and what it used", function()
    local task = result_of { shell = "echo out; echo err >&2" }
    assert.same({ "success", 0, "out\n", "err\n" }, {
      task.status, task.output.code, task.output.stdout, task.output.stderr,
    })
    assert.is_true(task.output.usage.max_rss > 100000)
    assert.is_true(task.output.usage.user >= 0 and task.output.usage.system >= 0)
    assert.equal("integer", math.type(task.handle))
  end)

  it("is given as a command, a list, or for the shell", function()
    for _, item in ipairs {
      { cmd = "printf", args = { "%s-%s", "a", 5 } }, { "printf", "%s-%s", "a", 5 }, { shell = "printf %s-%s a 5" },
      { cmd = { "printf", "%s-%s", "a", 5 } }, { "printf", "%s-%s", "a", 5, cwd = "/" },
    } do
      assert.equal("a-5", result_of(item).output.stdout)
    end
  end)

  it("has of the actuator what its item leaves out", function()
    local actuator = ltsh.actuator.process { "sh", "-c", "echo $A $B", env = { A = "one", B = "two" } }
    assert.equal("one two\n", result_of({}, { actuator = actuator }).output.stdout)
    assert.equal("one three\n", result_of({ env = { B = "three" } }, { actuator = actuator }).output.stdout)
    assert.equal("other two\n", result_of({ shell = "echo other $B" }, { actuator = actuator }).output.stdout)
    assert.has_error(function() ltsh.actuator.process { "x", nise = 1 } end,
      "ltsh.actuator.process.nise: unknown, did you mean nice?")
  end)

  local refused = {
    { {}, "item.cmd: is missing" },
    { { cmd = "x", arg = {} }, "item.arg: unknown, did you mean args?" },
    { { cmd = "x", shell = "y" }, "item.shell: must be given instead of cmd, and not beside it" },
    { { shell = true }, 'item.shell: must be the command line for the shell, as shell = "a | b", got true' },
    { { "a\0b" }, "item.cmd[1]: must be text without NULs" },
    { { "x", true }, "item.cmd[2]: must be text without NULs, got true" },
    { { "x", {} }, "item.cmd[2]: must be text without NULs" },
    { { "x", env = { ["A=B"] = "c" } }, "item.env.A=B: must be named without '='" },
    { { "x", umask = "9" }, "item.umask: must be a mask" },
    { { "x", stdout = "captur" }, 'item.stdout: must be spelled as "capture"' },
    { { "x", nice = 20 }, "item.nice: must be an integer from -20 to 19, got 20" },
    { { "x", limits = { cpu = 1 } }, "item.limits.cpu: must be left out: it needs a cgroup" },
    { { "x", pty = true, stdout = "discard" }, "item.pty: a terminal is all three streams" },
  }

  it("that makes no sense is refused when it is added", function()
    local scheduler = open()
    for _, case in ipairs(refused) do
      local id, message, code = scheduler:add { item = case[1] }
      assert.is_nil(id)
      assert.equal("refused", code)
      assert.equal(case[2], message:sub(1, #case[2]))
    end
    assert.equal("refused", select(3, scheduler:add { item = "ls" }))
    assert.equal("refused", select(3, scheduler:add {}))
  end)

  it("fails with its exit code and the last line that it said", function()
    local task = result_of { shell = "echo out; echo one >&2; echo 'no such thing' >&2; exit 3" }
    assert.same({ "failed", "exit code 3: no such thing", "out\n", 3 }, {
      task.status, task.reason, task.output.stdout, task.output.code,
    })
  end)

  it("that a signal ends has no exit code", function()
    local task = result_of { shell = "kill -9 $$", success_codes = { 0, 9, 137 } }
    assert.same({ "failed", "signal 9 (killed)", 9 }, { task.status, task.reason, task.output.signal })
    assert.is_nil(task.output.code)
    assert.equal("exit code 137", result_of({ shell = "sh -c 'kill -9 $$' 2>/dev/null; exit $?" }).reason)
  end)

  it("succeeds with other codes when it may, and is not tried again after some", function()
    assert.equal("success", result_of({ shell = "exit 3", success_codes = { 0, 3 } }).status)
    assert.equal(1, result_of({ shell = "exit 4", no_retry_codes = { 4 } }, { max_retries = 3 }).attempts)
    assert.equal(4, result_of({ shell = "exit 5", no_retry_codes = { 4 } }, { max_retries = 3 }).attempts)
  end)

  it("that cannot be started says which step failed", function()
    local folder = run.folder { odd = "#!/no/such/interpreter\n", plain = "text", ["no-shebang"] = "echo from sh $1\n" }
    assert.equal("not found: nothing-of-this-name", result_of({ "nothing-of-this-name" }).reason)
    assert.equal("not found: /nothing/here", result_of({ "/nothing/here" }).reason)
    assert(uv.fs_chmod(folder .. "/odd", 493))
    assert.equal("not found: the interpreter that ./odd names", result_of({ "./odd", cwd = folder }).reason)
    assert.equal("no such directory: /does/not/exist", result_of({ "ls", cwd = "/does/not/exist" }).reason)
    assert.equal("Not a directory: " .. folder .. "/plain", result_of({ "ls", cwd = folder .. "/plain" }).reason)
    assert.equal("permission denied: " .. folder .. "/plain", result_of({ folder .. "/plain" }).reason)
    assert.equal("No such file or directory: in.txt", result_of({ "cat", stdin = { file = "in.txt" } }).reason)
    assert.equal("no such user or group: nobody-of-this-name", result_of({ "id", user = "nobody-of-this-name" }).reason)
    local long = {}
    for i = 1, 3000 do long[i] = ("x"):rep(1000) end
    assert.equal("its arguments and environment are too long: true", result_of({ cmd = "true", args = long }).reason)
    assert(uv.fs_chmod(folder .. "/no-shebang", 493))
    assert.equal("from sh a\n", result_of({ folder .. "/no-shebang", "a" }).output.stdout)
    run.clean()
  end)

  it("takes 4,000 arguments", function()
    local args = {}
    for i = 1, 4000 do args[i] = tostring(i) end
    assert.equal("4000\n", result_of({ cmd = "sh", args = { "-c", "echo $#", "x", table.unpack(args) } }).output.stdout)
  end)

  it("is looked for in the PATH that it will have", function()
    local folder = run.folder { tool = "#!/bin/sh\necho tool\n" }
    assert(uv.fs_chmod(folder .. "/tool", 493))
    assert.equal("tool\n", result_of({ "tool", env = { PATH = folder } }).output.stdout)
    assert.equal("tool\n", result_of({ "./tool", cwd = folder }).output.stdout)
    assert.equal("success", result_of({ "true", clear_env = true }).status)
    run.clean()
  end)

  it("has the host's environment and more, or only its own", function()
    assert.matches("HOME=.*A=b", result_of({ shell = "env | sort -r", env = { A = "b" } }).output.stdout)
    local text = result_of({ "env", clear_env = true, env = { A = 1, B = "two" } }).output.stdout
    local own = {}
    for name in text:gmatch "(%w+_?%w*)=" do own[#own + 1] = name end
    table.sort(own)
    assert.same({ "A", "B", "LTSH_RUN" }, own)
  end)

  it("has nothing of the host's but its three streams", function()
    assert.equal("0\n1\n2\n3\n", result_of({ "ls", "/proc/self/fd" }).output.stdout) -- 3: of ls itself
    local text = result_of({ "cat", "/proc/self/status" }).output.stdout
    assert.matches("SigBlk:%s*0000000000000000", text)
    assert.matches("SigIgn:%s*0000000000000000", text)
    local session = result_of { shell = "cat /proc/self/stat; echo $$" }
    local fields = {}
    for field in session.output.stdout:gmatch "%S+" do fields[#fields + 1] = field end
    assert.equal(fields[#fields], fields[6])
  end)

  it("is made as quickly when there may be a million descriptors", function()
    -- Closed one by one they would take most of a second for each process.
    local code = [[
      local ltsh = require "ltsh"
      for _ = 1, 200 do assert(ltsh.exec({ "true" }).code == 0) end
    ]]
    local script = 'ulimit -n "$(ulimit -Hn)"; exec "$0" -e "$1"'
    local result = run.start({ "-c", script, run.program, code }, { program = "/bin/sh" }):wait()
    assert.equal(0, result.code, result.stderr)
  end)

  it("has /dev/null, bytes, or a file to read", function()
    local folder = run.folder { ["in"] = "from a file" }
    assert.equal("0\n", result_of({ "wc", "-c" }).output.stdout)
    assert.equal("hello", result_of({ "cat", stdin = "hello" }).output.stdout)
    assert.equal("", result_of({ "cat", stdin = "" }).output.stdout)
    local bytes = ("\0\1\2\255"):rep(1 << 18)
    assert.equal(bytes, result_of({ "cat", stdin = bytes, max_output = "2M" }).output.stdout)
    assert.equal("success", result_of({ "true", stdin = bytes }).status)
    assert.equal("from a file", result_of({ "cat", stdin = { file = "in" }, cwd = folder }).output.stdout)
    run.clean()
  end)

  it("writes to a file, anew at its first attempt and at the end in a retry", function()
    local folder = run.folder { out = "old" }
    local item = { shell = "echo attempt; exit 1", stdout = "out", cwd = folder }
    local task = result_of(item, { max_retries = 1 })
    assert.same({ 2, nil }, { task.attempts, task.output.stdout })
    assert.equal("attempt\nattempt\n", io.open(folder .. "/out"):read "a")
    run.clean()
  end)

  it("can have one stream for both, or none", function()
    local task = result_of { shell = "echo a; echo b >&2; echo c", stderr = "stdout" }
    assert.same({ "a\nb\nc\n", nil }, { task.output.stdout, task.output.stderr })
    assert.is_nil(result_of({ shell = "echo a", stdout = "discard" }).output.stdout)
  end)

  it("can have a terminal", function()
    local task = result_of { shell = "test -t 0 && test -t 1 && test -t 2 && echo yes > /dev/tty", pty = true }
    assert.same({ "success", "yes\r\n" }, { task.status, task.output.stdout })
    assert.equal("success", result_of({ cmd = "cat", pty = true, stdin = "text\n" }).status)
  end)

  it("that asks the terminal is refused, and not stopped", function()
    assert.equal("refused\n", result_of({ shell = "read x < /dev/tty || echo refused" }).output.stdout)
  end)

  it("has the head and the tail of a long output", function()
    local text = result_of({ shell = "seq 1 20000", max_output = "1K" }).output.stdout
    assert.matches("^1\n2\n3\n.*\n%[%.%.%. %d+ bytes left out %.%.%.%]\n.*\n19999\n20000\n$", text)
  end)

  it("has the umask, nice and limits that it is to have", function()
    local text = result_of({
      shell = "umask; nice; ulimit -n; ulimit -f; ulimit -t", umask = "027", nice = 3,
      limits = { open_files = 100, file_size = "1M", cpu_seconds = 7 },
    }).output.stdout
    local nice = tonumber(ltsh.exec({ "nice" }).stdout) -- it is added to the host's
    assert.equal("0027\n" .. math.tointeger(math.min(nice + 3, 19)) .. "\n100\n2048\n7\n", text)
    local item = { shell = "head -c 300000000 /dev/zero | tail -c 200000000 | wc -c", limits = { memory = "64M" } }
    assert.matches("memory exhausted", result_of(item).output.stderr)
  end)

  if uv.getuid() == 0 then
    it("runs as another user, with that one's groups and home", function()
      local item = { shell = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME", user = "nobody" }
      local text = result_of(item).output.stdout
      assert.equal("65534\n65534\n65534\n/nonexistent nobody nobody\n", text)
      assert.equal("1234\n4321\n", result_of({ shell = "id -u; id -g", user = "1234:4321" }).output.stdout)
      local folder = run.folder()
      assert(uv.fs_chmod(folder, 448))
      assert.equal("permission denied: " .. folder, result_of({ "ls", cwd = folder, user = "nobody" }).reason)
      assert.matches("^item.limits.processes: must be left out: without a cgroup",
        select(2, open():add { item = { "x", limits = { processes = 5 } } }))
      run.clean()
    end)
  end

  it("tells its output as it comes", function()
    local scheduler, heard = open(), {}
    scheduler:on("output", function(task, stream, bytes)
      heard[#heard + 1] = { stream, bytes }
      if bytes == "one\n" then uv.kill(scheduler:get(task.id).handle, "sigusr1") end
    end)
    local shell = "trap 'echo two >&2; exit' USR1; echo one; while :; do sleep 0.02; done"
    scheduler:add { id = "a", item = { shell = shell } }
    assert.equal("success", scheduler:wait("a").status)
    assert.same({ { "stdout", "one\n" }, { "stderr", "two\n" } }, heard)
  end)
end)

describe("progress", function()
  it("is made of lines, however they end and are cut", function()
    local splitter, lines = require("ltsh.lines").splitter, {}
    local feed, finish = splitter(function(line) lines[#lines + 1] = line end)
    local cut = { "one\ntw", "o\r\nthree\r", "\nfour\rfi", "ve\n\n", "si\xC3", "\xBC\r\r", "\n", "x" }
    for _, bytes in ipairs(cut) do feed(bytes) end
    assert.same({ "one", "two", "three", "four", "five", "", "si\xC3\xBC", "" }, lines)
    finish()
    assert.equal("x", lines[#lines])
  end)

  it("of a process is what a function makes of its lines", function()
    local lines = {}
    local scheduler = open {
      actuator = ltsh.actuator.process {
        progress = function(line, stream)
          lines[#lines + 1] = stream .. " " .. line
          return tonumber(line:match "^(%d+)%%")
        end,
      },
    }
    local seen = {}
    scheduler:on("progress", function(task) seen[#seen + 1] = task.progress end)
    scheduler:add { id = "a", item = {
      shell = [[printf '10%%\r'; read x; printf '55%%\r'; echo no number; printf '99%%\n' >&2; printf 'the end']],
      stdin = "go\n",
    } }
    local task = scheduler:wait "a"
    assert.same({ 10, 55 }, { seen[1], seen[2] })
    assert.equal(99, task.progress)
    table.sort(lines)
    assert.same({ "stderr 99%", "stdout 10%", "stdout 55%", "stdout no number", "stdout the end" }, lines)
  end)

  it("must be a function", function()
    assert.has_error(function() ltsh.actuator.process { progress = 5 } end,
      "ltsh.actuator.process: progress must be a function(line, stream), got 5")
  end)
end)

describe("the end of a process", function()
  it("at its timeout lets it say something", function()
    local task = result_of({ shell = "trap 'echo bye; exit' TERM; sleep 60 & wait" }, { timeout = 0.3 })
    assert.same({ "failed", "timeout", "bye\n" }, { task.status, task.reason, task.output.stdout })
  end)

  it("comes by KILL when it does not hear", function()
    local item = { shell = "trap '' TERM; while :; do sleep 0.05; done", stop_grace = 0.2 }
    local task = result_of(item, { timeout = 0.2 })
    assert.same({ "failed", "timeout", 9 }, { task.status, task.reason, task.output.signal })
  end)

  it("reaches one that is stopped, without waiting for its grace", function()
    local started = ltsh.now()
    local item = { shell = "trap 'echo bye; exit' TERM; kill -STOP $$; sleep 60", stop_grace = 20 }
    local task = result_of(item, { timeout = 0.5 })
    assert.same({ "timeout", "bye\n" }, { task.reason, task.output.stdout })
    assert.is_true(ltsh.now() - started < 15)
  end)

  it("takes all with it that it started, also what left its session", function()
    local one, two, three = mark(), mark(), mark()
    local shell = ("sleep %s & setsid sleep %s & (setsid sh -c 'sleep %s & sleep 60' &) ; sleep 0.2; echo done")
      :format(one, two, three)
    local task = result_of { shell = shell }
    assert.same({ "success", "done\n" }, { task.status, task.output.stdout })
    for _, sleeper in ipairs { one, two, three } do assert.is_false(lives("sleep " .. sleeper)) end
  end)

  it("leaves no zombie", function()
    result_of { shell = "for i in 1 2 3; do setsid true & done; setsid sh -c 'setsid true & exit 0' & exit 0" }
    local children = io.open("/proc/self/task/" .. math.tointeger(uv.os_getpid()) .. "/children"):read "a"
    for pid in children:gmatch "%d+" do
      local stat = io.open("/proc/" .. pid .. "/stat")
      assert.is_nil(stat and stat:read("a"):match "%) (Z)")
    end
  end)

  it("of what it left behind leaves no zombie while it runs on", function()
    local scheduler, place = open(), run.folder()
    local id = scheduler:add { item = { cwd = place, stop_grace = 1,
      shell = "for i in 1 2 3; do (setsid true &); done; (true &); touch done; exec sleep 60" } }
    scene.eventually("they were begun", function() return uv.fs_stat(place .. "/done") end)
    local children = "/proc/self/task/" .. math.tointeger(uv.os_getpid()) .. "/children"
    scene.eventually("they are reaped", function() return io.open(children):read "a" == "" end)
    assert.equal("running", scheduler:get(id).status)
  end)

  it("of what it left behind is said", function()
    local result = run.ltsh({ "-e", [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler { container = ltsh.container.queue {}, actuator = ltsh.actuator.process {} }
      scheduler:add { id = "starts", item = { shell = "setsid -f sleep 60; setsid -f sleep 60; sleep 0.1" } }
      scheduler:wait "starts"
    ]] }, { env = { LTSH_CGROUP = "none" } })
    assert.matches("INFO +processes that a task left behind were ended +task=starts count=2 name=sleep", result.stderr)
  end)

  it("is not waited for beyond the grace when a stranger holds the pipe", function()
    local task = result_of { shell = "echo here; env -u LTSH_RUN setsid sleep 3 &", stop_grace = 0.1 }
    assert.same({ "success", "here\n" }, { task.status, task.output.stdout })
  end)

  it("of 300 that are stopped as they start leaves nothing", function()
    local scheduler, sleeper = open { limit = 50 }, mark()
    scheduler:on("started", function(task) ltsh.spawn(function() scheduler:stop(task.id) end) end)
    for i = 1, 300 do scheduler:add { id = tostring(i), item = { "sleep", sleeper } } end
    for i = 1, 300 do assert.equal("stopped", scheduler:wait(tostring(i)).status) end
    assert.is_false(lives("sleep " .. sleeper))
  end)

  it("comes with that of the host", function()
    local script = [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {}, shutdown_grace = 0.2,
        actuator = ltsh.actuator.process { stop_grace = 0.2 },
      }
      scheduler:on("output", function() print "runs" end)
      scheduler:add { item = { shell = "echo x; " .. arg[1] } }
    ]]
    for _, signal in ipairs { "sigterm", "sigkill" } do
      local folder, sleeper = run.folder { ["script.lua"] = script }, mark()
      local child = run.start { folder .. "/script.lua", "exec sleep " .. sleeper }
      child:expect "runs"
      child:kill(signal)
      child:wait()
      scene.eventually("the end of it", function() return not lives("sleep " .. sleeper) end)
    end
    run.clean()
  end)

  it("that was left behind by a host that was killed comes when the next host starts", function()
    local sleeper = mark()
    local shell = ("setsid sleep %s & echo x; sleep 60"):format(sleeper)
    local child = run.start({ "-e", [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler { container = ltsh.container.queue {}, actuator = ltsh.actuator.process {} }
      scheduler:on("output", function() print "runs" end)
      scheduler:add { item = { shell = arg[1] } }
    ]], shell })
    child:expect "runs"
    child:kill "sigkill"
    child:wait()
    assert.is_true(lives("sleep " .. sleeper))
    local result = run.ltsh { "-e", [[require("ltsh").exec { "true" }]] }
    assert.equal(0, result.code)
    assert.matches("ended processes that a host which was killed left behind", result.stderr)
    scene.eventually("the end of it", function() return not lives("sleep " .. sleeper) end)
  end)

  it("does not come to those of a host that is not known to be dead", function()
    local sleeper = mark()
    local stranger = run.start({ sleeper }, {
      program = run.find "sleep", env = { LTSH_RUN = "0123456789abcdef-0123456789abcdef:1" },
    })
    run.ltsh { "-e", [[require("ltsh").exec { "true" }]] }
    assert.is_true(lives("sleep " .. sleeper))
    stranger:kill "sigkill"
    stranger:wait()
  end)
end)

describe("ltsh.exec", function()
  it("gives what a process gave", function()
    local result = ltsh.exec { "sh", "-c", "echo out; echo err >&2; exit 3" }
    assert.same({ 3, nil, "out\n", "err\n", nil }, {
      result.code, result.signal, result.stdout, result.stderr, result.timed_out,
    })
    assert.equal(9, ltsh.exec({ shell = "kill -9 $$" }).signal)
  end)

  it("says why it could not be started", function()
    local result, message, code = ltsh.exec { "nothing-of-this-name" }
    assert.same({ nil, "not found: nothing-of-this-name", "error" }, { result, message, code })
  end)

  it("does not read what the host is to read", function()
    local result = run.ltsh({ "-e", [[
      local output = require("ltsh").exec { "cat" }.stdout
      print(#output, io.read "l")
    ]] }, { stdin = "of the host\n" })
    assert.equal("0\tof the host\n", result.stdout)
  end)

  it("raises for what makes no sense", function()
    assert.has_error(function() ltsh.exec {} end,
      'ltsh.exec.cmd: is missing: the program, as { cmd = "ls", args = { "-l" } }')
    assert.has_error(function() ltsh.exec { "ls", cwdd = "/" } end, "ltsh.exec.cwdd: unknown, did you mean cwd?")
    assert.has_error(function() ltsh.exec { "ls", timeout = -1 } end,
      "ltsh.exec: timeout must be a positive number of seconds, got -1")
  end)

  it("ends it at its timeout, with what it said so far", function()
    local result = ltsh.exec { shell = "echo here; sleep 60", timeout = 0.3, stop_grace = 0.2 }
    assert.same({ true, "here\n" }, { result.timed_out, result.stdout })
  end)

  it("streams, and waits for who takes it", function()
    local seen, bytes = {}, 0
    local result = ltsh.exec {
      shell = "echo one; echo two >&2; head -c 3000000 /dev/zero",
      stream = function(name, text)
        if bytes == 0 then seen[#seen + 1] = name .. " " .. text:sub(1, 3) end
        bytes = bytes + #text
        ltsh.sleep(0.0005)
      end,
    }
    assert.equal(0, result.code)
    assert.equal("stdout one", seen[1])
    assert.equal(3000008, bytes)
  end)

  it("ends it with the job that waits, and with a stream that raises", function()
    local sleeper = mark()
    local job = ltsh.spawn(ltsh.exec, { "sleep", sleeper })
    scene.eventually("it runs", function() return lives("sleep " .. sleeper) end)
    job:cancel()
    scene.eventually("the end of it", function() return not lives("sleep " .. sleeper) end)
    local fine, message = pcall(ltsh.exec, {
      shell = "echo x; exec sleep " .. sleeper, stream = function() error("enough", 0) end,
    })
    assert.same({ false, "enough" }, { fine, message })
    scene.eventually("the end of it", function() return not lives("sleep " .. sleeper) end)
  end)

  it("can be called by many at once", function()
    local jobs = {}
    for i = 1, 100 do jobs[i] = ltsh.spawn(function() return ltsh.exec({ "echo", i }).stdout end) end
    for i = 1, 100 do assert.equal(i .. "\n", jobs[i]:wait()) end
  end)

  it("holds the process until it has ended", function()
    local result = run.ltsh { "-e", [[
      local ltsh = require "ltsh"
      ltsh.spawn(function() print(ltsh.exec({ shell = "sleep 0.2; echo late" }).stdout) end)
    ]] }
    assert.same({ 0, "late\n\n" }, { result.code, result.stdout })
  end)
end)
