-- Errors that are hard to report: recursions without end, texts of a megabyte, errors while another one is closed.

local scene = require "spec.support.scene"

local open = scene.open

after_each(function()
  scene.close()
  collectgarbage()
end)

describe("an error that is hard to report", function()
  local function reason_of(run)
    local scheduler = open(function(task)
      if task.id == "t" then return run() end
      return "well"
    end)
    scheduler:add { id = "t" }
    scheduler:add { id = "next" }
    local task = scheduler:wait("t", 20)
    assert.is_truthy(task, "it hangs")
    assert.equal("failed", task.status)
    assert.is_true(type(task.reason) == "string" and #task.reason > 0)
    assert.equal("well", scheduler:wait("next", 20).output)
    return task.reason
  end

  it("may be a recursion without end", function()
    local function deep(n) return 1 + deep(n + 1) end
    assert.matches("stack overflow", reason_of(function() return deep(0) end))
  end)

  it("may be one through pcall and metamethods", function()
    local object = setmetatable({}, { __index = function(self, key) return self[key .. "x"] end })
    assert.matches("overflow", reason_of(function() return object.x end))
    local function deep() return assert(pcall(deep)) and error "the end" end
    reason_of(deep)
  end)

  -- Each level computes for so long that most slices end in the middle of them.
  it("may be one that is preempted again and again", function()
    local function compute() for _ = 1, 20000 do end end
    local object = setmetatable({}, { __index = function(self, key)
      compute()
      return self[key .. "x"]
    end })
    assert.matches("overflow", reason_of(function() return object.x end))
    local levels = 0
    local function deep()
      levels = levels + 1
      compute()
      return assert(pcall(deep)) and error "the end"
    end
    reason_of(deep)
    assert.is_true(levels < 1000)
  end)

  it("may be one through coroutines", function()
    local function deep() return coroutine.wrap(deep)() end
    assert.matches("overflow", reason_of(deep))
  end)

  it("may be a text of a megabyte", function()
    local text = ("x"):rep(1 << 20)
    assert.equal(text, reason_of(function() error(text, 0) end))
  end)

  it("may be raised while another one is closed", function()
    assert.equal("second", reason_of(function()
      local _ <close> = setmetatable({}, { __close = function() error "second" end })
      error "first"
    end))
  end)

  it("may be a lack of memory", function()
    local reason = reason_of(function() return ("x"):rep(1 << 62) end)
    assert.matches("too large", reason)
  end)
end)
