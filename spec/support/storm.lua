-- Hosts side by side, each behind a wire of its own that has faults while they work. All tasks run once and end once,
-- or it ends with an error.
--
--     ltsh spec/support/storm.lua PORT KIND COUNT [CERTS]
--
-- So many faults, with a Redis server at this port. KIND: "answers": cut at any byte of what the server says;
-- "questions": cut while much is under way; "scripts": the server forgets its scripts. CERTS: by TLS, with what is in
-- this folder.
local ltsh = require "ltsh"
local uv = require "luv"
local Wire = require "spec.support.wire"

local LANES, BATCH = 8, 64
local port, kind, count, certs = math.tointeger(arg[1]), arg[2], math.tointeger(arg[3]), arg[4]
local tls = certs and { ca = certs .. "/ca.pem", cert = certs .. "/cert.pem", key = certs .. "/key.pem" }

local faults = {}

function faults.answers(wire, n) wire:cut_at(n * 7 % 1999) end

function faults.questions(wire, n)
  local asked = 0
  wire.seen = function()
    asked = asked + 1
    if asked < n % 7 + 1 then return end
    wire.seen = nil
    wire:cut()
  end
end

function faults.scripts()
  local socket = uv.new_tcp()
  socket:connect("127.0.0.1", port, function()
    socket:write("SCRIPT FLUSH\r\nFUNCTION FLUSH\r\n")
    socket:read_start(function() if not socket:is_closing() then socket:close() end end)
  end)
end

local function check(holds, ...)
  if holds then return end
  print(...)
  os.exit(1)
end

local function work(lane)
  local wire = Wire(port)
  local starts, ends = {}, {}
  local scheduler = ltsh.scheduler {
    container = ltsh.container.redis {
      url = tls and wire.url:gsub("redis", "rediss") or wire.url, tls = tls,
      queue = ("storm %d %s %d"):format(port, kind, lane), lease = 60,
    },
    actuator = ltsh.actuator.func(function(task)
      starts[task.id] = (starts[task.id] or 0) + 1
      if #task.id % 2 == 0 then ltsh.sleep(0.002) end
    end),
    limit = BATCH,
  }
  for n = 1, count // LANES do
    local tasks = {}
    for i = 1, BATCH do tasks[i] = { id = n .. "." .. i } end
    faults[kind](wire, n * LANES + lane)
    check(scheduler:add_all(tasks))
    for task in scheduler:finished() do
      check(task.status == "success", task.id, task.status, task.reason)
      ends[task.id] = (ends[task.id] or 0) + 1
    end
    for _, task in ipairs(tasks) do
      local id = task.id
      check(starts[id] == 1 and ends[id] == 1, id, "started", starts[id], "ended", ends[id])
    end
  end
  wire.seen, wire.left = nil, nil
  scheduler:close { drain = 1 }
  local connections = wire.connections
  wire:close()
  return connections
end

local jobs, connections = {}, 0
for lane = 1, LANES do jobs[lane] = ltsh.spawn(work, lane) end
for lane = 1, LANES do connections = connections + jobs[lane]:wait() end
check(kind == "scripts" or connections > count * 0.8, "too few cuts", connections)
print("connections", connections)
print "all was done once"
