-- Module files: `load(path[, options])` of ltsh.container, ltsh.actuator, ltsh.persister and ltsh.callback.
local core = require "ltsh.core"
local check = require "ltsh.check_args"

local module = {}

-- Loads the file at `path`, which returns a table of methods or a function(options) that returns one. Raises with the
-- file and the line.
-- @param kind "container", ...: for messages
-- @param methods (table) the table is checked with methods(where, table)
function module.load(kind, path, options, methods)
  local where = string.format("ltsh.%s.load", kind)
  if type(path) ~= "string" then check.fail(where, "path", "a string", path) end
  local chunk, message = loadfile(path)
  if not chunk then error(string.format("%s: %s", where, message), 0) end
  local made = chunk()
  if check.is_callable(made) then made = made(options) end
  if type(made) ~= "table" then
    error(string.format("%s: %s must return a table of methods or a function that returns one, got %s", where, path,
      check.show(made)), 0)
  end
  methods(string.format("%s: %s", where, path), made)
  if made.name == nil then made.name = path end
  return made
end

-- How a version of a file is called: the how manieth it is, and what tells its content from others.
function module.version(number, source)
  return string.format("%d-%s", number, core.hash(source))
end

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
function module.compile(where, path, source)
  local chunk, message = load(source, "@" .. path, "t")
  if not chunk then error(string.format("%s: %s", where, message), 0) end
  return chunk
end

-- The function(task) of a module of tasks: what its file returns, or the `run` of the table that it returns.
-- @param source the text of the file at `path`, which compiles
function module.task_function(path, source)
  local made = load(source, "@" .. path, "t")()
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
