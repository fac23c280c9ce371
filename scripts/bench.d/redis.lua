-- scripts/bench redis [N [LIMIT]]: tasks of a queue on a Redis server a second, beside Redis from C alone.
--
-- N tasks (default 100,000) are added in thousands and run to their end at limit 64, on a server that is started for it
-- and keeps nothing on disk; then from one add to the start of the task; then the server's memory for a waiting task.
-- What the server alone costs is told apart: its processor time for each task. LIMIT is a program that is called as
-- `LIMIT evalsha N 64 PORT`, three scripts for each task, and prints `name: value unit`, of which the first is taken.
package.path = arg[0]:match "^(.*)/scripts/" .. "/?.lua;" .. package.path
local figures = require "support.figures"
local ltsh = require "ltsh"
local redis = require "spec.support.redis"
local run = require "spec.support.run"

local n, limit_program = tonumber(arg[1] or 100000), arg[2]
local ROUNDS = 3
local server = redis.start {}

local function info(field)
  return tonumber(server:cli("INFO", "all"):match("%f[%w_]" .. field .. ":([%d.]+)"))
end

local function cpu()
  return info "used_cpu_sys_main_thread" + info "used_cpu_user_main_thread"
end

local function open(queue, limit)
  return ltsh.scheduler {
    container = ltsh.container.redis { url = server.url, queue = queue }, limit = limit or 64, finished_size = 10,
    actuator = ltsh.actuator.func(function(task) return task.item.a + task.item.b end),
  }
end

local function add_all(scheduler, count)
  for first = 1, count, 1000 do
    local list = {}
    for i = first, math.min(count, first + 999) do
      list[#list + 1] = { id = "task " .. i, item = { a = i, b = 5678 } }
    end
    assert(scheduler:add_all(list))
  end
end

local function whole()
  server:cli "FLUSHALL"
  local scheduler <close> = open "whole"
  local start, used = figures.seconds(), cpu()
  add_all(scheduler, n)
  for _ in scheduler:finished() do end
  assert(scheduler:count { status = "success" } == n)
  return n / (figures.seconds() - start), (cpu() - used) / n * 1e6
end

-- The same with another process on the queue, which runs half of them or more.
local OTHER = [[
  local ltsh = require "ltsh"
  local scheduler = ltsh.scheduler {
    container = ltsh.container.redis { url = arg[1], queue = "together" }, limit = 64, finished_size = 10,
    actuator = ltsh.actuator.func(function(task) return task.item.a + task.item.b end),
  }
  print "ready"
  io.stdout:flush()
  scheduler:run()
]]

local function together()
  server:cli "FLUSHALL"
  local scheduler <close> = open "together"
  local other = run.start({ "-e", OTHER, server.url }, { limit = 600 })
  other:expect "ready"
  local start, used = figures.seconds(), cpu()
  add_all(scheduler, n)
  for _ in scheduler:finished() do end
  local seconds = figures.seconds() - start
  assert(scheduler:count { status = "success" } == n)
  other:kill "sigterm"
  other:wait()
  return n / seconds, (cpu() - used) / n * 1e6
end

local function memory()
  server:cli "FLUSHALL"
  local scheduler <close> = open "memory"
  scheduler:pause()
  local before = info "used_memory"
  add_all(scheduler, n)
  return (info "used_memory" - before) / n
end

-- From an add on one host to the start on another, in milliseconds.
local function latency()
  server:cli "FLUSHALL"
  local giver, started = open("latency", 1), nil
  giver:pause()
  local taker = ltsh.scheduler {
    container = ltsh.container.redis { url = server.url, queue = "latency" }, limit = 8,
    actuator = ltsh.actuator.func(function() end),
  }
  taker:on("started", function() started = figures.seconds() end)
  local times = {}
  for i = 1, 1000 do
    local before = figures.seconds()
    assert(giver:add { id = "t" .. i })
    taker:wait("t" .. i)
    times[i] = (started - before) * 1000
  end
  giver:close()
  taker:close()
  table.sort(times)
  return times[500], times[990]
end

for _ = 1, ROUNDS do
  if limit_program then
    server:cli "FLUSHALL"
    local used = cpu()
    local args = { "evalsha", tostring(n), "64", tostring(server.port) }
    local out = run.start(args, { program = limit_program }):wait().stdout
    print(("limit: %s jobs/s, %.1f us of the server each"):format(out:match ": *([%d.]+)", (cpu() - used) / n * 1e6))
  end
  print(("ltsh: %.0f tasks/s, %.1f us of the server each"):format(whole()))
end
print(("two hosts: %.0f tasks/s, %.1f us of the server each"):format(together()))
print(("from an add to the start on another host: median %.2f ms, p99 %.2f ms"):format(latency()))
print(("memory of a waiting task: %.0f bytes"):format(memory()))
redis.stop()
