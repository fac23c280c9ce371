-- What is under the names of a queue and is not the queue's: keys of other types, and bytes that no host has written.
-- Nothing crashes, the error says what it is, and the other tasks go on.

local ltsh = require "ltsh"
local redis = require "spec.support.redis"
local resp = require "spec.support.resp"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local is_slow = os.getenv "LTSH_TEST_PRESET" ~= "release"
local SEEDS = is_slow and 6 or 25
local eventually = scene.eventually

local function key_of(queue, name) return ("ltsh:{%s}:%s"):format(queue, name) end

-- Numbers of our own: the same seed does the same everywhere.
local function chance_of(seed)
  local state = seed
  return function(most)
    state = (state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
    return (state >> 33) % most + 1
  end
end

-- Bytes cut short, changed at any place, with lengths that lie, or too many.
local function spoiled(bytes, chance)
  local kind = chance(5)
  if kind == 1 then return bytes:sub(1, chance(#bytes + 1) - 1) end
  if kind == 2 then return bytes .. ("x"):rep(chance(300)) end
  if kind == 3 and #bytes >= 108 then
    return bytes:sub(1, 106) .. string.pack(">I2", chance(65536) - 1) .. bytes:sub(109)
  end
  local at = chance(math.max(#bytes, 1))
  return bytes:sub(1, at - 1) .. string.char(chance(256) - 1) .. bytes:sub(at + 1)
end

describe("under the names of a queue", function()
  local link

  lazy_teardown(redis.stop)
  after_each(function()
    scene.close()
    if link then link:close() end
    link = nil
  end)

  local function open(queue, options)
    options = options or {}
    options.container = ltsh.container.redis { url = redis.url(), queue = queue, keep = { success = 3600 } }
    return scene.open(function() end, options)
  end

  for _, name in ipairs { "tasks", "ready", "index", "own", "hosts", "news", "idle" } do
    it(name .. " of another type is named in the log, and all goes on when it is gone", function()
      local queue = redis.queue()
      local child = run.start { "-e", [[
        local ltsh = require "ltsh"
        local scheduler = ltsh.scheduler {
          container = ltsh.container.redis { url = arg[1], queue = arg[2] },
          actuator = ltsh.actuator.func(function() end),
        }
        local n = 0
        ltsh.spawn(function()
          while true do
            n = n + 1
            if scheduler:add { id = "t" .. n } then print "added" end
            ltsh.sleep(0.02)
          end
        end)
        for task in scheduler:finished() do print("ended") end
      ]], redis.url(), queue }
      child:expect "ended"
      link = resp.open(redis.shared().port)
      link:call("DEL", key_of(queue, name))
      link:call("RPUSH", key_of(queue, name), "of somebody else")
      child:expect("the key " .. key_of(queue, name):gsub("%p", "%%%0") .. " is a list and not a", "stderr")
      link:call("DEL", key_of(queue, name))
      child:expect("the store is back", "stderr")
      child:expect "ended"
      child:kill "sigkill"
      child:wait()
    end)
  end

  it("bytes that nobody wrote hold up no other task", function()
    link = resp.open(redis.shared().port)
    for seed = 1, SEEDS do
      local chance, queue = chance_of(seed), redis.queue()
      local scheduler = open(queue)
      scheduler:pause()
      for i = 1, 12 do
        assert(scheduler:add { id = "t" .. i, key = i % 3 == 0 and "k" or nil, delay = i % 4 == 0 and 0.01 or nil,
                               priority = i, timeout = 5, max_retries = 2, item = { number = i } })
      end
      for i = 1, 6 do
        local record = link:call("HGET", key_of(queue, "tasks"), "t" .. i)
        link:call("HSET", key_of(queue, "tasks"), "t" .. i, spoiled(record, chance))
      end
      for _, name in ipairs { "ready", "delayed", "index", "own", "lines", "news", "kept", "expiring", "aside" } do
        link:call("ZADD", key_of(queue, name), "0", spoiled(("\0"):rep(15) .. "t" .. chance(6), chance))
      end
      scheduler:resume()
      eventually("those that are as they were end, seed " .. seed, function()
        for i = 7, 12 do
          local task = scheduler:get("t" .. i)
          if not task or task.status ~= "success" then return false end
        end
        return true
      end)
      for i = 1, 6 do scheduler:get("t" .. i) end
      assert(scheduler:list { limit = 100 })
      assert(scheduler:count {})
      scene.close()
    end
  end)
end)
