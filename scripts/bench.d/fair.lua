-- scripts/bench fair [N [RUN [CONTAINER]]]: what turns cost (fair = true), with 1, 1,000 and 100,000 keys.
--
-- N tasks wait (default 1,000,000), their keys in turn; the time of a task is that of the first RUN of them (default
-- 50,000) to their ends, at limit 64, once with a container that is fair and once without, three times in turn. Then
-- with a key that floods: all but 100 of the tasks are of one. The database is in /var/tmp, or in $TMPDIR.
package.path = arg[0]:match "^(.*)/scripts/" .. "/?.lua;" .. package.path
local figures = require "support.figures"
local ltsh = require "ltsh"

local n, count = tonumber(arg[1] or 1000000), tonumber(arg[2] or 50000)
local ROUNDS = 3
local path = (os.getenv "TMPDIR" or "/var/tmp") .. "/ltsh-bench-fair.db"

local makes = {
  { "queue", function(fair) return ltsh.container.queue { size = n, fair = fair } end },
  { "priority", function(fair) return ltsh.container.priority { size = n, fair = fair } end },
  { "sqlite, normal", function(fair)
    os.execute("rm -f " .. path .. "*")
    return ltsh.container.sqlite { path = path, durability = "normal", fair = fair }
  end },
}

local function add_all(scheduler, key_of)
  for first = 1, n, 1000 do
    local list = {}
    for i = first, math.min(n, first + 999) do list[#list + 1] = { id = "t" .. i, key = key_of(i) } end
    assert(scheduler:add_all(list))
  end
end

-- Microseconds to add a task, and to run one.
local function measure(make, fair, key_of)
  local done, over = 0, nil
  local scheduler = ltsh.scheduler {
    container = make(fair), limit = 64, finished_size = 0, keep = { tasks = 10 },
    actuator = ltsh.actuator.func(function()
      done = done + 1
      if done == count then over = figures.seconds() end
    end),
  }
  scheduler:pause()
  local start = figures.seconds()
  add_all(scheduler, key_of)
  local added = figures.seconds()
  collectgarbage()
  local began = figures.seconds()
  scheduler:resume()
  while not over do ltsh.sleep(0.002) end
  scheduler:pause()
  scheduler:close { drain = 0 }
  return (added - start) / n * 1e6, (over - began) / count * 1e6
end

local function show(name, make, what, key_of)
  local add, run = { [true] = {}, [false] = {} }, { [true] = {}, [false] = {} }
  for i = 1, ROUNDS do
    for _, fair in ipairs { false, true } do add[fair][i], run[fair][i] = measure(make, fair, key_of) end
  end
  local function both(of) return figures.median(of[false]), figures.median(of[true]) end
  local add_without, add_fair = both(add)
  print(string.format("%-16s %-16s add %6.2f, fair %6.2f us   run %6.2f, fair %6.2f us", name, what,
    add_without, add_fair, both(run)))
end

for _, case in ipairs(makes) do
  if not arg[3] or case[1]:find(arg[3], 1, true) then
    for _, keys in ipairs { 1, 1000, 100000 } do
      show(case[1], case[2], keys .. " keys", function(i) return "key" .. i % keys end)
    end
    show(case[1], case[2], "one floods", function(i) return i > n - 100 and "key" .. i or "flood" end)
  end
end
os.execute("rm -f " .. path .. "*")
