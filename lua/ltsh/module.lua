-- Module files: `load(path[, options])` of ltsh.container, ltsh.actuator, ltsh.persister and ltsh.callback.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local reload = require "ltsh.reload"
local source = require "ltsh.source"

local module = {}

-- The whole text of a file; raises if it cannot be read.
function module.read(where, path)
  local file, message = io.open(path, "rb")
  if not file then error(string.format("%s: cannot open %s", where, message), 0) end
  local text
  text, message = file:read "a"
  file:close()
  if not text then error(string.format("%s: cannot read %s: %s", where, path, message), 0) end
  return text
end

-- The chunk of a file's text; raises with the file and the line.
function module.compile(where, path, text)
  local chunk, message = source.load(text, path)
  if not chunk then error(string.format("%s: %s", where, message), 0) end
  return chunk
end

-- Calls a function of a module: os.exit raises in it, and in what it begins.
local function call_guest(fn, ...)
  local before = core.guest(true)
  local _ <close> = setmetatable({}, { __close = function() core.guest(before) end })
  return fn(...)
end

-- What a file gives: a table of methods, checked. Raises with the file and the line.
local function make(where, path, text, options, methods)
  local made = call_guest(module.compile(where, path, text))
  if check.is_callable(made) then made = call_guest(made, options) end
  if type(made) ~= "table" then
    error(string.format("%s: %s must return a table of methods or a function that returns one, got %s", where, path,
      check.show(made)), 0)
  end
  methods(string.format("%s: %s", where, path), made)
  return made
end

-- The methods of a table in one of their own, with what the table inherits behind them.
local function methods_of(made)
  local methods, inherited = {}, getmetatable(made)
  for name, value in pairs(made) do
    if type(value) == "function" then methods[name] = value end
  end
  return setmetatable(methods, { __index = type(inherited) == "table" and inherited.__index or nil })
end

-- Makes `self` of the table that the first version gave: its state stays in it, its methods are looked up in the
-- current version's. Returns a function that puts other methods in their place.
local function make_self(made)
  local meta = {}
  local inherited = getmetatable(made)
  for name, value in pairs(type(inherited) == "table" and inherited or {}) do meta[name] = value end
  meta.__index = methods_of(made)
  for name in pairs(meta.__index) do made[name] = nil end
  setmetatable(made, meta)
  return function(methods) meta.__index = methods end
end

-- Tells a module that it has new methods.
local function tell(self, path)
  if self.reloaded == nil then return end
  core.spawn(function()
    core.sleep(0) -- when the reload is through
    local ok, message = xpcall(call_guest, debug.traceback, self.reloaded, self)
    if not ok then core.log.error("a module's reloaded() raised an error", { module = path, error = message }) end
  end)
end

-- The parts that were made of a table: they tell their tasks its version. Weak.
local parts = setmetatable({}, { __mode = "k" })
local versions = setmetatable({}, { __mode = "k" })

local function set_version(self, version)
  versions[self] = version
  for part in pairs(parts[self] or {}) do
    if core.alive(part) then core.set_version(part, version) end
  end
end

--- Notes that `part` was made of `self`; does nothing for a table that no file gave.
function module.made(self, part)
  if versions[self] == nil then return part end
  parts[self] = parts[self] or setmetatable({}, { __mode = "k" })
  parts[self][part] = true
  core.set_version(part, versions[self])
  return part
end

-- Loads the file at `path`, which returns a table of methods or a function(options) that returns one. Raises with the
-- file and the line. From then on its changes are followed: see ltsh.reload.
-- @param kind "container", ...: for messages
-- @param methods (table) the table is checked with methods(where, table)
function module.load(kind, path, options, methods)
  local where = string.format("ltsh.%s.load", kind)
  if type(path) ~= "string" then check.fail(where, "path", "a string", path) end
  local text = module.read(where, path)
  local self = make(where, path, text, options, methods)
  local use = make_self(self)
  if self.name == nil then self.name = path end
  local weak = setmetatable({ self = self }, { __mode = "v" }) -- the entry lives as long as self does
  set_version(self, reload.register(self, path, text, function(new_text, version)
    local new = methods_of(make(where, path, new_text, options, methods))
    return function()
      if not weak.self then return end
      use(new)
      set_version(weak.self, version)
      tell(weak.self, path)
    end
  end))
  return self
end

-- The function(task) of a module of tasks: what its file returns, or the `run` of the table that it returns.
-- @param text the text of the file at `path`
function module.task_function(path, text)
  local chunk, message = source.load(text, path)
  if not chunk then error(message, 0) end
  local made = call_guest(chunk)
  local run = made
  if type(made) == "table" and not check.is_callable(made) then run = made.run end
  if not check.is_callable(run) then
    error(string.format("%s: it must return a function(task), or a table with one named 'run', got %s", path,
      check.show(made)), 0)
  end
  if type(run) == "function" then return run end
  return function(task) return run(task) end
end

return module
