-- A container written in Lua: higher priority first, then first in, first out, with delays and keys; in memory.
--
--   local scheduler = ltsh.scheduler {
--     container = ltsh.container.load("examples/lua_container.lua", { size = 1000 }),
--     actuator = ltsh.actuator.func(function(task) return task.item * 2 end),
--   }
--
-- It is meant as a model for containers of your own, in a database or behind an HTTP service. What makes one right:
--
-- - Every transition checks what it is meant for: the status that the task has here, and its run number. If these do
--   not fit, it returns nil and a message, and changes nothing.
-- - `claim` is atomic: a task that it returns is running from then on, with a run number that was never used before.
-- - A method may wait (for a socket, a file), and others may be called meanwhile. So it looks, decides and writes
--   without waiting in between, or lets its store do that in one operation.
local ltsh = require "ltsh"

-- durable = false: its tasks end with this process, so what waits at shutdown is stopped, not kept.
local Container = { durable = false }
Container.__index = Container

-- Each task that has not ended has an entry { task =, order = }; those that wait are also in the list `waiting`.
local function comes_first(a, b)
  local left, right = a.task.priority or 0, b.task.priority or 0
  if left ~= right then return left > right end
  return a.order < b.order
end

local function put_waiting(self, entry)
  local low, high = 1, #self.waiting + 1
  while low < high do
    local middle = (low + high) // 2
    if comes_first(entry, self.waiting[middle]) then high = middle else low = middle + 1 end
  end
  table.insert(self.waiting, low, entry)
end

local function new_entry(self, task)
  self.unfinished, self.last_order = self.unfinished + 1, self.last_order + 1
  self.entries[task.id] = { task = task, order = self.last_order }
  return self.entries[task.id]
end

-- The entry of the task that a transition is meant for.
local function find(self, task, statuses)
  local entry = self.entries[task.id]
  if not entry then return nil, string.format("task '%s' is not here", task.id) end
  local known = entry.task
  if not statuses[known.status] then return nil, string.format("task '%s' is %s", task.id, known.status) end
  if known.run ~= task.run then return nil, string.format("task '%s' is at run %d", task.id, known.run or 0) end
  return entry
end

local WAITING, RUNNING = { waiting = true }, { running = true }
local ACTIVE, UNFINISHED = { running = true, exporting = true }, { waiting = true, running = true, exporting = true }

function Container:add(task)
  if self.entries[task.id] then return nil, string.format("task '%s' is here already", task.id), "exists" end
  if self.unfinished >= self.size then return nil, string.format("there is room for %d tasks", self.size), "full" end
  put_waiting(self, new_entry(self, task))
  return true
end

-- `full_keys` are the keys of which no more may run now: their tasks stay where they are. The second result is the
-- time at which to ask again, because something will be due then.
function Container:claim(limit, full_keys)
  local now, tasks, next_run_at, is_full = ltsh.now(), {}, nil, {}
  for _, key in ipairs(full_keys) do is_full[key] = true end
  local i = 1
  while #tasks < limit and self.waiting[i] do
    local task = self.waiting[i].task
    local run_at = task.run_at or 0
    if run_at > now then
      next_run_at = math.min(next_run_at or run_at, run_at)
      i = i + 1
    elseif task.key and is_full[task.key] then
      i = i + 1
    else
      table.remove(self.waiting, i)
      self.last_run = self.last_run + 1
      task.status, task.run, task.attempts, task.started_at = "running", self.last_run, task.attempts + 1, now
      tasks[#tasks + 1] = task
    end
  end
  return tasks, next_run_at
end

-- A running task is to be tried again (then it is at the end of the line), or it was not started after all, or
-- snoozed: no attempt was used, and it keeps its place. Or an ended one, which is not here any more, is to be retried.
function Container:to_waiting(task)
  local entry, message = find(self, task, ACTIVE)
  if self.entries[task.id] and not entry then return nil, message end
  if not entry then
    entry = new_entry(self, task)
  elseif task.attempts == entry.task.attempts then
    self.last_order = self.last_order + 1
    entry.order = self.last_order
  end
  entry.task = task
  put_waiting(self, entry)
  return true
end

function Container:to_exporting(task)
  local entry, message = find(self, task, RUNNING)
  if not entry then return nil, message end
  entry.task = task
  return true
end

-- Its handle or its progress has changed.
Container.update_running = Container.to_exporting

-- Ended tasks are not kept here: the scheduler remembers the latest of them for `get` and `retry`.
local function finish(self, task)
  local entry, message = find(self, task, UNFINISHED)
  if not entry then return nil, message end
  for i = 1, entry.task.status == "waiting" and #self.waiting or 0 do
    if self.waiting[i] == entry then
      table.remove(self.waiting, i)
      break
    end
  end
  self.entries[task.id] = nil
  self.unfinished = self.unfinished - 1
  return true
end

Container.to_success, Container.to_failed, Container.to_stopped = finish, finish, finish

-- A waiting task; of an ended one nothing is left here.
function Container:to_deleted(task)
  if not self.entries[task.id] then return true end
  local entry, message = find(self, task, WAITING)
  if not entry then return nil, message end
  return finish(self, task)
end

-- What a host that died left running. Here there is nothing to find at the start; a container that outlives its host
-- has this from its store.
function Container:running()
  local tasks = {}
  for _, entry in pairs(self.entries) do
    if ACTIVE[entry.task.status] then tasks[#tasks + 1] = entry.task end
  end
  return tasks
end

function Container:running_count()
  return #self:running()
end

-- Nobody but its scheduler puts tasks in here, so there is never anything to announce. That it has this method spares
-- the scheduler from asking every `schedule_interval`.
function Container:attach(announce)
  self.announce = announce
end

return function(options)
  local size = options and options.size or 100000
  return setmetatable({
    size = size, unfinished = 0, entries = {}, waiting = {}, last_order = 0, last_run = 0,
  }, Container)
end
