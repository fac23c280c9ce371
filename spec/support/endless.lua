-- Functions that never end, for the specs of preemption: in the host's state and in workers.

local ltsh = require "ltsh"

local function forever() while true do end end

-- What never ends, and can be cut anywhere.
local endless = {
  ["a loop"] = forever,
  ["a loop over pcall"] = function() while true do pcall(forever) end end,
  ["a loop over pcall of errors"] = function() while true do pcall(error, "again") end end,
  ["a nested coroutine"] = function() coroutine.wrap(function() coroutine.wrap(forever)() end)() end,
  ["a coroutine that is resumed again and again"] = function()
    local co = coroutine.create(function() while true do coroutine.yield() end end)
    while true do coroutine.resume(co) end
  end,
  ["a coroutine for each step"] = function()
    while true do coroutine.wrap(function() for _ = 1, 10 do end end)() end
  end,
  ["coroutines that catch everything"] = function()
    while true do coroutine.resume(coroutine.create(function() while true do pcall(forever) end end)) end
  end,
  ["a function under xpcall"] = function() while true do xpcall(forever, forever) end end,
  ["the block of a __close"] = function()
    local guard <close> = setmetatable({}, { __close = forever })
    return guard
  end,
  ["a __close after an error"] = function()
    local guard <close> = setmetatable({}, { __close = forever })
    error("broken " .. tostring(guard))
  end,
  ["__index"] = function() return setmetatable({}, { __index = forever }).field end,
  ["__add"] = function() return setmetatable({}, { __add = forever }) + 1 end,
  ["__call"] = function() setmetatable({}, { __call = forever })() end,
  ["__concat"] = function() return setmetatable({}, { __concat = forever }) .. "" end,
  ["__lt"] = function() return setmetatable({}, { __lt = forever }) < setmetatable({}, {}) end,
  ["__eq"] = function()
    local meta = { __eq = forever }
    return setmetatable({}, meta) == setmetatable({}, meta)
  end,
  ["a comparator of table.sort"] = function() table.sort({ 3, 2, 1 }, forever) end,
  ["a function of string.gsub"] = function() string.gsub("text", ".", forever) end,
  ["a finalizer"] = function()
    setmetatable({}, { __gc = forever })
    collectgarbage()
    ltsh.sleep(100)
  end,
  ["a finalizer in the middle of computing"] = function()
    for _ = 1, math.huge do setmetatable({}, { __gc = forever }) end
  end,
  ["a recursion that catches its own end"] = function()
    local function deeper() return 1 + deeper() end
    while true do pcall(deeper) end
  end,
  ["a generator of garbage"] = function()
    local list = {}
    for i = 1, math.huge do list[i % 100] = { list[1] } end
    return list
  end,
  ["a goto"] = function() ::again:: goto again end,
  ["a for loop"] = function() for _ = 1, math.huge do end end,
  ["loaded code"] = function() load("while true do end")() end,
}

-- What never ends, called by C, where it cannot be cut.
local unyielding = {
  ["a message handler"] = function() xpcall(error, forever) end,
  ["message handlers, again and again"] = function() while true do xpcall(error, forever) end end,
  ["a message handler that catches everything"] = function()
    while true do xpcall(error, function() while true do pcall(forever) end end) end
  end,
  ["__tostring"] = function() return tostring(setmetatable({}, { __tostring = forever })) end,
  ["__tostring under pcalls"] = function()
    local text = setmetatable({}, { __tostring = function() while true do pcall(forever) end end })
    while true do pcall(tostring, text) end
  end,
  ["__tostring in coroutines"] = function()
    local text = setmetatable({}, { __tostring = forever })
    while true do
      coroutine.resume(coroutine.create(function()
        local guard <close> = setmetatable({}, { __close = forever })
        return tostring(text), guard
      end))
    end
  end,
  ["a reader of load"] = function() load(forever) end,
  ["__index in table.concat"] = function() return table.concat(setmetatable({}, { __index = forever }), "", 1, 2) end,
  ["__len in table.unpack"] = function() return table.unpack(setmetatable({}, { __len = forever })) end,
  ["a __close that coroutine.close calls"] = function()
    local co = coroutine.create(function()
      local guard <close> = setmetatable({}, { __close = forever })
      coroutine.yield(guard)
    end)
    coroutine.resume(co)
    coroutine.close(co)
    forever()
  end,
}

return { endless, unyielding }
