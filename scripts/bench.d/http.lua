-- scripts/bench http [SECONDS]: requests a second that a host answers, as wrk (Debian's package) sees it.
--
-- A handler in Lua that answers a text, and one that answers JSON; then a task from the console's REST interface, while
-- nothing else is done, while 10,000 tasks a second are added, run and end, and while one or 1,000 browsers listen to
-- that.
-- Host, wrk and browsers are processes of their own on this machine. Told too: the tasks that ended, and what the host
-- used of a core.
package.path = arg[0]:match "^(.*)/scripts/" .. "/?.lua;" .. package.path
local figures = require "support.figures"
local json = require "ltsh".json
local ltsh = require "ltsh"
local run = require "spec.support.run"

local SECONDS = tonumber(arg[1] or 5)

local HOST = [[
  local ltsh, uv = require "ltsh", require "luv"
  local rate, added, ended = tonumber(arg[1]), 0, 0
  local scheduler = ltsh.scheduler {
    container = ltsh.container.queue {}, limit = 64, name = "bench",
    actuator = ltsh.actuator.func(function(task) return task.item.i end),
  }
  assert(scheduler:add { id = "shown", delay = 1e6, item = { i = 1, name = "a name", list = { 1, 2, 3 } } })
  scheduler:on("finished", function() ended = ended + 1 end)
  local console = ltsh.console { schedulers = { scheduler }, port = 0 }
  local server = ltsh.http.server { routes = {
    ["GET /text"] = function() return { body = "a text" } end,
    ["GET /json"] = function() return { json = { id = "shown", status = "success", list = { 1, 2, 3 } } } end,
    ["GET /used"] = function()
      local used = uv.getrusage()
      local cpu = used.utime.sec + used.stime.sec + (used.utime.usec + used.stime.usec) / 1e6
      return { json = { ended = ended, cpu = cpu } }
    end,
  } }
  print(server.port .. " " .. console.port)
  io.stdout:flush()
  local began = uv.hrtime()
  while true do
    ltsh.sleep(0.01)
    local list = {}
    while added < (uv.hrtime() - began) / 1e9 * rate do
      added = added + 1
      list[#list + 1] = { id = "t" .. added, item = { i = added } }
    end
    if #list > 0 then scheduler:add_all(list) end
  end
]]

local BROWSERS = [[
  local uv = require "luv"
  local port, connected = tonumber(arg[1]), 0
  for _ = 1, tonumber(arg[2]) do
    local tcp = uv.new_tcp()
    tcp:connect("127.0.0.1", port, function(err)
      assert(not err, err)
      tcp:write("GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
      local heard = false
      tcp:read_start(function(failed, bytes)
        assert(not failed and bytes, failed or "the stream has ended")
        if not heard then connected, heard = connected + 1, true end
        if connected == tonumber(arg[2]) then
          connected = -1
          print "all listen"
          io.stdout:flush()
        end
      end)
    end)
  end
]]

local LIMIT = SECONDS + 120

local function measure(name, path, rate, browsers)
  local host = run.start({ "-e", HOST, tostring(rate) }, { limit = LIMIT })
  local port, console = host:expect "(%d+) (%d+)\n"
  local listeners
  if browsers > 0 then
    listeners = run.start({ "-e", BROWSERS, console, tostring(browsers) }, { limit = LIMIT })
    listeners:expect "all listen"
  end
  local function used() return json.decode(assert(ltsh.http.get("http://127.0.0.1:" .. port .. "/used")).body) end
  local before, start = used(), figures.seconds()
  local url = ("http://127.0.0.1:%s%s"):format(path:find "^/api" and console or port, path)
  local args = { "-t1", "-c32", "-d" .. SECONDS, "--latency", url }
  local out = run.start(args, { program = "wrk", limit = LIMIT }):wait().stdout
  local after, seconds = used(), figures.seconds() - start
  print(("%s: %.0f requests/s, p99 %s; %.0f tasks/s, %.2f of a core%s"):format(name,
    out:match "Requests/sec: *([%d.]+)", out:match "99%% *(%S+)", (after.ended - before.ended) / seconds,
    (after.cpu - before.cpu) / seconds, out:find "Non%-2xx" and "; SOME WERE REFUSED" or ""))
  io.stdout:flush()
  for _, child in pairs { host, listeners } do
    if child.ended then io.stderr:write("it ended before: ", child.stderr, "\n") else child:kill "sigkill" end
    child:wait()
  end
end

local TASK = "/api/v1/schedulers/bench/tasks/shown"
measure("a text", "/text", 0, 0)
measure("JSON", "/json", 0, 0)
measure("a task", TASK, 0, 0)
measure("a task, beside tasks", TASK, 10000, 0)
measure("a task, beside tasks, one browser", TASK, 10000, 1)
measure("a task, beside tasks, 1,000 browsers", TASK, 10000, 1000)
