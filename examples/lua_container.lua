-- A container written in Lua: higher priority first, then first in, first out, with delays and keys; in memory.
--
--   local scheduler = ltsh.scheduler {
--     container = ltsh.container.load("examples/lua_container.lua", { size = 1000 }),
--     actuator = ltsh.actuator.func(function(task) return task.item * 2 end),
--   }
--
-- It is meant as a model for containers of your own, in a database or behind an HTTP service. What makes a container right:
--
-- - Every transition checks what it is meant for: the status that the task has here, and its run number. If these do not fit,
--   it returns nil and a message, and changes nothing.
-- - `claim` is atomic: a task that it returns is running from then on, with a new run number.
-- - A method may wait (for a socket, a file): others may be called meanwhile. So it looks, decides and writes without waiting
--   in between, or lets its store do so in one operation.

local Container = { durable = false } -- its tasks end with this process: what waits at shutdown is stopped, not kept
Container.__index = Container

-- Whether a comes before b in `ready`.
local function comes_first(a, b)
  if a.priority ~= b.priority then return a.priority > b.priority end
  return a.order < b.order
end

-- Whether a comes before b in `delayed`.
local function is_due_first(a, b)
  if a.run_at ~= b.run_at then return a.run_at < b.run_at end
  return a.order < b.order
end

-- Puts an entry where it belongs in a sorted list.
local function insert(list, entry, before)
  local low, high = 1, #list + 1
  while low < high do
    local middle = (low + high) // 2
    if before(entry, list[middle]) then high = middle else low = middle + 1 end
  end
  table.insert(list, low, entry)
end

local function take_out(list, id)
  for i, entry in ipairs(list) do
    if entry.id == id then return table.remove(list, i) end
  end
end

-- The place in line is kept when a task is given back, and is a new one when it comes anew.
local function put_waiting(self, task, order)
  local entry = { id = task.id, key = task.key, priority = task.priority or 0, run_at = task.run_at or 0, order = order }
  if not order then
    self.last_order = self.last_order + 1
    entry.order = self.last_order
  end
  self.tasks[task.id], self.order[task.id] = task, entry.order
  if entry.run_at > os.time() then insert(self.delayed, entry, is_due_first) else insert(self.ready, entry, comes_first) end
end

-- The task as it is here, if it has one of these statuses and is at the run that the transition is meant for.
local function find(self, task, statuses)
  local known = self.tasks[task.id]
  if not known then return nil, string.format("task '%s' is not in this container", task.id) end
  if not statuses[known.status] then return nil, string.format("task '%s' is %s", task.id, known.status) end
  if known.run ~= task.run then return nil, string.format("task '%s' is at run %d", task.id, known.run or 0) end
  return known
end

local WAITING, RUNNING = { waiting = true }, { running = true }
local ACTIVE, UNFINISHED = { running = true, exporting = true }, { waiting = true, running = true, exporting = true }

-- Ended tasks are not kept: the scheduler remembers the latest of them for `get` and `retry`.
local function finish(self, task)
  local known, message = find(self, task, UNFINISHED)
  if not known then return nil, message end
  if known.status == "waiting" then
    local _ = take_out(self.ready, task.id) or take_out(self.delayed, task.id)
  end
  self.tasks[task.id], self.order[task.id] = nil, nil
  self.count = self.count - 1
  return true
end

function Container:add(task)
  if self.tasks[task.id] then return nil, string.format("task '%s' is here already", task.id), "exists" end
  if self.count >= self.size then return nil, string.format("there is room for %d tasks", self.size), "full" end
  self.count = self.count + 1
  put_waiting(self, task)
  return true
end

-- `full_keys` are the keys of which no more may run now: theirs are left where they are.
function Container:claim(limit, full_keys)
  local now, tasks, is_full = os.time(), {}, {}
  for _, key in ipairs(full_keys) do is_full[key] = true end
  while self.delayed[1] and self.delayed[1].run_at <= now do
    insert(self.ready, table.remove(self.delayed, 1), comes_first)
  end
  local i = 1
  while #tasks < limit and self.ready[i] do
    local entry = self.ready[i]
    if entry.key and is_full[entry.key] then
      i = i + 1
    else
      table.remove(self.ready, i)
      self.last_run = self.last_run + 1
      local task = self.tasks[entry.id]
      task.status, task.run, task.attempts, task.started_at = "running", self.last_run, (task.attempts or 0) + 1, now
      tasks[#tasks + 1] = task
    end
  end
  return tasks, self.delayed[1] and self.delayed[1].run_at
end

-- From running: to be tried again, or given back unstarted. An ended task, which is not here any more: a retry.
function Container:to_waiting(task)
  local known, message = find(self, task, ACTIVE)
  if self.tasks[task.id] and not known then return nil, message end
  local given_back = known and task.attempts < known.attempts
  if not known then self.count = self.count + 1 end
  put_waiting(self, task, given_back and self.order[task.id] or nil)
  return true
end

function Container:to_exporting(task)
  local known, message = find(self, task, RUNNING)
  if not known then return nil, message end
  self.tasks[task.id] = task
  return true
end

Container.to_success, Container.to_failed, Container.to_stopped = finish, finish, finish

-- A waiting task, or an ended one, of which nothing is left here.
function Container:to_deleted(task)
  if not self.tasks[task.id] then return true end
  local known, message = find(self, task, WAITING)
  if not known then return nil, message end
  return finish(self, task)
end

-- Its handle or its progress has changed.
function Container:update_running(task)
  return Container.to_exporting(self, task)
end

function Container:running()
  local tasks = {}
  for _, task in pairs(self.tasks) do
    if ACTIVE[task.status] then tasks[#tasks + 1] = task end
  end
  return tasks
end

function Container:running_count()
  return #self:running()
end

-- Nobody but its scheduler puts tasks in here, so there is never anything to announce. That it has this method
-- spares the scheduler from asking again every `schedule_interval`.
function Container:attach(announce)
  self.announce = announce
end

return function(options)
  local size = options and options.size or 100000
  return setmetatable({
    size = size, count = 0, tasks = {}, order = {}, ready = {}, delayed = {}, last_order = 0, last_run = 0,
  }, Container)
end
