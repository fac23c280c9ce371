-- scripts/bench memory [quick]: tasks in memory, end to end.
--
-- Prints one `name: value unit` line for each figure. A task is an addition: added with an id of its own and a table
-- as its item, run, its output read from the iterator over the finished tasks. Figures are medians of several rounds.
local ltsh = require "ltsh"
local uv = require "luv"
local figures = require "support.figures"

local out, median, seconds = figures.out, figures.median, figures.seconds

local quick = arg[1] == "quick"

local modes = {
  callback = { callback = true, poll_interval = false },
  poll = { callback = false, poll_interval = 0.05 },
  both = { callback = true, poll_interval = 0.05 },
}

local function make(limit, mode, fn)
  return ltsh.scheduler {
    finished_size = 1000000, -- nothing is dropped, however slow the machine is
    container = ltsh.container.queue { size = 100000000 },
    actuator = ltsh.actuator.func(fn or function(task) return task.item.a + task.item.b end),
    limit = limit,
    callback = modes[mode].callback,
    poll_interval = modes[mode].poll_interval,
  }
end

-- One round: seconds for n tasks, added and finished.
local function round(n, limit, mode)
  local scheduler = make(limit, mode)
  collectgarbage()
  local start = seconds()
  for i = 1, n do
    scheduler:add { id = tostring(i), item = { a = i, b = 1 } }
  end
  local sum = 0
  for task in scheduler:finished() do sum = sum + task.output end
  local took = seconds() - start
  assert(sum == n * (n + 1) // 2 + n, "wrong sum")
  scheduler:close()
  return took
end

local function rate(n, limit, mode)
  local times = {}
  local rounds = n <= 1000 and 101 or n <= 100000 and 7 or 3
  if quick then rounds = 1 end
  for i = 1, rounds do times[i] = round(n, limit, mode) end
  return n / median(times)
end

local function throughput()
  for _, mode in ipairs { "callback", "both" } do
    for _, limit in ipairs { 2, 64, 1000 } do
      for _, n in ipairs { 1000, 100000, 1000000 } do
        if not quick or n <= 100000 then
          out(string.format("memory.%s.limit%d.n%d", mode, limit, n), rate(n, limit, mode), "tasks/s")
        end
      end
    end
  end
  -- Polled ends wait for the poll, every 50 ms: limit / 0.05 is the most there can be.
  for _, case in ipairs { { 2, 50 }, { 64, 5000 }, { 1000, 50000 } } do
    local took = round(case[2], case[1], "poll")
    out(string.format("memory.poll.limit%d.n%d", case[1], case[2]), case[2] / took, "tasks/s")
  end
end

-- Bytes of this process that are in memory.
local function resident() return uv.resident_set_memory() end

local function waiting()
  local n = quick and 100000 or 1000000
  local scheduler = make(1, "callback")
  scheduler:pause()
  scheduler:add { id = "first", item = { a = 1, b = 1 } }
  collectgarbage()
  collectgarbage()
  local before = resident()
  for i = 1, n do scheduler:add { id = tostring(i), item = { a = i, b = 1 } } end
  collectgarbage()
  collectgarbage()
  local core = require "ltsh.core"
  local item = #core.encode { a = n, b = 1 }
  local bytes = (resident() - before) / n
  out("memory.waiting.n" .. n, bytes, "bytes/task")
  out("memory.waiting.beyond_item.n" .. n, bytes - item, "bytes/task")
  scheduler:close()
end

local function quantile(sorted, q) return sorted[math.max(1, math.ceil(#sorted * q))] end

-- From add to the function's first line, on a host that slept until just before.
local function latency()
  local samples = {}
  local added
  local scheduler = make(64, "callback", function() samples[#samples + 1] = uv.hrtime() - added end)
  for i = 1, quick and 200 or 2000 do
    ltsh.sleep(0.001)
    added = uv.hrtime()
    scheduler:add { id = tostring(i) }
    scheduler:wait(tostring(i))
  end
  table.sort(samples)
  out("memory.add_to_start.p50", quantile(samples, 0.5) / 1000, "us")
  out("memory.add_to_start.p99", quantile(samples, 0.99) / 1000, "us")
  scheduler:close()
end

-- CPU seconds of this process, user and system.
local function cpu()
  local usage = uv.getrusage()
  return usage.utime.sec + usage.stime.sec + (usage.utime.usec + usage.stime.usec) * 1e-6
end

local function idle()
  for _, mode in ipairs { "callback", "poll", "both" } do
    local scheduler = make(64, mode)
    scheduler:add { id = "1", item = { a = 1, b = 1 } }
    scheduler:wait "1"
    collectgarbage()
    ltsh.sleep(0.2)
    local before = cpu()
    ltsh.sleep(quick and 0.5 or 2)
    out("memory.idle." .. mode, (cpu() - before) / (quick and 0.5 or 2) * 100, "% of a core")
    scheduler:close()
  end
end

waiting() -- first: later there is memory that is free for it already
throughput()
latency()
idle()
