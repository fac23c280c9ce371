-- Starts a Redis server and hosts on one queue (redis_host.lua), kills, freezes and cuts off all of them, and checks
-- when it is over that nothing was lost, nothing happened twice, and no limit was exceeded (redis_check.lua).
--
--   ltsh redis.lua MINUTES ROOT [LEASE]       LEASE: of the hosts, in seconds; 2 if it is not said
local ltsh = require "ltsh"
local uv = require "luv"

local minutes, root, lease = tonumber(arg[1]), arg[2], tonumber(arg[3]) or 2
package.path = root .. "/?.lua;" .. package.path
local check = require "redis_check"
local free_port = require "spec.support.free_port"
local limits = require "redis_limits"
local Wire = require "spec.support.wire"

local ROUND, STUCK = 30, 120 -- seconds

local folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/ltsh-torture.XXXXXX"))
math.randomseed(uv.hrtime())

local totals = {
  killed = 0, frozen = 0, cuts = 0, servers = 0, accepted = 0, runs = 0, ends = 0, stale = 0, taken = 0, apart = 0,
  most = 0, most_of_key = 0, networks = 0,
}
local problems = {}

local function say(...) io.stderr:write("ltsh: ", string.format(...), "\n") end
local function problem(...)
  problems[#problems + 1] = string.format(...)
  if #problems <= 10 then say("%s", problems[#problems]) end
end

local function wait_until(what, holds)
  local deadline = ltsh.now() + STUCK
  while not holds() do
    if ltsh.now() > deadline then return problem("%s: not in %d seconds", what, STUCK) end
    ltsh.sleep(0.005)
  end
  return true
end

-- Processes.

local Process = {}
Process.__index = Process

local living = {}

local function start(program, args)
  local self = setmetatable({}, Process)
  living[self] = true
  local log = assert(uv.fs_open(folder .. "/log", "a", 420))
  self.handle, self.pid = assert(uv.spawn(program, { args = args, stdio = { nil, log, log } }, function(code, signal)
    self.handle:close()
    self.over, self.code, self.signal = true, code, signal
    living[self] = nil
  end))
  uv.fs_close(log)
  return self
end

local function is_dead(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  if not file then return true end
  local text = file:read "a"
  file:close()
  return text == nil or text:find "%) [ZX]" ~= nil
end

-- KILL. Gives when it was dead, before anybody can know it: not before this process has heard of its end.
function Process:kill()
  if not self.over then
    uv.kill(self.pid, "sigkill")
    while not is_dead(self.pid) do uv.sleep(1) end -- the loop stands still: it would hear of the end
  end
  local time = uv.hrtime()
  while not self.over do ltsh.sleep(0.001) end
  return time
end

-- The server.

local port = free_port()
local socket = folder .. "/redis.sock"
local server

local function start_server()
  server = start("redis-server", {
    "--port", tostring(port), "--bind", "0.0.0.0", "--protected-mode", "no", "--unixsocket", socket, "--dir", folder,
    "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--logfile", folder .. "/redis.log",
  })
  wait_until("the server starts", function()
    return ltsh.exec { "redis-cli", "-s", socket, "ping" }.stdout:find "PONG"
  end)
end

local function ask_server(...) return ltsh.exec { "redis-cli", "-s", socket, timeout = 10, ... } end

local server_faults = {
  function() -- its process, for a moment or for longer than a lease
    server:kill()
    ltsh.sleep(math.random() < 0.2 and lease * 1.5 or math.random() * 0.5)
    start_server()
  end,
  function() -- its connections
    ask_server("CLIENT", "KILL", "TYPE", "normal")
    ask_server("CLIENT", "KILL", "TYPE", "pubsub")
  end,
  function() -- it answers nobody
    uv.kill(server.pid, "sigstop")
    ltsh.sleep(math.random() * lease)
    uv.kill(server.pid, "sigcont")
  end,
  function() ask_server("SCRIPT", "FLUSH") end,
}

-- A namespace of networks with a wire to this one, where there may be some.

local function ip(...)
  local result = ltsh.exec { "ip", ... }
  return result and result.code == 0
end

local function open_network()
  local pid = math.tointeger(uv.os_getpid())
  local place, near, far = "ltsh-" .. pid, "lt" .. pid .. "a", "lt" .. pid .. "b"
  local range = ("10.%d.%d."):format(200 + pid % 50, pid // 50 % 250)
  if not ip("netns", "add", place) then return nil end
  local made = ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", place) and
    ip("addr", "add", range .. "1/30", "dev", near) and ip("link", "set", near, "up") and
    ip("-n", place, "addr", "add", range .. "2/30", "dev", far) and ip("-n", place, "link", "set", far, "up")
  local function close() -- also when this program is told to end
    os.execute(("ip link del %s 2>/dev/null; ip netns del %s"):format(near, place))
  end
  if not made then return close() end
  local function set(state)
    if not ip("link", "set", near, state) then problem("the wire cannot be set %s", state) end
  end
  return { place = place, address = range .. "1", close = close, set = set }
end

local network = open_network()
local _ <close> = setmetatable({}, {
  __close = function()
    for process in pairs(living) do uv.kill(process.pid, "sigkill") end
    if network then network.close() end
  end,
})

-- The hosts.

local round -- { queue =, journal =, till =, deaths =, freezes = }
local number = 0

-- `place`: the namespace of networks in which it is to be.
local function start_host(url, place)
  number = number + 1
  local name = "h" .. number
  local args = {
    "netns", "exec", place or "", uv.exepath(), "--log-level", "error", root .. "/scripts/torture.d/redis_host.lua",
    url or "unix://" .. socket, round.queue, round.journal, name, tostring(math.max(0, round.till - ltsh.now())),
    tostring(lease),
  }
  local host = place and start("ip", args) or start(uv.exepath(), table.move(args, 5, #args, 1, {}))
  host.name = name
  table.insert(round.hosts, host)
  return host
end

local function kill_host(host)
  totals.killed = totals.killed + 1
  round.deaths[host.name] = host:kill()
end

local function goes_on() return ltsh.now() < round.till end

-- Lanes: each is a host after the other, or one that has its faults, until the round is over.
local lanes = {}

function lanes.killed()
  while goes_on() do
    local host = start_host()
    ltsh.sleep(0.1 + math.random() ^ 2 * 3)
    kill_host(host)
  end
end

-- Shorter or longer than its lease.
function lanes.frozen()
  local host = start_host()
  while goes_on() do
    ltsh.sleep(math.random() * 2)
    local freeze = { from = uv.hrtime(), till = math.huge }
    round.freezes[host.name] = round.freezes[host.name] or {}
    table.insert(round.freezes[host.name], freeze)
    totals.frozen = totals.frozen + 1
    uv.kill(host.pid, "sigstop")
    ltsh.sleep(math.random() < 0.3 and math.random() * lease or lease * (1 + math.random()))
    uv.kill(host.pid, "sigcont")
    freeze.till = uv.hrtime()
    if math.random() < 0.2 then
      ltsh.sleep(math.random() * 0.5)
      kill_host(host)
      host = start_host()
    end
  end
end

-- Behind a wire that breaks, or passes nothing on for more than its lease.
function lanes.cut()
  local wire = Wire(port)
  round.wire = wire
  start_host(wire.url)
  while goes_on() do
    ltsh.sleep(math.random() * 2)
    totals.cuts = totals.cuts + 1
    local kind = math.random(3)
    if kind == 1 then
      wire:cut()
    elseif kind == 2 then
      wire:stall()
      ltsh.sleep(lease * (0.5 + math.random()))
      wire:pass()
    else
      wire:cut_at(math.random(5000))
    end
  end
end

-- On a network of its own, which loses all packets for more than its lease.
function lanes.network()
  if not network then return end
  start_host(("redis://%s:%d"):format(network.address, port), network.place)
  while goes_on() do
    ltsh.sleep(1 + math.random() * 3)
    totals.networks = totals.networks + 1
    network.set "down"
    ltsh.sleep(lease * (0.5 + math.random()))
    network.set "up"
  end
end

function lanes.server()
  while goes_on() do
    ltsh.sleep(1 + math.random() * 3)
    totals.servers = totals.servers + 1
    server_faults[math.random(#server_faults)]()
  end
end

function lanes.steady() start_host() end

-- A round: a queue, its lanes, and what is left is done by those that live, and by a last one.

local function open_queue()
  local queue = ltsh.scheduler {
    container = ltsh.container.redis { url = "unix://" .. socket, queue = round.queue, lease = 60 },
    actuator = ltsh.actuator.func(function() end),
  }
  queue:pause()
  return queue
end

local function is_done(queue)
  local waiting, running = queue:count { status = "waiting" }, queue:count { status = "running" }
  return waiting == 0 and running == 0
end

local function end_hosts()
  for _, host in ipairs(round.hosts) do
    if not host.over then
      uv.kill(host.pid, "sigterm")
      if not wait_until("a host ends that is told to", function() return host.over end) then host:kill() end
      if host.code ~= 143 then problem("a host ended with %s, signal %s", host.code, host.signal) end
    end
  end
end

local function play(seconds, name)
  round = {
    queue = name, journal = folder .. "/" .. name, till = ltsh.now() + seconds, hosts = {}, deaths = {}, freezes = {},
  }
  local jobs = {}
  for _, lane in pairs(lanes) do table.insert(jobs, ltsh.spawn(lane)) end
  for _, job in ipairs(jobs) do
    local _, raised = job:wait()
    if raised then problem("%s", raised) end
  end
  local queue <close> = open_queue()
  wait_until("all is done", function() return is_done(queue) end)
  end_hosts()
  if not is_done(queue) then
    start_host()
    wait_until("the last is done", function() return is_done(queue) end)
    end_hosts()
  end
  if #problems == 0 then check(queue, round.journal, round.deaths, round.freezes, problem, totals) end
  queue:close { drain = 0 }
  round.wire:close()
  if #problems > 0 then return end
  os.remove(round.journal)
  ask_server "FLUSHALL"
end

if not ltsh.exec { "redis-server", "--version" } then
  say "redis-server is missing; see scripts/setup --test"
  os.exit(1)
end
start_server()
if not network then say "the host on a network of its own is skipped: that needs root, and ip of iproute2" end

local till = ltsh.now() + minutes * 60
local rounds = 0
while ltsh.now() < till and #problems == 0 do
  rounds = rounds + 1
  play(math.min(ROUND, math.max(5, till - ltsh.now())), "torture-" .. rounds)
  say("%d hosts killed, %d times frozen, %d cut off, %d on their network; %d faults of the server",
    totals.killed, totals.frozen, totals.cuts, totals.networks, totals.servers)
  say("%d tasks accepted, %d runs, %d ends; %d runs taken over, %d changes refused as stale, %d runs set apart",
    totals.accepted, totals.runs, totals.ends, totals.taken, totals.stale, totals.apart)
  say("at most %d ran at once, of %d; of a key %d, of %d", totals.most, limits.global, totals.most_of_key, limits.key)
end
server:kill()
local log = io.open(folder .. "/log")
local text = log and log:read "a" or ""
if text:find "Sanitizer" then problem("a sanitizer reported: %s", folder) end
if #problems > 0 then
  say("%d things were wrong; what there is to look at is in %s", #problems, folder)
  os.exit(1)
end
os.execute("rm -rf " .. folder)
say("nothing lost, nothing twice, no limit exceeded, nothing left")
