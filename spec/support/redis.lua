--- Redis servers of the specs' own.
---
---     local redis = require "spec.support.redis"
---     lazy_teardown(redis.stop)
---     redis.url()                       of one that all specs of a file share, started when it is first asked for
---     redis.queue()                     the name of a queue that nobody else has
---     local server = redis.start { "--requirepass", "secret" }      another, with options of the server's
---     server.url, server.port, server.path (a unix socket)
---     server:cli("PING")                what redis-cli prints
---     server:kill(), server:restart()   KILL; and the same server again, on the same port
---     server:pause(), server:resume()   it answers nobody, and goes on
---     redis.replica(server)             another that has all that this one has
---     redis.sentinel(server)            a sentinel, which knows it as "mymaster"
---     redis.cluster(3)                  nodes of a cluster, a list
local free_port = require "spec.support.free_port"
local run = require "spec.support.run"

local redis = {}

local Server = {}
Server.__index = Server
Server.ready = "Ready to accept connections"

function Server:arguments()
  local args = {
    "--port", tostring(self.port), "--unixsocket", self.path, "--dir", self.folder, "--save", "3600 1000000",
    "--appendonly", "no", "--enable-debug-command", "yes",
  }
  return table.move(self.options, 1, #self.options, #args + 1, args)
end

function Server:launch()
  self.child = run.start(self:arguments(), { program = "redis-server", limit = 7200 })
  self.child:expect(self.ready)
end

function Server:cli(...)
  local args = { "-s", self.path, "--no-auth-warning" }
  if self.password then table.move({ "-a", self.password }, 1, 2, #args + 1, args) end
  local rest = { ... }
  table.move(rest, 1, #rest, #args + 1, args)
  local done = run.start(args, { program = "redis-cli" }):wait()
  return (done.stdout:gsub("\n$", ""))
end

function Server:pause() self.child:kill "sigstop" end
function Server:resume() self.child:kill "sigcont" end

function Server:kill()
  if self.child.ended then return end
  self.child:kill "sigcont"
  self.child:kill "sigkill"
  self.child:wait()
end

function Server:restart() self:launch() end

local started = {}

--- A server with these options besides its own; `fields.password` is used by `cli`.
function redis.start(options, fields)
  local folder = run.folder()
  local port = free_port()
  local server = setmetatable({
    folder = folder, port = port, path = folder .. "/redis.sock", options = options or {},
    url = "redis://127.0.0.1:" .. port,
  }, Server)
  for name, value in pairs(fields or {}) do server[name] = value end
  server:launch()
  started[#started + 1] = server
  return server
end

local shared

--- The one that is shared.
function redis.shared()
  shared = shared or redis.start()
  return shared
end

function redis.url()
  return redis.shared().url
end

local queues = 0

function redis.queue()
  queues = queues + 1
  return "queue-" .. queues
end

--- A sentinel that watches this server as "mymaster"; a failover takes a second.
function redis.sentinel(master)
  local function arguments(self)
    local file = assert(io.open(self.folder .. "/sentinel.conf", "w"))
    file:write(("sentinel monitor mymaster 127.0.0.1 %d 1\nsentinel down-after-milliseconds mymaster 300\n" ..
      "sentinel failover-timeout mymaster 2000\nunixsocket %s\n"):format(master.port, self.path))
    file:close()
    return { self.folder .. "/sentinel.conf", "--sentinel", "--port", tostring(self.port), "--dir", self.folder }
  end
  local sentinel = redis.start({}, { arguments = arguments, ready = "%+monitor master" })
  sentinel:cli("SENTINEL", "DEBUG", "info-period", "200", "publish-period", "200", "ping-period", "100")
  return sentinel
end

--- A replica of this server that has caught up.
function redis.replica(master)
  local replica = redis.start { "--replicaof", "127.0.0.1 " .. master.port }
  replica.child:expect "MASTER <%-> REPLICA sync: Finished with success"
  return replica
end

--- So many nodes of a cluster, without replicas.
function redis.cluster(count)
  local nodes, addresses = {}, {}
  for i = 1, count do
    nodes[i] = redis.start { "--cluster-enabled", "yes", "--cluster-node-timeout", "1000" }
    addresses[i] = "127.0.0.1:" .. nodes[i].port
  end
  if count == 1 then
    nodes[1]:cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
  else
    local args = table.move(addresses, 1, count, 3, { "--cluster", "create" })
    args[#args + 1] = "--cluster-yes"
    local made = run.start(args, { program = "redis-cli" }):wait()
    if made.code ~= 0 then error(made.stdout .. made.stderr) end
  end
  for _, node in ipairs(nodes) do
    repeat until node:cli("CLUSTER", "INFO"):find "cluster_state:ok"
  end
  return nodes
end

--- Ends them all.
function redis.stop()
  local ending = started
  started, shared = {}, nil
  for _, server in ipairs(ending) do server:kill() end
  run.clean()
end

return redis
