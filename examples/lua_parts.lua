-- All four parts in Lua: a container, an actuator, a persister and a receiver.
--
--   scripts/ltsh examples/lua_parts.lua
--
-- The actuator hands work to a far-away "oven" and returns at once. The oven rings when a loaf is done; the receiver
-- hears that and tells the scheduler. The actuator then fetches the loaf, and the persister puts it into a folder.
local ltsh = require "ltsh"
local uv = require "luv"

local here = arg[0]:match "^(.*)/" or "."

-- The far-away service: it bakes each loaf for a while, then rings.
local oven = { loaves = {}, ring = nil }

function oven.bake(number, seconds)
  local timer = uv.new_timer()
  oven.loaves[number] = timer
  timer:start(math.floor(seconds * 1000), 0, function()
    timer:close()
    oven.loaves[number] = "loaf " .. number
    if oven.ring then oven.ring(number) end
  end)
end

function oven.take_out(number)
  local timer = oven.loaves[number]
  oven.loaves[number] = nil
  if type(timer) == "userdata" then timer:close() end
end

local actuator = { name = "oven" }

-- Returns the handle: the oven's own name for this piece of work.
function actuator:start(task)
  if task.item.seconds > 1 then return nil, { reason = "it would burn", retry = false } end
  local number = task.id .. "/" .. task.run
  oven.bake(number, task.item.seconds)
  return number
end

-- Returns when the work is dead.
function actuator:stop(task)
  oven.take_out(task.handle)
  return true
end

-- One record for each task, in order: the safety net, should a ring be missed.
function actuator:status(tasks)
  local records = {}
  for i, task in ipairs(tasks) do
    local loaf = oven.loaves[task.handle]
    records[i] = { status = type(loaf) == "string" and "success" or "running" }
  end
  return records
end

-- After success, while the task is exporting.
function actuator:output(task)
  local loaf = oven.loaves[task.handle]
  oven.take_out(task.handle)
  return { loaf = loaf, kind = task.item.kind }
end

local receiver = { name = "bell" }

-- Called once; may wait for ever, or leave a callback behind.
function receiver:receive(push)
  oven.ring = function(number)
    local id, run = number:match "^(.*)/(%d+)$"
    push { id = id, run = tonumber(run), status = "success" }
  end
end

function receiver:close() oven.ring = nil end

local folder = os.tmpname()
os.remove(folder)
assert(uv.fs_mkdir(folder, 448))

local persister = { name = "folder" }

local function path_of(task) return folder .. "/" .. task.id .. ".json" end

function persister:save(task, data)
  local file <close> = assert(io.open(path_of(task), "w"))
  file:write(ltsh.json.encode(data))
end

function persister:load(task)
  local file <close> = io.open(path_of(task))
  return file and ltsh.json.decode(file:read "a")
end

function persister:delete(task) os.remove(path_of(task)) end

do
  local scheduler <close> = ltsh.scheduler {
    name = "bakery",
    container = ltsh.container.load(here .. "/lua_container.lua", { size = 100 }),
    actuator = actuator,
    persister = persister,
    callback = receiver,
    poll_interval = 5,
    limit = 3,
    timeout = 2,
  }

  for i, kind in ipairs { "rye", "wheat", "spelt", "oat", "charcoal" } do
    scheduler:add { id = kind, item = { kind = kind, seconds = kind == "charcoal" and 100 or i / 20 } }
  end

  for task in scheduler:finished() do
    print(string.format("%-8s %s: %s", task.id, task.status, task.output and task.output.loaf or task.reason))
  end

  print("saved:   " .. scheduler:output("rye").loaf)
  for _, task in ipairs(scheduler:list { status = "success" }) do scheduler:delete(task.id) end
end

assert(uv.fs_rmdir(folder)) -- empty again
