--- Libraries that are preloaded into a process, made from C files of this folder where there is a compiler, and for the
--- release build: sanitizers do not go with what is preloaded.
---
---     local clock = shim("clock_shim.c", "the clock cannot be set for this build")
---     lazy_setup(clock.open)  lazy_teardown(clock.close)
---     local it_when_set = clock.it(it, pending)
---     it_when_set("is looked at", function() run.ltsh(args, { env = clock.preload { JUMP_AT = "1" } }) end)
local run = require "spec.support.run"

return function(source, missing)
  local shim, library = {}, nil

  function shim.open()
    if os.getenv "LTSH_TEST_PRESET" ~= "release" then return end
    local path = os.tmpname() .. ".so"
    local made = run.program_of_path("cc", { "-shared", "-fPIC", "-o", path, "spec/support/" .. source })
    library = made and made.code == 0 and path
  end

  function shim.close()
    if library then os.remove(library) end
  end

  --- The environment of a process that has it, with these variables.
  function shim.preload(env)
    env.LD_PRELOAD = library
    return env
  end

  --- A function that is called as busted's `it` and `pending`: for a spec that needs it.
  function shim.it(it, pending)
    return function(name, check)
      it(name, function()
        if not library then return pending(missing) end
        check()
      end)
    end
  end

  return shim
end
