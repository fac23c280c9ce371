--- What every built-in actuator does, whatever it runs. A kind says how:
---
---     { actuator = function() -> actuator, whose items may have `shell`, unless there is
---       saying = function(out, err, code) -> item     puts these out, and ends so
---       sleep = function() -> item                    runs on until it is ended
---       flaky = function(folder) -> item              fails while there is no file in it, and makes that
---       no_streams = true                             it puts out nothing while it runs, has no handle, and a failure
---                                                     has no output
---       ahead = bytes that may come while nobody takes them,
---       flood = function(bytes) -> item               puts out so many }
local ltsh = require "ltsh"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

-- For printf: each byte in octal.
local function escape(text)
  return (text:gsub(".", function(c) return string.format("\\%03o", c:byte()) end))
end

-- An item that says these, and ends so.
local function shell_saying(out, err, code)
  return { shell = string.format("printf '%s'; printf '%s' >&2; exit %d", escape(out), escape(err), code) }
end

return function(name, kind)
  local saying = kind.saying or shell_saying

  describe("the actuator of " .. name, function()
    after_each(scene.close)

    local function open(options)
      options = options or {}
      options.limit = options.limit or 4
      return scene.open(kind.actuator(), options)
    end

    local function runs(scheduler, id)
      local task = scheduler:get(id)
      return task.status == "running" and (kind.no_streams or task.handle ~= nil)
    end

    it("tells a success, with its output", function()
      local scheduler = open()
      scheduler:add { id = "a", item = saying("out\n", "err\n", 0) }
      local task = scheduler:wait "a"
      assert.same({ "success", 1, nil }, { task.status, task.attempts, task.reason })
      assert.same({ 0, "out\n", "err\n" }, { task.output.code, task.output.stdout, task.output.stderr })
    end)

    it("tells a failure, with its reason and its output", function()
      local scheduler = open()
      scheduler:add { id = "a", item = saying("out\n", "err\n", 3) }
      local task = scheduler:wait "a"
      assert.same({ "failed", "exit code 3: err" }, { task.status, task.reason })
      if kind.no_streams then return assert.is_nil(task.output) end
      assert.same({ 3, "out\n", "err\n" }, { task.output.code, task.output.stdout, task.output.stderr })
    end)

    it("is tried again after a failure", function()
      local folder = run.folder()
      local scheduler = open { max_retries = 2 }
      scheduler:add { id = "a", item = kind.flaky(folder) }
      local task = scheduler:wait "a"
      assert.same({ "success", 2 }, { task.status, task.attempts })
      assert.equal(2, #scheduler:history "a")
      run.clean()
    end)

    it("ends at its timeout", function()
      local scheduler = open { timeout = 0.3 }
      scheduler:add { id = "a", item = kind.sleep() }
      local task = scheduler:wait "a"
      assert.same({ "failed", "timeout" }, { task.status, task.reason })
    end)

    it("is stopped while it runs, and while it starts", function()
      local scheduler = open()
      scheduler:on("started", function(task)
        if task.id == "starts" then ltsh.spawn(scheduler.stop, scheduler, "starts", "enough") end
      end)
      scheduler:add { id = "runs", item = kind.sleep() }
      scheduler:add { id = "starts", item = kind.sleep() }
      scene.eventually("it runs", function() return runs(scheduler, "runs") end)
      assert.equal("enough", scheduler:stop("runs", "enough").reason)
      assert.equal("stopped", scheduler:get("runs").status)
      local task = scheduler:wait "starts"
      assert.same({ "stopped", "enough" }, { task.status, task.reason })
    end)

    it("has output of any bytes", function()
      local scheduler = open()
      scheduler:add { id = "bytes", item = saying("a\0b\255\r\n\nc", "", 0) }
      assert.equal("a\0b\255\r\n\nc", scheduler:wait("bytes").output.stdout)
    end)

    local it_streams = kind.no_streams and function() end or it

    it_streams("has no more output than it may", function()
      local scheduler = open()
      local item = saying(("0123456789"):rep(1000), "", 0)
      item.max_output = 100
      scheduler:add { id = "long", item = item }
      local text = scheduler:wait("long").output.stdout
      assert.matches("^" .. ("0123456789"):rep(5) .. "\n%[%.%.%. 9900 bytes left out %.%.%.%]\n", text)
      assert.equal(("0123456789"):rep(5), text:sub(-50))
    end)

    it("lets what runs come to its end when its scheduler is closed, and not for ever", function()
      local scheduler = open()
      scheduler:add { id = "ends", item = saying("out", "", 0) }
      scheduler:add { id = "stays", item = kind.sleep() }
      scene.eventually("both run", function()
        return runs(scheduler, "stays") and scheduler:get("ends").status ~= "waiting"
      end)
      scheduler:close { drain = 2 }
      local ends = {}
      for task in scheduler:finished() do ends[task.id] = task.status end
      assert.same({ ends = "success", stays = "stopped" }, ends)
    end)

    it_streams("waits while nobody takes its output, and loses nothing", function()
      local scheduler, heard, waiting, most = open(), 0, 0, 0
      scheduler:on("output", function(_, _, bytes)
        waiting = waiting + #bytes
        most = math.max(most, waiting)
        heard = heard + #bytes
        ltsh.sleep(0.001)
        waiting = waiting - #bytes
      end)
      scheduler:add { id = "a", item = kind.flood(20000000) }
      assert.equal("success", scheduler:wait("a").status)
      assert.equal(20000000, heard)
      assert.is_true(most <= kind.ahead)
    end)

    it_streams("goes on with other work while much is put out", function()
      local scheduler = open()
      local turns = 0
      local job = ltsh.spawn(function()
        while true do
          ltsh.sleep(0.005)
          turns = turns + 1
        end
      end)
      local bytes = 0
      scheduler:on("output", function(_, _, text) bytes = bytes + #text end)
      scheduler:add { id = "a", item = kind.flood(30000000) }
      assert.equal("success", scheduler:wait("a").status)
      job:cancel()
      assert.equal(30000000, bytes)
      assert.is_true(turns >= 3)
    end)
  end)
end
