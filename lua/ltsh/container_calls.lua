-- ltsh.container_calls: what a container in Lua is asked for that takes more than one call of its methods.
--
-- The host calls these in place of a method, each in a coroutine that may wait, with the table as `self`; every method
-- has its time (container_timeout) for itself. claim_waiting, add_all and tell are alone with the table.
local core = require "ltsh.core"
local check = require "ltsh.check_args"

local FURTHEST = 1 << 16 -- so many of those that wait are looked at for one that may start
local STATUSES = { "waiting", "running", "exporting", "success", "failed", "stopped" }

-- What a transition answered, through pcall: true or false, or a text: nobody knows what became of it.
local function answer_of(ok, done, message)
  if not ok then return check.raised(done) end
  if done then return true end
  if message ~= nil then return false end
  return "it must return true, or nil and a message"
end

-- It runs in the table, and nowhere else: it waits there again. A no: it does not run there.
local function give_back(self, task)
  task = core.copy_task(task) -- the table may have kept that
  task.status, task.attempts, task.started_at = "waiting", math.max(task.attempts - 1, 0), nil
  return answer_of(pcall(self.to_waiting, self, task))
end

-- It runs in the table, and nowhere else: it ends there, and does not come again.
local function stop(self, task)
  task = core.copy_task(task)
  task.status, task.reason, task.ended_at = "stopped", "deleted", core.now()
  return answer_of(pcall(self.to_stopped, self, task))
end

local function id_of(task)
  return (type(task) == "table" or type(task) == "userdata") and task.id
end

--- The calls for one table; what is not among them is looked up in it.
return function(container)
  local calls = setmetatable({}, { __index = container })
  local pending = {} -- by id: what may run in the table and does not run here, as an answer was lost or a claim was cut

  -- What may run in the table is given back. Returns their ids, and a text if one could not be.
  local function give_all_back(self)
    local given, failure = {}, nil
    for id, task in pairs(pending) do
      given[id] = true
      local answer = give_back(self, task)
      if type(answer) == "string" then failure = answer else pending[id] = nil end
    end
    return given, failure
  end

  -- Asks the table to make it running: then it is among `claimed`. A text: nobody knows.
  local function make_running(self, task, claimed)
    local id = task.id
    pending[id] = task
    local answer = answer_of(pcall(self.to_running, self, task))
    if answer == true then
      claimed[#claimed + 1] = task
    elseif answer == false then
      pending[id] = nil
    else
      return answer
    end
  end

  local function claimed_now(claimed)
    for _, task in ipairs(claimed) do pending[task.id] = nil end
    return claimed
  end

  -- A claim of those that `run()` gives, as they will be when they run; and the first `look` of what waits then.
  function calls.claim_chosen(self, run, look)
    local claimed, _, failure = {}, give_all_back(self)
    local task = run()
    while task do
      if not pending[task.id] then failure = make_running(self, task, claimed) or failure end
      task = run()
    end
    local seen, message, code = {}, nil, nil
    if look > 0 then seen, message, code = self:waiting(look) end
    if failure and not claimed[1] then return nil, failure end
    if type(seen) ~= "table" and not claimed[1] then return seen, message, code end
    return claimed_now(claimed), type(seen) == "table" and seen or {}
  end

  -- `claim` of a table with `waiting` and `to_running`. `run(task)` gives the task as it will be when it runs, and
  -- takes its place; or nil, and whether others may start. Those of full keys at the head of the list do not hold up
  -- others: the table is asked for more. Nor does one that fails: the next claim passes it over.
  function calls.claim_waiting(self, limit, run)
    local claimed, passed_over, failure = {}, give_all_back(self)

    local asked, go_on = limit
    repeat
      local tasks, message, code = self:waiting(asked)
      if type(tasks) ~= "table" or not (tasks[1] or claimed[1] or failure) then return tasks, message, code end
      go_on = false
      for _, task in ipairs(tasks) do
        local id = id_of(task)
        if not (passed_over[id] or pending[id]) then
          local running, others = run(task)
          if running then
            failure = make_running(self, running, claimed) or failure
          else
            go_on = go_on or others
          end
        end
      end
      go_on = go_on and #tasks >= asked and #claimed < limit and asked < FURTHEST
      asked = asked * 4
    until not go_on

    if failure and not claimed[1] then return nil, failure end
    return claimed_now(claimed)
  end

  function calls.add_all(self, next)
    local seen = {}
    for task in next do
      if seen[task.id] then return nil, string.format("task '%s' is there twice", task.id), "exists" end
      seen[task.id] = true
      local done, message, code = self:add(task)
      if not done then return done, message, code end
    end
    return true
  end

  -- Deletes what is held: the table has made it running.
  function calls.delete_held(self, task)
    local answer = give_back(self, task)
    if type(answer) == "string" then error(answer, 0) end
    return self:to_deleted(task)
  end

  -- Tells the table how tasks are: `next(answer)` gives them one by one, and says whether it runs in the table.
  function calls.tell(self, next)
    local task, runs = next()
    while task do
      local answer = runs and task.status == "deleted" and stop(self, task)
      if type(answer) ~= "string" then answer = answer_of(pcall(self["to_" .. task.status], self, task)) end
      task, runs = next(answer)
    end
  end

  function calls.count_all(self)
    local counts = {}
    for i, status in ipairs(STATUSES) do
      local count, message, code = self:count { status = status }
      if not count and message then return nil, message, code end
      counts[i] = count
    end
    return counts
  end

  function calls.list_by(self, status, key, limit, offset, order, text)
    return self:list { status = status, key = key, limit = limit, offset = offset, order = order, text = text }
  end

  return calls
end
