-- Every container is held to the same contract; and what a container in Lua may do wrong.

local ltsh = require "ltsh"

local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."
local contract = assert(loadfile(here .. "/contract/container_contract.lua", "t", _ENV))()
local EXAMPLE = here .. "/../examples/lua_container.lua"

local function eventually(what, condition)
  local deadline = ltsh.now() + 10
  while not condition() do
    if ltsh.now() > deadline then error("did not happen in time: " .. what, 2) end
    ltsh.sleep(0.001)
  end
end

contract("ltsh.container.queue", function(options) return ltsh.container.queue(options) end)

contract("ltsh.container.priority", function(options) return ltsh.container.priority(options) end, {
  priorities = true,
})

contract("the example in Lua", function(options) return ltsh.container.load(EXAMPLE, options) end, {
  priorities = true,
})

-- The same container behind methods that wait before and after what they do.
local function slow(options)
  local container = ltsh.container.load(EXAMPLE, options)
  local proxy = { durable = false }
  for _, method in ipairs {
    "add", "claim", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted", "running",
    "running_count", "update_running", "attach",
  } do
    proxy[method] = function(_, ...)
      ltsh.sleep(0)
      local results = table.pack(container[method](container, ...))
      ltsh.sleep(0)
      return table.unpack(results, 1, results.n)
    end
  end
  return proxy
end

contract("the example with methods that wait", slow, { priorities = true, slow = true })

-- A container that reads and then asks for each task, keeps plain tables, and all of them, and answers get, list, count.
local function plain(options)
  local size = options and options.size or math.huge
  local self = { durable = false, tasks = {}, order = {} }

  local function copy(task)
    local fields = {}
    for name, value in pairs(task) do fields[name] = value end
    return fields
  end

  local function unfinished(task)
    return task.status == "waiting" or task.status == "running" or task.status == "exporting"
  end

  local function line(condition)
    local tasks = {}
    for _, id in ipairs(self.order) do
      if self.tasks[id] and condition(self.tasks[id]) then tasks[#tasks + 1] = self.tasks[id] end
    end
    return tasks
  end

  local function move(from)
    return function(_, task)
      local known = self.tasks[task.id]
      if not known then return nil, "no such task", "unknown" end
      if not from[known.status] then return nil, "it is " .. known.status end
      if known.run ~= task.run and task.status ~= "running" then return nil, "it is at another run" end
      self.tasks[task.id] = copy(task)
      return true
    end
  end

  local function to_the_end(id)
    for i, other in ipairs(self.order) do
      if other == id then
        table.remove(self.order, i)
        break
      end
    end
    table.insert(self.order, id)
  end

  function self:add(task)
    if task.priority ~= 0 then return nil, "there are no priorities here", "refused" end
    local known = self.tasks[task.id]
    if known and unfinished(known) then return nil, task.id .. " is here already", "exists" end
    if #line(unfinished) >= size then return nil, "it is full", "full" end
    self.tasks[task.id] = copy(task)
    to_the_end(task.id)
    return true
  end

  function self:waiting(limit)
    local now = ltsh.now()
    local due = line(function(task) return task.status == "waiting" and (task.run_at or 0) <= now end)
    table.sort(due, function(a, b) return math.max(a.run_at or 0, a.added_at) < math.max(b.run_at or 0, b.added_at) end)
    return table.move(due, 1, math.min(limit, #due), 1, {})
  end

  self.to_running = move { waiting = true }
  self.to_waiting = move { running = true, exporting = true, success = true, failed = true, stopped = true }
  self.to_exporting = move { running = true }
  self.to_success = move { running = true, exporting = true }
  self.to_failed = move { waiting = true, running = true, exporting = true }
  self.to_stopped = self.to_failed

  function self:to_deleted(task)
    local known = self.tasks[task.id]
    if not known or known.status == "running" then return nil, "it is not here, or runs" end
    self.tasks[task.id] = nil
    return true
  end

  function self:running()
    return line(function(task) return task.status == "running" or task.status == "exporting" end)
  end

  function self:running_count() return #self:running() end

  function self:get(id) return self.tasks[id] end

  function self:list(filter)
    local all = line(function(task)
      return (not filter.status or task.status == filter.status) and (not filter.key or task.key == filter.key)
    end)
    local tasks = {}
    for i = filter.offset + 1, math.min(#all, filter.offset + filter.limit) do
      tasks[#tasks + 1] = all[filter.order == "newest" and #all + 1 - i or i]
    end
    return tasks
  end

  function self:count(filter)
    return #line(function(task) return task.status == filter.status end)
  end

  return self
end

contract("a container with waiting, to_running, get, list and count", plain, { keeps_all = true, slow = true })
