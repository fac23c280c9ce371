-- Priorities, delays, an expiry and a key: who runs when.
--
--   scripts/ltsh examples/priorities.lua
local ltsh = require "ltsh"

local scheduler <close> = ltsh.scheduler {
  name = "kitchen",
  container = ltsh.container.priority { size = 100 },
  actuator = ltsh.actuator.func(function(task)
    ltsh.sleep(0.05)
    return "served"
  end),
  limit = 2,
  key_limit = 1, -- one dish of a table at a time
}

scheduler:pause() -- until all orders are in
scheduler:add { id = "soup", item = "tomato", key = "table 1" }
scheduler:add { id = "bread", item = "rye", key = "table 1" }
scheduler:add { id = "steak", item = "rare", key = "table 2", priority = 5 }
scheduler:add { id = "allergy", item = "no nuts", key = "table 3", priority = 10 } -- first of all
scheduler:add { id = "dessert", item = "ice", key = "table 1", delay = 0.3 } -- not before
scheduler:add { id = "special", item = "oysters", key = "table 4", priority = -1, expires = 0.02 } -- at once
scheduler:resume()

local start = ltsh.now()
scheduler:on("started", function(task)
  print(string.format("%-8s started, priority %d, %s", task.id, task.priority, task.key))
end)

for task in scheduler:finished() do
  print(string.format("%-8s %s: %s", task.id, task.status, task.output or task.reason))
end
assert(ltsh.now() - start >= 0.3)
