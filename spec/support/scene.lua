--- What most specs need: schedulers that are closed after each test, and to wait for what is to happen soon.
---
---     local scene = require "spec.support.scene"
---     local open, eventually = scene.open, scene.eventually
---     after_each(scene.close)

local ltsh = require "ltsh"
local uv = require "luv"

local scene = {}

local opened = {}
local files = {}

--- Has a scheduler closed after the test.
function scene.keep(scheduler)
  opened[#opened + 1] = scheduler
  return scheduler
end

--- A scheduler, with a queue unless options.container is given. `run` is a task's function or an actuator; without it
--- options.actuator counts, or tasks do nothing.
function scene.open(run, options)
  options = options or {}
  options.container = options.container or ltsh.container.queue {}
  run = run or options.actuator or function() end
  options.actuator = type(run) == "function" and ltsh.actuator.func(run) or run
  return scene.keep(ltsh.scheduler(options))
end

--- Closes them all.
function scene.close()
  local closing = opened
  opened = {}
  for _, scheduler in ipairs(closing) do scheduler:close { drain = 0 } end
  local made = files
  files = {}
  for _, path in ipairs(made) do os.execute("rm -rf " .. path .. "*") end
end

--- The path of a file that is not there yet; what is there after the test goes, with all whose names begin with it.
function scene.temporary(suffix)
  local path = os.tmpname()
  os.remove(path)
  files[#files + 1] = path
  return path .. suffix
end

--- Waits until the condition holds; raises after ten seconds, whatever is done to the wall clock.
function scene.eventually(what, condition)
  local deadline = uv.hrtime() + 60e9 -- a machine may be busy
  while not condition() do
    if uv.hrtime() > deadline then error("did not happen in time: " .. what, 2) end
    ltsh.sleep(0.001)
  end
end

--- All that the scheduler's iterator gives, to its end.
function scene.ends_of(scheduler)
  local ends = {}
  for task in scheduler:finished() do ends[#ends + 1] = task end
  return ends
end

--- For how long at most a timer of 5 ms was held up while `what` went on: in seconds of the process's computing, since
--- how long others take the processors is not the host's doing.
function scene.lateness(what)
  local worst, over = 0, false
  local job = ltsh.spawn(function()
    while not over do
      local began = os.clock()
      ltsh.sleep(0.005)
      worst = math.max(worst, os.clock() - began)
    end
  end)
  collectgarbage()
  what()
  over = true
  job:wait()
  return worst
end

--- A door at which tasks wait until it is opened.
function scene.door()
  local self = { is_open = false, waiting = 0 }
  function self.pass()
    self.waiting = self.waiting + 1
    while not self.is_open do ltsh.sleep(0.001) end
    self.waiting = self.waiting - 1
  end
  return self
end

return scene
