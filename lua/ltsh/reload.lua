-- Hot reload: module files that were loaded are watched, loaded anew beside the old version, checked, and only then put
-- in its place. What fails changes nothing and is logged once.
--
-- A file is known by what `load` made of it: an entry with a function that tries a new text. The files that it requires
-- belong to it, if they are under the script's folder: they are found by reading `require "name"` in the text.
local core = require "ltsh.core"

local reload = {}

-- Weak: what nobody holds any more is not loaded anew either.
local entries = setmetatable({}, { __mode = "k" })
local order = 0

-- The text of a file, or nil.
local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

-- The folder of the script, with a slash at its end; what is required from elsewhere is not watched.
local function folder()
  local script = type(arg) == "table" and arg[0] or ""
  return script:match "^.*/" or "./"
end

local function is_ours(path)
  local where = folder()
  return path:sub(1, #where) == where and not path:find("/ltsh/lua/", 1, true)
end

-- The modules under the script's folder that a text requires by name: { [name] = path }.
local function required(text)
  local found = {}
  for name in text:gmatch "require%s*%(?%s*[\"']([%w_%-%.]+)[\"']" do found[name] = true end
  local paths = {}
  for name in pairs(found) do
    local path = package.searchpath(name, package.path)
    if path and is_ours(path) then paths[name] = path end
  end
  return paths
end

-- All that a text requires, directly or not: { [name] = { path =, text =, requires = { [name] = path } } }.
local function dependencies(text)
  local all = {}
  local function visit(of)
    for name, path in pairs(required(of)) do
      if all[name] == nil then
        local content = read(path) or ""
        all[name] = { path = path, text = content, requires = required(content) }
        visit(content)
      end
    end
  end
  visit(text)
  return all
end

local function names_of(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- What tells this state of a file, and of what it requires, from others.
local function fingerprint(text, modules)
  local parts = { text }
  for _, name in ipairs(names_of(modules)) do parts[#parts + 1] = name .. "\0" .. modules[name].text end
  return core.hash(table.concat(parts, "\0"))
end

-- The texts of which package.loaded has what they gave: several files may require the same module.
local in_use = {}

-- The modules of `new` that are not what they were, and those that require one of them.
local function outdated(old, new)
  local set, grown = {}, true
  for name, module in pairs(new) do
    local before = in_use[name] or (old[name] and old[name].text)
    if before ~= module.text then set[name] = true end
  end
  while grown do
    grown = false
    for name, module in pairs(new) do
      for needed in pairs(module.requires) do
        if set[needed] and not set[name] then set[name], grown = true, true end
      end
    end
  end
  return set
end

local function note_in_use(modules)
  for name, module in pairs(modules) do in_use[name] = module.text end
end

--- Makes a file known.
-- @param owner what it belongs to: as long as that lives, it is looked after
-- @param path the file
-- @param text what was read from it
-- @param try function(text, version) -> function that puts the new version in its place | nil, message
-- @return the version that it has now
function reload.register(owner, path, text, try)
  local modules = dependencies(text)
  note_in_use(modules)
  order = order + 1
  local entry = { path = path, text = text, modules = modules, try = try, number = 1, order = order }
  entry.seen = fingerprint(text, modules)
  entry.version = string.format("%d-%s", entry.number, entry.seen)
  entries[owner] = entry
  if reload.watcher then reload.watcher.look() end
  return entry.version
end

local LOAD_TIME = 10 -- seconds that a new version may take to be loaded

-- Calls fn, for so long at most: pcall's results.
local function limited(fn)
  local results
  local job = core.spawn(function() results = table.pack(pcall(fn)) end)
  if not results then
    local clock = core.spawn(function()
      core.sleep(LOAD_TIME)
      job:cancel()
    end)
    job:wait()
    clock:cancel()
  end
  if not results or results[2] == "the job was cancelled" then
    return false, string.format("it was not loaded within %g s", LOAD_TIME)
  end
  return table.unpack(results, 1, results.n)
end

-- Tries a new state of an entry. Modules that changed are required anew meanwhile, and stay so if all goes well.
local function try(entry, text, modules, version)
  local changed, before = outdated(entry.modules, modules), {}
  for name in pairs(changed) do
    before[name] = package.loaded[name]
    package.loaded[name] = nil
  end
  local ok, swap, message = limited(function()
    for name in pairs(before) do require(name) end -- some may be used only later: too late to find out
    return entry.try(text, version)
  end)
  if ok and swap then
    note_in_use(modules)
    return swap
  end
  for name in pairs(changed) do package.loaded[name] = before[name] end
  return nil, tostring(ok and message or swap)
end

local function check(entry, result)
  local text = read(entry.path)
  if text == nil then return end -- between a deletion and a creation
  local modules = dependencies(text)
  local seen = fingerprint(text, modules)
  if seen == entry.seen then
    if entry.failed then result.failed[entry.path] = entry.failed end
    return
  end
  entry.seen = seen
  local version = string.format("%d-%s", entry.number + 1, seen)
  local swap, message = try(entry, text, modules, version)
  if not swap then
    entry.failed = message
    result.failed[entry.path] = message
    core.log.error("a module was not reloaded, the old version stays", { module = entry.path, error = message })
    return
  end
  entry.text, entry.modules, entry.number, entry.version = text, modules, entry.number + 1, version
  entry.failed = nil
  swap()
  result.changed[#result.changed + 1] = entry.path
  core.log.info("a module was reloaded", { module = entry.path, version = version })
end

local function check_all()
  local list = {}
  for _, entry in pairs(entries) do list[#list + 1] = entry end
  table.sort(list, function(a, b) return a.order < b.order end)
  local result = { changed = {}, failed = {} }
  for _, entry in ipairs(list) do check(entry, result) end
  return result
end

local under_way -- { job =, over = }: one at a time

--- Looks at every loaded file now: ltsh.reload().
-- @return { changed = { paths }, failed = { [path] = message } }
function reload.now()
  while under_way and not under_way.over do
    if not under_way.job then error("ltsh.reload: a module that is being loaded cannot call it", 2) end
    under_way.job:wait()
  end
  local own = {}
  under_way = own
  own.job = core.spawn(function()
    local ok, result = xpcall(check_all, debug.traceback)
    own.over = true
    if not ok then error(result, 0) end
    return result
  end)
  local result, message = own.job:wait()
  if not result then error("ltsh.reload: " .. tostring(message), 0) end
  return result
end

--- The same where nobody waits for it: for signals and the watcher.
function reload.soon()
  core.spawn(reload.now)
end

-- Watching.

local SETTLE = 30 -- milliseconds without a change before files are read: editors write in steps
local LONGEST = 120 -- milliseconds after which they are read all the same

-- The folders in which something may happen to a file: its own, that of what it links to, those of links on the way.
local function folders_of(path, found)
  local uv = require "luv"
  local prefix = path:sub(1, 1) == "/" and "/" or ""
  local at = prefix ~= "" and prefix or "./"
  for part in path:gmatch "[^/]+" do
    local whole = prefix .. part
    local stat = uv.fs_lstat(whole)
    if stat and stat.type == "link" then
      found[at] = true
      local target = uv.fs_realpath(whole)
      if target then found[target:match "^(.*)/" .. "/"] = true end
    end
    prefix = whole .. "/"
    at = prefix
  end
  found[path:match "^.*/" or "./"] = true
end

--- Watches all files, those of modules that are loaded later too. It holds nothing: the process ends as it would.
function reload.watch()
  if reload.watcher then return end
  local uv = require "luv"
  local watched = {}
  local timer = uv.new_timer()
  timer:unref()
  local first
  local watcher = {}

  local function settle()
    first = nil
    reload.soon()
    watcher.look()
  end

  local function changed()
    local now = uv.now()
    first = first or now
    timer:stop()
    timer:start(math.max(0, math.min(SETTLE, first + LONGEST - now)), 0, settle)
    timer:unref()
  end

  function watcher.look()
    local found = {}
    for _, entry in pairs(entries) do
      folders_of(entry.path, found)
      for _, module in pairs(entry.modules) do folders_of(module.path, found) end
    end
    for name, event in pairs(watched) do
      if not found[name] then
        event:close()
        watched[name] = nil
      end
    end
    for name in pairs(found) do
      if not watched[name] then
        local event = uv.new_fs_event()
        if event:start(name, {}, changed) then
          event:unref()
          watched[name] = event
        else
          event:close()
        end
      end
    end
  end

  reload.watcher = watcher
  watcher.look()
end

return reload
