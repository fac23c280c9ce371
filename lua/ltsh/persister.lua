-- ltsh.persister: where outputs are saved.
local check = require "ltsh.check_args"

local persister = {}

-- Checks that a table can be a persister.
function persister.check(where, methods)
  check.methods(where, methods, { "save", "load", "delete" })
  if methods.close ~= nil then check.methods(where, methods, { "close" }) end
end

--- Loads a persister from a Lua file.
function persister.load(path, options)
  return require("ltsh.module").load("persister", path, options, persister.check)
end

return persister
