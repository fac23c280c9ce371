-- A module of tasks: counts the primes of a range. See examples/workers.lua.
local function is_prime(n)
  if n < 4 then return n > 1 end
  if n % 2 == 0 then return false end
  for divisor = 3, math.floor(n ^ 0.5), 2 do
    if n % divisor == 0 then return false end
  end
  return true
end

return function(task)
  local count = 0
  for n = task.item.from, task.item.to do
    if is_prime(n) then count = count + 1 end
  end
  return count
end
