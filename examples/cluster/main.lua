-- Three hosts that share one queue, with a Redis server of their own: kill any of them, and see that nothing is lost.
--
--   scripts/ltsh examples/cluster/main.lua [TASKS]      until so many have ended, or Ctrl-C ends it
--
-- The hosts and the server are tasks themselves, of a scheduler in memory that starts again who has died.
local ltsh = require "ltsh"
local uv = require "luv"
local queues = require "queue"
local view = require "view"

local total = math.tointeger(tonumber(arg[1] or math.maxinteger))
if not total or total < 1 then
  io.stderr:write "usage: ltsh examples/cluster/main.lua [TASKS]\n"
  os.exit(2)
end
if not ltsh.exec { "redis-server", "--version" } then
  io.stderr:write("cluster: redis-server is missing. On Debian and Ubuntu: sudo apt-get install redis-server; ",
    "on macOS: brew install redis\n")
  os.exit(1)
end

local folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/ltsh-cluster.XXXXXX"))
local _ <close> = setmetatable({}, { __close = function() os.execute("rm -rf '" .. folder .. "'") end })

-- Who is in the cluster.

local MEMBERS = { "redis", "host-1", "host-2", "host-3" }
local socket = folder .. "/redis.sock"
local url = "unix://" .. socket

local cluster = ltsh.scheduler {
  name = "cluster",
  container = ltsh.container.queue {},
  actuator = ltsh.actuator.process { stdout = "discard", stderr = folder .. "/log", success_codes = { 255 } },
  limit = #MEMBERS, max_retries = 1000000, backoff = 1.5,
  shutdown_grace = 60, -- after Ctrl-C they do what is left
}

cluster:on("started", function(task) view.say("%s starts", task.id) end)
cluster:on("retried", function(task, reason, delay)
  view.say("%s has ended: %s; it starts again in %.1f s", task.id, reason, delay)
end)

cluster:add { id = "redis", item = {
  "redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder,
  "--save", "", "--appendonly", "yes", "--appendfsync", "always", -- what it has said outlives it
} }
while not uv.fs_stat(socket) do ltsh.sleep(0.01) end
for i = 2, #MEMBERS do
  cluster:add { id = MEMBERS[i], item = { uv.exepath(), (arg[0]:gsub("[^/]*$", "host.lua")), url, MEMBERS[i] } }
end

-- Work for them: there is always some that waits.

local queue
local added, ended, twice, open = 0, 0, 0, {}
local deadline = math.huge

local function open_queue()
  queue = queues.open(url, "main")
  queue:pause() -- this process runs none of it
end

local function note_end(task)
  if open[task.id] then ended = ended + 1 else twice = twice + 1 end
  open[task.id] = nil
end

-- Where the server goes away, nobody knows whether it has taken the task. Added again with `once` it is there once.
local function add(task)
  open[task.id] = true
  while true do
    local id, message, code = queue:add(task)
    if id or code == "exists" then break end
    if ltsh.now() > deadline then return end
    if code ~= "closed" then view.say("%s is not added yet: %s", task.id, message) end
    ltsh.sleep(0.2)
  end
  added = added + 1
end

open_queue()
queue:on("finished", note_end)
local adding = ltsh.spawn(function()
  while added < total do
    add { id = "task-" .. added + 1, item = { seconds = 0.2 + 0.8 * math.random() }, once = true }
    while added < total and added - ended > 3 * queues.global_limit do ltsh.sleep(0.02) end
  end
end)

local console = ltsh.console { port = 0, hold = false }
view.say("the console of all of them: %s", console.url)
local stop_drawing = view.follow(cluster, MEMBERS, function() return queue end, queues.global_limit)

-- The end: Ctrl-C closes the queue here, or all is done. What was added is done in any case, and its end waited for,
-- unless the server died just now: nobody starts it again.

local first = queue
ltsh.spawn(function()
  adding:wait()
  while ended < added do ltsh.sleep(0.02) end
  first:close()
end)
first:run()

total, deadline = 0, ltsh.now() + 30
open_queue()
adding:wait()
for id in pairs(open) do
  local task = queue:wait(id, math.max(0, deadline - ltsh.now()))
  if not task then break end
  note_end(task)
end
stop_drawing()

-- How many runs were lost, and the greatest number that ran at once, by what the queue remembers of all runs.
local function sum_up()
  local lost, steps, running, most = 0, {}, 0, 0
  for number = 1, added do
    local history = queue:history("task-" .. number)
    if not history then break end
    for _, run in ipairs(history) do
      if run.reason == "lost" then lost = lost + 1 end
      table.insert(steps, { time = run.start, change = 1 })
      table.insert(steps, { time = run["end"], change = -1 })
    end
  end
  table.sort(steps, function(a, b)
    if a.time == b.time then return a.change < b.change end
    return a.time < b.time
  end)
  for _, step in ipairs(steps) do
    running = running + step.change
    most = math.max(most, running)
  end
  return lost, most
end

local lost, most = sum_up()
queue:close { drain = 0 }
for i = #MEMBERS, 1, -1 do cluster:stop(MEMBERS[i]) end -- the server last
cluster:close { drain = 0 }
view.say("%d tasks added, %d ended, %s; %d runs were lost with their host; at most %d ran at once, of %d",
  added, ended, twice == 0 and "each once" or twice .. " of them twice", lost, most, queues.global_limit)
