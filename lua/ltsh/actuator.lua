-- ltsh.actuator: what runs a task.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local module = require "ltsh.module"
local reload = require "ltsh.reload"
local source = require "ltsh.source"

local actuator = {}

-- A built-in actuator as the script holds it: one of these can serve several schedulers, each of which makes its own
-- object from it.
local Builtin = {}
Builtin.__index = Builtin
Builtin.__name = "actuator"

local func_options = {
  run = true, module = true, init = true, workers = true, isolate = true, memory = true, max_abandoned = true,
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

-- What script code holds of an actuator that is made from a module of tasks. It follows the file.
local function module_actuator(path, text, make, try)
  local parts = setmetatable({}, { __mode = "k" })
  local object = setmetatable({}, Builtin)
  local current = {}
  current.version = reload.register(object, path, text, function(new_text, version)
    local swap, message = try(new_text, version, parts)
    return swap and function()
      current.text, current.version = new_text, version
      swap()
    end, message
  end)
  current.text = text
  function object.make()
    local part = make(current.text, current.version)
    core.set_version(part, current.version)
    core.hold(part, object)
    parts[part] = true
    return part
  end
  return object
end

-- Runs a module's function in states of their own: a worker tries a new version before the others get it.
local function worker_actuator(where, given)
  local options = read_workers(where, given)
  local text = module.read(where, options.module)
  module.compile(where, options.module, text)
  local function make(current)
    options.source = current
    return require("ltsh.workers").new(options)
  end
  return module_actuator(options.module, text, make, function(new_text, version, parts)
    local chunk, message = source.load(new_text, options.module)
    if not chunk then return nil, message end
    local workers, tried = require "ltsh.workers", {}
    local function next_part() -- anew after each: more may be made while one is tried
      for part in pairs(parts) do
        if core.alive(part) and not tried[part] then return part end
      end
    end
    for part in next_part do
      local result = workers.try(part, new_text):wait()
      if result ~= true then
        for other in pairs(tried) do workers.use(other, false) end
        return nil, result
      end
      tried[part] = true
    end
    return function()
      for part in pairs(parts) do
        if core.alive(part) then
          if tried[part] then workers.use(part, true) else workers.adopt(part, new_text) end -- made since
          core.set_version(part, version)
        end
      end
    end
  end)
end

-- Runs a module's function in the host's state.
local function local_actuator(where, path)
  if type(path) ~= "string" then check.fail(where, "module", "the path of a Lua file", path) end
  local text = module.read(where, path)
  module.compile(where, path, text)
  local run = module.task_function(path, text)
  return module_actuator(path, text, function() return core.func(run) end, function(new_text, version, parts)
    local new = module.task_function(path, new_text)
    return function()
      run = new
      for part in pairs(parts) do
        if core.alive(part) then
          core.set_function(part, new)
          core.set_version(part, version)
        end
      end
    end
  end)
end

-- Lets a function look at each task before it is stored.
local function with_init(where, object, init)
  if init == nil then return object end
  if not check.is_callable(init) then check.fail(where, "init", "a function", init) end
  local make = object.make
  local methods = { name = "func", init = function(_, task) return init(task) end }
  function object.make()
    local part = make()
    core.set_init(part, methods)
    return part
  end
  return object
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
  local object
  if given.workers or given.isolate or given.memory or given.max_abandoned then
    object = worker_actuator(where, given)
  elseif given.module ~= nil then
    object = local_actuator(where, given.module)
  else
    local run = given.run
    if type(run) ~= "function" then check.fail(where, "run", "a function", run) end
    object = setmetatable({ make = function() return core.func(run) end }, Builtin)
  end
  return with_init(where, object, given.init)
end

-- A built-in actuator that runs processes or containers: ends are pushed, and cannot be asked for.
local function outside(where, make, progress)
  if progress ~= nil and not check.is_callable(progress) then
    check.fail(where, "progress", "a function(line, stream)", progress)
  end
  make() -- raises for defaults that make no sense
  return setmetatable({ make = make, pushes = true, progress = progress }, Builtin)
end

-- The fields of `given` without those of `taken`.
local function without(given, taken)
  local rest = {}
  for name, value in pairs(given) do
    if not taken[name] then rest[name] = value end
  end
  return rest
end

--- Runs each task as a process.
-- @param given fields of an item, for tasks that leave them out (docs/processes-and-docker.md has all of them), and
-- `progress`, a function(line, stream) that is called with each line of output and returns how far the task is, or nil
function actuator.process(given)
  local where = "ltsh.actuator.process"
  given = given or {}
  check.table(where, "options", given)
  local defaults = without(given, { progress = true })
  return outside(where, function() return core.process(defaults, where) end, given.progress)
end

local TLS = { ca = true, cert = true, key = true }

-- A text that is not empty, or nil.
local function text_or_nil(where, name, value)
  if value ~= nil and (type(value) ~= "string" or value == "") then check.fail(where, name, "a text", value) end
  return value
end

--- Runs containers of a Docker Engine.
-- @param given where the engine is: `host` ("unix:///var/run/docker.sock", "tcp://name:2375"), `tls` ({ ca=, cert=,
-- key= }, paths of PEM files), `version` of its API; what is missing is as the environment says (DOCKER_HOST and the
-- like). All other fields are those of an item, for tasks that leave them out, and `progress` as for processes.
function actuator.docker(given)
  local where = "ltsh.actuator.docker"
  given = given or {}
  check.table(where, "options", given)
  local tls = given.tls or {}
  check.table(where, "tls", tls)
  check.names(where, tls, TLS)
  local place = {
    host = text_or_nil(where, "host", given.host), version = text_or_nil(where, "version", given.version),
    ca = text_or_nil(where, "tls.ca", tls.ca), cert = text_or_nil(where, "tls.cert", tls.cert),
    key = text_or_nil(where, "tls.key", tls.key),
  }
  local defaults = without(given, { host = true, tls = true, version = true, progress = true })
  return outside(where, function() return core.docker(place, defaults, where) end, given.progress)
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
    return given.make, { builtin = true, attach = true, status = not given.pushes, progress = given.progress }
  end
  if type(given) ~= "table" then
    check.fail(where, "actuator", "an actuator such as ltsh.actuator.func(fn), or a table of methods", given)
  end
  actuator.check(where .. ": actuator", given)
  return function() return module.made(given, core.actuator(given)) end,
    { builtin = false, attach = given.attach ~= nil, status = given.status ~= nil }
end

return actuator
