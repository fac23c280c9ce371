--- A unix socket before another, which a spec can cut, close, hold up, and look into.
---
---     local proxy = Proxy(engine.socket)      proxy.host is its address
---     proxy:cut()                             all connections break
---     proxy:close()  proxy:open()             nobody is there; somebody is again
---     proxy.hold = "POST .*/create"           requests like this reach the engine, their answers are lost
---     proxy.drop = '"die"'                    what the engine says and has this in it is lost
---     proxy.version = "1.30"                  the newest version of the API that the engine says it knows
---     proxy.connections                       how many there were
---     proxy.requests                          the first line of each request that was seen
local uv = require "luv"

local Proxy = {}
Proxy.__index = Proxy

local function pass(proxy, from, to, sees)
  from:read_start(function(err, bytes)
    if err or not bytes then
      if not to:is_closing() then
        if err then to:close() else to:shutdown(function() end) end
      end
      return
    end
    local passed = sees(bytes)
    if passed and not to:is_closing() then to:write(passed) end
  end)
  proxy.pipes[from] = true
end

function Proxy:open()
  uv.fs_unlink(self.path)
  self.server = uv.new_pipe()
  assert(self.server:bind(self.path))
  self.server:listen(128, function()
    local client, engine, held = uv.new_pipe(), uv.new_pipe(), false
    self.server:accept(client)
    self.connections = self.connections + 1
    engine:connect(self.target, function(err)
      if err then return client:close() end
      pass(self, client, engine, function(bytes)
        local line = bytes:match "^(%u+ [^\r\n]*) HTTP/1.1\r\n"
        if line then
          table.insert(self.requests, line)
          held = self.hold ~= nil and line:find(self.hold) ~= nil
        end
        return bytes
      end)
      pass(self, engine, client, function(bytes)
        if held or (self.drop and bytes:find(self.drop)) then return nil end
        return self.version and bytes:gsub("(Api%-Version: )[%d.]+", "%1" .. self.version) or bytes
      end)
    end)
  end)
end

function Proxy:cut()
  for pipe in pairs(self.pipes) do
    if not pipe:is_closing() then pipe:close() end
  end
  self.pipes = {}
end

function Proxy:close()
  if self.server then self.server:close() end
  self.server = nil
  uv.fs_unlink(self.path)
  self:cut()
end

--- How many of the requests are like this.
function Proxy:count(pattern)
  local count = 0
  for _, line in ipairs(self.requests) do
    if line:find(pattern) then count = count + 1 end
  end
  return count
end

return function(target)
  local path = target .. ".proxy"
  local proxy = { target = target, path = path, host = "unix://" .. path, pipes = {}, connections = 0, requests = {} }
  setmetatable(proxy, Proxy)
  proxy:open()
  return proxy
end
