-- A host that is going to be killed: it adds tasks and runs them, and notes at once what it did.
--
--   ltsh host.lua DATABASE JOURNAL NAME KIND DURABILITY [finish]
--
-- Lines of the journal: "add ID" after add has returned, "run ID RUN" when a task begins, "end ID STATUS" for each end
-- that it is told. With `finish` it adds nothing, and ends when the queue is done.
local ltsh = require "ltsh"
local uv = require "luv"

local path, journal, name, kind, durability, finish = table.unpack(arg)

local fd = assert(uv.fs_open(journal, "a", 420))
local function note(...) assert(uv.fs_write(fd, table.concat({ ... }, " ") .. "\n")) end

math.randomseed(uv.hrtime())

local function pause() return math.random() < 0.3 and math.random() * 0.02 or 0 end

local actuators = {}

function actuators.func()
  return ltsh.actuator.func(function(task)
    note("run", task.id, task.run)
    local seconds = pause()
    if seconds > 0 then ltsh.sleep(seconds) end
    if math.random() < 0.05 then return nil, "by chance" end
    return { sum = #task.item.cmd }
  end)
end

function actuators.process()
  return ltsh.actuator.process {}
end

function actuators.custom()
  local running = {}
  return {
    start = function(_, task)
      note("run", task.id, task.run)
      running[task.id] = ltsh.now() + pause()
      return "handle-" .. task.run
    end,
    stop = function(_, task)
      running[task.id] = nil
      return true
    end,
    status = function(_, tasks)
      local answers = {}
      for i, task in ipairs(tasks) do
        local over = (running[task.id] or 0) <= ltsh.now()
        answers[i] = { status = over and "success" or "running", output = over and { sum = 1 } or nil }
      end
      return answers
    end,
  }
end

-- Every other host has the order of a container in memory; two of three take turns by the keys of tasks.
local number = tonumber(name:match "%d+") or 0
local fair = number % 3 > 0
local container = ltsh.container.sqlite { path = path, durability = durability, lease = 5, fair = fair }
if number % 2 == 0 then
  container = ltsh.container.combine(ltsh.container.priority { fair = fair }, container)
end

local scheduler = ltsh.scheduler {
  container = container,
  actuator = actuators[kind](), poll_interval = kind == "custom" and 0.01 or nil,
  limit = 16, max_retries = 1000, max_lost = 1000000, name = name,
}

scheduler:on("finished", function(task) note("end", task.id, task.status) end)

if kind == "process" then
  scheduler:on("started", function(task) note("run", task.id, task.run) end)
end

if finish then
  for _ in scheduler:finished() do end
  return
end

local KEYS = { "a", "a", "a", "a", "b", "c", name } -- one of them floods
local count = 0
while true do
  local list = {}
  for i = 1, math.random(1, 20) do
    count = count + 1
    list[i] = {
      id = name .. "-" .. count, item = { cmd = "/bin/true" },
      priority = math.random(0, 2), key = KEYS[math.random(#KEYS)],
    }
    if math.random() < 0.1 then list[i].delay = math.random() * 0.2 end
  end
  local ids = scheduler:add_all(list)
  for _, id in ipairs(ids or {}) do note("add", id) end
  if scheduler:count { status = "waiting" } > 300 then ltsh.sleep(0.05) else ltsh.sleep(math.random() * 0.01) end
end
