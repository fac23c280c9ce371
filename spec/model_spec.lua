-- The protocol between hosts and the queue on a Redis server, searched in all orders of steps of small cases
-- (spec/model/):
-- what holds does in every state, what is broken on purpose is found, and the server of the model answers as a real
-- one.

local cases = require "spec.model.cases"
local redis = require "spec.support.redis"
local Sameness = require "spec.model.sameness"
local search = require "spec.model.search"

-- Under sanitizers all is several times slower: the beginning of each case is looked at, and not all of it.
local is_slow = os.getenv "LTSH_TEST_PRESET" ~= "release"
local STATES = is_slow and 300 or math.huge

describe("the model of a queue", function()
  lazy_teardown(redis.stop)

  describe("finds nothing wrong:", function()
    for _, case in ipairs(cases.cases) do
      it(case.name, function()
        local found = search(case, { states = STATES })
        assert.is_nil(found.fault, found.fault and found.fault .. "\n" .. table.concat(found.trace, "\n"))
        assert.is_true(found.complete or is_slow)
      end)
    end
  end)

  describe("finds it if", function()
    for _, case in ipairs(cases.mutations) do
      if not is_slow or not case.is_long then
        it(case.name, function()
          local found = search(case)
          assert.matches(case.finds, found.fault or "", 1, true)
          assert.is_true(#found.trace > 1)
        end)
      end
    end
  end)

  it("has a server that answers as Redis does, and writes the same", function()
    local same, said = Sameness(redis.shared().port), {}
    for seed = 1, is_slow and 2 or 20 do
      for letter in pairs(same.run(seed, 150)) do said[letter] = true end
    end
    same.close()
    if not is_slow then
      for letter in ("acuqsljkehifnvgxtopm"):gmatch "." do assert.is_true(said[letter], letter) end
    end
  end)
end)
