-- scripts/bench process [N [LIMIT]]: processes a second, with captured output, beside make and xargs.
--
-- N times /bin/true (default 4000), 16 at once, in turn: by ltsh.actuator.process, the same with 500 MB of heap, by
-- `make -j 16`, by `xargs -P 16`, and by LIMIT, a program that is called as `LIMIT threads N 16 0 /bin/true` and prints
-- `name: value unit`. Figures are medians of several rounds. And how long the loop is held at most, and 1,000 at once.
package.path = arg[0]:match "^(.*)/scripts/" .. "/?.lua;" .. package.path
local figures = require "support.figures"
local ltsh = require "ltsh"
local run = require "spec.support.run"
local uv = require "luv"

local n, limit_program = tonumber(arg[1] or 4000), arg[2]
local ROUNDS, CONCURRENCY = 3, 16

local function by_ltsh(concurrency, item, count)
  local scheduler <close> = ltsh.scheduler {
    container = ltsh.container.queue {}, actuator = ltsh.actuator.process(item), limit = concurrency,
  }
  local start = figures.seconds()
  for _ = 1, count do assert(scheduler:add { item = {} }) end
  for task in scheduler:finished() do assert(task.status == "success", task.reason) end
  return count / (figures.seconds() - start)
end

local function by_program(program, args, stdin)
  local start = figures.seconds()
  assert(run.start(args, { program = program, limit = 600, stdin = stdin }):wait().code == 0)
  return n / (figures.seconds() - start)
end

local function by_make()
  local lines = { "all: " }
  for i = 1, n do lines[1] = lines[1] .. "t" .. i .. " " end
  for i = 1, n do lines[#lines + 1] = "t" .. i .. ":\n\t@/bin/true" end
  local folder = run.folder { Makefile = table.concat(lines, "\n") .. "\n" }
  local rate = by_program("/usr/bin/make", { "-s", "-j", tostring(CONCURRENCY), "-C", folder })
  run.clean()
  return rate
end

local function by_xargs()
  local lines = {}
  for i = 1, n do lines[i] = i end
  return by_program("/usr/bin/xargs", { "-P", tostring(CONCURRENCY), "-n", "1", "/bin/true" },
    table.concat(lines, "\n") .. "\n")
end

local function by_limit()
  local args = { "threads", tostring(n), tostring(CONCURRENCY), "0", "/bin/true" }
  return tonumber(run.start(args, { program = limit_program, limit = 600 }):wait().stdout:match ": ([%d.]+)")
end

-- The longest turn of the loop while tasks run, in milliseconds.
local function longest_turn()
  local prepare, check, woke, longest = uv.new_prepare(), uv.new_check(), nil, 0
  check:start(function() woke = woke or uv.hrtime() end)
  prepare:start(function()
    if woke then longest = math.max(longest, (uv.hrtime() - woke) * 1e-6) end
    woke = nil
  end)
  by_ltsh(CONCURRENCY, { "/bin/true" }, n)
  prepare:close()
  check:close()
  return longest
end

local rates = { ltsh = {}, ltsh_heap = {}, make = {}, xargs = {}, limit = {} }
for i = 1, ROUNDS do
  rates.ltsh[i] = by_ltsh(CONCURRENCY, { "/bin/true" }, n)
  do
    local heap <const> = {}
    for j = 1, 50 do heap[j] = ("x"):rep(10 << 20) .. j end
    rates.ltsh_heap[i] = by_ltsh(CONCURRENCY, { "/bin/true" }, n)
    assert(#heap == 50)
  end
  collectgarbage()
  rates.make[i], rates.xargs[i] = by_make(), by_xargs()
  rates.limit[i] = limit_program and by_limit()
end
for _, name in ipairs { "ltsh", "ltsh_heap", "make", "xargs", "limit" } do
  if rates[name][1] then figures.out("process." .. name, figures.median(rates[name]), "processes/s") end
end
local own = figures.median(rates.ltsh)
figures.out("process.over_make", own / figures.median(rates.make), "times")
if limit_program then figures.out("process.over_limit", own / figures.median(rates.limit), "times") end
figures.out("process.longest_turn", longest_turn(), "ms")
figures.out("process.at_once_1000", by_ltsh(1000, { "sleep", "1" }, 3000), "processes/s")
