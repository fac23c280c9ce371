--- A Docker Engine of the specs' own, on a socket of its own, with the image "busybox:test", and
--- "busybox:int", whose stop signal is INT.
---
---     local engine = require "spec.support.engine"
---     local there, why_not = engine.start()
---     teardown(engine.stop)
---     engine.host                      "unix:///..."
---     engine.tls_host, engine.certs    "tcp://127.0.0.1:PORT", and the folder with ca.pem, cert.pem and key.pem for it
---     engine.docker("inspect", id)     what the client prints
---
--- It needs root and the distribution's docker.io. Where there is none the specs that need it are pending, or fail when
--- LTSH_TEST_ENGINE is "required".
local assert = require "luassert"
local certificates = require "spec.support.certificates"
local free_port = require "spec.support.free_port"
local run = require "spec.support.run"
local uv = require "luv"

local engine = {}

local function what_is_missing()
  if uv.getuid() ~= 0 then return "not root" end
  for _, name in ipairs { "dockerd", "docker", "setpriv", "busybox", "openssl" } do
    if not run.find(name) then return name .. " is not installed" end
  end
end

local function make_image()
  local root = engine.folder .. "/image"
  local script = [[set -e; mkdir -p "$0/bin" "$0/tmp" "$0/etc"; cp "$1" "$0/bin/busybox"
    printf 'root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n' > "$0/etc/passwd"
    for name in $("$0/bin/busybox" --list); do [ -e "$0/bin/$name" ] || ln -s busybox "$0/bin/$name"; done
    tar c -C "$0" . | docker -H "$2" import - busybox:test
    docker -H "$2" create --name int --stop-signal INT busybox:test true
    docker -H "$2" commit int busybox:int
    docker -H "$2" rm int]]
  local made = run.start({ "-c", script, root, run.find "busybox", engine.host }, { program = "/bin/sh" }):wait()
  assert.equal(0, made.code, made.stderr)
end

local function start_daemon()
  local folder, certs = engine.folder, engine.certs
  engine.daemon = run.start({
    "--pdeathsig", "KILL", run.find "dockerd", "--host", engine.host, "--data-root", folder .. "/data", "--exec-root",
    folder .. "/exec", "--pidfile", folder .. "/pid", "--bridge=none", "--iptables=false", "--host", engine.tls_host,
    "--tlsverify", "--tlscacert", certs .. "/ca.pem", "--tlscert", certs .. "/server-cert.pem", "--tlskey",
    certs .. "/server-key.pem",
  }, { program = run.find "setpriv", limit = 3000 })
  engine.daemon:expect("API listen on", "stderr")
end

local function start_engine()
  engine.folder = assert(uv.fs_mkdtemp "/tmp/ltsh-engine-XXXXXX")
  engine.socket = engine.folder .. "/docker.sock"
  engine.host = "unix://" .. engine.socket
  engine.certs = engine.folder .. "/certs"
  engine.tls_host = "tcp://127.0.0.1:" .. free_port()
  certificates.make(engine.certs, "IP:127.0.0.1")
  local fine, message = pcall(start_daemon)
  if not fine then return "it cannot be started: " .. tostring(message) end
  make_image()
  fine, message = pcall(engine.docker, "run", "--rm", "--network", "none", "busybox:test", "true")
  if not fine then return "it cannot run containers: " .. tostring(message) end
end

--- True, or false and why it cannot be started.
function engine.start()
  local missing = what_is_missing() or start_engine()
  if missing and os.getenv "LTSH_TEST_ENGINE" == "required" then error("a Docker Engine is required: " .. missing) end
  return not missing, missing
end

--- Ends the engine at once, as a crash does; and starts it again: it kills the containers that it finds.
function engine.kill()
  engine.daemon:kill "sigkill"
  engine.daemon:wait()
  for _, name in ipairs { "/pid", "/exec/containerd/containerd.pid" } do -- of zombies, where nobody reaps them
    uv.fs_unlink(engine.folder .. name)
  end
  uv.fs_unlink(engine.socket)
end

engine.restart = start_daemon

function engine.stop()
  if not engine.daemon then return end
  pcall(engine.daemon.kill, engine.daemon, "sigterm") -- it may have ended
  engine.daemon:wait()
  engine.daemon = nil
  -- One that crashed leaves mounts, and a process for each container that ran.
  local script = 'pkill -KILL -f -- "-address $0/exec/"; ' ..
    'grep -o " $0[^ ]*" /proc/mounts | xargs -r umount -l; rm -rf "$0"'
  run.start({ "-c", script, engine.folder }, { program = "/bin/sh" }):wait()
end

--- What the client prints, without the newline at its end.
function engine.docker(...)
  local result = run.start({ "-H", engine.host, ... }, { program = run.find "docker" }):wait()
  assert.equal(0, result.code, result.stderr)
  return (result.stdout:gsub("\n$", ""))
end

--- All containers, one name a line.
function engine.containers()
  return engine.docker("ps", "-a", "--format", "{{.Names}}")
end

return engine
