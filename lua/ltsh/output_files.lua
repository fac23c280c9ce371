-- Outputs as files: NAME.json where JSON holds the value exactly, else NAME.msgpack.
--
-- What is there is whole: a file is written beside its place, brought to the disk, renamed, and its folder is brought
-- to the disk too, before the task is a success.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local ltsh = require "ltsh"
local uv = require "luv"

local WHERE = "ltsh.persister.files"
local LONGEST = 200 -- bytes of a name: an id that is longer becomes folders

-- The path of an id below the folder: what is no plain letter is written as %XX, so no two ids share one, and none
-- leaves it.
local function name_of(id)
  local plain = id:gsub("[^%w_-]", function(byte) return string.format("%%%02X", byte:byte()) end)
  local parts = {}
  while #plain > LONGEST do
    parts[#parts + 1] = plain:sub(1, LONGEST) .. ".d"
    plain = plain:sub(LONGEST + 1)
  end
  parts[#parts + 1] = plain
  return table.concat(parts, "/"), #parts - 1
end

-- Calls a function of luv's that answers by a callback, and waits for that.
local function call(name, ...)
  local arguments = table.pack(...)
  local message, result = ltsh.await(function(done)
    arguments[arguments.n + 1] = done
    uv["fs_" .. name](table.unpack(arguments, 1, arguments.n + 1))
  end)
  if message then return nil, message, message:match "^(%u+)" end
  return result == nil or result
end

local function sync_folder(path)
  local fd, message = call("open", path, "r", 0)
  if not fd then return nil, message end
  local synced
  synced, message = call("fsync", fd)
  call("close", fd)
  return synced, message
end

local function write_file(path, text)
  local fd, message = call("open", path, "w", 420)
  if not fd then return nil, message end
  local written, at = true, 0
  while written and at < #text do
    written, message = call("write", fd, text:sub(at + 1), at)
    at = at + (written or 0)
  end
  if written then written, message = call("fsync", fd) end
  local closed, close_message = call("close", fd)
  if not written then return nil, message end
  return closed, close_message
end

local function remove(path)
  local removed, message, code = call("unlink", path)
  if removed or code == "ENOENT" then return true end
  return nil, message
end

local function read_file(path)
  local fd, message, code = call("open", path, "r", 0)
  if not fd then return nil, code ~= "ENOENT" and message or nil end
  local stat = call("fstat", fd)
  local parts, at = {}, 0
  while at < stat.size do
    local part
    part, message = call("read", fd, stat.size - at, at)
    if not part or part == "" then break end
    parts[#parts + 1] = part
    at = at + #part
  end
  call("close", fd)
  if at < stat.size then return nil, message or "it ends early" end
  return table.concat(parts)
end

local methods = {}
methods.__index = methods

-- The folders of a long id.
function methods:make_folders(name, depth)
  local at = 0
  for _ = 1, depth do
    at = name:find("/", at + 1, true)
    local made, message, code = call("mkdir", self.dir .. "/" .. name:sub(1, at - 1), 493)
    if not made and code ~= "EEXIST" then return nil, message end
  end
  return true
end

function methods:save(task, data)
  local name, depth = name_of(task.id)
  local path = self.dir .. "/" .. name
  if data == nil then return self:delete(task) end
  local exact, text = pcall(ltsh.json.encode, data)
  local suffix, other = ".json", ".msgpack"
  if not exact then
    text, suffix, other = core.encode(data), other, suffix
  end
  local made, message = self:make_folders(name, depth)
  if not made then return nil, message end
  local new = string.format("%s.%d.new", path, task.run)
  local done
  done, message = write_file(new, text)
  if done then done, message = call("rename", new, path .. suffix) end
  if done then done, message = remove(path .. other) end
  if done then done, message = sync_folder(path:match "^(.*)/") end
  if not done then
    remove(new)
    return nil, message
  end
  return true
end

function methods:load(task)
  local path = self.dir .. "/" .. name_of(task.id)
  local text, message = read_file(path .. ".json")
  if text then return ltsh.json.decode(text) end
  if message then return nil, message end
  text, message = read_file(path .. ".msgpack")
  if text then return core.decode(text) end
  return nil, message
end

function methods:delete(task)
  local path = self.dir .. "/" .. name_of(task.id)
  local done, message = remove(path .. ".json")
  if done then done, message = remove(path .. ".msgpack") end
  return done, message
end

return function(options)
  check.table(WHERE, "options", options)
  check.names(WHERE, options, { dir = true })
  local dir = check.text(WHERE, "dir", options.dir)
  local found = uv.fs_stat(dir)
  if found and found.type ~= "directory" then error(string.format("%s: dir: %s is no folder", WHERE, dir), 0) end
  if not found then
    local made, message = uv.fs_mkdir(dir, 493)
    if not made then error(string.format("%s: dir: %s", WHERE, message), 0) end
  end
  return setmetatable({ dir = assert(uv.fs_realpath(dir)) }, methods)
end
