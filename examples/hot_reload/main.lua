-- Edit greet.lua while this runs, and see what happens:
--
--     scripts/ltsh --watch examples/hot_reload/main.lua [SECONDS]
--
-- Try a mistake too: the old version goes on, and the log names the line.
local ltsh = require "ltsh"

local folder = arg[0]:match "^.*/" or "./"
local seconds = tonumber(arg[1]) or 60

local scheduler <close> = ltsh.scheduler {
  container = ltsh.container.queue {},
  actuator = ltsh.actuator.func { module = folder .. "greet.lua" },
}

print(("Edit %sgreet.lua; this ends in %g seconds."):format(folder, seconds))
local ends = ltsh.now() + seconds
local shown
while ltsh.now() < ends do
  local id = scheduler:add { item = { name = "world" } }
  local task = scheduler:wait(id)
  if task.output ~= shown then
    print(("version %s says: %s"):format(task.version, task.output or task.reason))
    shown = task.output
  end
  ltsh.sleep(0.1)
end
