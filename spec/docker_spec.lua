-- The Docker actuator with a real engine.
local engine = require "spec.support.engine"
local ltsh = require "ltsh"
local Proxy = require "spec.support.proxy"
local redis = require "spec.support.redis"
local Registry = require "spec.support.registry"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local actuator_contract = assert(loadfile("spec/contract/actuator_contract.lua", "t", _ENV))()

local available, why = engine.start()
teardown(engine.stop)
teardown(redis.stop)

local function docker(options)
  local defaults = { host = engine.host, image = "busybox:test", network_mode = "none" }
  for name, value in pairs(options or {}) do defaults[name] = value end
  return ltsh.actuator.docker(defaults)
end

local function open(options)
  options = options or {}
  options.limit = options.limit or 4
  return scene.open(options.actuator or docker(), options)
end

-- Runs one task to its end.
local function result_of(item, options)
  options = options or {}
  local scheduler = open(options)
  local id = assert(scheduler:add { id = options.id, item = item, timeout = options.timeout })
  local task = assert(scheduler:wait(id, 60))
  scheduler:close()
  return task
end

local function nothing_is_left()
  assert.equal("", engine.containers())
end

describe("ltsh.actuator.docker", function()
  it("refuses a place that makes no sense", function()
    for _, host in ipairs { "nonsense", "ssh://there", "unix:relative", "tcp://" } do
      local made, message = pcall(ltsh.scheduler, {
        container = ltsh.container.queue {}, actuator = ltsh.actuator.docker { host = host },
      })
      assert.is_false(made)
      local right = "host must be unix:///path, tcp://name:port or https://name:port, got \""
      assert.matches(right .. host, message, 1, true)
    end
  end)

  it("names an option that it does not know, and the nearest", function()
    assert.has_error(function() ltsh.actuator.docker { imgae = "x" } end,
      "ltsh.actuator.docker.imgae: unknown, did you mean image?")
    assert.has_error(function() ltsh.actuator.docker { memory = "lots" } end,
      'ltsh.actuator.docker.memory: must be a number of bytes or a text such as "64M", got "lots"')
  end)

  local cases = {
    { {}, "item.image: is missing: the name of an image" },
    { { image = "x", arg = {} }, "item.arg: unknown, did you mean args?" },
    { { image = "x", shell = true }, 'item.shell: must be the command line for the shell, as shell = "a | b", got ' },
    { { image = "x", cmd = { "a" }, shell = "b" }, "item.shell: must be given instead of cmd, and not beside it" },
    { { image = "x", cmd = { "a\0b" } }, "item.cmd[1]: must be text without NULs" },
    { { image = "x", cmd = { true } }, "item.cmd[1]: must be text without NULs, got true" },
    { { image = "x", env = { ["A=B"] = "c" } }, "item.env.A=B: must be named without '='" },
    { { image = "x", limits = { memry = 1 } }, "item.limits.memry: unknown, did you mean memory?" },
    { { image = "x", volumes = { ["/a"] = "b" } }, 'item.volumes["/a"]: must be a path in the container' },
    { { image = "x", success_codes = { 256 } }, "item.success_codes: must be a list of exit codes from 0 to 255" },
    { { image = "x", stop_signal = "NONE" }, 'item.stop_signal: must be a signal, such as "TERM", "SIGTERM" or 15' },
    { { image = "x", labels = { ["ltsh.task"] = "x" } }, "item.labels.ltsh.task: must be named otherwise" },
    { { image = "x", name = "a/b" }, "item.name: must be a container's name" },
    { { image = "x", pull = "often" }, 'item.pull: must be "missing", "always" or "never"' },
  }

  it("refuses items that make no sense, with their path", function()
    local scheduler = scene.open(ltsh.actuator.docker { host = "unix:///nowhere/docker.sock" })
    for _, case in ipairs(cases) do
      local id, message, code = scheduler:add { item = case[1] }
      assert.is_nil(id)
      assert.equal("refused", code)
      assert.equal(case[2], message:sub(1, #case[2]))
    end
    assert.equal("refused", select(3, scheduler:add {}))
    scheduler:close()
  end)

  it("has tasks wait for an engine that is not there, and uses no attempt for it", function()
    local folder = run.folder()
    local scheduler = scene.open(ltsh.actuator.docker { host = "unix://" .. folder .. "/docker.sock", image = "x" })
    scheduler:add { id = "a", item = {} }
    while not scheduler:get("a").reason do ltsh.sleep(0.01) end
    assert.equal(0, scheduler:get("a").attempts)
    assert.matches("^Docker is not reachable at unix://.*: No such file or directory$", scheduler:get("a").reason)
    assert.equal("waiting", scheduler:get("a").status)
    scheduler:close()
    run.clean()
  end)
end)

if not available then
  pending("containers of a Docker Engine, which is not there: " .. why)
  return
end

actuator_contract("containers", {
  actuator = function() return docker { stop_grace = 0.5 } end,
  sleep = function() return { cmd = { "sleep", "60" } } end,
  ahead = 4 << 20,
  flood = function(bytes) return { cmd = { "head", "-c", bytes, "/dev/zero" } } end,
  flaky = function(folder)
    return { shell = "test -e x || { touch x; exit 1; }", volumes = { [folder] = "/data" }, cwd = "/data" }
  end,
})

describe("a container", function()
  after_each(scene.close)

  it("has its output apart, and is removed", function()
    local task = result_of { shell = "echo out; echo err >&2" }
    assert.same({ "success", { code = 0, stdout = "out\n", stderr = "err\n" } }, { task.status, task.output })
    assert.matches("^%x+$", task.handle)
    nothing_is_left()
  end)

  it("fails with its exit code and the last line that it said, its output is kept", function()
    local task = result_of { shell = "echo out; echo one >&2; echo 'no such thing' >&2; exit 3" }
    assert.same({ "failed", "exit code 3: no such thing", "out\n" }, { task.status, task.reason, task.output.stdout })
    nothing_is_left()
  end)

  it("succeeds with other codes when it may, and is not tried again with some", function()
    assert.equal("success", result_of({ shell = "exit 3", success_codes = { 0, 3 } }).status)
    local scheduler = open { max_retries = 3 }
    scheduler:add { id = "a", item = { shell = "exit 4", no_retry_codes = { 4 } } }
    assert.equal(1, scheduler:wait("a").attempts)
  end)

  it("that cannot be started says why", function()
    local task = result_of { cmd = { "nothing-of-this-name" } }
    assert.equal("failed", task.status)
    assert.equal("not found: nothing-of-this-name", task.reason)
    nothing_is_left()
  end)

  it("of an image that is not there says so", function()
    assert.equal("image not found: nothing:latest", result_of({ image = "nothing", pull = "never" }).reason)
    assert.matches("^image not found: nothing:latest: ", result_of({ image = "nothing" }).reason)
  end)

  it("that takes too much memory says so", function()
    local task = result_of { memory = "8M", shell = "x=a; while :; do x=$x$x; done" }
    -- The engine loses what it hears of memory now and then, when the container ends at the same time.
    local reason = task.output.oom and "out of memory" or "exit code 137 (killed, perhaps for its memory)"
    assert.same({ "failed", reason }, { task.status, task.reason })
  end)

  it("whose limit the engine does not take says so in the engine's words", function()
    assert.matches("[Mm]inimum memory limit", result_of({ cmd = { "true" }, memory = "4M" }).reason)
  end)

  it("that succeeds though a process of it was killed for its memory says both", function()
    local task = result_of { memory = "16M", shell = "sh -c 'x=a; while :; do x=$x$x; done'; exit 0" }
    assert.same({ "success", true, 0 }, { task.status, task.output.oom, task.output.code })
  end)

  it("is told to stop at its timeout, and may say something", function()
    local task = result_of({ shell = "trap 'echo bye; exit' TERM; sleep 60 & wait" }, { timeout = 1 })
    assert.same({ "failed", "timeout", "bye\n" }, { task.status, task.reason, task.output.stdout })
    nothing_is_left()
  end)

  it("that does not end is killed after its grace", function()
    local task = result_of({ cmd = { "sleep", "60" }, stop_grace = 0.5 }, { timeout = 0.5 })
    assert.same({ "failed", "timeout", 137 }, { task.status, task.reason, task.output.code })
    nothing_is_left()
  end)

  it("is stopped with the signal of its image, unless it says another", function()
    local item = {
      image = "busybox:int",
      shell = "trap 'echo int; exit' INT; trap 'echo usr; exit' USR1; echo here; sleep 60 & wait",
    }
    for _, case in ipairs { { nil, "here\nint\n" }, { "USR1", "here\nusr\n" } } do
      local scheduler = open()
      scheduler:on("output", function(task) ltsh.spawn(function() scheduler:stop(task.id) end) end)
      item.stop_signal = case[1]
      scheduler:add { id = "a", item = item }
      local task = scheduler:wait "a"
      assert.same({ "stopped", case[2] }, { task.status, task.output.stdout })
      scheduler:close()
    end
  end)

  it("that is paused runs, and can be stopped", function()
    local scheduler = open()
    scheduler:on("output", function(task)
      ltsh.spawn(function()
        engine.docker("pause", scheduler:get(task.id).handle)
        scheduler:stop(task.id, "enough")
      end)
    end)
    scheduler:add { id = "a", item = { shell = "echo here; sleep 60", stop_grace = 0.5 } }
    local task = scheduler:wait "a"
    assert.same({ "stopped", "enough" }, { task.status, task.reason })
    scheduler:close()
    nothing_is_left()
  end)

  it("has input, and the end of it", function()
    assert.equal("5\n", result_of({ cmd = { "wc", "-c" }, stdin = "hello" }).output.stdout)
    assert.equal("0\n", result_of({ cmd = { "wc", "-c" }, stdin = "" }).output.stdout)
    assert.equal("0\n", result_of({ shell = "cat | wc -c" }).output.stdout)
    local bytes = ("0123456789abcde\n"):rep(1 << 16)
    assert.equal("1048576\n", result_of({ cmd = { "wc", "-c" }, stdin = bytes }).output.stdout)
    assert.equal("success", result_of({ cmd = { "true" }, stdin = bytes }).status)
  end)

  it("has binary output as it is", function()
    local task = result_of { shell = [[printf 'a\000b\377c\n\r\n'; printf 'no newline' >&2]] }
    assert.same({ "a\0b\255c\n\r\n", "no newline" }, { task.output.stdout, task.output.stderr })
  end)

  it("has the head and the tail of a long output, and how much is left out", function()
    local task = result_of { shell = "seq 1 20000", max_output = "1K" }
    assert.matches("^1\n2\n3\n.*\n%[%.%.%. %d+ bytes left out %.%.%.%]\n.*\n19999\n20000\n$", task.output.stdout)
  end)

  it("can have one stream for both, or none", function()
    local task = result_of { shell = "echo a; sleep 0.1; echo b >&2; sleep 0.1; echo c", stderr = "stdout" }
    assert.same({ code = 0, stdout = "a\nb\nc\n" }, task.output)
    assert.same({ code = 0, stderr = "b\n" }, result_of({ shell = "echo a; echo b >&2", stdout = "discard" }).output)
  end)

  it("can have a terminal", function()
    assert.equal("yes\r\n", result_of({ shell = "test -t 1 && echo yes", pty = true }).output.stdout)
  end)

  it("tells its output as it comes", function()
    local scheduler, heard = open(), {}
    scheduler:on("output", function(task, stream, bytes)
      heard[#heard + 1] = { task.id, stream, bytes, scheduler:get(task.id).status }
      if bytes == "one\n" then engine.docker("kill", "-s", "USR1", scheduler:get(task.id).handle) end
    end)
    local shell = "trap 'echo two >&2; exit' USR1; echo one; while :; do sleep 0.02; done"
    scheduler:add { id = "a", item = { shell = shell } }
    assert.equal("success", scheduler:wait("a").status)
    assert.same({ { "a", "stdout", "one\n", "running" }, { "a", "stderr", "two\n", "running" } }, heard)
  end)

  it("is made as its item says", function()
    local scheduler, inspected = open()
    scheduler:on("output", function(task)
      ltsh.spawn(function()
        inspected = ltsh.json.decode(engine.docker("inspect", scheduler:get(task.id).handle))[1]
        scheduler:stop(task.id)
      end)
    end)
    scheduler:add { id = "a/b ü", item = {
      shell = "echo here; sleep 60", env = { A = "b" }, cwd = "/tmp", user = "user", labels = { mine = "x" },
      limits = { memory = "64M", cpu = 1.5, processes = 20, open_files = 100 }, cap_drop = { "ALL" }, read_only = true,
      init = false, privileged = false, hostname = "there", stop_grace = 0,
      host_config = { ShmSize = 1 << 20 },
      volumes = { data = "/data" }, ulimits = { core = { 0, 0 } }, exposed_ports = { 80 },
      ports = { ["53/udp"] = 5353 },
    } }
    scheduler:wait "a/b ü"
    local config, host = inspected.Config, inspected.HostConfig
    assert.matches("^/ltsh%-a_b___%-1%-%x+$", inspected.Name)
    assert.same({ "/tmp", "user", "there", { "A=b" } }, { config.WorkingDir, config.User, config.Hostname, config.Env })
    assert.same({ 64 << 20, 64 << 20, 1500000000, 20, true, { "ALL" }, 1 << 20 }, {
      host.Memory, host.MemorySwap, host.NanoCpus, host.PidsLimit, host.ReadonlyRootfs, host.CapDrop, host.ShmSize,
    })
    assert.same({ Name = "nofile", Soft = 100, Hard = 100 }, host.Ulimits[1])
    assert.equal("local", host.LogConfig.Type)
    assert.same({ "x", "a/b ü", "1" }, { config.Labels.mine, config.Labels["ltsh.task"], config.Labels["ltsh.run"] })
    assert.same({ { HostIp = "", HostPort = "5353" } }, host.PortBindings["53/udp"])
    assert.is_truthy(config.ExposedPorts["80/tcp"])
    scheduler:close()
    engine.docker("volume", "rm", "data")
  end)

  it("has folders of the host, which must be there", function()
    local folder = run.folder { ["in"] = "hello\n" }
    local volumes, read_only = { [folder] = "/data" }, { [folder] = "/data:ro" }
    local task = result_of { shell = "cat /data/in; echo there > /data/out", volumes = volumes }
    assert.equal("hello\n", task.output.stdout)
    assert.equal("there\n", io.open(folder .. "/out"):read "a")
    assert.matches("Read%-only", result_of({ shell = "echo x > /data/out", volumes = read_only }).reason)
    local missing = result_of { cmd = { "true" }, volumes = { ["/not/there"] = "/data" } }
    assert.matches("/not/there", missing.reason, 1, true)
    run.clean()
  end)

  it("keeps the name that it was given, and says when that is another's", function()
    engine.docker("create", "--name", "taken", "--network", "none", "busybox:test", "true")
    assert.equal("name already in use: taken", result_of({ cmd = { "true" }, name = "taken" }).reason)
    engine.docker("rm", "taken")
    local scheduler = open { max_retries = 1 }
    scheduler:add { id = "a", item = { shell = "exit 1", name = "mine" } }
    local task = scheduler:wait "a"
    assert.same({ 2, "exit code 1" }, { task.attempts, task.reason })
    scheduler:close()
    nothing_is_left()
  end)

  it("can be kept", function()
    local task = result_of { cmd = { "true" }, keep = true }
    assert.not_equal("", engine.containers())
    engine.docker("rm", task.handle)
  end)

  it("that vanishes fails its own task only", function()
    local scheduler = open()
    scheduler:on("output", function(task)
      if task.id == "a" then ltsh.spawn(engine.docker, "rm", "-f", scheduler:get("a").handle) end
    end)
    scheduler:add { id = "a", item = { shell = "echo here; sleep 60" } }
    scheduler:add { id = "b", item = { shell = "echo here; sleep 1" } }
    assert.equal("failed", scheduler:wait("a").status)
    assert.equal("success", scheduler:wait("b").status)
  end)

  it("is stopped in the moment in which it starts", function()
    local scheduler = open { limit = 8 }
    scheduler:on("started", function(task) ltsh.spawn(function() scheduler:stop(task.id) end) end)
    for i = 1, 8 do scheduler:add { id = tostring(i), item = { cmd = { "sleep", "60" }, stop_grace = 0 } } end
    for i = 1, 8 do assert.equal("stopped", scheduler:wait(tostring(i)).status) end
    scheduler:close()
    nothing_is_left()
  end)
end)

describe("an engine over TLS", function()
  after_each(scene.close)

  local function certificates(names)
    local tls = {}
    for name, file in pairs(names) do tls[name] = engine.certs .. "/" .. file end
    return tls
  end

  it("is spoken to with the certificate of a client", function()
    local tls = certificates { ca = "ca.pem", cert = "cert.pem", key = "key.pem" }
    local task = result_of({ shell = "echo over TLS" }, { actuator = docker { host = engine.tls_host, tls = tls } })
    assert.same({ "success", "over TLS\n" }, { task.status, task.output.stdout })
    nothing_is_left()
  end)

  it("is found by the environment, as the client of Docker finds it", function()
    local result = run.ltsh({ "-e", [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.docker { image = "busybox:test", network_mode = "none" },
      }
      print(scheduler:wait(scheduler:add { item = { shell = "echo over TLS" } }).output.stdout)
    ]] }, { env = { DOCKER_HOST = engine.tls_host, DOCKER_TLS_VERIFY = "1", DOCKER_CERT_PATH = engine.certs } })
    assert.equal("over TLS\n\n", result.stdout, result.stderr)
  end)

  it("that does not know the client, or that the client does not know, has tasks wait, and says why", function()
    local unknown = certificates { ca = "ca.pem" }
    local strange = certificates { ca = "cert.pem", cert = "cert.pem", key = "key.pem" }
    -- In TLS 1.3 the engine refuses a client when that has sent its request: it is told, or finds the line cut.
    for reason, tls in pairs { [" .+"] = unknown, ["SSL certificate problem"] = strange } do
      local scheduler = open { actuator = docker { host = engine.tls_host, tls = tls } }
      scheduler:add { id = "a", item = {} }
      scene.eventually("it waits", function() return scheduler:get("a").reason end)
      assert.equal(0, scheduler:get("a").attempts)
      assert.matches("^Docker is not reachable at tcp://.*" .. reason, scheduler:get("a").reason)
      scheduler:close()
    end
  end)
end)

describe("an engine", function()
  local proxy
  before_each(function() proxy = Proxy(engine.socket) end)
  after_each(function()
    scene.close()
    proxy:close()
  end)

  local function open_proxy(options)
    options = options or {}
    options.actuator = docker { host = proxy.host }
    return open(options)
  end

  it("whose connections break is connected to again, and no end is missed", function()
    local scheduler, seen = open_proxy(), 0
    scheduler:on("output", function(_, _, bytes)
      seen = seen + select(2, bytes:gsub("\n", "\n"))
      if bytes:find "^here" then ltsh.spawn(function() proxy:cut() end) end
    end)
    local item = { shell = "echo here; sleep 0.5; echo there; exit 7" }
    for i = 1, 3 do scheduler:add { id = tostring(i), item = item } end
    for i = 1, 3 do
      local task = scheduler:wait(tostring(i))
      assert.same({ 1, "exit code 7", "here\nthere\n" }, { task.attempts, task.reason, task.output.stdout })
    end
    assert.equal(6, seen)
  end)

  it("that does not tell an end is asked for it, if the output has ended", function()
    local scheduler = open_proxy()
    proxy.drop = '"die"'
    scheduler:add { id = "ends", item = { shell = "echo here; exit 7" } }
    assert.same({ 1, "exit code 7" }, { scheduler:wait("ends").attempts, scheduler:get("ends").reason })
    proxy.drop = nil
    scheduler:add { id = "goes on", item = { shell = "exec >&- 2>&-; sleep 1.5; exit 8" } }
    assert.same({ 1, "exit code 8" }, { scheduler:wait("goes on").attempts, scheduler:get("goes on").reason })
    assert.equal(1, proxy:count "GET .*/events")
  end)

  it("that is away while containers end tells it afterwards", function()
    local scheduler = open_proxy()
    scheduler:on("output", function(_, _, bytes)
      if bytes ~= "here\n" then return end
      ltsh.spawn(function()
        proxy:close()
        ltsh.sleep(1)
        proxy:open()
      end)
    end)
    scheduler:add { id = "a", item = { shell = "echo here; sleep 0.3; echo there" } }
    local task = scheduler:wait "a"
    assert.same({ "success", 1, "here\nthere\n" }, { task.status, task.attempts, task.output.stdout })
    scheduler:close()
    nothing_is_left()
  end)

  it("whose answer to a create is lost leaves nothing behind", function()
    local scheduler = open_proxy()
    proxy.hold = "POST .*/containers/create"
    scheduler:add { id = "a", item = { cmd = { "true" } } }
    while proxy:count "POST .*/containers/create" == 0 do ltsh.sleep(0.01) end
    while engine.containers() == "" do ltsh.sleep(0.01) end
    proxy.hold = nil
    proxy:cut()
    local task = scheduler:wait "a"
    assert.same({ "success", 1 }, { task.status, task.attempts })
    scheduler:close()
    nothing_is_left()
  end)

  it("is spoken to in the version that is asked for", function()
    local scheduler = open { actuator = docker { host = proxy.host, version = "1.30" } }
    scheduler:add { id = "a", item = { cmd = { "true" } } }
    assert.equal("success", scheduler:wait("a").status)
    assert.equal(1, proxy:count "POST /v1.30/containers/create")
    assert.equal(0, proxy:count "/v1.4")
  end)

  it("is spoken to in its own version, and asked for it again when it comes back", function()
    proxy.version = "1.30"
    local scheduler = open_proxy()
    scheduler:add { id = "a", item = { cmd = { "true" } } }
    assert.equal("success", scheduler:wait("a").status)
    assert.equal(1, proxy:count "POST /v1.30/containers/create")
    proxy:close()
    proxy.version = "1.35"
    proxy:open()
    scene.eventually("it is asked", function() return proxy:count "GET /v1.35/events" > 0 end)
    scheduler:add { id = "b", item = { cmd = { "true" } } }
    assert.equal("success", scheduler:wait("b").status)
    assert.equal(1, proxy:count "POST /v1.35/containers/create")
  end)

  it("is never asked for what takes as long as a container", function()
    local scheduler = open_proxy { timeout = 0.5 }
    scheduler:add { id = "a", item = { shell = "trap 'sleep 1; exit' TERM; sleep 60 & wait" } }
    assert.same({ "failed", "timeout" }, { scheduler:wait("a").status, scheduler:get("a").reason })
    assert.is_true(proxy:count "POST .*/kill" >= 1)
    assert.equal(0, proxy:count "/stop" + proxy:count "/wait")
  end)

  it("is not connected to for each call", function()
    local scheduler = open_proxy { limit = 1 }
    for i = 1, 10 do scheduler:add { id = tostring(i), item = { cmd = { "true" } } } end
    for i = 1, 10 do assert.equal("success", scheduler:wait(tostring(i)).status) end
    -- The output of a container takes one of its own; to create, start, look at and remove it takes none.
    assert.is_true(#proxy.requests >= 50 and proxy.connections <= 15, #proxy.requests .. " " .. proxy.connections)
  end)

  it("pulls an image once for all that wait for it, and says what goes wrong", function()
    local folder = run.folder()
    local registry = Registry(folder)
    local scheduler = open_proxy { limit = 10 }
    for i = 1, 10 do
      scheduler:add { id = tostring(i), item = { image = registry.image, cmd = { "/bin/busybox", "echo", i } } }
    end
    for i = 1, 10 do
      local task = scheduler:wait(tostring(i))
      assert.same({ "success", i .. "\n" }, { task.status, task.output and task.output.stdout or task.reason })
    end
    assert.equal(1, proxy:count "POST .*/images/create")
    scheduler:add { id = "missing", item = { image = registry.image .. "s", cmd = { "x" } } }
    local reason = scheduler:wait("missing").reason
    assert.matches("^image not found: 127.0.0.1:%d+/things:latest: .*manifest unknown", reason)
    registry.close()
    run.clean()
  end)

  it("that crashes and comes back fails what ran, and serves what comes", function()
    local scheduler = open { limit = 1 }
    scheduler:on("output", function()
      ltsh.spawn(function()
        engine.kill()
        engine.restart()
      end)
    end)
    scheduler:add { id = "a", item = { shell = "echo here; sleep 60" } }
    scheduler:add { id = "b", item = { cmd = { "true" } } }
    assert.equal("failed", scheduler:wait("a", 300).status)
    assert.equal("success", scheduler:wait("b", 300).status)
    scheduler:close()
    nothing_is_left()
  end)
end)

describe("a socket of an engine that this user may not open", function()
  it("is said to be that, and not to be away", function()
    local nobody = { "--reuid=65534", "--regid=65534", "--clear-groups", run.program }
    local setpriv = { program = run.find "setpriv", env = { XDG_RUNTIME_DIR = false } }
    if run.start({ nobody[1], nobody[2], nobody[3], nobody[4], "--version" }, setpriv):wait().code ~= 0 then
      return pending "the program cannot be run by another user where it is"
    end
    local code = [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = ltsh.container.queue {}, actuator = ltsh.actuator.docker { host = arg[1], image = "busybox:test" },
      }
      scheduler:add { id = "a", item = {} }
      while not scheduler:get("a").reason do ltsh.sleep(0.01) end
      print(scheduler:get("a").attempts, scheduler:get("a").reason)
      os.exit(0)
    ]]
    for _, more in ipairs { "-e", code, engine.host } do nobody[#nobody + 1] = more end
    local result = run.start(nobody, setpriv):wait()
    local said = "0\tpermission denied: " .. engine.host .. " (is this user in the group of the socket?)\n"
    assert.equal(said, result.stdout, result.stderr)
  end)
end)

describe("the host of containers", function()

  it("runs ten in examples/docker.lua", function()
    local result = run.ltsh({ "examples/docker.lua", "busybox:test" }, { env = { DOCKER_HOST = engine.host } })
    assert.same({ 0, "" }, { result.code, result.stderr })
    for i = 1, 10 do
      assert.matches(string.format("hello-%d\tsuccess\thello world from %d\n", i, i), result.stdout, 1, true)
    end
    nothing_is_left()
  end)

  local script = [[
    local ltsh = require "ltsh"
    local scheduler = ltsh.scheduler {
      name = "q", limit = 3, shutdown_grace = 0.5, container = ltsh.container.queue {},
      actuator = ltsh.actuator.docker {
        host = arg[1], image = "busybox:test", network_mode = "none", stop_grace = 0.5,
      },
    }
    scheduler:on("output", function(task) print("out " .. task.id) end)
    for i = 1, 3 do scheduler:add { id = tostring(i), item = { shell = "echo here; sleep " .. arg[2] } } end
    for task in scheduler:finished() do print(task.id, task.status, task.reason) end
  ]]

  local function begin(seconds)
    local folder = run.folder { ["script.lua"] = script }
    local child = run.start { folder .. "/script.lua", engine.host, seconds }
    child:expect "out 1"
    child:expect "out 2"
    child:expect "out 3"
    return child
  end
  after_each(run.clean)

  it("that is told to end stops and removes all of them", function()
    local child = begin "60"
    child:kill "sigterm"
    assert.equal(128 + 15, child:wait().code)
    nothing_is_left()
  end)

  local stores = {
    ["in a file"] = { [[require "spec.support.durable" (arg[2])]], function(folder) return folder .. "/state" end },
    ["in Redis"] = { [[ltsh.container.redis { url = arg[2], lease = 3 }]], function() return redis.start().url end },
  }
  local ways = { ["is killed"] = "sigkill", ["is told to end, and to leave them,"] = "sigterm" }
  for where, store in pairs(stores) do for how, signal in pairs(ways) do
    it("that " .. how .. " leaves those of tasks " .. where .. ": the next takes them up, and what ended", function()
      local folder = run.folder { ["script.lua"] = ([[
        local ltsh = require "ltsh"
        local scheduler = ltsh.scheduler {
          name = "q", limit = 3, container = %s, on_shutdown = "leave", shutdown_grace = 0,
          actuator = ltsh.actuator.docker { host = arg[1], image = "busybox:test", network_mode = "none" },
        }
        scheduler:on("output", function(task, _, bytes) print("out", task.id, bytes) end)
        scheduler:add { id = "runs", item = { shell = "echo here; sleep 6; echo done" } }
        scheduler:add { id = "ends", item = { shell = "trap 'exit 5' USR1; echo here; while :; do sleep 0.1; done" } }
        for _, id in ipairs { "runs", "ends" } do
          local task = scheduler:wait(id)
          print(task.id, task.status, task.attempts, task.reason, (task.output.stdout:gsub("\n", "|")))
        end
      ]]):format(store[1]) }
      local args = { folder .. "/script.lua", engine.host, store[2](folder) }
      local child = run.start(args)
      child:expect "out\truns\there"
      child:expect "out\tends\there"
      child:kill(signal)
      child:wait()
      local function id_of_ends() return engine.docker("ps", "-q", "--filter", "label=ltsh.task=ends") end
      engine.docker("kill", "-s", "USR1", id_of_ends())
      scene.eventually("one of them ends", function() return id_of_ends() == "" end)
      local result = run.ltsh(args)
      assert.matches("runs\tsuccess\t1\tnil\there|done|\n", result.stdout, 1, true)
      assert.matches("ends\tfailed\t1\texit code 5\there|\n", result.stdout, 1, true)
      nothing_is_left()
    end)
  end end

  -- A program that says what its tasks put out, adds the task "ID:SHELL" (arg[3], if given), and waits for arg[4].
  local function program(store, actuator)
    return run.folder { ["script.lua"] = ([[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler { name = "q", limit = 1, container = %s, actuator = %s }
      scheduler:on("output", function(task, _, bytes) print("out", task.id, bytes) end)
      local id, shell = (arg[3] or ""):match "(.-):(.*)"
      if id then scheduler:add { id = id, item = { shell = shell } } end
      local task = scheduler:wait(arg[4])
      print(task.id, task.status, task.attempts, task.reason)
      os.exit(0) -- also while others run tasks
    ]]):format(store, actuator) } .. "/script.lua"
  end
  local on_engine = [[ltsh.actuator.docker { host = arg[1], image = "busybox:test", network_mode = "none" }]]

  local shared = {
    ["in SQLite"] = { [[ltsh.container.sqlite { path = arg[2] }]], function(folder) return folder .. "/jobs.db" end },
    ["in Redis"] = stores["in Redis"],
  }
  for where, store in pairs(shared) do
    it("keeps what another one has taken up, of tasks " .. where .. ", and removes what nobody will", function()
      local place, text = store[2](run.folder {}), program(store[1], on_engine)
      local first = run.start { text, engine.host, place, "x:echo here; sleep 4; echo done", "x" }
      first:expect "out\tx\there"
      first:kill "sigkill"
      first:wait()
      local second = run.start { text, engine.host, place, "", "x" }
      second:expect "out\tx\there"
      local third = run.start { text, engine.host, place, "y:echo here; sleep 60", "y" }
      third:expect "out\ty\there" -- it has looked for leftovers
      second:expect "x\tsuccess\t1\tnil"
      second:wait()
      third:kill "sigkill"
      third:wait()

      local other = run.start { program(store[1], "ltsh.actuator.func(function() end)"), engine.host, place, "", "y" }
      other:expect "y\tsuccess\t1\tnil" -- which knows of no container: it runs the task
      other:wait()
      assert.matches("ltsh%-y%-", engine.containers())
      assert.equal("z\tsuccess\t1\tnil\n", run.ltsh({ text, engine.host, place, "z:sleep 1", "z" }).stdout)
      nothing_is_left()
    end)
  end

  it("that is killed leaves them; the next host removes them, and touches nothing of a living one", function()
    local child, other = begin "60", begin "60"
    child:kill "sigkill"
    child:wait()
    assert.equal(6, select(2, (engine.containers() .. "\n"):gsub("\n", "\n")))
    assert.equal("success", result_of({ cmd = { "true" } }).status)
    while select(2, (engine.containers() .. "\n"):gsub("\n", "\n")) > 3 do ltsh.sleep(0.05) end
    assert.equal(3, select(2, (engine.containers() .. "\n"):gsub("\n", "\n")))
    other:kill "sigterm"
    other:wait()
    nothing_is_left()
  end)
end)
