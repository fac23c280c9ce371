--- A container in Lua on luv and files: each task is a file of its own in a folder, written anew with each change, with
--- nothing that blocks the loop. What is in the folder is there again for the next.
local ltsh = require "ltsh"
local uv = require "luv"
local plain = require "spec.support.plain"

-- Waits for a request of luv, and raises what it fails with.
local function wait(start, ...)
  local arguments = table.pack(...)
  local err, result = ltsh.await(function(done)
    arguments[arguments.n + 1] = done
    return start(table.unpack(arguments, 1, arguments.n + 1))
  end)
  if err then error(err) end
  return result
end

-- Values as Lua text, and back: JSON holds not all of them.
local function text_of(value)
  if value == ltsh.json.null then return "null" end
  if type(value) ~= "table" then return ("%q"):format(value) end
  local fields = {}
  for key, field in pairs(value) do fields[#fields + 1] = ("[%q]=%s"):format(key, text_of(field)) end
  return "{" .. table.concat(fields, ",") .. "}"
end

local function value_of(text)
  return assert(load("return " .. text, "=file", "t", { null = ltsh.json.null, math = math }))()
end

return function(options)
  local folder = options.folder
  local container = plain(options)
  container.durable = true

  local function path_of(id)
    return folder .. "/" .. id:gsub("[^%w]", function(byte) return ("%%%02x"):format(byte:byte()) end):sub(1, 240)
  end

  local function store(id)
    local task = container.tasks[id]
    if not task then return wait(uv.fs_unlink, path_of(id)) end
    local fd = wait(uv.fs_open, path_of(id) .. ".new", "w", 384)
    wait(uv.fs_write, fd, text_of(task), 0)
    wait(uv.fs_fsync, fd)
    wait(uv.fs_close, fd)
    wait(uv.fs_rename, path_of(id) .. ".new", path_of(id))
  end

  for _, name in ipairs {
    "add", "to_running", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted",
    "update_running",
  } do
    local own = container[name]
    container[name] = own and function(self, task, ...)
      local before = container.tasks[task.id]
      local results = table.pack(own(self, task, ...))
      if results[1] then
        local stored, message = pcall(store, task.id)
        if not stored then
          container.tasks[task.id] = before
          error(message, 0)
        end
      end
      return table.unpack(results, 1, results.n)
    end
  end

  for name in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
    if not name:find "%.new$" then
      local file <close> = assert(io.open(folder .. "/" .. name))
      local task = value_of(file:read "a")
      container.tasks[task.id] = task
      table.insert(container.order, task.id)
    end
  end
  table.sort(container.order, function(a, b) return container.tasks[a].added_at < container.tasks[b].added_at end)
  return container
end
