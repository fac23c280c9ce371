--- A plain TCP connection for specs, on luv: what is sent and what comes back, byte for byte.
local ltsh = require "ltsh"
local uv = require "luv"

local socket = {}
socket.__index = socket

--- Connects to a port of this machine.
function socket.open(port)
  local self = setmetatable({ tcp = uv.new_tcp(), pieces = {}, ended = false }, socket)
  local err = ltsh.await(function(done) return self.tcp:connect("127.0.0.1", port, done) end)
  if err then error("connect: " .. err) end
  self:read()
  return self
end

function socket:read()
  self.tcp:read_start(function(err, bytes)
    if bytes then self.pieces[#self.pieces + 1] = bytes else self.ended = err or true end
  end)
end

--- What came so far.
function socket:received()
  if #self.pieces > 1 then self.pieces = { table.concat(self.pieces) } end
  return self.pieces[1] or ""
end

function socket:send(bytes)
  if not self.tcp:is_closing() then self.tcp:write(bytes) end
end

function socket:close()
  if not self.tcp:is_closing() then self.tcp:close() end
end

--- Waits until what came matches; gives the match. Raises after a minute.
function socket:expect(pattern)
  local deadline = uv.hrtime() + 60e9 -- a machine may be busy
  while not self:received():find(pattern) do
    if uv.hrtime() > deadline or (self.ended and not self:received():find(pattern)) then
      local what = self.ended and ", and the end" or ""
      error(("expected %q, got %q%s"):format(pattern, self:received():sub(-3000), what), 2)
    end
    ltsh.sleep(0.001)
  end
  return self:received():match(pattern)
end

--- Waits until so many bytes have come in all.
function socket:wait_for(size)
  local deadline = uv.hrtime() + 60e9 -- a machine may be busy
  while #self:received() < size do
    if uv.hrtime() > deadline or self.ended then error(("%d bytes of %d came"):format(#self:received(), size), 2) end
    ltsh.sleep(0.001)
  end
end

--- Sends empty lines until the other side has closed, which one that does not read learns only so.
function socket:send_until_refused()
  local deadline = uv.hrtime() + 60e9 -- a machine may be busy
  while not ltsh.await(function(done) self.tcp:write("\r\n", done) end) do
    if uv.hrtime() > deadline then error("the other side does not close", 2) end
    ltsh.sleep(0.01)
  end
end

--- Waits for the end of the connection; gives all that came.
function socket:rest()
  local deadline = uv.hrtime() + 60e9 -- a machine may be busy
  while not self.ended do
    if uv.hrtime() > deadline then error(("no end, got %q"):format(self:received():sub(1, 500)), 2) end
    ltsh.sleep(0.001)
  end
  self:close()
  return self:received()
end

--- Sends, and gives all that comes to the end of the connection.
function socket.ask(port, bytes)
  local self = socket.open(port)
  self:send(bytes)
  return self:rest()
end

return socket
