-- ltsh.slots: the last slot that ltsh.every called, by name: in a file, JSON that is replaced as a whole; or in a
-- database.
local core = require "ltsh.core"
local uv = require "luv"

local slots = {}

local Store = {}
Store.__index = Store

-- All that is in the file; an empty table if there is none.
local function read(path)
  local file, message, code = io.open(path, "rb")
  if not file and code == 2 then return {} end
  local text = file and file:read "a"
  if file then file:close() end
  if not text then return nil, message or "it cannot be read" end
  if text == "" then return {} end
  local ok, found = pcall(core.json.decode, text)
  if not ok or type(found) ~= "table" then return nil, "it is not what ltsh.every wrote there" end
  return found
end

local function write(path, text)
  local new = path .. ".new"
  local file, message = uv.fs_open(new, "w", 420)
  if not file then return nil, message end
  local written
  written, message = uv.fs_write(file, text)
  if written == #text then written, message = uv.fs_fsync(file) end
  uv.fs_close(file)
  if not written then return nil, message end
  return uv.fs_rename(new, path)
end

--- Opens the place of this name. A time that was stored for another schedule does not count.
-- @return a store with `time`, the last slot or nil; or nil and a message
function slots.open(path, name, schedule)
  local all, message = read(path)
  if not all then return nil, message end
  local known = all[name]
  local same = type(known) == "table" and known.schedule == schedule and math.type(known.time) ~= nil
  local self = setmetatable({ path = path, name = name, schedule = schedule, time = same and known.time or nil }, Store)
  if not same then
    local saved
    saved, message = self:put(all, core.now() // 1)
    if not saved then return nil, message end
  end
  return self
end

function Store:put(all, time)
  all[self.name] = { time = math.tointeger(time) or time, schedule = self.schedule }
  return write(self.path, core.json.encode(all))
end

--- Stores a slot; what fails is logged.
function Store:save(time)
  local all, message = read(self.path)
  local saved
  if all then saved, message = self:put(all, time) end
  if not saved then
    core.log.error("ltsh.every could not store the time of a call", { every = self.name, path = self.path,
      error = tostring(message) })
  end
end

-- In the database of a durable container.

local Row = {}
Row.__index = Row

--- The same, in a table of the database at `path`, which is there.
function slots.in_database(path, name, schedule)
  local db, message = require("ltsh.sqlite").open(path)
  if not db then return nil, message end
  local self = setmetatable({ db = db, name = name, schedule = schedule }, Row)
  local known = db:row("select schedule, time from ltsh_slots where name = ?", name)
  if known and known.schedule == schedule then self.time = known.time else self:put(core.now() // 1) end
  return self
end

function Row:put(time)
  self.db:exec("insert or replace into ltsh_slots values(?, ?, ?)", self.name, self.schedule,
    math.tointeger(time // 1))
end

--- Stores a slot; what fails is logged.
function Row:save(time)
  local ok, message = pcall(self.put, self, time)
  if not ok then
    core.log.error("ltsh.every could not store the time of a call", { every = self.name, error = tostring(message) })
  end
end

return slots
