--- A scheduler with one task "t" that is held in a state of its run, until it is released.
---
---     local stage = require "spec.support.stage"
---     after_each(stage.close)
---
---     local held = stage.hold("saving", { store = "durable", mode = "poll", timeout = 0.05 })
---     local answer = held.later(held.scheduler.stop, held.scheduler, "t")
---     held.release()
---     local task = answer()
---
--- Nothing here hangs with a program that does: what does not come in time raises.
local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"
local table_container = require "spec.support.table"

local stage = {}

--- A new container of each kind, by name.
stage.containers = {
  queue = function() return ltsh.container.queue {} end,
  ["priority queue"] = function() return ltsh.container.priority {} end,
  table = function() return table_container() end,
  ["late table"] = function() return table_container { late = true } end,
  ["durable table"] = function() return table_container { durable = true } end,
}

local LIMIT = 8
local held_ones = {}

--- Calls a function in a job, and returns one that waits for its results, but not for ever.
function stage.later(fn, ...)
  local results, failure
  local arguments = table.pack(...)
  ltsh.spawn(function()
    local packed = table.pack(pcall(fn, table.unpack(arguments, 1, arguments.n)))
    if packed[1] then results = packed else failure = packed[2] end
  end)
  return function(seconds)
    local deadline = uv.hrtime() + (seconds or LIMIT) * 1e9
    while not results and not failure do
      if uv.hrtime() > deadline then error("it hangs", 2) end
      ltsh.sleep(0.001)
    end
    if failure then error(failure, 2) end
    return table.unpack(results, 2, results.n)
  end
end

--- Calls a function that must return within a few seconds.
function stage.within(seconds, fn, ...)
  return stage.later(fn, ...)(seconds)
end

--- Releases and closes everything, for after_each.
function stage.close()
  for _, held in ipairs(held_ones) do held.release() end
  held_ones = {}
  stage.within(20, scene.close)
end

-- An actuator whose methods stop at doors.
local function actuator_of(held, mode)
  local actuator = {}
  function actuator.start(_, task)
    held.starts = held.starts + 1
    if task.id ~= "t" then
      if mode ~= "poll" then actuator.notify { id = task.id, run = task.run, status = "success" } end
      return true
    end
    held.run, held.alive = task.run, true
    held.at "start"
    return "handle"
  end
  function actuator.stop(_, task)
    if task.id ~= "t" then return true end
    held.stops = held.stops + 1
    held.at "stop"
    if held.stops <= held.failing_stops then error "no connection" end
    held.alive = false
    return true
  end
  function actuator.output()
    held.at "output"
    return "result"
  end
  if mode ~= "callback" then
    function actuator.status(_, tasks)
      held.looks = held.looks + 1
      held.at "status"
      local records = {}
      for i, task in ipairs(tasks) do
        records[i] = task.id ~= "t" and { status = "success" } or held.record or { status = "running" }
      end
      return records
    end
  end
  if mode ~= "poll" then
    function actuator.attach(_, notify) actuator.notify = notify end
  end
  --- The work of the task ends.
  function held.finish(record)
    held.alive = false
    if mode == "poll" then
      held.record = record
    else
      local pushed = { id = "t", run = held.run }
      for name, value in pairs(record) do pushed[name] = value end
      actuator.notify(pushed)
    end
  end
  return actuator
end

local function persister_of(held)
  local persister = {}
  function persister.save(_, task, data)
    held.saves = held.saves + 1
    held.saved[task.id] = data
    held.at "save"
    if held.saves <= held.failing_saves then error "disk full after half" end
    return true
  end
  function persister.load(_, task) return held.saved[task.id] end
  function persister.delete(_, task)
    held.deletes = held.deletes + 1
    held.saved[task.id] = nil
    return true
  end
  return persister
end

