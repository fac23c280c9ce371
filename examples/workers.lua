-- Counts primes on all cores: each worker is a thread with a Lua state of its own.
--
--     scripts/ltsh examples/workers.lua [WORKERS] [LIMIT]
local ltsh = require "ltsh"
local uv = require "luv"

local folder = arg[0]:match "^.*/" or "./"
local workers = tonumber(arg[1]) or uv.available_parallelism and uv.available_parallelism() or #uv.cpu_info()
local limit = tonumber(arg[2]) or 2000000
local CHUNK = 50000

-- How many primes there are below the limit, and how long it took.
local function count(with)
  local scheduler <close> = ltsh.scheduler {
    container = ltsh.container.queue {},
    actuator = ltsh.actuator.func { module = folder .. "tasks/primes.lua", workers = with, memory = "64M" },
    limit = with,
    timeout = 60,
  }
  local began = ltsh.now()
  for from = 1, limit, CHUNK do
    scheduler:add { item = { from = from, to = math.min(from + CHUNK - 1, limit) } }
  end
  local sum = 0
  for task in scheduler:finished() do
    assert(task.status == "success", task.reason)
    sum = sum + task.output
  end
  return sum, ltsh.now() - began
end

local one, slow = count(1)
print(("1 worker:  %d primes below %d in %.2f s"):format(one, limit, slow))
local all, fast = count(workers)
print(("%d workers: %d primes below %d in %.2f s, %.2f times as fast"):format(workers, all, limit, fast, slow / fast))
