-- scripts/bench lua [quick] [PART...]: Lua that computes, its preemption and timeouts, workers, hot reload.
--
-- Prints one `name: value unit` line for each figure. What is wanted of them: compute.overhead at most 3 %,
-- timer_late.p99 at most 15 ms, timeout_late at most 50 ms, workers.speedup at least 1.8 (with two cores that nobody
-- else uses). The parts: compute, timers, timeouts, trivial, workers, reload; all unless some are given.
local ltsh = require "ltsh"
local uv = require "luv"
local figures = require "support.figures"

local out, median, seconds = figures.out, figures.median, figures.seconds

local quick = arg[1] == "quick"
local wanted = table.pack(table.unpack(arg, quick and 2 or 1))

local function quantile(sorted, q) return sorted[math.max(1, math.ceil(#sorted * q))] end

-- A folder for the files that are loaded; it goes in the end.
local folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/ltsh-bench.XXXXXX"))
local written = {}
local function clean()
  for path in pairs(written) do os.remove(path) end
  uv.fs_rmdir(folder)
end

local function write(name, text)
  local path = folder .. "/" .. name
  local file = assert(io.open(path, "w"))
  file:write(text)
  assert(file:close())
  written[path] = true
  return path
end

local function forever() while true do end end

local function forever_under_pcall()
  while true do pcall(forever) end
end

-- Computing -----------------------------------------------------------------------------------------------------------

-- What is computed, in a task and by lua5.4: five times each kind, a second in all. Returns the least
-- CPU seconds of each kind, and of all together.
local COMPUTE = [[
local kinds = {
  arithmetic = function()
    local x, sum = 1, 0.0
    for i = 1, 2400000 do
      x = (x * 1103515245 + 12345) & 0x7fffffff
      sum = sum + x / i
    end
    return sum
  end,
  tables = function()
    local list, sum = {}, 0
    for i = 1, 1000 do list[i] = { value = i, next = i % 1000 + 1 } end
    local at = 1
    for i = 1, 1000000 do
      local entry = list[at]
      entry.value = entry.value + i
      at = entry.next
      sum = sum + #list
    end
    for i = 1, 100000 do list[i % 1000 + 1] = { value = i, next = 1 } end
    return sum
  end,
  strings = function()
    local parts, length = {}, 0
    for i = 1, 60000 do
      local text = "key" .. i
      parts[i % 100 + 1] = text:sub(2, 5):upper()
      length = length + #text + (text:find("9", 1, true) or 0) + text:byte(-1)
      if i % 100 == 0 then length = length + #table.concat(parts, ",") + #text:rep(10):gsub("k", "") end
      if i % 3 == 0 then length = length + #string.format("%d:%s", i, text) end
    end
    return length
  end,
  calls = function()
    local function fibonacci(n) return n < 2 and n or fibonacci(n - 1) + fibonacci(n - 2) end
    local object = { count = 0 }
    function object:add(n, ...) self.count = self.count + n + select("#", ...) end
    for i = 1, 300000 do object:add(i, i, i) end
    local sum = 0
    for i = 1, 200000 do
      local ok, value = pcall(math.max, i, 5)
      sum = sum + (ok and value or 0)
    end
    return fibonacci(25) + object.count + sum
  end,
}
local took = { all = 0 }
for _ = 1, 5 do
  for _, name in ipairs { "arithmetic", "tables", "strings", "calls" } do
    collectgarbage()
    local began = os.clock()
    kinds[name]()
    local time = os.clock() - began
    took[name] = math.min(took[name] or math.huge, time)
    took.all = took.all + time
  end
end
return took
]]

local function compute()
  local path = write("compute.lua", COMPUTE)
  local main = write("main.lua", "for name, took in pairs(dofile(arg[1])) do print(name, took) end")
  local scheduler <close> = ltsh.scheduler {
    container = ltsh.container.queue {},
    actuator = ltsh.actuator.func(function() return dofile(path) end),
  }

  local function plain()
    local took = {}
    local pipe = assert(io.popen("exec lua5.4 " .. main .. " " .. path))
    for line in pipe:lines() do
      local name, value = line:match "^(%S+)\t(%S+)$"
      took[name] = assert(tonumber(value))
    end
    assert(pipe:close(), "lua5.4 failed")
    return took
  end

  local function task()
    local ended = scheduler:wait(scheduler:add {})
    assert(ended.status == "success", ended.reason)
    return ended.output
  end

  -- Runs in turn, by way and kind: the least of them, as what disturbs only ever adds. Lua against itself tells how
  -- much of the difference is the machine's.
  local ways = { { "plain", plain }, { "task", task }, { "again", plain } }
  local least = { plain = {}, task = {}, again = {} }
  local ratios = {}
  for round = 1, quick and 2 or 9 do
    local all = {}
    for _, way in ipairs(ways) do
      local times = least[way[1]]
      for kind, took in pairs(way[2]()) do
        if kind == "all" then all[way[1]] = took else times[kind] = math.min(times[kind] or math.huge, took) end
      end
    end
    ratios[round] = all.task / ((all.plain + all.again) / 2)
  end
  local sums = { plain = 0, task = 0, again = 0, reference = 0 }
  local by_kind = {}
  for kind, time in pairs(least.task) do
    local reference = math.min(least.plain[kind], least.again[kind])
    by_kind[kind] = time / reference
    sums.reference = sums.reference + reference
    for _, way in ipairs(ways) do sums[way[1]] = sums[way[1]] + least[way[1]][kind] end
  end
  out("lua.compute.seconds", sums.reference * 5, "s")
  out("lua.compute.overhead", (sums.task / sums.reference - 1) * 100, "%")
  out("lua.compute.overhead.median", (median(ratios) - 1) * 100, "%")
  for _, kind in ipairs { "arithmetic", "tables", "strings", "calls" } do
    out("lua.compute.overhead." .. kind, (by_kind[kind] - 1) * 100, "%")
  end
  out("lua.compute.noise", math.abs(sums.plain / sums.again - 1) * 100, "%")
end

-- Beside eight tasks that never end -----------------------------------------------------------------------------------

local function timer_late(name, samples)
  local late = {}
  for i = 1, samples do
    local began = uv.hrtime()
    ltsh.sleep(0.01)
    late[i] = (uv.hrtime() - began) * 1e-6 - 10
  end
  table.sort(late)
  out(name .. ".p50", quantile(late, 0.5), "ms")
  out(name .. ".p99", quantile(late, 0.99), "ms")
  out(name .. ".max", late[#late], "ms")
end

local function beside_endless()
  local scheduler <close> = ltsh.scheduler {
    container = ltsh.container.queue {},
    actuator = ltsh.actuator.func(function(task)
      if task.item == "endless" then forever() end
      return task.item
    end),
    limit = 8 + 64,
  }
  for _ = 1, 8 do scheduler:add { item = "endless" } end
  ltsh.sleep(0.1)
  local samples = quick and 50 or 500
  timer_late("lua.timer_late", samples)

  -- The same while another coroutine adds tasks, so many at once, and waits until they have ended.
  local ended, going = 0, true
  local remove = scheduler:on("finished", function() ended = ended + 1 end)
  local feeder = ltsh.spawn(function()
    while going do
      local last
      for i = 1, 64 do last = scheduler:add { item = i } end
      scheduler:wait(last)
    end
  end)
  local began = seconds()
  timer_late("lua.timer_late.busy", samples)
  local rate = ended / (seconds() - began)
  going = false
  feeder:wait()
  remove()
  assert(scheduler:stats().running == 8, "the endless ones have ended")
  out("lua.started_meanwhile", rate, "tasks/s")
end

-- Timeouts ------------------------------------------------------------------------------------------------------------

local ENDLESS = [[
local function forever() while true do end end
return function(task)
  if task.item == "loop" then forever() end
  while true do pcall(forever) end
end
]]

local function timeout_late()
  local path = write("endless.lua", ENDLESS)
  local each = {} -- lateness of those that have no other beside them in the host's state
  local function measure(name, make, item, limit)
    local scheduler <close> = ltsh.scheduler {
      container = ltsh.container.queue {},
      actuator = make(),
      limit = limit,
      timeout = 0.05,
    }
    local late = {}
    for _ = 1, quick and 8 or 50 do scheduler:add { item = item } end
    for task in scheduler:finished() do
      assert(task.status == "failed" and task.reason == "timeout", task.reason)
      late[#late + 1] = (task.ended_at - task.started_at - 0.05) * 1000
      if limit <= 2 then each[#each + 1] = late[#late] end
    end
    table.sort(late)
    out("lua.timeout_late." .. name .. ".p50", quantile(late, 0.5), "ms")
    out("lua.timeout_late." .. name .. ".p99", quantile(late, 0.99), "ms")
  end
  local function here()
    return ltsh.actuator.func(function(task)
      if task.item == "loop" then forever() end
      forever_under_pcall()
    end)
  end
  local function threads() return ltsh.actuator.func { module = path, workers = 2 } end
  for _, item in ipairs { "loop", "pcall" } do
    measure("host." .. item, here, item, 1)
    measure("host8." .. item, here, item, 8)
    measure("thread." .. item, threads, item, 2)
  end
  table.sort(each)
  out("lua.timeout_late.p50", quantile(each, 0.5), "ms")
  out("lua.timeout_late.p99", quantile(each, 0.99), "ms")
  out("lua.timeout_late.max", each[#each], "ms")
end

-- Trivial tasks -------------------------------------------------------------------------------------------------------

-- Tasks a second of n additions, added and finished.
local function additions(n, actuator)
  local scheduler <close> = ltsh.scheduler {
    container = ltsh.container.queue { size = 100000000 },
    actuator = actuator,
    limit = 64,
    finished_size = n, -- the loop that adds is preempted as any: they end meanwhile
  }
  collectgarbage()
  local start = seconds()
  for i = 1, n do scheduler:add { id = tostring(i), item = { a = i, b = 1 } } end
  local sum = 0
  for task in scheduler:finished() do sum = sum + task.output end
  local took = seconds() - start
  assert(sum == n * (n + 1) // 2 + n, "wrong sum")
  return n / took
end

local function trivial()
  local rates = {}
  for i = 1, quick and 1 or 7 do
    rates[i] = additions(100000, ltsh.actuator.func(function(task) return task.item.a + task.item.b end))
  end
  out("lua.trivial", median(rates), "tasks/s")
end

-- Workers -------------------------------------------------------------------------------------------------------------

local function primes(workers, isolate, most)
  local scheduler <close> = ltsh.scheduler {
    container = ltsh.container.queue {},
    actuator = ltsh.actuator.func { module = "examples/tasks/primes.lua", workers = workers, isolate = isolate },
    limit = workers,
  }
  local start = seconds()
  for from = 1, most, 20000 do scheduler:add { item = { from = from, to = math.min(from + 19999, most) } } end
  for task in scheduler:finished() do assert(task.status == "success", task.reason) end
  return seconds() - start
end

local function workers()
  local module = write("add.lua", "return function(task) return task.item.a + task.item.b end")
  for _, isolate in ipairs { "thread", "process" } do
    local one, two = {}, {}
    for round = 1, quick and 1 or 5 do
      one[round] = primes(1, isolate, quick and 500000 or 2000000)
      two[round] = primes(2, isolate, quick and 500000 or 2000000)
    end
    out("lua.workers.speedup." .. isolate, math.min(table.unpack(one)) / math.min(table.unpack(two)), "times")
  end
  for _, isolate in ipairs { "thread", "process" } do
    local rates = {}
    for round = 1, quick and 1 or 5 do
      rates[round] = additions(quick and 5000 or 20000,
        ltsh.actuator.func { module = module, workers = 2, isolate = isolate })
    end
    out("lua.workers.tasks" .. (isolate == "thread" and "" or "." .. isolate), median(rates), "tasks/s")
  end
end

-- Hot reload ----------------------------------------------------------------------------------------------------------

local function reload()
  local function text(n) return ("return function(task) return %d end"):format(n) end
  local path = write("reloaded.lua", text(0))
  local scheduler <close> = ltsh.scheduler {
    container = ltsh.container.queue {},
    actuator = ltsh.actuator.func { module = path },
  }
  local times, idle = {}, {}
  for i = 1, quick and 20 or 200 do
    write("reloaded.lua", text(i))
    local start = uv.hrtime()
    local result = ltsh.reload()
    times[i] = (uv.hrtime() - start) * 1e-6
    assert(result.changed[1] == path, "it was not reloaded")
    assert(scheduler:wait(scheduler:add {}).output == i, "it is not used")
    start = uv.hrtime()
    ltsh.reload()
    idle[i] = (uv.hrtime() - start) * 1e-6
  end
  table.sort(times)
  out("lua.reload", median(times), "ms")
  out("lua.reload.p99", quantile(times, 0.99), "ms")
  out("lua.reload.unchanged", median(idle), "ms")
end

local parts = {
  { "compute", compute }, -- first: no memory in use yet, as in a plain lua5.4
  { "timers", beside_endless },
  { "timeouts", timeout_late },
  { "trivial", trivial },
  { "workers", workers },
  { "reload", reload },
}

local names = {}
for _, part in ipairs(parts) do names[part[1]] = part[2] end
local chosen = {}
for _, name in ipairs(wanted) do
  assert(names[name], "no part '" .. name .. "'")
  chosen[name] = true
end
uv.chdir(assert(arg[0]:match "^(.*)/scripts/bench%.d/", "run it as scripts/bench lua"))
local ok, message = xpcall(function()
  for _, part in ipairs(parts) do
    if #wanted == 0 or chosen[part[1]] then part[2]() end
  end
end, debug.traceback)
clean()
if not ok then error(message, 0) end
