--- A plain connection to a Redis server for specs: any command, any bytes.
---
---     local link = resp.open(port)
---     link:call("HSET", key, field, value)      the answer: text, a number, a list, or false: nothing. Raises what is
---     an error link:try(...)                             the answer; or nil and the error
---     link:close()
local ltsh = require "ltsh"
local socket = require "spec.support.socket"

local Link = {}
Link.__index = Link

-- One answer from `at` on, and where the next one begins; nil: it is not whole yet. An error is a table with `error`.
local function parse(bytes, at)
  local line_end = bytes:find("\r\n", at, true)
  if not line_end then return nil end
  local kind, text = bytes:sub(at, at), bytes:sub(at + 1, line_end - 1)
  local after = line_end + 2
  if kind == "+" then return text, after end
  if kind == "-" then return { error = text }, after end
  if kind == ":" then return math.tointeger(tonumber(text)), after end
  local count = math.tointeger(tonumber(text))
  if count < 0 then return false, after end
  if kind == "$" then
    if #bytes < after + count + 1 then return nil end
    return bytes:sub(after, after + count - 1), after + count + 2
  end
  local list = {}
  for i = 1, count do
    list[i], after = parse(bytes, after)
    if list[i] == nil then return nil end
  end
  return list, after
end

function Link:try(...)
  local words = { ... }
  local parts = { ("*%d\r\n"):format(#words) }
  for _, word in ipairs(words) do parts[#parts + 1] = ("$%d\r\n%s\r\n"):format(#word, word) end
  self.socket:send(table.concat(parts))
  while true do
    local answer, after = parse(self.socket:received(), 1)
    if answer ~= nil then
      self.socket.pieces = { self.socket:received():sub(after) }
      if type(answer) == "table" and answer.error then return nil, answer.error end
      return answer
    end
    if self.socket.ended then error("the connection ended", 2) end
    ltsh.sleep(0)
  end
end

function Link:call(...)
  local answer, err = self:try(...)
  if answer == nil then error(err, 2) end
  return answer
end

function Link:close() self.socket:close() end

local resp = {}

function resp.open(port) return setmetatable({ socket = socket.open(port) }, Link) end

return resp
