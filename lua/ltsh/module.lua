-- Module files: `load(path[, options])` of ltsh.container, ltsh.actuator, ltsh.persister and ltsh.callback.
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

return module
