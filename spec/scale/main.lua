--- scripts/scale: measures what calls cost a Redis server here, and simulates many hosts with that (docs/scale.md).
local Costs = require "spec.scale.costs"
local redis = require "spec.support.redis"
local Simulation = require "spec.scale.simulation"

local ROUNDS = 3
local LIMIT = 100

-- The middle one of some measurements, for each figure.
local function measure()
  local server, rounds, costs = redis.start {}, {}, {}
  for i = 1, ROUNDS do rounds[i] = Costs(server) end
  for name, cost in pairs(rounds[1]) do
    costs[name] = {}
    for part in pairs(cost) do
      local list = {}
      for i = 1, ROUNDS do list[i] = rounds[i][name][part] end
      table.sort(list)
      costs[name][part] = list[(ROUNDS + 1) // 2]
    end
  end
  redis.stop()
  return costs
end

local costs = measure()
print "us of the server         a call   each task in it"
for _, name in ipairs { "add", "claim", "finish", "take_over", "idle", "news", "renew" } do
  print(("%-22s %8.0f %10.1f"):format(name, costs[name].call * 1e6, (costs[name].task or 0) * 1e6))
end

print "\nhosts   added/s   server busy   calls a task   add to start, p99"
for _, hosts in ipairs { 10, 100, 1000 } do
  for _, rate in ipairs { 0, 100, 200, 400, 600, 1000 } do
    local found = Simulation { hosts = hosts, limit = LIMIT, rate = rate, run = 0.05, seconds = 10, costs = costs }
    local behind = found.ended < 0.95 * rate and "it does not keep up" or ("%.1f ms"):format(found.p99 * 1e3)
    print(("%5d %9d %11.0f %% %13s   %s"):format(hosts, rate, found.busy * 100,
      rate > 0 and ("%.1f"):format(found.calls) or "-", rate > 0 and behind or "-"))
  end
end

print "\na backlog: hosts   seconds a task takes   tasks/s   server busy   us a task"
for _, hosts in ipairs { 1, 10, 100, 1000 } do
  for _, run in ipairs { 0.05, 1, 10, 60 } do
    local found = Simulation { hosts = hosts, limit = LIMIT, rate = 0, run = run, seconds = 2 * run + 10, costs = costs,
                               backlog = 600000 }
    print(("%16d %22g %9.0f %11.0f %% %10.0f"):format(hosts, run, found.ended, found.busy * 100, found.per_task * 1e6))
  end
end
