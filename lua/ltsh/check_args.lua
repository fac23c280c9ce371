-- Checks of arguments, with errors that name the function, the argument, the value and what is expected.
local core = require "ltsh.core"

local check = {}

-- A value as it is shown in a message: 5, "text", a table.
function check.show(value)
  local kind = type(value)
  if kind == "string" then
    if #value > 60 then value = value:sub(1, 60) .. "..." end
    return string.format("%q", value)
  elseif kind == "number" or kind == "boolean" or kind == "nil" then
    return tostring(value)
  end
  return "a " .. kind
end

--- What was raised, as text.
function check.raised(value)
  local meta = debug.getmetatable(value) -- also where __metatable hides it
  if type(value) == "string" or (type(meta) == "table" and meta.__tostring) then
    local ok, text = pcall(tostring, value)
    return ok and text or "an error whose __tostring raises"
  end
  local reason = type(value) == "table" and rawget(value, "reason")
  if type(reason) == "string" then return reason end
  return string.format("an error that is %s%s", check.show(value), type(value) == "table" and " without a reason" or "")
end

-- Raises for the first key of `options` that is not in `known`.
function check.names(where, options, known)
  for name in pairs(options) do
    if known[name] == nil then
      local near = type(name) == "string" and core.nearest(name, known)
      error(string.format("%s: unknown option %s%s", where, check.show(name),
        near and string.format(" (did you mean '%s'?)", near) or ""), 0)
    end
  end
end

local function fail(where, name, expected, value)
  error(string.format("%s: %s must be %s, got %s", where, name, expected, check.show(value)), 0)
end
check.fail = fail

function check.table(where, name, value)
  if type(value) ~= "table" then fail(where, name, "a table", value) end
  return value
end

local LARGEST_INTEGER = 0x7fffffff

-- A whole number of at least `least`; floats with a whole value count.
function check.text(where, name, value)
  if type(value) ~= "string" or value == "" or value:find "%z" then
    check.fail(where, name, "a text that is not empty", value)
  end
  return value
end

function check.integer(where, name, value, least)
  local number = type(value) == "number" and value == value // 1 and value
  if not number or number < least then
    fail(where, name, least > 0 and "a positive integer" or "an integer of 0 or more", value)
  elseif number > LARGEST_INTEGER then
    fail(where, name, "at most " .. LARGEST_INTEGER, value)
  end
  return math.tointeger(number)
end

-- A finite number of 0 or more, or more than 0.
function check.seconds(where, name, value, positive)
  if type(value) ~= "number" or value ~= value or value == math.huge or value < 0 or (positive and value == 0) then
    fail(where, name, positive and "a positive number of seconds" or "a number of seconds, 0 or more", value)
  end
  return value + 0.0
end

local units = { [""] = 1, K = 1024, M = 1024 ^ 2, G = 1024 ^ 3, T = 1024 ^ 4 }

local LARGEST_SIZE = 1 << 50 -- more than any machine has, and exact as any kind of number

-- Bytes: a number, or a text such as "64M".
function check.size(where, name, value)
  local size
  if type(value) == "number" then
    size = value == value // 1 and value
  elseif type(value) == "string" then
    local number, unit = value:match "^(%d+%.?%d*)([KMGT]?)$"
    size = number and tonumber(number) * units[unit] // 1
  end
  if not size or size < 0 then fail(where, name, [[a number of bytes or a text such as "64M"]], value) end
  if size > LARGEST_SIZE then fail(where, name, [[at most "1024T"]], value) end
  return math.tointeger(size)
end

-- true or false; nil is `default`.
function check.boolean(where, name, value, default)
  if value == nil then return default end
  if type(value) ~= "boolean" then fail(where, name, "true or false", value) end
  return value
end

-- Something callable.
function check.is_callable(value)
  if type(value) == "function" then return true end
  local meta = type(value) == "table" and getmetatable(value)
  return type(meta) == "table" and type(meta.__call) == "function"
end

-- A module's methods: each of `names` must be there and be callable.
function check.methods(where, module, names)
  for _, name in ipairs(names) do
    local method = module[name]
    if method == nil then
      error(string.format("%s: the method '%s' is missing", where, name), 0)
    elseif not check.is_callable(method) then
      error(string.format("%s: '%s' must be a function, got %s", where, name, check.show(method)), 0)
    end
  end
end

return check
