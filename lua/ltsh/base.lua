-- Functions of the standard library that call back to Lua from C. In between, Lua can neither wait nor be preempted: so
-- here they are in Lua, where it can. They behave as Lua's own do, which look at the arguments first and call these
-- only when they are needed (src/script/baselib.c).
local base = {}

local require = require -- it complains by this name
local find, sub, concat, move, type = string.find, string.sub, table.concat, table.move, type

local RUN = 8 -- elements that are sorted by insertion

-- Merges the sorted from[low..middle] and from[middle + 1..high] into to[low..high].
local function merge(from, to, low, middle, high, before)
  if not before(from[middle + 1], from[middle]) then
    move(from, low, high, low, to)
    return
  end
  local left, right, at = low, middle + 1, low
  local a, b = from[left], from[right]
  while true do
    if before(b, a) then
      to[at], at, right = b, at + 1, right + 1
      if right > high then
        move(from, left, middle, at, to)
        return
      end
      b = from[right]
    else
      to[at], at, left = a, at + 1, left + 1
      if left > middle then
        move(from, right, high, at, to)
        return
      end
      a = from[left]
    end
  end
end

local function insert(list, low, high, before)
  for i = low + 1, high do
    local value, at = list[i], i
    while at > low and before(value, list[at - 1]) do
      list[at] = list[at - 1]
      at = at - 1
    end
    list[at] = value
  end
end

local function less(a, b) return a < b end

--- table.sort, with a comparator of the script's or of a long list: a merge sort. It is stable, and a comparator that
-- contradicts itself does no harm. The list is changed when it is sorted, and not if the comparator raises.
function base.sort(list, before)
  before = before or less
  local n = #list
  local from, to = {}, {}
  for i = 1, n do from[i] = list[i] end
  for low = 1, n, RUN do insert(from, low, low + RUN - 1 < n and low + RUN - 1 or n, before) end
  local width = RUN
  while width < n do
    for low = 1, n, 2 * width do
      local middle, high = low + width - 1, low + 2 * width - 1
      if high > n then high = n end
      if middle < high then merge(from, to, low, middle, high, before) else move(from, low, high, low, to) end
    end
    from, to = to, from
    width = 2 * width
  end
  for i = 1, n do list[i] = from[i] end
end

-- What a match is replaced with, by what the function said.
local function replacement(whole, value)
  if not value then return whole end
  if type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 5) -- where string.gsub was called
  end
  return value
end

local function replace(text, by, first, last, ...)
  local whole = sub(text, first, last)
  if select("#", ...) == 0 then return replacement(whole, (by(whole))) end
  return replacement(whole, (by(...)))
end

--- string.gsub, with a function as the replacement.
function base.gsub(text, pattern, by, most)
  local parts, count, from, ended = {}, 0, 1, nil
  local function step(first, last, ...)
    if not first then return false end
    if last < first and first == ended then -- empty, where the last match ended: goes on behind the next character
      if from > #text then return false end
      parts[#parts + 1] = sub(text, from, from)
      from = from + 1
      return true
    end
    parts[#parts + 1] = sub(text, from, first - 1)
    count = count + 1
    parts[#parts + 1] = replace(text, by, first, last, ...)
    from, ended = last + 1, last + 1
    return true
  end
  local anchored = sub(pattern, 1, 1) == "^"
  most = most or #text + 1
  while count < most and from <= #text + 1 and step(find(text, pattern, from)) and not anchored do end
  parts[#parts + 1] = sub(text, from)
  return concat(parts), count
end

-- The loader of a module and what it is given, or the reasons why there is none.
local function find_loader(name)
  local searchers, messages = package.searchers, {}
  if type(searchers) ~= "table" then error("'package.searchers' must be a table", 3) end
  for i = 1, math.huge do
    local searcher = rawget(searchers, i)
    if searcher == nil then
      error(string.format("module '%s' not found:%s", name, concat(messages)), 3)
    end
    local loader, extra = searcher(name)
    if type(loader) == "function" then return loader, extra end
    if type(loader) == "string" then messages[#messages + 1] = "\n\t" .. loader end
  end
end

--- require, of a module that may wait or compute while it is loaded.
function base.require(name)
  local loaded = package.loaded
  if type(name) ~= "string" then return require(name) end
  if loaded[name] then return loaded[name] end
  local loader, extra = find_loader(name)
  local value = loader(name, extra)
  if value ~= nil then loaded[name] = value elseif loaded[name] == nil then loaded[name] = true end
  return loaded[name], extra
end

--- Lets Lua's own functions call these where they would call back, and puts require in the place of Lua's.
function base.install()
  debug.setupvalue(table.sort, 1, base.sort)
  debug.setupvalue(string.gsub, 1, base.gsub)
  rawset(_G, "require", base.require)
end

return base
