-- ltsh.made: who is told of each scheduler that is made.
local made = { hooks = {} }

function made.tell(scheduler)
  for hook in pairs(made.hooks) do hook(scheduler) end
end

return made
