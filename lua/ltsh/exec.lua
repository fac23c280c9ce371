-- ltsh.exec: runs a process and waits for its end.
local core = require "ltsh.core"
local check = require "ltsh.check_args"

--- Runs a program to its end.
-- @param given { "ls", "-l", ... } or { cmd =, args = } or { shell = }, with fields of a process's item (env, cwd,
-- stdin, stdout, ...), `timeout` in seconds, and `stream`, a function(name, bytes) that gets output as it comes
-- @return { code =, signal =, stdout =, stderr =, usage =, timed_out = }; nil, a message and a code if it was not
-- started
return function(given)
  local where = "ltsh.exec"
  check.table(where, "its argument", given)
  local item = {}
  for name, value in pairs(given) do item[name] = value end
  local timeout, stream = item.timeout, item.stream
  item.timeout, item.stream = nil, nil
  if timeout ~= nil then timeout = check.seconds(where, "timeout", timeout, true) end
  if stream ~= nil and not check.is_callable(stream) then check.fail(where, "stream", "a function", stream) end
  local process <close> = core.exec(item, timeout, stream ~= nil)
  for name, bytes in process.next, process do stream(name, bytes) end
  local result, message = process:result()
  if not result then return nil, message, "error" end
  return result
end
