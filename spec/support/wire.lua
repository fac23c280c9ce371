--- A TCP port before another one, with the faults that networks and proxies have.
---
---     local wire = Wire(server.port)          wire.port is where it listens, wire.url as redis://
---     wire:cut()                              all connections break
---     wire:refuse()  wire:accept()            nobody listens; somebody does again
---     wire:stall()   wire:pass()              connections stay and are taken, and nothing of them passes, now or
---                                             later; those that are made from now on work again
---     wire.delay = 0.2                        seconds that every answer takes longer
---     wire:cut_at(n)                          the next connection, or with `true` this one too, breaks behind so many
---                                             more bytes of answers
---     wire.connections                        how many there were
---     wire.sent                               bytes of answers that passed
---     wire.seen = function(bytes) end         is shown what is asked
---     wire:close()
local uv = require "luv"

local Wire = {}
Wire.__index = Wire

local function drop(link)
  link.dead = true
  for _, socket in ipairs { link.near, link.far } do
    if not socket:is_closing() then socket:close() end
  end
end

-- What of the server's bytes may pass before the cut; and whether that is now.
local function before_cut(self, bytes)
  if not self.left then return bytes, false end
  local part = bytes:sub(1, self.left)
  self.left = self.left - #part
  return part, #part < #bytes or self.left == 0
end

local function answer(self, link, bytes)
  if link.dead or link.near:is_closing() then return end
  local part, cut = before_cut(self, bytes)
  self.sent = self.sent + #part
  if cut then self.left = nil end
  if #part > 0 then
    link.near:write(part, function() if cut then drop(link) end end)
  elseif cut then
    drop(link)
  end
end

-- In their order, also when the delay becomes less.
local function answer_later(self, link, bytes)
  local timer = uv.new_timer()
  link.due = math.max(uv.now() + math.floor(self.delay * 1000), link.due or 0)
  timer:start(link.due - uv.now(), 0, function()
    timer:close()
    answer(self, link, bytes)
  end)
end

local function join(self, link)
  link.near:read_start(function(err, bytes)
    if err or not bytes then return drop(link) end
    if self.seen then self.seen(bytes) end
    if not link.dead then link.far:write(bytes) end
  end)
  link.far:read_start(function(err, bytes)
    if link.dead then return end
    if err or not bytes then return drop(link) end
    if self.delay > 0 or (link.due or 0) >= uv.now() then
      answer_later(self, link, bytes)
    else
      answer(self, link, bytes)
    end
  end)
end

local function taken(self)
  local link = { near = uv.new_tcp(), far = uv.new_tcp(), dead = self.stalled }
  self.server:accept(link.near)
  link.near:nodelay(true)
  self.connections = self.connections + 1
  self.links[link] = true
  link.far:connect("127.0.0.1", self.target, function(err)
    if err then return drop(link) end
    if not link.near:is_closing() then join(self, link) end
  end)
end

function Wire:accept()
  self.server = uv.new_tcp()
  assert(self.server:bind("127.0.0.1", self.port))
  self.server:listen(128, function() taken(self) end)
  self.port = self.server:getsockname().port
end

function Wire:cut()
  for link in pairs(self.links) do drop(link) end
  self.links = setmetatable({}, { __mode = "k" })
end

function Wire:refuse()
  if self.server then self.server:close() end
  self.server = nil
  self:cut()
end

function Wire:stall()
  self.stalled = true
  for link in pairs(self.links) do link.dead = true end
end

function Wire:pass() self.stalled = false end

function Wire:cut_at(bytes) self.left = bytes end

Wire.close = Wire.refuse

return function(target)
  local wire = setmetatable({ target = target, port = 0, links = {}, connections = 0, sent = 0, delay = 0 }, Wire)
  wire:accept()
  wire.url = "redis://127.0.0.1:" .. math.tointeger(wire.port)
  return wire
end
