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
-- - A method may wait (for a socket, a file). `claim` and `add` are called alone: they need not look again after that.
--   A transition may meet those of other tasks, but none of its own task.
-- - A `claim` that fails has marked nothing: it marks at the end, in one step. docs/lua-tasks.md says more.
local ltsh = require "ltsh"

-- durable = false: its tasks end with this process, so what waits at shutdown is stopped, not kept.
local Container = { durable = false }
Container.__index = Container

-- A heap: its first element is the one that comes before all others.
local function push(heap, place, before)
  local i = #heap + 1
  while i > 1 and before(place, heap[i // 2]) do
    heap[i] = heap[i // 2]
    i = i // 2
  end
  heap[i] = place
end

local function pop(heap, before)
  local first, last = heap[1], table.remove(heap)
  local i, count = 1, #heap
  if count == 0 then return first end
  while 2 * i <= count do
    local child = 2 * i
    if child < count and before(heap[child + 1], heap[child]) then child = child + 1 end
    if not before(heap[child], last) then break end
    heap[i] = heap[child]
    i = child
  end
  heap[i] = last
  return first
end

local function comes_first(a, b)
  if a.priority ~= b.priority then return a.priority > b.priority end
  return a.order < b.order
end

local function is_due_first(a, b)
  return a.run_at < b.run_at
end

-- Each task that has not ended has a place { task =, order =, ... }, by its id. Those that wait are also in one of the
-- heaps; one that is found there but does not wait any more was stopped or deleted.
local function put_waiting(self, place)
  place.waiting = true
  place.priority, place.run_at = place.task.priority or 0, place.task.run_at or 0
  if place.run_at > ltsh.now() then
    push(self.delayed, place, is_due_first)
  else
    push(self.ready, place, comes_first)
  end
end

local function next_order(self)
  self.last_order = self.last_order + 1
  return self.last_order
end

local function new_place(self, task)
  self.unfinished = self.unfinished + 1
  self.places[task.id] = { task = task, order = next_order(self) }
  return self.places[task.id]
end

-- The place of the task that a transition is meant for.
local function find(self, task, statuses)
  local place = self.places[task.id]
  if not place then return nil, string.format("task '%s' is not here", task.id) end
  local known = place.task
  if not statuses[known.status] then return nil, string.format("task '%s' is %s", task.id, known.status) end
  if known.run ~= task.run then return nil, string.format("task '%s' is at run %d", task.id, known.run or 0) end
  return place
end

local WAITING, RUNNING = { waiting = true }, { running = true }
local ACTIVE, UNFINISHED = { running = true, exporting = true }, { waiting = true, running = true, exporting = true }

function Container:add(task)
  if self.places[task.id] then return nil, string.format("task '%s' is here already", task.id), "exists" end
  if self.unfinished >= self.size then return nil, string.format("there is room for %d tasks", self.size), "full" end
  put_waiting(self, new_place(self, task))
  return true
end

-- `full_keys` are the keys of which no more may run now: their tasks stay where they are. Of the others, `admit` says
-- for each task whether one more may start, and takes its place (without it, what may not start is kept until it may).
-- The second result is the time at which to ask again, because something will be due then.
function Container:claim(limit, full_keys, admit)
  local now, tasks, passed_over, is_full = ltsh.now(), {}, {}, {}
  for _, key in ipairs(full_keys) do is_full[key] = true end
  while self.delayed[1] and self.delayed[1].run_at <= now do
    push(self.ready, pop(self.delayed, is_due_first), comes_first)
  end
  while #tasks < limit and self.ready[1] do
    local place = pop(self.ready, comes_first)
    local task = place.task
    if place.waiting and (task.key and is_full[task.key] or admit and not admit(task.key)) then
      passed_over[#passed_over + 1] = place
      if not task.key then break end
      is_full[task.key] = true
    elseif place.waiting then
      place.waiting = false
      self.last_run = self.last_run + 1
      task.status, task.run, task.attempts, task.started_at = "running", self.last_run, task.attempts + 1, now
      tasks[#tasks + 1] = task
    end
  end
  for _, place in ipairs(passed_over) do push(self.ready, place, comes_first) end
  while self.delayed[1] and not self.delayed[1].waiting do pop(self.delayed, is_due_first) end
  return tasks, self.delayed[1] and self.delayed[1].run_at
end

-- A running task is to be tried again (then it is at the end of the line), or it was not started after all, or
-- snoozed: no attempt was used, and it keeps its place. Or an ended one, which is not here any more, is to be retried.
function Container:to_waiting(task)
  local place, message = find(self, task, ACTIVE)
  if self.places[task.id] and not place then return nil, message end
  if not place then
    place = new_place(self, task)
  elseif task.attempts == place.task.attempts then
    place.order = next_order(self)
  end
  place.task = task
  put_waiting(self, place)
  return true
end

-- One that runs already, and was not claimed here: ltsh.container.combine(this, persistent) says so of what it finds.
function Container:add_running(task)
  if not self.places[task.id] then new_place(self, task) end
  self.places[task.id].task, self.places[task.id].waiting = task, false
  self.last_run = math.max(self.last_run, task.run)
  return true
end

function Container:to_exporting(task)
  local place, message = find(self, task, RUNNING)
  if not place then return nil, message end
  place.task = task
  return true
end

-- Its handle or its progress has changed.
Container.update_running = Container.to_exporting

-- Ended tasks are not kept here: the scheduler remembers the latest of them for `get` and `retry`.
local function finish(self, task)
  local place, message = find(self, task, UNFINISHED)
  if not place then return nil, message end
  place.waiting = false
  self.places[task.id] = nil
  self.unfinished = self.unfinished - 1
  return true
end

Container.to_success, Container.to_failed, Container.to_stopped = finish, finish, finish

-- A waiting task; of an ended one nothing is left here.
function Container:to_deleted(task)
  if not self.places[task.id] then return true end
  local place, message = find(self, task, WAITING)
  if not place then return nil, message end
  return finish(self, task)
end

-- What a host that died left running. Here there is nothing to find at the start; a container that outlives its host
-- has this from its store.
function Container:running()
  local tasks = {}
  for _, place in pairs(self.places) do
    if ACTIVE[place.task.status] then tasks[#tasks + 1] = place.task end
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
    size = size, unfinished = 0, places = {}, ready = {}, delayed = {}, last_order = 0, last_run = 0,
  }, Container)
end
