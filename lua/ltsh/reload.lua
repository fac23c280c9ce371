-- Hot reload: module files that were loaded are watched, loaded anew beside the old version, checked, and only then put
-- in its place. What fails changes nothing and is logged once.
--
-- A file is known by what `load` made of it: an entry with a function that tries a new text. The files that it requires
-- belong to it, if they are under the script's folder: they are found by reading `require "name"` in the text.
local core = require "ltsh.core"
local check = require "ltsh.check_args"

local reload = {}

-- Weak: what nobody holds any more is not loaded anew either.
local entries = setmetatable({}, { __mode = "k" })
local order = 0

-- The text of a file; or nil and why not.
local function read(path)
  local file <close>, message = io.open(path, "rb")
  if not file then return nil, "cannot open " .. message end
  local text
  text, message = file:read "a"
  return text, message and string.format("cannot read %s: %s", path, message)
end

-- The path with the folder in which the process is now: it may change that.
local function absolute(path)
  return path:sub(1, 1) == "/" and path or require("luv").cwd() .. "/" .. path
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

-- Where a module is that the script's folder has, or nil. One that is known is where it was, as long as that is there
-- or there is no other: what required it had found it.
local function path_of(name, known)
  local before = known[name] and known[name].path
  if before and read(before) then return before end
  local path = package.searchpath(name, package.path)
  return path and is_ours(path) and absolute(path) or before
end

-- The modules under the script's folder that a text requires by name: { [name] = path }.
local function required(text, known)
  local found = {}
  for name in text:gmatch "require%s*%(?%s*[\"']([%w_%-%.]+)[\"']" do found[name] = path_of(name, known) end
  return found
end

-- All that a text requires, directly or not: { [name] = { path =, text =, fault =, requires = { [name] = path } } }.
-- @param known what it required before
local function dependencies(text, known)
  local all = {}
  local function visit(of)
    for name, path in pairs(required(of, known)) do
      if all[name] == nil then
        local content, fault = read(path)
        if content == "" then fault = path .. ": the file is empty" end
        content = fault or content -- a text like others: it has changed when that has
        all[name] = { path = path, text = content, fault = fault, requires = required(content, known) }
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
  local modules = dependencies(text, {})
  note_in_use(modules)
  order = order + 1
  local entry = { path = path, file = absolute(path), modules = modules, try = try, number = 1, order = order }
  entry.current = fingerprint(text, modules) -- of the version that is used
  entry.seen = entry.current                 -- of the one that was tried last
  entry.version = string.format("%d-%s", entry.number, entry.current)
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

-- The first of the changed modules that cannot be a new version: one that is gone, or is being written.
local function fault_in(modules, changed)
  for _, name in ipairs(names_of(changed)) do
    if modules[name].fault then return modules[name].fault end
  end
  return nil
end

-- Tries a new state of an entry. Modules that changed are required anew meanwhile, and stay so if all goes well.
local function try(entry, text, modules, version)
  local changed, before = outdated(entry.modules, modules), {}
  local fault = fault_in(modules, changed)
  if fault then return nil, fault end
  for name in pairs(changed) do
    before[name] = package.loaded[name]
    package.loaded[name] = nil
  end
  local ok, swap, message = limited(function()
    core.guest(true)
    for name in pairs(before) do require(name) end -- some may be used only later: too late to find out
    return entry.try(text, version)
  end)
  if ok and swap then
    note_in_use(modules)
    return swap
  end
  for name in pairs(changed) do package.loaded[name] = before[name] end
  if not ok then message = swap end
  return nil, type(message) == "string" and message or entry.path .. ": " .. check.raised(message)
end

local function failed(entry, message)
  if entry.failed ~= message then
    core.log.error("a module was not reloaded, the old version stays", { module = entry.path, error = message })
  end
  entry.failed = message
  return "failed"
end

-- Looks at the file of an entry. Returns "changed" if it is used from now on, "failed" if it cannot be used.
local function look_at(entry)
  local text, message = read(entry.file)
  if not text then
    entry.seen = nil
    return failed(entry, message)
  end
  local modules = dependencies(text, entry.modules)
  local seen = fingerprint(text, modules)
  if seen == entry.seen then return entry.failed and "failed" end
  entry.seen = seen
  if seen == entry.current then
    entry.failed = nil
    return nil
  end
  local version = string.format("%d-%s", entry.number + 1, seen)
  local swap
  swap, message = try(entry, text, modules, version)
  if not swap then
    entry.failed = nil -- said of another text
    return failed(entry, message)
  end
  entry.modules, entry.number, entry.version, entry.current = modules, entry.number + 1, version, seen
  entry.failed = nil
  swap()
  core.log.info("a module was reloaded", { module = entry.path, version = version })
  return "changed"
end

local function look_into(entry, result)
  local ok, what = pcall(look_at, entry)
  if not ok then what = failed(entry, entry.path .. ": " .. check.raised(what)) end
  if what == "changed" then result.changed[#result.changed + 1] = entry.path end
  if what == "failed" then result.failed[entry.path] = entry.failed end
end

local function check_all()
  local list = {}
  for _, entry in pairs(entries) do list[#list + 1] = entry end
  table.sort(list, function(a, b) return a.order < b.order end)
  local result = { changed = {}, failed = {} }
  for _, entry in ipairs(list) do look_into(entry, result) end
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
  if not result then error("ltsh.reload: " .. check.raised(message), 0) end
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
      folders_of(entry.file, found)
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
