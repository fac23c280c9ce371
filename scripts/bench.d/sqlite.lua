-- scripts/bench sqlite [N [LIMIT]]: durable tasks a second, beside SQLite from C alone.
--
-- N tasks (default 100,000) are added in thousands and run to their end at limit 64, with both durabilities; then tasks
-- that are added one by one, each waited for, and from 64 coroutines at once; then with a million others waiting. LIMIT
-- is a program that is called as `LIMIT FULL|NORMAL BATCH N FOLDER` and prints `name: value unit`, of which the first
-- and the one that ends in `enqueue` are taken. The database is in /var/tmp, or in $TMPDIR.
package.path = arg[0]:match "^(.*)/scripts/" .. "/?.lua;" .. package.path
local figures = require "support.figures"
local ltsh = require "ltsh"
local run = require "spec.support.run"

local n, limit_program = tonumber(arg[1] or 100000), arg[2]
local ROUNDS = 3
local folder = os.getenv "TMPDIR" or "/var/tmp"
local path = folder .. "/ltsh-bench.db"

local function open(durability, memory)
  os.execute("rm -f " .. path .. "*")
  local container = ltsh.container.sqlite { path = path, durability = durability }
  return ltsh.scheduler {
    container = memory and ltsh.container.combine(memory, container) or container, limit = 64, finished_size = 10,
    actuator = ltsh.actuator.func(function(task) return task.item.a + task.item.b end),
  }
end

local function add_all(scheduler, count, prefix, priority)
  for first = 1, count, 1000 do
    local list = {}
    for i = first, math.min(count, first + 999) do
      list[#list + 1] = { id = prefix .. i, item = { a = i, b = 5678 }, priority = priority }
    end
    assert(scheduler:add_all(list))
  end
end

local function whole(durability, memory)
  local scheduler <close> = open(durability, memory)
  local start = figures.seconds()
  add_all(scheduler, n, "task ")
  for _ in scheduler:finished() do end
  assert(scheduler:count { status = "success" } == n)
  return n / (figures.seconds() - start)
end

local function single(durability)
  local scheduler <close> = open(durability)
  local count = math.min(n, 3000)
  scheduler:pause()
  local start = figures.seconds()
  for i = 1, count do assert(scheduler:add { id = "task " .. i, item = { a = i, b = 1 } }) end
  return count / (figures.seconds() - start)
end

local function from_many(durability)
  local scheduler <close> = open(durability)
  local count, jobs = n // 64 // 4, {}
  scheduler:pause()
  local start = figures.seconds()
  for j = 1, 64 do
    jobs[j] = ltsh.spawn(function()
      for i = 1, count do assert(scheduler:add { id = j .. " " .. i, item = { a = i, b = 1 } }) end
    end)
  end
  for _, job in ipairs(jobs) do job:wait() end
  return 64 * count / (figures.seconds() - start)
end

-- A fifth of them, with so many others waiting behind.
local function with_others(others)
  local scheduler <close> = open "normal"
  local count = n // 5
  scheduler:pause()
  add_all(scheduler, others, "other ")
  add_all(scheduler, count, "task ", 5)
  scheduler:resume()
  local start = figures.seconds()
  while scheduler:count { status = "success" } < count do ltsh.sleep(0.005) end
  local rate = count / (figures.seconds() - start)
  scheduler:pause()
  return rate
end

local function by_limit(sync, batch, pattern)
  local args = { sync, tostring(batch), tostring(n), folder }
  local result = run.start(args, { program = limit_program, limit = 600 }):wait()
  return tonumber(result.stdout:match(pattern))
end

local function show(name, fn, limit)
  local rates, limits = {}, {}
  for i = 1, ROUNDS do
    rates[i] = fn()
    if limit_program and limit then limits[i] = by_limit(limit[1], limit[2], limit[3]) end
  end
  local rate = figures.median(rates)
  local beside = #limits > 0 and string.format("  %.2f of %.0f in C alone", rate / figures.median(limits),
    figures.median(limits)) or ""
  print(string.format("%-44s %8.0f /s%s", name, rate, beside))
end

for _, durability in ipairs { "full", "normal" } do
  local sync = durability:upper()
  show(durability .. ": added in thousands, to their end", function() return whole(durability) end,
    { sync, 64, ": ([%d.]+) tasks" })
  show(durability .. ": added one by one", function() return single(durability) end,
    { sync, 1, "enqueue: ([%d.]+)" })
  show(durability .. ": added from 64 coroutines", function() return from_many(durability) end)
end
show("normal: as the first, combined with a queue", function() return whole("normal", ltsh.container.queue {}) end)
show("normal: as the first, with an order in Lua", function()
  return whole("normal", ltsh.container.load "examples/lua_container.lua")
end)
show("normal: run with 10,000 others waiting", function() return with_others(10000) end)
show("normal: run with 1,000,000 others waiting", function() return with_others(1000000) end)
os.execute("rm -f " .. path .. "*")
