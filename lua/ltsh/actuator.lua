-- ltsh.actuator: what runs a task.
local core = require "ltsh.core"
local check = require "ltsh.check_args"

local actuator = {}

-- A built-in actuator as the script holds it: one of these can serve several schedulers, each of which makes its own
-- object from it.
local Builtin = {}
Builtin.__index = Builtin
Builtin.__name = "actuator"

--- Runs a Lua function for each task.
-- @param given a function(task) -> output | nil, failure; or { run = function }
function actuator.func(given)
  local where = "ltsh.actuator.func"
  local run = given
  if type(given) == "table" then
    check.names(where, given, { run = true })
    run = given.run
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
  return require("ltsh.module").load("actuator", path, options, actuator.check)
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
