-- ltsh.made: the schedulers of this process, without keeping any of them, and who is told of new ones.
local made = { hooks = {}, schedulers = setmetatable({}, { __mode = "k" }) }

local order = 0

function made.add(scheduler)
  order = order + 1
  made.schedulers[scheduler] = order
  for hook in pairs(made.hooks) do hook(scheduler) end
end

--- Those that are there, in the order in which they were made.
function made.list()
  local list = {}
  for scheduler in pairs(made.schedulers) do list[#list + 1] = scheduler end
  table.sort(list, function(a, b) return made.schedulers[a] < made.schedulers[b] end)
  return list
end

return made
