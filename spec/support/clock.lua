--- A library that sets the wall clock of a process that is started with it. It is made where there is a compiler, and
--- for the release build: sanitizers do not go with what is preloaded.
---
---     lazy_setup(clock.open)  lazy_teardown(clock.close)
---     local it_when_set = clock.it(it, pending)
---     it_when_set("is looked at", function() run.ltsh(args, { env = clock.env(0.2, 3600) }) end)
---
--- clock.env(at, by): the environment of a process whose clock is set by so many seconds, `at` seconds after its start.
local run = require "spec.support.run"

local clock = {}
local library

function clock.open()
  if os.getenv "LTSH_TEST_PRESET" ~= "release" then return end
  local path = os.tmpname() .. ".so"
  local made = run.program_of_path("cc", { "-shared", "-fPIC", "-o", path, "spec/support/clock_shim.c" })
  library = made and made.code == 0 and path
end

function clock.close()
  if library then os.remove(library) end
end

function clock.env(at, by)
  return { LD_PRELOAD = library, JUMP_AT = tostring(at), JUMP_BY = tostring(by) }
end

--- A function that is called as busted's `it` and `pending`: for a spec that needs it.
function clock.it(it, pending)
  return function(name, check)
    it(name, function()
      if not library then return pending "the clock cannot be set for this build" end
      check()
    end)
  end
end

return clock
