-- Checks of arguments, with errors that name the function, the argument, the value and what is expected.
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

-- How many single edits make `b` of `a`; stops counting past `limit`.
local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local corner = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      corner, row[j] = row[j], math.min(row[j] + 1, row[j - 1] + 1, corner + cost)
    end
  end
  return row[#b]
end

-- The known name nearest to `name`, or nil if none is near.
local function nearest(name, known)
  local best, best_distance
  for candidate in pairs(known) do
    local d = type(candidate) == "string" and distance(name, candidate, 3) or 99
    if d < 99 and candidate:find(name, 1, true) == 1 and #name >= 3 then d = math.min(d, 2) end
    local closer = best == nil or d < best_distance or (d == best_distance and candidate < best)
    if d <= 3 and d < #candidate and closer then
      best, best_distance = candidate, d
    end
  end
  return best
end

-- Raises for the first key of `options` that is not in `known`.
function check.names(where, options, known)
  for name in pairs(options) do
    if known[name] == nil then
      local near = type(name) == "string" and nearest(name, known)
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

-- A whole number of at least `least`; floats with a whole value count.
function check.integer(where, name, value, least)
  local number = type(value) == "number" and math.tointeger(value)
  if not number or number < least or number > 0x7fffffff then
    fail(where, name, least > 0 and "a positive integer" or "an integer of 0 or more", value)
  end
  return number
end

-- A finite number of 0 or more, or more than 0.
function check.seconds(where, name, value, positive)
  if type(value) ~= "number" or value ~= value or value == math.huge or value < 0 or (positive and value == 0) then
    fail(where, name, positive and "a positive number of seconds" or "a number of seconds, 0 or more", value)
  end
  return value + 0.0
end

local units = { [""] = 1, K = 1024, M = 1024 ^ 2, G = 1024 ^ 3, T = 1024 ^ 4 }

-- Bytes: a number, or a text such as "64M".
function check.size(where, name, value)
  if type(value) == "number" and value >= 0 and math.tointeger(value) then return math.tointeger(value) end
  if type(value) == "string" then
    local number, unit = value:match "^(%d+%.?%d*)([KMGT]?)$"
    if number then return math.tointeger(tonumber(number) * units[unit] // 1) end
  end
  fail(where, name, [[a number of bytes or a text such as "64M"]], value)
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
