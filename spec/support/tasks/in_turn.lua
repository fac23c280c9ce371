-- Numbers its runs in the order in which they are made; some take longer.
local uv = require "luv"

local count = 0

return function(task)
  count = count + 1
  if task.item.slow then uv.sleep(20) end
  return count
end
