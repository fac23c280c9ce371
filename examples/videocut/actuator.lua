-- The actuator: a task is a job of the cutting service. A fault of the network is not the task's fault: it waits and is
-- tried again, and what runs is asked for again.
local ltsh = require "ltsh"

local STATUS = { ["分析中"] = "running", ["分析成功"] = "success", ["分析失败"] = "failed" }

local Actuator = {}
Actuator.__index = Actuator

local function ask(self, path, body)
  local answer, message = ltsh.http.post { url = self.url .. path, json = body, timeout = 10 }
  if not answer then return nil, message end
  local said = answer:json()
  if type(said) ~= "table" then return nil, "the service's answer cannot be read" end
  return said, nil, answer.status
end

function Actuator:start(task)
  local item = task.item
  local said, message, status = ask(self, "VideoCut",
    { InputVideo = item.input, StartTime = item.from, EndTime = item.to })
  if not said then return nil, { reason = message, snooze = true } end
  if status ~= 200 then return nil, { reason = said.Reason or "refused", retry = false } end
  return said.TaskId
end

-- What a job is; nil: the service does not know it; false: it cannot be asked.
local function look(self, handle)
  local said, message, status = ask(self, "Status", { TaskId = handle })
  if not said then return false, message end
  if status == 404 then return nil end
  return { status = STATUS[said.Status] or "running", reason = said.Reason, progress = said.Progress }
end

function Actuator:status(tasks)
  local jobs = {}
  for i, task in ipairs(tasks) do
    jobs[i] = ltsh.spawn(function()
      local record = look(self, task.handle)
      if record == nil then return { status = "failed", reason = "the service does not know it any more" } end
      return record or { status = "running" }
    end)
  end
  for i, job in ipairs(jobs) do jobs[i] = job:wait() end
  return jobs
end

function Actuator:stop(task)
  local said, message = ask(self, "Stop", { TaskId = task.handle })
  if not said then return nil, message end
  return true
end

-- After a restart of the scheduler: the job may still be there.
function Actuator:recover(task)
  if not task.handle then return nil end
  local record = look(self, task.handle)
  if not record then return nil end
  return record.status == "running" and true or record
end

function Actuator:output(task)
  local said, message, status = ask(self, "GetOutputVideo", { TaskId = task.handle })
  if not said or status ~= 200 then return nil, message or said.Reason end
  return said.OutputVideo
end

return function(options)
  return setmetatable({ url = options.url }, Actuator)
end
