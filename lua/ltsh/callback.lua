-- ltsh.callback: receivers, which take changes of tasks from elsewhere.
local check = require "ltsh.check_args"

local callback = {}

-- Checks that a table can be a receiver.
function callback.check(where, methods)
  check.methods(where, methods, { "receive" })
  if methods.close ~= nil then check.methods(where, methods, { "close" }) end
end

--- Loads a receiver from a Lua file.
function callback.load(path, options)
  return require("ltsh.module").load("callback", path, options, callback.check)
end

return callback
