--- The wall clock of a process: clock.env(at, by) is the environment of one whose clock is set by so many seconds, `at`
--- seconds after its start. The rest: see shim.lua.
local clock = require "spec.support.shim"("clock_shim.c", "the clock cannot be set for this build")

function clock.env(at, by)
  return clock.preload { JUMP_AT = tostring(at), JUMP_BY = tostring(by) }
end

return clock
