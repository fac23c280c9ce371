-- ltsh: the module that scripts require. What is written in C comes from ltsh.core; what is better written in Lua, from
-- the files beside this one.
local core = require "ltsh.core"

local ltsh = {
  version = core.version,
  sleep = core.sleep,
  now = core.now,
  spawn = core.spawn,
  await = core.await,
  log = core.log,
  json = core.json,
}

-- The rest is loaded when it is first used: a script that only sleeps pays for nothing else.
local lazy = {
  scheduler = "ltsh.scheduler",
  container = "ltsh.container",
  actuator = "ltsh.actuator",
  persister = "ltsh.persister",
  callback = "ltsh.callback",
  exec = "ltsh.exec",
  every = "ltsh.every",
  sqlite = "ltsh.sqlite",
  http = "ltsh.http",
  console = "ltsh.console",
}

--- Looks at all module files that were loaded, and takes up those that changed.
function ltsh.reload()
  if core.worker then error("ltsh.reload: a worker cannot, its host does", 2) end
  return require("ltsh.reload").now()
end

if core.worker then
  return setmetatable(ltsh, {
    __index = function(_, name)
      if lazy[name] == nil then return nil end
      error(string.format("ltsh.%s: a worker has no schedulers of its own; it has ltsh.sleep, now, spawn, await, log "
        .. "and json", name), 2)
    end,
  })
end

return setmetatable(ltsh, {
  __index = function(self, name)
    local module = lazy[name]
    if module == nil then return nil end
    local value = require(module)
    rawset(self, name, value)
    return value
  end,
})
