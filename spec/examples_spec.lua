-- Each example runs as a user would run it, and says what it should.
local ltsh = require "ltsh"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local function example(...)
  local result = run.ltsh { ... }
  assert.equal(0, result.code, result.stderr)
  return result.stdout
end

local function count(text, pattern) return select(2, text:gsub(pattern, "")) end

describe("examples/add.lua", function()
  for _, mode in ipairs { "callback", "poll", "both" } do
    it("adds ten times in mode " .. mode, function()
      local text = example("examples/add.lua", "--mode", mode)
      for i = 1, 10 do
        assert.matches(string.format("task %-2d success after %%d attempts?: %d\n", i, i + i * i), text)
      end
      assert.equal(2, count(text, ": bad luck, tried again\n"))
      assert.equal(4, count(text, ": timeout, tried again\n"))
      assert.matches("\n10 done, 0 failed, 6 retries, in mode " .. mode .. "\n$", text)
    end)
  end

  it("says how it is called", function()
    local result = run.ltsh { "examples/add.lua", "--mode", "none" }
    assert.equal(2, result.code)
    assert.matches("^usage:", result.stderr)
  end)
end)

describe("examples/priorities.lua", function()
  it("serves the kitchen's orders in their order", function()
    local text = example "examples/priorities.lua"
    local started = {}
    for id in text:gmatch "(%w+) +started" do started[#started + 1] = id end
    assert.same({ "allergy", "steak", "soup", "bread", "dessert" }, started)
    assert.matches("special  failed: expired\n", text)
    assert.equal(5, count(text, "success: served\n"))
  end)
end)

describe("examples/durable.lua", function()
  after_each(scene.close)

  it("goes on after it was killed, and does nothing twice", function()
    local path = scene.temporary ".db"
    local child = run.start { "examples/durable.lua", path }
    child:expect "invoice %d+ is sent"
    child:kill "sigkill"
    child:wait()
    local text = example("examples/durable.lua", path)
    assert.matches("^0 new, %d+ wait, %d+ were done before\n", text)
    assert.matches("\nall 40 are sent\n$", text)
    assert.matches("^0 new, 0 wait, 40 were done before\nall 40 are sent\n$", example("examples/durable.lua", path))
  end)
end)

describe("examples/sql_container.lua", function()
  after_each(scene.close)

  it("has tasks in a table with columns of its own, which outlive the host", function()
    local path = scene.temporary ".db"
    local script = [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = ltsh.container.load("examples/sql_container.lua", { path = arg[1] }),
        actuator = ltsh.actuator.func(function(task)
          if arg[2] == "hold" then print("runs " .. task.id) ltsh.sleep(100) end
          return "sent to " .. task.item.customer
        end),
      }
    ]]
    local child = run.start { "-e", script .. [[
      for i, name in ipairs { "Ada", "Bob", "Cid" } do
        assert(scheduler:add { id = "order " .. i, item = { customer = name } })
      end
      print "all are in"
      scheduler:run()
    ]], path, "hold" }
    child:expect "runs order 1"
    child:expect "all are in"
    child:kill "sigkill"
    child:wait()
    local text = example("-e", script .. "for task in scheduler:finished() do print(task.id, task.output) end", path)
    for i, name in ipairs { "Ada", "Bob", "Cid" } do
      assert.matches(string.format("order %d\tsent to %s\n", i, name), text, 1, true)
    end
    local db <close> = assert(ltsh.sqlite.open(path))
    assert.equal("success", db:value "select status from orders where customer = 'Bob'")
  end)
end)

describe("examples/lua_parts.lua", function()
  it("bakes with four parts in Lua", function()
    local text = example "examples/lua_parts.lua"
    for _, kind in ipairs { "rye", "wheat", "spelt", "oat" } do
      assert.matches(string.format("%-8s success: loaf %s/%%d+\n", kind, kind), text)
    end
    assert.matches("charcoal failed: it would burn\n", text)
    assert.matches("saved:   loaf rye/%d+\n", text)
  end)
end)

describe("examples/process.lua", function()
  it("compresses a folder", function()
    local folder = run.folder { one = ("one "):rep(5000), two = ("two "):rep(9000), [".three"] = "3" }
    local text = example("examples/process.lua", folder, folder .. "/out")
    assert.matches("one: 20000 %-> %d+ bytes\n", text)
    assert.matches("\n3 files compressed, 0 failed: 56001 %-> %d+ bytes\n$", text)
    local back = run.start({ "-dc", folder .. "/out/two.gz" }, { program = "/bin/gzip" }):wait()
    assert.equal(("two "):rep(9000), back.stdout)
    run.clean()
  end)

  it("says how it is called", function()
    local result = run.ltsh { "examples/process.lua" }
    assert.equal(2, result.code)
    assert.matches("^usage:", result.stderr)
  end)
end)

describe("examples/workers.lua", function()
  it("counts primes with one worker and with all", function()
    local text = example("examples/workers.lua", "2", "200000")
    assert.matches("1 worker:  17984 primes below 200000 in", text)
    assert.matches("2 workers: 17984 primes below 200000 in", text)
  end)
end)

describe("examples/hot_reload", function()
  it("greets as the file says, while that is edited", function()
    local folder = os.tmpname()
    os.remove(folder)
    os.execute("cp -r examples/hot_reload " .. folder)
    finally(function() os.execute("rm -r " .. folder) end)
    local child = run.start { "--watch", folder .. "/main.lua", "60" }
    child:expect "version 1%-%x+ says: hello, world\n"
    local function edit(text)
      local file = assert(io.open(folder .. "/greet.lua", "w"))
      file:write(text)
      file:close()
    end
    edit "return function(task) return 'good morning, ' .. task.item.name end"
    child:expect "version 2%-%x+ says: good morning, world\n"
    edit "return function(task"
    child:expect("greet.lua:1: ", "stderr")
    edit "return function(task) return 'bye, ' .. task.item.name end"
    child:expect "version 3%-%x+ says: bye, world\n"
    child:kill "sigkill"
    child:wait()
  end)
end)