--- A scheduler with doors, without a task yet. options: store = "queue", "table", "late" or "durable" (default
--- "queue"), mode = "callback", "poll" or "both" (default "callback"), and those of a scheduler.
function stage.open(options)
  local held = {
    starts = 0, stops = 0, looks = 0, saves = 0, deletes = 0, failing_stops = 0, failing_saves = 0, saved = {},
    ends = {}, doors = {}, alive = false,
  }
  function held.shut(name)
    held.doors[name] = scene.door()
  end
  function held.at(name)
    local door = held.doors[name]
    if door and not door.is_open then door.pass() end
  end
  function held.is_at(name)
    scene.eventually("it is at " .. name, function() return held.doors[name].waiting > 0 end)
  end
  function held.release()
    for _, door in pairs(held.doors) do door.is_open = true end
  end
  held.later, held.within = stage.later, stage.within

  local store, mode = options.store or "queue", options.mode or "callback"
  local own = {}
  for name, value in pairs(options) do own[name] = value end
  own.store, own.mode = nil, nil
  if store == "queue" then
    own.container = ltsh.container.queue {}
  else
    held.store = table_container { durable = store == "durable", late = store == "late" }
    own.container = held.store
  end
  own.persister = persister_of(held)
  own.callback = mode ~= "poll"
  if own.poll_interval == nil then own.poll_interval = mode ~= "callback" and 0.01 end
  held.scheduler = scene.open(actuator_of(held, mode), own)
  held.scheduler:on("finished", function(task) held.ends[#held.ends + 1] = task end)
  held_ones[#held_ones + 1] = held
  return held
end

local function started(held)
  scene.eventually("it has started", function()
    local task = held.scheduler:get "t"
    return task and task.handle == "handle"
  end)
end

-- What brings a task into a state. Each has the options that it needs of the scheduler.
local ways = {
  waiting = { function(held)
    held.scheduler:pause()
    assert(held.scheduler:add { id = "t" })
  end },
  delayed = { function(held) assert(held.scheduler:add { id = "t", delay = 3600 }) end },
  claimed = { function(held)
    held.shut "claim"
    held.store.after.claim = function()
      local place = held.store.places.t
      if place and place.task.status == "running" then held.at "claim" end
    end
    assert(held.scheduler:add { id = "t" })
    held.is_at "claim"
  end },
  starting = { function(held)
    held.shut "start"
    assert(held.scheduler:add { id = "t" })
    held.is_at "start"
  end },
  running = { function(held)
    assert(held.scheduler:add { id = "t" })
    started(held)
  end },
  ["the last look"] = { function(held)
    held.shut "status"
    assert(held.scheduler:add { id = "t" })
    held.is_at "status"
  end, timeout = 0.03, poll_interval = 3600 },
  stopping = { function(held)
    held.shut "stop"
    assert(held.scheduler:add { id = "t" })
    started(held)
    held.first = held.later(held.scheduler.stop, held.scheduler, "t", "the first")
    held.is_at "stop"
  end },
  ["stopping again"] = { function(held)
    held.failing_stops = 1
    assert(held.scheduler:add { id = "t" })
    started(held)
    held.first = held.later(held.scheduler.stop, held.scheduler, "t", "the first")
    scene.eventually("a stop has failed", function() return held.stops == 1 end)
  end },
  output = { function(held)
    held.shut "output"
    assert(held.scheduler:add { id = "t" })
    started(held)
    held.finish { status = "success" }
    held.is_at "output"
  end },
  saving = { function(held)
    held.shut "save"
    assert(held.scheduler:add { id = "t" })
    started(held)
    held.finish { status = "success" }
    held.is_at "save"
  end },
  resting = { function(held)
    held.failing_saves = 1
    assert(held.scheduler:add { id = "t" })
    started(held)
    held.finish { status = "success" }
    scene.eventually("a save has failed", function() return held.saves == 1 end)
    assert(held.scheduler:get("t").status == "exporting")
  end, max_retries = 1, backoff = 3600 },
  settling = { function(held)
    held.shut "settle"
    held.store.before.to_success = function() held.at "settle" end
    assert(held.scheduler:add { id = "t" })
    started(held)
    held.finish { status = "success" }
    held.is_at "settle"
  end },
}

--- Opens one, and brings its task "t" into the state.
function stage.hold(state, options)
  local way = ways[state]
  local own = {}
  for name, value in pairs(options or {}) do own[name] = value end
  for name, value in pairs(way) do
    if name ~= 1 and own[name] == nil then own[name] = value end
  end
  local held = stage.open(own)
  held.state = state
  way[1](held)
  return held
end

--- The states that there are with a store and a mode, in the order of a run.
function stage.states(store, mode)
  local states = { "waiting", "delayed" }
  if store ~= "queue" then states[#states + 1] = "claimed" end
  states[#states + 1] = "starting"
  states[#states + 1] = "running"
  if mode == "poll" then states[#states + 1] = "the last look" end
  states[#states + 1] = "stopping"
  if mode == "callback" and (store == "queue" or store == "durable") then -- each takes a second
    states[#states + 1] = "stopping again"
  end
  for _, state in ipairs { "output", "saving", "resting" } do states[#states + 1] = state end
  if store ~= "queue" then states[#states + 1] = "settling" end
  return states
end

return stage
