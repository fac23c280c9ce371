-- Functions of the standard library that call back to Lua from C. In between, Lua can neither wait nor be preempted: so
-- here they are in Lua, where it can. They behave as Lua's own do, which look at the arguments first and call these
-- only when they are needed (src/script/lib/baselib.c).
local core = require "ltsh.core"
local source = require "ltsh.source"

local base = {}

local require = require -- it complains by this name
local open = io.open
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

-- Raises if the comparator puts an element of the sorted list before the one that it follows. In a list of three Lua
-- does not notice either.
local function check_order(list, n, before)
  if n <= 3 then return end
  for i = 2, n do
    if before(list[i], list[i - 1]) then
      error("invalid order function for sorting", 4) -- where table.sort was called
    end
  end
end

--- table.sort, with a comparator of the script's or of a long list: a merge sort. It is stable. The list is changed
-- when it is sorted, and not if the comparator raises or contradicts itself.
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
  check_order(from, n, before)
  for i = 1, n do list[i] = from[i] end
end

-- What the match from `first` to `last` is replaced with; nil: it stays.
local function replacement(text, by, first, last, ...)
  local value
  if select("#", ...) == 0 then value = by(sub(text, first, last)) else value = by(...) end
  if value and type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 5) -- where string.gsub was called
  end
  return value or nil
end

--- string.gsub, with a function as the replacement.
function base.gsub(text, pattern, by, most)
  local parts, count, from, ended, changed = {}, 0, 1, nil, false
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
    local value = replacement(text, by, first, last, ...)
    changed = changed or value ~= nil
    parts[#parts + 1] = value or sub(text, first, last)
    from, ended = last + 1, last + 1
    return true
  end
  local anchored = sub(pattern, 1, 1) == "^"
  most = most or #text + 1
  while count < most and from <= #text + 1 and step(find(text, pattern, from)) and not anchored do end
  if not changed then return text, count end
  parts[#parts + 1] = sub(text, from)
  return concat(parts), count
end

-- Lua's searcher for files of Lua, for which a precompiled one is not a module.
local function search_text(search)
  return function(name)
    local path = type(package.path) == "string" and package.searchpath(name, package.path)
    local file <close> = path and open(path, "rb") or nil
    local refusal = file and source.refusal(file:read(1) or "", path)
    if refusal then error(string.format("require: module '%s': %s", name, refusal), 0) end
    return search(name)
  end
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

-- The modules that are being loaded, by name: { name =, strand =, waiters = }. Each is held by who loads it and by
-- nobody else, so that one that is left behind in a coroutine is over when that is collected.
local loading = setmetatable({}, { __mode = "v" })
local awaited = {} -- by strand: the name of the module that it waits for

local function loading_over(module)
  setmetatable(module, nil) -- then there is no finalizer to be called
  if loading[module.name] == module then loading[module.name] = nil end
  for _, done in ipairs(module.waiters) do done() end
end

-- What is looked at and changed in one go, by core.held: two strands may be here at once, cut anywhere.

-- Whether the module's strand may load it now: nobody else does, and nobody has.
local function claim_loading(module)
  local other = loading[module.name]
  if package.loaded[module.name] or (other and other.strand ~= module.strand) then return false end
  if not other then loading[module.name] = module end
  return true
end

-- `done` is called when it is over, or at once if it is.
local function await_loading(name, done)
  if loading[name] then table.insert(loading[name].waiters, done) else done() end
end

-- Whether who loads the module waits, maybe through others, for one that `strand` loads.
local function is_circular(name, strand)
  local module = loading[name]
  while module do
    if module.strand == strand then return true end
    module = loading[awaited[module.strand]]
  end
  return false
end

local function wait_for_loading(name, strand, can_wait)
  if not can_wait then
    error(string.format("require: module '%s' is being loaded elsewhere, and nobody can wait for it here (a callback "
      .. "of libuv, or called through a C function that cannot wait); use ltsh.spawn", name), 3)
  end
  if is_circular(name, strand) then
    error(string.format("require: module '%s' is being loaded, and waits itself for one that requires it", name),
      3)
  end
  local _ <close> = setmetatable({}, { __close = function() awaited[strand] = nil end })
  awaited[strand] = name
  core.await(function(done) core.held(await_loading, name, done) end)
end

local function load_module(name)
  local loaded = package.loaded
  local loader, extra = find_loader(name)
  local value = loader(name, extra)
  if value ~= nil then loaded[name] = value elseif loaded[name] == nil then loaded[name] = true end
  return loaded[name], extra
end

--- require, of a module that may wait or compute while it is loaded. Others who require it meanwhile wait for it; if it
-- cannot be loaded, each of them tries.
function base.require(name)
  local loaded = package.loaded
  if type(name) ~= "string" then return require(name) end
  if loaded[name] then return loaded[name] end
  local strand, can_wait = core.strand()
  local methods = { __close = loading_over, __gc = loading_over }
  local module <close> = setmetatable({ name = name, strand = strand, waiters = {} }, methods)
  while not core.held(claim_loading, module) do
    if loaded[name] then return loaded[name] end
    wait_for_loading(name, strand, can_wait)
    if loaded[name] then return loaded[name] end
  end
  return load_module(name)
end

local counted = setmetatable({}, { __mode = "k" }) -- what stands in for a hook: { the hook, its count }

--- Stands in for a hook that is called after `count` instructions, and is called after each `step` of them. It calls it
-- as its last act, so that the hook finds what runs at the level that it expects.
function base.count_for(hook, count, step)
  local done = 0
  local function stand_in(event, line)
    if event == "count" then
      done = done + step
      if done < count then return nil end
      done = 0
    end
    return hook(event, line)
  end
  counted[stand_in] = { hook, count }
  return stand_in
end

--- What debug.gethook returns: the hook of the script, not what stands in for it.
function base.hook_of(hook, mask, count)
  local own = hook and counted[hook]
  if own then return own[1], mask, own[2] end
  return hook, mask, count
end

--- Lets Lua's own functions call these where they would call back, and puts require in the place of Lua's.
function base.install()
  local _, setupvalue = debug.getupvalue(debug.setupvalue, 1) -- Lua's own; that of scripts refuses functions in C
  setupvalue(table.sort, 1, base.sort)
  setupvalue(string.gsub, 1, base.gsub)
  rawset(_G, "require", base.require)
  package.searchers[2] = search_text(package.searchers[2])
  setupvalue(debug.sethook, 1, base.count_for)
  setupvalue(debug.gethook, 1, base.hook_of)
end

return base
