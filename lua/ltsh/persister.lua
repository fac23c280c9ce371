-- ltsh.persister: where outputs are saved.
local core = require "ltsh.core"
local check = require "ltsh.check_args"

local persister = {}

-- Those that are made in C: for each scheduler one of its own.
local built_in = {}

--- In an SQLite database: a table of its own. Where the container is in the same file, an output is stored in the
--- transaction that makes its task a success. `name` tells several persisters in a file apart.
function persister.sqlite(options)
  local where = "ltsh.persister.sqlite"
  check.table(where, "options", options)
  check.names(where, options, { path = true, name = true })
  local path = check.text(where, "path", options.path)
  local name = options.name == nil and "default" or check.text(where, "name", options.name)
  local function make()
    local made, part = pcall(core.sqlite_persister, path, name)
    if not made then error(where .. ": " .. tostring(part), 0) end
    return part
  end
  return setmetatable({ first = make(), make = make }, built_in)
end

--- As files in a folder: each written, brought to the disk, and then put in its place.
function persister.files(options)
  return require("ltsh.output_files")(options)
end

-- Checks that a table can be a persister.
function persister.check(where, methods)
  if getmetatable(methods) == built_in then return end
  check.methods(where, methods, { "save", "load", "delete" })
  if methods.close ~= nil then check.methods(where, methods, { "close" }) end
end

-- The persister object for ltsh.scheduler from what the script gave.
function persister.object(where, given)
  if type(given) ~= "table" then check.fail(where, "persister", "a persister, or a table of methods", given) end
  persister.check(where .. ": persister", given)
  if getmetatable(given) ~= built_in then return core.persister(given) end
  local part = given.first or given.make()
  given.first = nil
  return part
end

--- Loads a persister from a Lua file.
function persister.load(path, options)
  return require("ltsh.module").load("persister", path, options, persister.check)
end

return persister
