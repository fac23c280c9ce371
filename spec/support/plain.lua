--- A container that is read and then asked for each task. It keeps plain tables, and all of them, and answers get, list
-- and count.
local ltsh = require "ltsh"

return function(options)
  local size = options and options.size or math.huge
  local container = { durable = false, tasks = {}, order = {} }

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
    for _, id in ipairs(container.order) do
      if container.tasks[id] and condition(container.tasks[id]) then tasks[#tasks + 1] = container.tasks[id] end
    end
    return tasks
  end

  local function move(from)
    return function(_, task)
      local known = container.tasks[task.id]
      if not known then return nil, "no such task", "unknown" end
      if not from[known.status] then return nil, "it is " .. known.status end
      if known.run ~= task.run and task.status ~= "running" then return nil, "it is at another run" end
      container.tasks[task.id] = copy(task)
      return true
    end
  end

  local function to_the_end(id)
    for i, other in ipairs(container.order) do
      if other == id then
        table.remove(container.order, i)
        break
      end
    end
    table.insert(container.order, id)
  end

  function container.add(_, task)
    if task.priority ~= 0 then return nil, "there are no priorities here", "refused" end
    local known = container.tasks[task.id]
    if known and unfinished(known) then return nil, task.id .. " is here already", "exists" end
    if #line(unfinished) >= size then return nil, "it is full", "full" end
    container.tasks[task.id] = copy(task)
    to_the_end(task.id)
    return true
  end

  function container.waiting(_, limit)
    local now = ltsh.now()
    local due = line(function(task) return task.status == "waiting" and (task.run_at or 0) <= now end)
    table.sort(due, function(a, b) return math.max(a.run_at or 0, a.added_at) < math.max(b.run_at or 0, b.added_at) end)
    return table.move(due, 1, math.min(limit, #due), 1, {})
  end

  container.to_running = move { waiting = true }
  container.to_waiting = move { running = true, exporting = true, success = true, failed = true, stopped = true }
  container.to_exporting = move { running = true }
  container.to_success = move { running = true, exporting = true }
  container.to_failed = move { waiting = true, running = true, exporting = true }
  container.to_stopped = container.to_failed

  function container.to_deleted(_, task)
    local known = container.tasks[task.id]
    if not known or known.status == "running" then return nil, "it is not here, or runs" end
    container.tasks[task.id] = nil
    return true
  end

  function container.running()
    return line(function(task) return task.status == "running" or task.status == "exporting" end)
  end

  function container.running_count() return #container.running() end

  function container.get(_, id) return container.tasks[id] end

  function container.list(_, filter)
    local all = line(function(task)
      return (not filter.status or task.status == filter.status) and (not filter.key or task.key == filter.key)
    end)
    local tasks = {}
    for i = filter.offset + 1, math.min(#all, filter.offset + filter.limit) do
      tasks[#tasks + 1] = all[filter.order == "newest" and #all + 1 - i or i]
    end
    return tasks
  end

  function container.count(_, filter)
    return #line(function(task) return task.status == filter.status end)
  end

  return container
end
