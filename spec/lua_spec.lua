-- What scripts know from lua(1), in the host: it behaves as it does there, and one may wait in it besides.

local ltsh = require "ltsh"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local open, door, eventually = scene.open, scene.door, scene.eventually

after_each(function()
  scene.close()
  run.clean()
end)

describe("require of a module that is being loaded", function()
  local names = {}

  -- Makes a module by a loader that is given how often it was called.
  local function preload(name, loader)
    local loads = 0
    names[#names + 1] = name
    package.preload[name] = function(...)
      loads = loads + 1
      return loader(loads, ...)
    end
    return function() return loads end
  end

  after_each(function()
    for _, name in ipairs(names) do
      package.preload[name], package.loaded[name] = nil, nil
    end
  end)

  it("waits for it, and gives all the same", function()
    local gate = door()
    local loads = preload("spec.waits", function(number)
      gate.pass()
      return { number = number }
    end)
    local jobs = {}
    for i = 1, 4 do jobs[i] = ltsh.spawn(require, "spec.waits") end
    eventually("it is being loaded", function() return gate.waiting > 0 end)
    gate.is_open = true
    local first = jobs[1]:wait()
    for i = 1, 4 do assert.equal(first, (jobs[i]:wait())) end
    assert.equal(1, first.number)
    assert.equal(1, loads())
  end)

  it("waits for one that computes", function()
    local loads = preload("spec.computes", function(number)
      for _ = 1, 3e6 do number = number + 0 end
      return { number = number }
    end)
    local scheduler = open(function() return require("spec.computes").number end, { limit = 3 })
    for i = 1, 3 do scheduler:add { id = "t" .. i } end
    for i = 1, 3 do assert.equal(1, scheduler:wait("t" .. i, 20).output) end
    assert.equal(1, loads())
  end)

  it("loads it again when the first one failed", function()
    local gate = door()
    preload("spec.fails", function(number)
      gate.pass()
      if number == 1 then error "not yet" end
      return { number = number }
    end)
    local first = ltsh.spawn(pcall, require, "spec.fails")
    local second = ltsh.spawn(require, "spec.fails")
    gate.is_open = true
    assert.is_false((first:wait()))
    assert.equal(2, second:wait().number)
  end)

  it("loads it again when the first one was ended", function()
    local gate = door()
    preload("spec.ended", function(number)
      if number == 1 then gate.pass() end
      return { number = number }
    end)
    local first = ltsh.spawn(require, "spec.ended")
    local second = ltsh.spawn(require, "spec.ended")
    first:cancel()
    assert.equal(2, second:wait().number)
  end)

  it("loads it again when the first one was left behind in a coroutine", function()
    preload("spec.abandoned", function(number)
      if number == 1 then coroutine.yield() end
      return { number = number }
    end)
    ltsh.spawn(function() coroutine.wrap(require)("spec.abandoned") end):wait()
    local second = ltsh.spawn(require, "spec.abandoned")
    local result
    ltsh.spawn(function() result = second:wait() end)
    eventually("it is loaded", function()
      collectgarbage()
      return result
    end)
    assert.equal(2, result.number)
  end)

  it("gives what the module has put into package.loaded itself", function()
    local gate = door()
    preload("spec.early", function()
      package.loaded["spec.early"] = "early"
      gate.pass()
    end)
    local first = ltsh.spawn(require, "spec.early")
    assert.equal("early", (require "spec.early"))
    gate.is_open = true
    assert.equal("early", (first:wait()))
  end)

  it("raises where two modules wait for each other", function()
    local gate = door()
    preload("spec.a", function()
      gate.pass()
      return { b = require "spec.b" }
    end)
    preload("spec.b", function()
      gate.pass()
      return { a = require "spec.a" }
    end)
    local a, b = ltsh.spawn(pcall, require, "spec.a"), ltsh.spawn(pcall, require, "spec.b")
    gate.is_open = true
    local _, message = b:wait()
    assert.matches("require: module 'spec.a' is being loaded, and waits itself for one that requires it", message)
    assert.is_false((a:wait())) -- as in lua(1), where such a require goes round until the stack is full
  end)

  it("raises where one cannot wait", function()
    local gate = door()
    preload("spec.held", function() gate.pass() end)
    local first = ltsh.spawn(require, "spec.held")
    local object = setmetatable({}, { __tostring = function() return select(2, pcall(require, "spec.held")) end })
    local message = tostring(object)
    assert.matches("require: module 'spec.held' is being loaded elsewhere, and nobody can wait for it here.*ltsh.spawn",
      message)
    gate.is_open = true
    first:wait()
  end)

  it("lets a loader require what it stands for", function()
    local loads = preload("spec.wrapped", function(number)
      if number == 2 then return { "inner" } end
      return { "outer", (require "spec.wrapped") }
    end)
    local module = require "spec.wrapped"
    assert.same({ "outer", { "inner" } }, module)
    assert.equal(2, loads())
  end)

  for _, isolate in ipairs { "thread", "process" } do
    it("waits in a worker, which is a " .. isolate, function()
      local folder = run.folder {
        ["slow.lua"] = "local ltsh = require 'ltsh' LOADS = (LOADS or 0) + 1 ltsh.sleep(0.01) return {}",
        ["tasks.lua"] = [[
          local ltsh = require "ltsh"
          package.path = debug.getinfo(1, "S").source:match "^@(.*/)" .. "?.lua;" .. package.path
          return function()
            local other = ltsh.spawn(require, "slow")
            return { require "slow" == (other:wait()), LOADS }
          end]],
      }
      local scheduler = open(ltsh.actuator.func { module = folder .. "/tasks.lua", workers = 1, isolate = isolate })
      assert.same({ true, 1 }, scheduler:wait(scheduler:add {}, 20).output)
    end)
  end
end)

describe("arg", function()
  it("has the interpreter below the script", function()
    local folder = run.folder { ["main.lua"] = "print(arg[-1], arg[0], arg[1], arg[-2])" }
    assert.equal(run.program .. "\tmain.lua\tx\tnil\n", run.ltsh({ "main.lua", "x" }, { cwd = folder }).stdout)
  end)
end)

-- Libraries of the distribution, each with something that it does: true.
local libraries = {
  lpeg = [[return library.match(library.C(library.R "az" ^ 1), "abc1") == "abc"]],
  cjson = [[return library.decode('{"a":[1,2]}').a[2] == 2 and not pcall(library.decode, "{")]],
  lfs = [[return library.attributes("/", "mode") == "directory"]],
  system = [[return library.gettime() > 0 and library.monotime() > 0]],
  socket = [[
    local server = assert(library.bind("127.0.0.1", 0))
    local address, port = server:getsockname()
    local client = assert(library.connect(address, port))
    local other = server:accept()
    client:send "hello\n"
    local line = other:receive()
    for _, one in ipairs { server, client, other } do one:close() end
    return line == "hello"]],
}

describe("a library in C", function()
  for name, use in pairs(libraries) do
    for place, options in pairs {
      ["in the host's state"] = {},
      ["in a thread"] = { workers = 2, isolate = "thread" },
      ["in a process"] = { workers = 2, isolate = "process" },
    } do
      it("works: " .. name .. " " .. place, function()
        if not (package.searchpath(name, package.path) or package.searchpath(name, package.cpath)) then
          pending(name .. " is not installed")
        end
        local module = ("local library = require %q return function() %s end"):format(name, use)
        options.module = run.folder { ["tasks.lua"] = module } .. "/tasks.lua"
        local scheduler = open(ltsh.actuator.func(options), { limit = 2 })
        for i = 1, 4 do scheduler:add { id = tostring(i) } end
        for i = 1, 4 do
          local task = scheduler:wait(tostring(i), 20)
          assert.same({ true }, { task.output or task.reason })
        end
      end)
    end
  end
end)
