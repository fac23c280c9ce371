--- Requests that were changed at random, sent in pieces, and left in the middle: what a server has to bear.
local ltsh = require "ltsh"
local socket = require "spec.support.socket"

local REQUESTS = {
  "GET /a/b?x=1&y=%20 HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n",
  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
  "POST /q HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: v\r\n\r\n",
  "GET /events HTTP/1.1\r\nHost: x\r\n\r\n", "GET /f/add.lua HTTP/1.1\r\nHost: x\r\nRange: bytes=0-5\r\n\r\n",
  "HEAD / HTTP/1.0\r\n\r\n", "GET http://x/y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
  "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
}

local random = math.random

local changes = {
  function(text, at) return text:sub(1, at - 1) .. string.char(random(0, 255)) .. text:sub(at) end,
  function(text, at) return text:sub(1, at - 1) .. text:sub(at + random(5)) end,
  function(text, at) return text:sub(1, at - 1) .. ("\r\n"):rep(random(2)) .. text:sub(at) end,
  function(text) return text .. REQUESTS[random(#REQUESTS)] end,
  function(text, at) return text:sub(1, at) end,
  function(text, at)
    local from = random(#text + 1)
    return text:sub(1, at) .. text:sub(from, from + random(40)) .. text:sub(at + 1)
  end,
}

local function changed()
  local text = REQUESTS[random(#REQUESTS)]
  for _ = 1, random(0, 4) do text = changes[random(#changes)](text, random(#text + 1)) end
  return text
end

local function send(port)
  local client, text, at = socket.open(port), changed(), 1
  while at <= #text do
    local step = random(3) == 1 and random(20) or #text
    client:send(text:sub(at, at + step - 1))
    at = at + step
    if random(4) == 1 then ltsh.sleep(0.001) end
  end
  if random(2) == 1 then ltsh.sleep(random() * 0.01) end
  if random(8) == 1 and not client.ended then client.tcp:shutdown() end
  client:close()
end

--- Sends so many, some at a time; the seed says which.
return function(port, count, seed)
  math.randomseed(seed)
  local jobs, left = {}, count
  for i = 1, 20 do
    jobs[i] = ltsh.spawn(function()
      while left > 0 do
        left = left - 1
        send(port)
      end
    end)
  end
  for _, job in ipairs(jobs) do job:wait() end
end
