-- The function that examples/hot_reload/main.lua runs, once in a tenth of a second. Change it, and save.
return function(task)
  return "hello, " .. task.item.name
end
