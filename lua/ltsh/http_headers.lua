-- ltsh.http_headers: the lines of an answer's headers. A value with a line break would be a second header: it raises.
local check = require "ltsh.check_args"

local headers = {}

-- Those frame the message, or belong to the connection.
local OURS = { ["content-length"] = true, ["transfer-encoding"] = true, connection = true, date = true,
  ["keep-alive"] = true, upgrade = true }

local function add_line(lines, name, value)
  if type(value) == "number" then value = tostring(value) end
  if type(name) ~= "string" or not name:find "^[%w!#$%%&'*+.^_`|~-]+$" then
    error("the name of a header must be a token, got " .. check.show(name), 0)
  end
  if type(value) ~= "string" or value:find "[%z\r\n]" then
    error(("header %s: its value must be a text of one line"):format(name), 0)
  end
  if not OURS[name:lower()] then lines[#lines + 1] = name .. ": " .. value .. "\r\n" end
end

-- The lines, and the names of those that were given, in small letters.
local function read(given)
  local lines, names = {}, {}
  for name, value in pairs(given) do
    if type(name) == "string" then names[name:lower()] = true end
    if type(value) == "table" then
      for _, one in ipairs(value) do add_line(lines, name, one) end
    else
      add_line(lines, name, value)
    end
  end
  return table.concat(lines), names
end

local fixed = setmetatable({}, { __mode = "k" }) -- what was read of tables that never change

--- The same table, which is not to change any more: its lines are made once, not for each answer.
function headers.fixed(given)
  local text, names = read(given)
  fixed[given] = { text = text, names = names, with = setmetatable({}, { __mode = "k" }) }
  return given
end

local NONE = headers.fixed {}

local function add_defaults(text, names, defaults)
  for name, value in pairs(defaults) do
    if not names[name:lower()] then text = text .. name .. ": " .. value .. "\r\n" end
  end
  return text
end

--- The lines of `given` (nil: none), and of the `defaults` that are not among them.
function headers.lines(given, defaults)
  local known = fixed[given or NONE]
  if not known then
    local text, names = read(given)
    return add_defaults(text, names, defaults)
  end
  if not fixed[defaults] then return add_defaults(known.text, known.names, defaults) end
  local both = known.with[defaults]
  if not both then
    both = add_defaults(known.text, known.names, defaults)
    known.with[defaults] = both
  end
  return both
end

return headers
