-- Tasks that outlive this program. Kill it at any moment, in any way, and start it again: it goes on where it was.
--
--   scripts/ltsh examples/durable.lua [FILE]          the database, durable.db unless it is said
--   kill -9 ...; scripts/ltsh examples/durable.lua    and again
--
-- Start it twice at once, and the two share the work.
local ltsh = require "ltsh"

local path = arg[1] or "durable.db"
local STEPS = 40

local scheduler <close> = ltsh.scheduler {
  name = "invoices",
  container = ltsh.container.sqlite { path = path },
  actuator = ltsh.actuator.func(function(task)
    ltsh.sleep(0.25) -- the work
    return "invoice " .. task.item.number .. " is sent"
  end),
  limit = 4,
}

-- Each id is taken once, however often this runs: what is known already is refused.
local new = 0
for number = 1, STEPS do
  if scheduler:add { id = "invoice-" .. number, item = { number = number }, once = true } then new = new + 1 end
end

local stats = scheduler:stats()
print(string.format("%d new, %d wait, %d were done before", new, stats.waiting, scheduler:count { status = "success" }))

for task in scheduler:finished() do
  local again = #scheduler:history(task.id) > 1 and ", once more after its host was gone" or ""
  print(task.id, task.output .. again)
end
print(string.format("all %d are sent", scheduler:count { status = "success" }))
