-- Ten additions, two at a time. A quarter of the runs fail, a quarter take too long; three retries put that right.
--
--   scripts/ltsh examples/add.lua [--mode callback|poll|both]
--
-- The mode is how the scheduler learns that a task has ended: the actuator tells it (callback), it asks
-- (poll), or both. The outcome is the same.
local ltsh = require "ltsh"

local mode = arg[1] == "--mode" and arg[2] or "callback"
local modes = {
  callback = { callback = true, poll_interval = false },
  poll = { callback = false, poll_interval = 0.05 },
  both = { callback = true, poll_interval = 0.05 },
}
if not modes[mode] then
  io.stderr:write("usage: add.lua [--mode callback|poll|both]\n")
  os.exit(2)
end

local function add(task)
  local turn = (tonumber(task.id) + task.attempts) % 4
  ltsh.sleep(0.05) -- the work; others go on meanwhile
  if turn == 0 then
    return nil, "bad luck"
  elseif turn == 1 then
    ltsh.sleep(10) -- far beyond the timeout: ended there
  end
  return task.item.a + task.item.b
end

local scheduler <close> = ltsh.scheduler {
  name = "add",
  container = ltsh.container.queue { size = 100 },
  actuator = ltsh.actuator.func(add),
  limit = 2,
  timeout = 0.2,
  max_retries = 3,
  callback = modes[mode].callback,
  poll_interval = modes[mode].poll_interval,
}

scheduler:on("retried", function(task, reason)
  print(string.format("  task %-2s attempt %d: %s, tried again", task.id, task.attempts, reason))
end)

for i = 1, 10 do
  scheduler:add { id = tostring(i), item = { a = i, b = i * i } }
end

for task in scheduler:finished() do
  print(string.format("task %-2s %s after %d attempt%s: %s", task.id, task.status, task.attempts,
    task.attempts == 1 and "" or "s", task.output or task.reason))
end

local stats = scheduler:stats()
print(string.format("%d done, %d failed, %d retries, in mode %s", stats.success, stats.failed, stats.retried, mode))
