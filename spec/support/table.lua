--- A container in Lua, that of examples/, whose store may be late, down or wrong, and that remembers what it was asked.
---
---     local store = table_container { size = 10, durable = true, late = true }
---     store.before.to_success = gate.pass          called before the store does it: may wait or raise
---     store.after.claim = function(results, ...)   called when it is done and the answer is on its way
---     store.log                                    { name =, id =, attempts =, reason =, run = } of each transition
---     store:knows()                                gives it `get`, `list` and `count`, with hooks
---
--- With `late`, `claim` and the transitions wait for a moment, so that no answer comes at once.
local ltsh = require "ltsh"

local TRANSITIONS = {
  "to_running", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted", "update_running",
}

return function(options)
  options = options or {}
  local store = dofile "examples/lua_container.lua" { size = options.size }
  local methods = getmetatable(store)
  store.durable = options.durable or false
  store.before, store.after, store.log, store.claims, store.claimed = {}, {}, {}, 0, 0

  local function wrap(name)
    if not methods[name] then return end
    store[name] = function(self, ...)
      if options.late then ltsh.sleep(0.002) end
      if self.before[name] then self.before[name](...) end
      local results = table.pack(methods[name](self, ...))
      if self.after[name] then self.after[name](results, ...) end
      if options.late then ltsh.sleep(0.002) end
      return table.unpack(results, 1, results.n)
    end
  end

  for _, name in ipairs { "add", "running", "running_count" } do wrap(name) end
  for _, name in ipairs(TRANSITIONS) do
    wrap(name)
    local inner = store[name]
    store[name] = inner and function(self, task, reason)
      self.log[#self.log + 1] = {
        name = name, id = task.id, attempts = task.attempts, reason = reason or task.reason, run = task.run,
      }
      return inner(self, task, reason)
    end
  end
  wrap "claim"
  local claim = store.claim
  function store:claim(...)
    self.claims = self.claims + 1
    local tasks, next_run_at = claim(self, ...)
    self.claimed = self.claimed + #tasks
    return tasks, next_run_at
  end

  --- The names of the transitions of a task, in their order; without those of handle and progress.
  function store:transitions(id)
    local names = {}
    for _, entry in ipairs(self.log) do
      if entry.id == id and entry.name ~= "update_running" then names[#names + 1] = entry.name end
    end
    return names
  end

  --- The last of them.
  function store:last(id)
    for i = #self.log, 1, -1 do
      local entry = self.log[i]
      if entry.id == id and entry.name ~= "update_running" then return entry end
    end
    return nil
  end

  --- Gives it the optional methods that read.
  function store:knows()
    local function copy(task)
      local known = { id = task.id, status = task.status, run = task.run, attempts = task.attempts }
      known.added_at = ltsh.now()
      return known
    end
    function methods.get(_, id)
      local place = self.places[id]
      return place and copy(place.task)
    end
    function methods.list()
      local tasks = {}
      for _, place in pairs(self.places) do tasks[#tasks + 1] = copy(place.task) end
      table.sort(tasks, function(a, b) return a.id < b.id end)
      return tasks
    end
    function methods.count(_, filter)
      local count = 0
      for _, place in pairs(self.places) do
        if not filter or not filter.status or place.task.status == filter.status then count = count + 1 end
      end
      return count
    end
    for _, name in ipairs { "get", "list", "count" } do wrap(name) end
    return self
  end

  --- Puts a task in that a host which died has left behind: { id =, status =, run =, ... }.
  function store:leave(task)
    task.attempts, task.added_at, task.started_at = task.attempts or 1, ltsh.now() - 5, ltsh.now() - 4
    self.last_order, self.last_run = self.last_order + 1, math.max(self.last_run, task.run)
    self.unfinished = self.unfinished + 1
    self.places[task.id] = { task = task, order = self.last_order }
  end

  return store
end
