-- luv's __gc, called by hand with what is no handle, and debug.setlocal on a function in C: both crashed.
local timer = require("luv").new_timer()
local finalize = getmetatable(timer).__gc
for _, value in ipairs { 5, {}, io.stdout, timer, timer } do pcall(finalize, value) end
pcall(debug.setlocal, 2, 1, {})
