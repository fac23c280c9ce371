--- A port of 127.0.0.1 that nobody listens at, for a server that is started next. None is given twice, and none is of
--- those that the kernel gives to who asks for any: in between, a connection of somebody could have it, even one of a
--- client that tries that very port until the server is there.
local uv = require "luv"

-- Below the kernel's, also with the 10000 more that a cluster's nodes talk at.
local FIRST, LAST = 12000, 21999

local given = {}

local function is_free(port)
  local socket = uv.new_tcp()
  local bound = socket:bind("127.0.0.1", port) and socket:listen(1, function() end)
  socket:close()
  return bound ~= nil
end

return function()
  while true do
    local port = FIRST + string.unpack("I4", uv.random(4)) % (LAST - FIRST + 1) -- another build's specs run beside
    if not given[port] and is_free(port) then
      given[port] = true
      return port
    end
  end
end
