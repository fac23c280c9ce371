-- ltsh.actuator: what runs a task.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local module = require "ltsh.module"

local actuator = {}

-- A built-in actuator as the script holds it: one of these can serve several schedulers, each of which makes its own
-- object from it.
local Builtin = {}
Builtin.__index = Builtin
Builtin.__name = "actuator"

local func_options = {
  run = true, module = true, workers = true, isolate = true, memory = true, max_abandoned = true,
}

local LEAST_MEMORY = 1 << 20
local MAX_WORKERS = 1000

-- What makes the workers of a module.
local function read_workers(where, given)
  if type(given.module) ~= "string" then
    check.fail(where, "module", "the path of a Lua file (a function cannot cross to a worker)", given.module)
  end
  local isolate = given.isolate or "thread"
  if isolate ~= "thread" and isolate ~= "process" then
    check.fail(where, "isolate", [["thread" or "process"]], isolate)
  end
  local memory = given.memory and check.size(where, "memory", given.memory) or 0
  if given.memory and memory < LEAST_MEMORY then check.fail(where, "memory", "at least 1M", given.memory) end
  local workers = check.integer(where, "workers", given.workers or 1, 1)
  if workers > MAX_WORKERS then check.fail(where, "workers", "at most " .. MAX_WORKERS, workers) end
  return {
    module = given.module,
    workers = workers,
    processes = isolate == "process",
    memory = memory,
    max_abandoned = check.integer(where, "max_abandoned", given.max_abandoned or 4, 1),
    path = package.path,
    cpath = package.cpath,
  }
end

-- Runs a module's function in states of their own.
local function worker_actuator(where, given)
  local options = read_workers(where, given)
  options.source = module.read(where, options.module)
  module.compile(where, options.module, options.source)
  options.version = module.version(1, options.source)
  return setmetatable({ make = function() return require("ltsh.workers").new(options) end }, Builtin)
end

--- Runs a Lua function for each task.
-- @param given a function(task) -> output | nil, failure; or { run = function }, or { module = path } of a file that
-- returns one, with `workers`, `isolate`, `memory` or `max_abandoned` in states of its own
function actuator.func(given)
  local where = "ltsh.actuator.func"
  if type(given) == "function" then given = { run = given } end
  check.table(where, "run", given)
  check.names(where, given, func_options)
  if given.run ~= nil and given.module ~= nil then
    error(where .. ": run and module cannot be given together", 0)
  end
  if given.workers or given.isolate or given.memory or given.max_abandoned then
    return worker_actuator(where, given)
  end
  local run = given.run
  if given.module ~= nil then
    if type(given.module) ~= "string" then check.fail(where, "module", "the path of a Lua file", given.module) end
    local source = module.read(where, given.module)
    module.compile(where, given.module, source)
    run = module.task_function(given.module, source)
  end
  if type(run) ~= "function" then check.fail(where, "run", "a function", run) end
  return setmetatable({ make = function() return core.func(run) end }, Builtin)
end

-- Checks that a table can be an actuator.
function actuator.check(where, methods)
  check.methods(where, methods, { "start", "stop" })
  for _, name in ipairs { "status", "init", "output", "attach", "recover", "close" } do
    if methods[name] ~= nil then check.methods(where, methods, { name }) end
  end
  if methods.status == nil and methods.attach == nil then
    error(where .. ": it needs 'status' (to be polled) or 'attach' (to push changes)", 0)
  end
end

--- Loads an actuator from a Lua file.
function actuator.load(path, options)
  return module.load("actuator", path, options, actuator.check)
end

-- What ltsh.scheduler needs of what the script gave: a function that makes the object, and what it can do.
function actuator.object(where, given)
  if getmetatable(given) == Builtin then
    return given.make, { builtin = true, attach = true, status = true }
  end
  if type(given) ~= "table" then
    check.fail(where, "actuator", "an actuator such as ltsh.actuator.func(fn), or a table of methods", given)
  end
  actuator.check(where .. ": actuator", given)
  return function() return core.actuator(given) end,
    { builtin = false, attach = given.attach ~= nil, status = given.status ~= nil }
end

return actuator
