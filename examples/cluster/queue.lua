-- The queue that all hosts of the example share: each opens it in the same way.
local ltsh = require "ltsh"

local queue = { global_limit = 7 }

--- A scheduler on it, in the process that is called so. Who runs a task is noted as the task's progress.
function queue.open(url, name)
  return ltsh.scheduler {
    name = "queue",
    container = ltsh.container.redis { url = url, queue = "cluster", lease = 3 },
    actuator = ltsh.actuator.func(function(task)
      task:report(name)
      ltsh.sleep(task.item.seconds) -- the work
    end),
    limit = 3,                         -- of one host
    global_limit = queue.global_limit, -- of all of them
    max_lost = 100,                    -- somebody kills hosts for fun
  }
end

return queue
