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
local run = require "spec.support.run"
local uv = require "luv"

local redis = {}

local Server = {}
Server.__index = Server

local function free_port()
  local socket = uv.new_tcp()
  assert(socket:bind("127.0.0.1", 0))
  local port = socket:getsockname().port
  socket:close()
  return port
end

function Server:launch()
  local args = {
    "--port", tostring(self.port), "--unixsocket", self.path, "--dir", self.folder, "--save", "", "--appendonly", "no",
    "--enable-debug-command", "yes",
  }
  table.move(self.options, 1, #self.options, #args + 1, args)
  self.child = run.start(args, { program = "redis-server", limit = 600 })
  self.child:expect "Ready to accept connections"
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

--- Ends them all.
function redis.stop()
  local ending = started
  started, shared = {}, nil
  for _, server in ipairs(ending) do server:kill() end
  run.clean()
end

return redis
