--- A container in Lua whose tasks outlive the host: a JSON file, written anew with each change. For few tasks.
local ltsh = require "ltsh"

return function(path)
  local store = { durable = true, tasks = {}, last_run = 0 }

  local function save()
    local file = assert(io.open(path .. ".new", "w"))
    file:write(ltsh.json.encode { tasks = store.tasks, last_run = store.last_run })
    file:close()
    assert(os.rename(path .. ".new", path))
  end

  local file = io.open(path)
  if file then
    local saved = ltsh.json.decode(file:read "a")
    store.tasks, store.last_run = saved.tasks, saved.last_run
    file:close()
  end

  local function keep(task)
    local copy = {}
    for name, value in pairs(task) do copy[name] = value end
    store.tasks[task.id] = copy
    save()
    return true
  end

  local function transition(_, task)
    local known = store.tasks[task.id]
    if not known then return nil, "it is not here" end
    if known.run ~= task.run and known.run ~= nil then return nil, "it is at another run" end
    return keep(task)
  end

  function store:add(task)
    if self.tasks[task.id] then return nil, "it is here already", "exists" end
    return keep(task)
  end

  function store:claim(limit)
    local claimed = {}
    for _, task in pairs(self.tasks) do
      if task.status == "waiting" and (task.run_at or 0) <= ltsh.now() and #claimed < limit then
        self.last_run = self.last_run + 1
        task.status, task.run, task.started_at = "running", self.last_run, ltsh.now()
        task.attempts = (task.attempts or 0) + 1
        claimed[#claimed + 1] = task
      end
    end
    if #claimed > 0 then save() end
    return claimed
  end

  function store:running()
    local running = {}
    for _, task in pairs(self.tasks) do
      if task.status == "running" or task.status == "exporting" then running[#running + 1] = task end
    end
    return running
  end

  function store:running_count() return #self:running() end

  for _, name in ipairs {
    "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted", "update_running",
  } do
    store[name] = transition
  end
  return store
end
