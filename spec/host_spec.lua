-- The command: how scripts are run, what they may do, and how the process ends. Each test runs ltsh as a child process.

local ltsh = require "ltsh"
local run = require "spec.support.run"

-- What the scripts of the tests begin with: `new(fn, options)` makes a scheduler that runs fn.
local PREAMBLE = [[
local ltsh = require "ltsh"
local function new(fn, options)
  local all = { container = ltsh.container.queue {}, actuator = ltsh.actuator.func(fn) }
  for name, value in pairs(options or {}) do all[name] = value end
  return ltsh.scheduler(all)
end
local function say(...)
  print(...)
  io.stdout:flush()
end
]]

local LINES_OF_PREAMBLE = select(2, PREAMBLE:gsub("\n", ""))

local function script(code) return PREAMBLE .. code end

-- Runs code (with the preamble) to its end.
local function execute(code, options)
  return run.ltsh({ "-e", script(code) }, options)
end

local function start(code, options)
  return run.start({ "-e", script(code) }, options)
end

-- Runs code that has to end well and say nothing on standard error; returns what it printed.
local function output_of(code)
  local result = execute(code)
  assert.equal("", result.stderr)
  assert.equal(0, result.code)
  return result.stdout
end

local function contains(text, part)
  if not text:find(part, 1, true) then error(string.format("expected %q in: %s", part, text), 2) end
end

local function lacks(text, part)
  if text:find(part, 1, true) then error(string.format("did not expect %q in: %s", part, text), 2) end
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines
end

after_each(run.clean)

describe("the command line", function()
  local show_arg = [[
    print(arg[0], #arg, select("#", ...))
    for i = 1, #arg do print(i, "[" .. arg[i] .. "]", arg[i] == select(i, ...)) end]]

  it("gives a script its arguments", function()
    local folder = run.folder { ["main.lua"] = show_arg }
    local result = run.ltsh({ "main.lua", "a", "b c", "", "--check", "-e" }, { cwd = folder })
    assert.equal("", result.stderr)
    local expected = { "main.lua\t5\t5" }
    for i, argument in ipairs { "a", "b c", "", "--check", "-e" } do
      expected[i + 1] = ("%d\t[%s]\ttrue"):format(i, argument)
    end
    assert.same(expected, lines_of(result.stdout))
  end)

  it("ends the options at --", function()
    local folder = run.folder { ["-x.lua"] = show_arg }
    local result = run.ltsh({ "--", "-x.lua", "a" }, { cwd = folder })
    assert.same({ "-x.lua\t1\t1", "1\t[a]\ttrue" }, lines_of(result.stdout))
  end)

  it("runs code with -e", function()
    local result = run.ltsh { "-e", "print(#arg, ...)", "a", "b" }
    assert.equal("2\ta\tb\n", result.stdout)
    assert.equal(0, result.code)
  end)

  it("runs standard input", function()
    local result = run.ltsh({ "-", "a" }, { stdin = show_arg })
    assert.same({ "-\t1\t1", "1\t[a]\ttrue" }, lines_of(result.stdout))
  end)

  it("finds modules beside the script", function()
    local folder = run.folder { ["main.lua"] = "print(require('other'))", ["other.lua"] = "return 'found'" }
    local result = run.ltsh { folder .. "/main.lua" }
    assert.equal("", result.stderr)
    assert.equal("found", result.stdout:match "%w+")
  end)

  it("ignores a first line that begins with #", function()
    local folder = run.folder { ["main.lua"] = "#!/usr/bin/env ltsh\nprint(1)" }
    assert.equal("1\n", run.ltsh({ folder .. "/main.lua" }).stdout)
  end)

  for _, help in ipairs { "-h", "--help" } do
    it("explains itself with " .. help, function()
      local result = run.ltsh { help }
      assert.equal(0, result.code)
      assert.equal("", result.stderr)
      contains(result.stdout, "usage: ltsh")
      for _, option in ipairs { "-e CODE", "--check", "--progress", "--log-level", "--log-format" } do
        contains(result.stdout, option)
      end
    end)
  end

  it("takes the options that it explains", function()
    local values = { ["log-level"] = "=info", ["log-format"] = "=text" }
    for name in run.ltsh({ "--help" }).stdout:gmatch "%-%-(%a[%a-]*)" do
      local result = run.ltsh({ "--" .. name .. (values[name] or ""), "-" }, { stdin = "" })
      assert.equal(name .. " 0", name .. " " .. result.code)
    end
  end)

  for _, option in ipairs { "-v", "--version" } do
    it("tells its version with " .. option, function()
      local result = run.ltsh { option }
      assert.equal(0, result.code)
      assert.equal("ltsh " .. ltsh.version .. "\n", result.stdout)
    end)
  end

  local wrong = {
    { { "--nope", "x.lua" }, "--nope" },
    { { "-x", "x.lua" }, "-x" },
    { { "-px", "x.lua" }, "-px" },
    { { "-xp", "x.lua" }, "-x" },
    { { "--check=5", "x.lua" }, "--check=5" },
    { {}, "which script" },
    { { "--progress" }, "which script" },
    { { "--log-level", "loud", "x.lua" }, "got 'loud'" },
    { { "--log-format=xml", "x.lua" }, "got 'xml'" },
    { { "--log-level" }, "--log-level" },
    { { "-p", "-l" }, "-l" },
    { { "-e" }, "-e" },
    { { "-e", "print(1)", "-e", "print(2)" }, "-e can be given once" },
  }
  for _, case in ipairs(wrong) do
    it("is refused: ltsh " .. table.concat(case[1], " "), function()
      local result = run.ltsh(case[1])
      assert.equal(2, result.code)
      assert.equal("", result.stdout)
      contains(result.stderr, case[2])
      contains(result.stderr, "--help")
    end)
  end

  it("reports a script that does not exist", function()
    local result = run.ltsh { "/nowhere/none.lua" }
    assert.equal(1, result.code)
    contains(result.stderr, "/nowhere/none.lua")
    contains(result.stderr, "No such file")
  end)

  it("reports a folder in the place of a script", function()
    local result = run.ltsh { run.folder() }
    assert.equal(1, result.code)
    contains(result.stderr, "ltsh: cannot read")
  end)

  it("reports a syntax error with file and line", function()
    local folder = run.folder { ["main.lua"] = "print(1)\nlocal = 5\n" }
    local result = run.ltsh({ "main.lua" }, { cwd = folder })
    assert.equal(1, result.code)
    assert.equal("", result.stdout)
    contains(result.stderr, "main.lua:2:")
    contains(run.ltsh({ "-e", "print(1" }).stderr, "-e:1:")
    contains(run.ltsh({ "-" }, { stdin = "\n\nprint(1" }).stderr, "stdin:3:")
  end)
end)

describe("a precompiled file", function()
  it("is refused as a module, by its name, wherever it is loaded", function()
    local folder = run.folder {
      ["script.lua"] = [[
        local ltsh = require "ltsh"
        print(select(2, pcall(require, "other")))
        print(select(2, pcall(ltsh.actuator.load, "other.lua")))
        print(select(2, pcall(ltsh.actuator.func, { module = "other.lua", workers = 1 })))
      ]],
      ["other.lua"] = string.dump(load "return { run = print, start = print, stop = print }"),
    }
    local result = run.ltsh({ "script.lua" }, { cwd = folder })
    local _, refused = result.stdout:gsub("other%.lua: a precompiled %(binary%) file; give the source", "")
    assert.equal(3, refused, result.stdout .. result.stderr)
    contains(result.stdout, "require: module 'other': ./other.lua: a precompiled")
  end)
end)

describe("a file that begins with a byte order mark or #", function()
  local BOM = "\xEF\xBB\xBF"
  local heads = { ["a mark"] = BOM, ["a line for the shell"] = "#!/usr/bin/env ltsh\n",
    ["both"] = BOM .. "#!/usr/bin/env ltsh\n", ["both, and carriage returns"] = BOM .. "#!/usr/bin/env ltsh\r\n" }

  for what, head in pairs(heads) do
    it("is a script, a required file, and passes --check: " .. what, function()
      local folder = run.folder {
        ["script.lua"] = head .. "print(require('other'), ...)",
        ["other.lua"] = head .. "return 'required'",
        ["broken.lua"] = head .. "local = 1",
      }
      assert.equal("required\tx\n", run.ltsh({ "script.lua", "x" }, { cwd = folder }).stdout)
      local result = run.ltsh({ "-", "x" }, { cwd = folder, stdin = head .. "print(...)" })
      assert.equal("x\n", result.stdout)
      result = run.ltsh({ "--check", "script.lua" }, { cwd = folder })
      assert.same({ 0, "script.lua: ok (it names no module files)\n" }, { result.code, result.stdout })
      local line = select(2, head:gsub("\n", "")) + 1
      contains(run.ltsh({ "--check", "broken.lua" }, { cwd = folder }).stderr, "broken.lua:" .. line .. ":")
      contains(run.ltsh({ "broken.lua" }, { cwd = folder }).stderr, "broken.lua:" .. line .. ":")
    end)

    it("is a module file, also anew: " .. what, function()
      local folder = run.folder {
        ["tasks.lua"] = head .. "return function() return 1 end",
        ["actuator.lua"] = head .. "return { start = function() return true end, stop = function() return true end, "
          .. "status = function(_, t) return { { status = 'success' } } end }",
        ["script.lua"] = script [[
          local head = ...
          local function put(text) local f <close> = io.open("tasks.lua", "w") f:write(head, text) end
          local function try(actuator)
            local s = ltsh.scheduler { container = ltsh.container.queue {}, actuator = actuator, poll_interval = 0.01 }
            return s, s:wait(s:add {})
          end
          local list = {}
          for i, options in ipairs { {}, { workers = 1 }, { workers = 1, isolate = "process" } } do
            options.module = "tasks.lua"
            local s, task = try(ltsh.actuator.func(options))
            list[i] = s
            say(task.output)
          end
          say(select(2, try(ltsh.actuator.load "actuator.lua")).status)
          put "return function() return 2 end"
          say(#ltsh.reload().changed)
          for _, s in ipairs(list) do say(s:wait(s:add {}).output) end
          put "return function("
          local failed = ltsh.reload().failed["tasks.lua"]
          say(failed:match "tasks.lua:(%d+):")]],
      }
      local line = select(2, head:gsub("\n", "")) + 1
      local result = run.ltsh({ "script.lua", head }, { cwd = folder })
      assert.equal("1\n1\n1\nsuccess\n3\n2\n2\n2\n" .. line .. "\n", result.stdout)
      result = run.ltsh({ "--check", "-e", "require('ltsh').actuator.func { module = 'tasks.lua' }" }, { cwd = folder })
      contains(result.stderr, "tasks.lua:" .. line .. ":")
    end)
  end
end)

describe("the log", function()
  local code = [[
    local log = require "ltsh".log
    log.debug("the first", { n = 1 })
    log.info("the second", { text = "two words" })
    log.warn("the third", { flag = true })
    log.error("the fourth", { half = 0.5 })]]

  local function messages(...)
    local options = { ... }
    table.insert(options, "-e")
    table.insert(options, code)
    local result = run.ltsh(options)
    assert.equal(0, result.code)
    assert.equal("", result.stdout)
    local found = {}
    for word in result.stderr:gmatch "the (%w+)" do found[#found + 1] = word end
    return found
  end

  it("shows what is at least of the level, info without one", function()
    assert.same({ "second", "third", "fourth" }, messages())
    for i, level in ipairs { "debug", "info", "warn", "error" } do
      local expected = { table.unpack({ "first", "second", "third", "fourth" }, i) }
      assert.same(expected, messages("--log-level", level))
      assert.same(expected, messages("-l" .. level))
    end
  end)

  it("is a line of text with its fields", function()
    local result = run.ltsh { "--log-level=debug", "-e", code }
    local lines = lines_of(result.stderr)
    assert.equal(4, #lines)
    assert.matches("^%d+-%d+-%d+T%d+:%d+:%d+%.%d+Z DEBUG the first  n=1$", lines[1])
    assert.matches(" INFO  the second  text=\"two words\"$", lines[2])
    assert.matches(" WARN  the third  flag=true$", lines[3])
    assert.matches(" ERROR the fourth  half=0.5$", lines[4])
  end)

  it("is an object a line with --log-format json, whatever is in it", function()
    local result = run.ltsh { "--log-format", "json", "-e", [[
      local ltsh = require "ltsh"
      ltsh.log.info("plain", { text = "a \"b\"\n\t\27[31m", bytes = "\xff\0\x01", n = 5, half = 0.5, flag = false })
      ltsh.log.error("names", { level = "mine", message = "mine", ["a b"] = 1 })
      ltsh.log.warn("table", { t = {} })
      local s = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() local x = nil; return x.y end),
      }
      s:add { id = "bad\u{e9}" }
      ltsh.spawn(error, "in\na job")
      require "luv".new_timer():start(0, 0, function() error "in luv" end)
      for task in s:finished() do end]] }
    local records = {}
    for _, line in ipairs(lines_of(result.stderr)) do
      local record = assert(ltsh.json.decode(line))
      assert.matches("^%d+-%d+-%d+T%d+:%d+:%d+%.%d+Z$", record.time)
      records[record.message] = record
    end
    assert.equal(0, result.code)
    assert.same({ "a \"b\"\n\t\27[31m", 5, 0.5, false, "info" },
      { records.plain.text, records.plain.n, records.plain.half, records.plain.flag, records.plain.level })
    assert.same({ "error", 1 }, { records.names.level, records.names["a b"] })
    assert.equal("warn", records.table.level)
    assert.equal("bad\u{e9}", records["a task raised an error"].task)
    contains(records["a task raised an error"].traceback, "stack traceback")
    assert.equal("in\na job", records["a job raised an error"].error)
    contains(records["a callback of luv raised an error"].traceback, "in luv")
  end)

  it("has no colours on a pipe", function()
    for _, options in ipairs { { "-ldebug" }, { "-ldebug", "-p" }, { "-ldebug", "--log-format=json" } } do
      table.insert(options, "-e")
      table.insert(options, script [[
        ltsh.log.debug "a" ltsh.log.info "b" ltsh.log.warn "c" ltsh.log.error "d"
        local s = new(function(task) error "failed" end)
        s:add {}
        for task in s:finished() do say(task.status) end
        error "over"]])
      local result = run.ltsh(options, { env = { TERM = "xterm-256color", NO_COLOR = false } })
      assert.equal("failed\n", result.stdout)
      lacks(result.stdout .. result.stderr, "\27")
    end
  end)
end)

describe("an error in the script", function()
  it("ends it with status 1, the message and a traceback", function()
    local folder = run.folder { ["main.lua"] = "local function inner() error 'no luck' end\ninner()" }
    local result = run.ltsh({ "main.lua" }, { cwd = folder })
    assert.equal(1, result.code)
    assert.equal("", result.stdout)
    assert.matches("^ltsh: main%.lua:1: no luck\nstack traceback:\n", result.stderr)
    contains(result.stderr, "main.lua:2: in main chunk")
  end)

  it("may be any value", function()
    for code, text in pairs {
      ["error()"] = "nil",
      ["error(nil)"] = "nil",
      ["error(5)"] = "5",
      ["error({ reason = 'of a table' })"] = "of a table",
      ["error({})"] = "table",
      ["error(true)"] = "true",
      ["error(setmetatable({}, { __tostring = function() return 'in its words' end }))"] = "in its words",
      ["error(setmetatable({}, { __tostring = function() error 'worse' end }))"] = "",
      ["error(setmetatable({}, { __tostring = function() return 5 end }))"] = "",
      ["debug.setmetatable(print, { __tostring = function() error 'worse' end }) error(print)"] = "",
      ["local t = nil; t.x = 1"] = "local 't'",
      ["local function f() return 1 + f() end f()"] = "stack overflow",
      ["coroutine.yield(1)"] = "outside a coroutine",
      ["coroutine.wrap(function() error 'in a coroutine' end)()"] = "in a coroutine",
    } do
      local result = run.ltsh { "-e", code }
      assert.equal("1 of " .. code, result.code .. " of " .. code)
      assert.matches("\nltsh: ", "\n" .. result.stderr) -- the watchdog may have said something before
      contains(result.stderr, text)
    end
  end)

  it("does not lose what was printed before", function()
    local result = run.ltsh { "-e", "io.write 'before' error 'x'" }
    assert.equal("before", result.stdout)
    assert.equal(1, result.code)
  end)

  it("lets running tasks end, and starts none", function()
    local result = execute [[
      local s = new(function(task) ltsh.sleep(0.05) return task.id end, { limit = 2 })
      s:on("finished", function(task) say(task.id, task.status, task.reason) end)
      for i = 1, 4 do s:add { id = tostring(i) } end
      while s:count { status = "running" } < 2 do ltsh.sleep(0) end
      error "in the middle"]]
    contains(result.stderr, "in the middle")
    contains(result.stderr, "stack traceback")
    assert.equal(1, result.code)
    local lines = lines_of(result.stdout)
    assert.equal("1\tsuccess\tnil", lines[1])
    assert.equal("2\tsuccess\tnil", lines[2])
    table.sort(lines)
    assert.same({ "3\tstopped\tshutdown", "4\tstopped\tshutdown" }, { table.unpack(lines, 3) })
  end)

  it("stops what does not end within shutdown_grace", function()
    local result = execute [[
      local s = new(function(task) ltsh.sleep(3600) end, { shutdown_grace = 0.05 })
      s:on("started", function() say "started" end)
      s:on("finished", function(task) say(task.id, task.status, task.reason) end)
      s:add { id = "long" }
      error "at once"]]
    assert.equal(1, result.code)
    contains(result.stdout, "long\tstopped\tshutdown")
  end)

  it("ends what still waits, with status 1", function()
    for _, waits in ipairs {
      "ltsh.spawn(function() ltsh.sleep(3600) end)",
      "require('luv').new_timer():start(3600000, 0, function() end)",
      "ltsh.spawn(function() s:run() end)",
    } do
      local result = execute("local s = new(function() end) " .. waits .. " error 'x'", { limit = 10 })
      assert.equal(1, result.code)
    end
  end)

  it("after all tasks have ended is like any other", function()
    local result = execute [[
      local s = new(function(task) return 1 end)
      s:add {}
      for task in s:finished() do say(task.status) end
      error "late"]]
    assert.equal("success\n", result.stdout)
    contains(result.stderr, "late")
    assert.equal(1, result.code)
  end)

  it("in a job, a handler or a task does not end it", function()
    local result = execute [[
      local s = new(function(task) error "task" end)
      s:on("finished", function(task) error "handler" end)
      ltsh.spawn(function() ltsh.sleep(0) error "job" end)
      s:add {}
      for task in s:finished() do say(task.status, task.reason) end
      ltsh.sleep(0.01)
      say "the end"]]
    assert.equal("failed\ttask\nthe end\n", result.stdout)
    contains(result.stderr, "a job raised an error")
    contains(result.stderr, "an event handler raised an error")
    assert.equal(0, result.code)
  end)
end)

describe("os.exit", function()
  it("sets the exit status", function()
    for code, status in pairs {
      ["os.exit()"] = 0, ["os.exit(true)"] = 0, ["os.exit(false)"] = 1, ["os.exit(7)"] = 7, ["os.exit(0)"] = 0,
      ["os.exit(3, true)"] = 3, ["pcall(os.exit, 4)"] = 4,
      ["coroutine.wrap(function() os.exit(5) end)()"] = 5,
      ["local ltsh = require 'ltsh' ltsh.spawn(function() os.exit(6) end) ltsh.sleep(60)"] = 6,
      ["local ltsh = require 'ltsh' ltsh.spawn(function() ltsh.sleep(0) os.exit(8) end) ltsh.sleep(60)"] = 8,
    } do
      local result = run.ltsh { "-e", code .. " print 'not reached'" }
      assert.equal(status, result.code)
      assert.equal("", result.stderr)
      if not code:find "spawn" then assert.equal("", result.stdout) end
    end
  end)

  it("closes everything first", function()
    local result = execute [[
      local s = new(function(task)
        local _ <close> = setmetatable({}, { __close = function() say "the task is closed" end })
        ltsh.sleep(3600)
      end)
      s:on("finished", function(task) say(task.id, task.status, task.reason) end)
      s:on("started", function() os.exit(3) end)
      s:add { id = "a" }
      s:wait("a")]]
    assert.equal("", result.stderr)
    assert.equal("the task is closed\na\tstopped\tshutdown\n", result.stdout)
    assert.equal(3, result.code)
  end)

  it("does not wait for shutdown_grace", function()
    local result = execute([[
      local s = new(function(task) ltsh.sleep(3600) end, { shutdown_grace = 3600 })
      s:on("started", function() ltsh.spawn(os.exit, 3) end)
      s:add {}
      s:run()]], { limit = 20 })
    assert.equal(3, result.code)
  end)

  it("in a task fails the task, and the host goes on", function()
    local result = execute [[
      local s = new(function(task) os.exit(5) end)
      s:add { id = "a" }
      s:add { id = "b" }
      for task in s:finished() do say(task.id, task.status, task.reason) end]]
    assert.equal(0, result.code)
    assert.matches("^a\tfailed\t.-os%.exit: .-\nb\tfailed\t.-os%.exit: .-\n$", result.stdout)
  end)

  it("in what a task or a module has begun does not end the host", function()
    local folder = run.folder { ["exits.lua"] = "os.exit(5)" }
    local result = execute([[
      local message = "os.exit: a task or a module cannot end the host"
      local s = new(function(task)
        if task.id == "job" then return select(2, ltsh.spawn(os.exit, 5):wait()) end
        return select(2, ltsh.spawn(function() return ltsh.spawn(os.exit, 5):wait() end):wait())
      end)
      for _, id in ipairs { "job", "job of a job" } do
        s:add { id = id }
        say(id, s:wait(id).output)
      end
      for _, load in ipairs { ltsh.actuator.load, ltsh.container.load, ltsh.persister.load, ltsh.callback.load } do
        say(pcall(load, "exits.lua"))
      end
      say(pcall(ltsh.actuator.func, { module = "exits.lua" }))
      os.exit(3)]], { cwd = folder })
    local message = "os.exit: a task or a module cannot end the host\n"
    assert.equal("job\t" .. message .. "job of a job\t" .. message .. ("false\texits.lua:1: " .. message):rep(5),
      result.stdout)
    assert.equal(3, result.code)
  end)
end)

describe("ltsh.await", function()
  it("returns at once what could not begin", function()
    local results = table.pack(ltsh.await(function() return nil, "ENOENT: no such file", "ENOENT" end))
    assert.same({ n = 3, nil, "ENOENT: no such file", "ENOENT" }, results)
  end)
end)

describe("the end of the process", function()
  it("comes by itself", function()
    assert.equal("", output_of "")
    assert.equal("", output_of "new(function() end)")
    assert.equal("", output_of "new(function() end):pause()")
    assert.equal("", output_of "require('luv').new_timer()")
    assert.equal("", output_of "ltsh.spawn(function() coroutine.wrap(function() ltsh.sleep(0) end)() end)")
    assert.equal("", output_of "ltsh.spawn(function() ltsh.await(function() end) end)") -- a job is not waited for
    assert.equal("2\n", output_of [[
      local s = new(function(task) return task.item + 1 end)
      s:add { item = 1 }
      for task in s:finished() do say(task.output) end]])
  end)

  it("waits for jobs that sleep and for handles of luv", function()
    assert.equal("job\n", output_of [[ltsh.spawn(function() ltsh.sleep(0.02) say "job" end)]])
    assert.equal("timer\n", output_of [[require("luv").new_timer():start(20, 0, function() say "timer" end)]])
    assert.equal("", output_of [[
      local timer = require("luv").new_timer()
      timer:start(3600000, 0, function() end)
      timer:unref()]])
  end)

  it("has status 0 whatever became of the tasks", function()
    assert.equal("failed\nfailed\n", output_of [[
      local s = new(function(task) return nil, "no" end)
      s:add {}
      s:add {}
      for task in s:finished() do say(task.status) end]])
  end)

  it("is not before the tasks of a scheduler that nobody refers to have ended", function()
    local lines = lines_of(output_of [[
      do
        local s = new(function(task)
          for _ = 1, 5 do
            ltsh.sleep(0.005)
            collectgarbage()
          end
          say(task.id)
        end)
        for i = 1, 4 do s:add { id = tostring(i) } end
      end
      collectgarbage()
      collectgarbage()
      say "the script has ended"]])
    assert.same({ "the script has ended", "1", "2", "3", "4" }, lines)
  end)

  it("is not before delayed tasks and retries", function()
    assert.equal("delayed\nfailed\t2\n", output_of [[
      local s = new(function(task) if task.item then say(task.item) else return nil, "again" end end,
        { max_retries = 1, backoff = 0.02 })
      s:add { item = "delayed", delay = 0.02 }
      s:wait(s:add { id = "x" })
      ltsh.sleep(0.03)
      say(s:get("x").status, s:get("x").attempts)]])
  end)

  it("is not while a paused scheduler has tasks", function()
    -- The timer holds nothing: it could not print if the process ended.
    local child = start [[
      local s = new(function(task) say(task.id) end)
      s:pause()
      s:add { id = "a" }
      s:add { id = "b" }
      local timer = require "luv".new_timer()
      timer:start(50, 0, function() say "still here" s:resume() end)
      timer:unref()]]
    child:expect "still here"
    local result = child:wait()
    assert.equal("still here\na\nb\n", result.stdout)
    assert.equal(0, result.code)
  end)

  it("is not while scheduler:run() waits", function()
    local child = start [[
      local s = new(function(task) end)
      local timer = require "luv".new_timer()
      timer:start(50, 0, function() ltsh.spawn(function() say "still here" s:close() end) end)
      timer:unref()
      say(s:run())]]
    assert.equal("still here\ntrue\n", child:wait().stdout)
  end)

  it("comes with status 1 when the script waits for what can never come", function()
    local result = execute "local function forever() ltsh.await(function(done) end) end forever()"
    assert.equal(1, result.code)
    assert.matches("^ltsh: the script waits for something that cannot come any more\nstack traceback:\n", result.stderr)
    contains(result.stderr, "-e:" .. LINES_OF_PREAMBLE + 1 .. ": in ")
  end)

  it("closes variables and collects garbage", function()
    local result = execute [[
      local s = new(function() ltsh.sleep(0.01) end)
      setmetatable({}, { __gc = function() say "collected" end })
      local _ <close> = setmetatable({}, { __close = function() say "closed" end })
      s:add {}
      s:wait(s:add {})]]
    assert.equal("", result.stderr)
    assert.equal("closed\ncollected\n", result.stdout)
  end)

  it("waits for handles of luv that are being closed", function()
    for last, code in pairs { [""] = 0, ["os.exit(3)"] = 3, ["error 'x'"] = 1 } do
      local result = execute([[
        local uv = require "luv"
        local timer = uv.new_timer()
        timer:start(1, 0, function() end)
        ltsh.sleep(0.01)
        timer:close(function() say "closed" end)
        uv.new_pipe():close() ]] .. last)
      assert.equal(code, result.code)
      assert.equal("closed\n", result.stdout)
    end
  end)

  it("stands a handle of luv that is closed at the very end", function()
    local result = execute [[
      ltsh.spawn(function()
        local timer = require "luv".new_timer()
        local _ <close> = setmetatable({}, { __close = function() timer:close(function() end) end })
        ltsh.await(function() end)
      end)]]
    assert.equal("", result.stderr)
    assert.equal(0, result.code)
    assert.equal(0, result.signal)
  end)
end)

describe("a signal", function()
  local numbers = { sigint = 2, sigterm = 15 }

  for name, number in pairs(numbers) do
    it("drains the schedulers: " .. name, function()
      local child = start [[
        local s = new(function(task)
          say("running", task.id)
          ltsh.sleep(task.item)
          say("done", task.id)
        end, { limit = 2, shutdown_grace = 0.3 })
        s:on("finished", function(task) say(task.id, task.status, task.reason) end)
        s:add { id = "short", item = 0.1 }
        s:add { id = "long", item = 3600 }
        s:add { id = "waiting", item = 0 }
        while s:stats().running < 2 do ltsh.sleep(0) end
        say "ready"
        local n = 0
        for task in s:finished() do n = n + 1 end
        say(n, s:add {})]]
      child:expect "ready"
      child:kill(name)
      local result = child:wait()
      assert.equal(128 + number, result.code)
      assert.equal(0, result.signal)
      contains(result.stderr, name:upper())
      contains(result.stdout, "done\tshort\nshort\tsuccess\tnil\n")
      contains(result.stdout, "long\tstopped\tshutdown\n")
      contains(result.stdout, "waiting\tstopped\tshutdown\n")
      contains(result.stdout, "3\tnil\tthe scheduler is closed")
      lacks(result.stdout, "running\twaiting")
      lacks(result.stdout, "done\tlong")
    end)
  end

  it("is heard while a thread executes a program", function()
    local module = os.tmpname()
    local file = assert(io.open(module, "w"))
    file:write "return function() return os.execute 'sleep 0.3' end"
    file:close()
    local child = start("local module = '" .. module .. "'\n" .. [[
      local s = ltsh.scheduler {
        container = ltsh.container.queue {},
        actuator = ltsh.actuator.func { module = module, workers = 1 },
        shutdown_grace = 5,
      }
      s:on("started", function()
        ltsh.sleep(0.1)
        say "ready"
      end)
      for i = 1, 10 do s:add { id = tostring(i) } end
      local ended = {}
      for task in s:finished() do ended[task.status] = (ended[task.status] or 0) + 1 end
      say(ended.success < 5, ended.success + ended.stopped)]])
    child:expect "ready"
    child:kill "sigint"
    local result = child:wait()
    os.remove(module)
    assert.equal("true\t10\n", result.stdout:match "([^\n]*\n)$")
    assert.equal(128 + 2, result.code)
  end)

  it("is heard though whoever started the host had it blocked", function()
    local child = run.start({
      "--block-signal=TERM", run.program, "-e", "print 'ready' require('ltsh').sleep(3600)",
    }, { program = run.find "env" })
    child:expect "ready"
    child:kill "sigterm"
    assert.equal(128 + 15, child:wait().code)
  end)

  it("the second time stops at once", function()
    local child = start [[
      local s = new(function(task) say "ready" ltsh.sleep(3600) end, { shutdown_grace = 3600 })
      s:on("finished", function(task) say(task.id, task.status, task.reason) end)
      s:add { id = "long" }
      s:run()]]
    child:expect "ready"
    child:kill "sigterm"
    child:expect("SIGTERM", "stderr")
    child:kill "sigint"
    local result = child:wait()
    assert.equal(128 + 15, result.code)
    contains(result.stderr, "SIGINT")
    assert.equal("ready\nlong\tstopped\tshutdown\n", result.stdout)
  end)

  it("ends a script that has no scheduler", function()
    local child = start [[say "ready" ltsh.sleep(3600)]]
    child:expect "ready"
    child:kill "sigterm"
    assert.equal(128 + 15, child:wait().code)
  end)

  it("ends a service", function()
    local child = start [[
      local s = new(function(task) end)
      local _ <close> = setmetatable({}, { __close = function() say "closed" end })
      say "ready"
      say(s:run())]]
    child:expect "ready"
    child:kill "sigint"
    local result = child:wait()
    assert.equal("ready\ntrue\nclosed\n", result.stdout)
    assert.equal(128 + 2, result.code)
  end)

  it("lets the script go on after its schedulers, and handlers see the last ends", function()
    local child = start [[
      local s = new(function(task) say "ready" ltsh.sleep(0.05) end)
      s:on("finished", function(task) say("handled", task.status) end)
      s:add {}
      s:run()
      say "after"]]
    child:expect "ready"
    child:kill "sigterm"
    local result = child:wait()
    assert.equal("ready\nhandled\tsuccess\nafter\n", result.stdout)
    assert.equal(128 + 15, result.code)
  end)

  it("lets a handler that waits come to its end within the grace, but no longer", function()
    local child = start [[
      local s = new(function(task) say "ready" ltsh.sleep(0.05) end, { shutdown_grace = 0.3 })
      s:on("finished", function(task)
        ltsh.sleep(0.02)
        say("handled", task.status)
        ltsh.sleep(3600)
      end)
      s:add {}
      s:run()]]
    child:expect "ready"
    child:kill "sigterm"
    local result = child:wait()
    assert.equal("ready\nhandled\tsuccess\n", result.stdout)
    assert.equal(128 + 15, result.code)
  end)

  it("ends whatever still waits when the schedulers are closed", function()
    for _, waits in ipairs {
      "ltsh.sleep(3600)",
      "pcall(ltsh.sleep, 3600)",
      "ltsh.await(function() end)",
      "ltsh.spawn(function() ltsh.sleep(3600) end) s:run()",
      "require('luv').new_timer():start(3600000, 0, function() end) s:run()",
      "s:on('finished', function() ltsh.sleep(3600) end) s:add {} s:run()",
    } do
      local child = start([[
        local s = new(function(task) ltsh.sleep(3600) end, { shutdown_grace = 0.05 })
        s:add {}
        ltsh.spawn(function() ltsh.sleep(0.02) say "ready" end) ]] .. waits, { limit = 10 })
      child:expect "ready"
      child:kill "sigterm"
      assert.equal(128 + 15, child:wait().code)
    end
  end)

  it("stops a task that takes no notice", function()
    local child = start [[
      local s = new(function(task)
        say "ready"
        while true do pcall(ltsh.sleep, 1) end
      end, { shutdown_grace = 0.05 })
      s:on("finished", function(task) say(task.status, task.reason) end)
      s:add {}
      s:run()]]
    child:expect "ready"
    child:kill "sigterm"
    assert.equal("ready\nstopped\tshutdown\n", child:wait().stdout)
  end)

  it("does not count as a failed attempt, nor is a retry begun", function()
    local child = start [[
      local s = new(function(task)
        say "running"
        ltsh.sleep(0.05)
        return nil, "failed"
      end, { shutdown_grace = 3600, max_retries = 5 })
      s:add { id = "a" }
      local task = s:wait "a"
      say(task.status, task.reason)]]
    child:expect "running"
    child:kill "sigterm"
    assert.equal("running\nstopped\tshutdown\n", child:wait().stdout)
  end)
end)

describe("a second signal", function()
  -- What holds up the loop, in a task and in the script itself: nothing in it can be interrupted.
  local blocks = {
    ["a pattern"] = [[local _ = (("a"):rep(400)):find(("a-"):rep(30) .. "b")]],
    ["a sleep of libuv"] = [[require("luv").sleep(60000)]],
    ["a file that is opened"] = [[io.open(os.getenv "FIFO"):close()]],
    ["Lua that is called by C"] = [[table.sort({ 1, 2 }, function() require("luv").sleep(60000) end)]],
  }
  local places = {
    ["the script"] = "say 'ready' %s",
    ["a task"] = "local s = new(function() say 'ready' %s end) s:add {} s:run()",
    ["a job"] = "ltsh.spawn(function() say 'ready' %s end) ltsh.sleep(60)",
  }

  local function fifo()
    local path = run.folder {} .. "/fifo"
    assert(os.execute("mkfifo " .. path))
    return path
  end

  for what, code in pairs(blocks) do
    for where, form in pairs(places) do
      it("ends the process also where C runs: " .. what .. " in " .. where, function()
        local child = start(form:format(code), { limit = 10, env = { FIFO = fifo() } })
        child:expect "ready"
        child:kill "sigint"
        child:kill "sigterm"
        assert.equal(128 + 2, child:wait().code)
      end)
    end
  end

  it("ends it where C runs only since the first one", function()
    local child = start([[
      local s = new(function() ltsh.sleep(0.2) say "blocked" require("luv").sleep(60000) end, { shutdown_grace = 60 })
      s:on("started", function() say "ready" end)
      s:add {}
      s:run()]], { limit = 10 })
    child:expect "ready"
    child:kill "sigterm"
    child:expect("SIGTERM", "stderr")
    child:expect "blocked"
    child:kill "sigint"
    assert.equal(128 + 15, child:wait().code)
  end)

  it("ends it also when the script cannot be ended for C", function()
    local child = start([[
      local _ <close> = setmetatable({}, { __close = function() say "closing" require("luv").sleep(60000) end })
      say "ready"
      ltsh.sleep(60)]], { limit = 10 })
    child:expect "ready"
    child:kill "sigterm"
    child:expect "closing"
    child:kill "sigterm"
    assert.equal(128 + 15, child:wait().code)
  end)

  it("at the same time as the first is heard by a script that computes", function()
    local child = start([[
      local s = new(function() ltsh.sleep(60) end, { shutdown_grace = 60 })
      s:on("finished", function(task) say(task.status, task.reason) end)
      s:on("started", function() say "ready" end)
      s:add {}
      ltsh.sleep(0)
      while true do end]], { limit = 10 })
    child:expect "ready"
    child:kill "sigterm"
    child:kill "sigint" -- which is delivered first may vary
    local result = child:wait()
    assert.is_true(result.code == 128 + 15 or result.code == 128 + 2)
    assert.equal("ready\nstopped\tshutdown\n", result.stdout)
  end)
end)

describe("a task that cannot be stopped", function()
  local SCENE = [[
    local kind, store = ...
    local calls = {}
    local container = ltsh.container.queue {}
    if store == "durable" then
      container = {}
      local tasks = {}
      function container:add(task) tasks[#tasks + 1] = task return true end
      function container:waiting() local list = tasks tasks = {} return list end
      function container:running() return {} end
      function container:running_count() return 0 end
      for _, name in ipairs { "to_running", "to_waiting", "to_exporting", "to_success", "to_stopped", "to_deleted",
        "to_failed", "update_running" } do
        container[name] = function(_, task) calls[#calls + 1] = name .. " " .. task.id return true end
      end
    end
    local stop = { raises = function() error "no" end, refuses = function() return nil, "no" end,
      hangs = function() ltsh.sleep(60) end, computes = function() while true do end end }
    local s = ltsh.scheduler {
      shutdown_grace = 0.2, callback_timeout = 0.2, limit = 3, container = container,
      actuator = {
        start = function() return true end,
        stop = function(_, task) if task.id == "good" then return true end return stop[kind]() end,
        status = function(_, tasks)
          local list = {}
          for i in ipairs(tasks) do list[i] = { status = "running" } end
          return list
        end,
      },
    }
    s:on("finished", function(task) say(task.id, task.status) end)
    for _, id in ipairs { "bad1", "bad2", "good" } do s:add { id = id } end
    while s:stats().running < 3 do ltsh.sleep(0) end
    local function list() table.sort(calls) return table.concat(calls, ", ") end
    say "ready"
  ]]
  local ENDED = { "bad1\tstopped", "bad2\tstopped", "good\tstopped" }

  local function begin(kind, store, code)
    return run.start({ "-e", script(SCENE .. code), kind, store }, { limit = 15 })
  end

  local function ended(result)
    local lines = {}
    for line in result.stdout:gmatch "[^\n]+" do
      if line:find "stopped" then lines[#lines + 1] = line end
    end
    table.sort(lines)
    return lines
  end

  for _, kind in ipairs { "raises", "refuses", "hangs", "computes" } do
    it("is given up when its scheduler is closed: its stop " .. kind, function()
      local result = begin(kind, "memory", "s:close() say 'closed'"):wait()
      assert.same({ 0, ENDED }, { result.code, ended(result) })
      contains(result.stdout, "closed\n")
      local _, count = result.stderr:gsub("stop failed as its scheduler is closed, the work may go on", "")
      assert.is_true(count >= 2) -- one that computes may hold up the stop of the good one
    end)

    it("does not hold up the end of the process: its stop " .. kind, function()
      local failing, exiting = begin(kind, "memory", "error 'oops'"), begin(kind, "memory", "os.exit(3)")
      local children = { begin(kind, "memory", "s:run()"), begin(kind, "memory", "s:run()") }
      for count, child in ipairs(children) do
        child:expect "ready"
        for _ = 1, count do child:kill "sigterm" end
      end
      for _, child in ipairs(children) do
        local result = child:wait()
        assert.same({ 128 + 15, ENDED }, { result.code, ended(result) })
      end
      local result = failing:wait()
      assert.same({ 1, ENDED }, { result.code, ended(result) })
      assert.equal(3, exiting:wait().code)
    end)
  end

  it("is left to the next host where tasks outlive this one", function()
    local result = begin("raises", "durable", "s:close() say(list())"):wait()
    assert.equal(0, result.code)
    contains(result.stdout, "to_running bad1, to_running bad2, to_running good, to_waiting good\n")
  end)
end)

describe("standard output", function()
  local function shell(command, ...)
    return run.start({ "-c", command, run.program, ... }, { program = "/bin/bash", limit = 15 }):wait()
  end

  local module = "return function() while true do print 'x' end end"
  local printers = {
    ["the script"] = "while true do print 'x' end",
    ["the script, now and then"] = "while true do io.write(('x\\n'):rep(500)) ltsh.sleep(0.001) end",
    ["a job"] = "ltsh.spawn(function() while true do print 'x' end end) ltsh.sleep(60)",
    ["a task"] = "local s = new(function() while true do print 'x' end end) s:add {} s:run()",
    ["a handler"] = [[local s = new(function() end) s:on("finished", function() while true do print "x" end end)
      s:add {} s:run()]],
    ["a callback of luv"] = [[require("luv").new_timer():start(0, 1, function() print "x" end)]],
    ["a comparator"] = "table.sort({ 1, 2 }, function() while true do print 'x' end end)",
    ["a thread"] = "work('thread')",
    ["a process"] = "work('process')",
  }
  for where, code in pairs(printers) do
    it("that nobody reads any more ends an endless printer: " .. where, function()
      local folder = run.folder { ["task.lua"] = module, ["script.lua"] = script([[
        local function work(isolate)
          local s = ltsh.scheduler { container = ltsh.container.queue {}, shutdown_grace = 60,
            actuator = ltsh.actuator.func { module = "task.lua", workers = 1, isolate = isolate } }
          s:add {}
          s:run()
        end ]] .. code:gsub("\\\\", "\\")) }
      local result = shell('cd "$1"; "$0" script.lua | head -1; echo "${PIPESTATUS[0]}"', folder)
      assert.equal("x\n141\n", result.stdout)
      assert.equal("", result.stderr:gsub("[^\n]*worker[^\n]*\n", ""))
    end)
  end

  it("that nobody reads any more is no concern of a script that prints nothing", function()
    local result = shell('"$0" -e "$1" | true; echo "${PIPESTATUS[0]}"', script "ltsh.sleep(0.1)")
    assert.same({ "0\n", "" }, { result.stdout, result.stderr })
  end)

  it("that could not be written makes the status 1, and says so", function()
    for code, status in pairs { ["print 'x'"] = 1, ["io.write 'x'"] = 1, ["print 'x' os.exit(0)"] = 1,
      ["print 'x' os.exit(7)"] = 7, ["local s = new(function() print 'x' end) s:add {}"] = 1 } do
      local result = shell('"$0" -e "$1" >/dev/full', script(code))
      assert.equal(status, result.code)
      assert.equal("ltsh: standard output could not be written, what was printed is lost (is the disk full?)\n",
        result.stderr)
    end
    assert.equal(1, shell('"$0" --help >/dev/full').code)
    assert.equal(0, shell('"$0" -e "" >/dev/full').code)
  end)

  it("and the other two may be closed when ltsh is started", function()
    for _, closed in ipairs { "<&-", ">&-", "2>&-", "<&- >&- 2>&-" } do
      local folder = run.folder { ["task.lua"] = "return function() print 'x' io.stderr:write 'x' return 1 end" }
      local result = shell('cd "$1"; "$0" -e "$2" ' .. closed, folder, script [[
        local file = io.open("mine", "w")
        for _, isolate in ipairs { "thread", "process" } do
          local s = ltsh.scheduler { container = ltsh.container.queue {},
            actuator = ltsh.actuator.func { module = "task.lua", workers = 1, isolate = isolate } }
          file:write(tostring(s:wait(s:add {}).output), "\n")
        end
        print "to the output"
        io.stderr:write "to the errors"
        ltsh.log.error "to the log"
        file:write(tostring(io.read()), "\n")
        file:close()]])
      assert.equal(0, result.code)
      local file <close> = io.open(folder .. "/mine")
      assert.equal("1\n1\nnil\n", file:read "a")
    end
  end)
end)

describe("a call that waits", function()
  -- Prints "waited" if `code` can wait with w(), which returns its arguments.
  local function waits(code)
    assert.equal("waited\n", output_of([[
      local uv = require "luv"
      local function w(...)
        local from = uv.now()
        ltsh.sleep(0.005)
        uv.update_time()
        assert(uv.now() >= from + 5)
        return ...
      end
      ]] .. code .. [[ say "waited"]]))
  end

  it("is fine in nested coroutines, which still yield values of their own", function()
    waits [[
      local co = coroutine.wrap(function(a)
        local inner = coroutine.create(function(b)
          b = w(b) + coroutine.yield(w(1))
          return w(b)
        end)
        local _, x = coroutine.resume(inner, a)
        local back = w(coroutine.yield(x))
        local ok, y = coroutine.resume(inner, back)
        assert(ok and coroutine.status(inner) == "dead")
        return w(y)
      end)
      assert(co(10) == 1)
      assert(co(20) == 30)]]
  end)

  it("is fine under pcall and xpcall", function()
    waits [[
      local ok, a, b = pcall(w, 1, 2)
      assert(ok and a == 1 and b == 2)
      ok, a = xpcall(function() w() error({ 5 }) end, function(e) return e[1] end)
      assert(not ok and a == 5)
      ok, a = pcall(pcall, function() w() error "x" end)
      assert(ok and a == false)
      assert(select(2, pcall(coroutine.wrap(function() return pcall(w, 7) end))) == true)]]
  end)

  it("is fine in metamethods", function()
    waits [[
      local meta = { __index = function(t, k) return w(k) end, __newindex = function(t, k, v) rawset(t, k, w(v)) end,
        __call = function(t, x) return w(x) end, __add = function(a, b) return w(1) end,
        __concat = function(a, b) return w("c") end, __eq = function() return w(true) end,
        __lt = function() return w(true) end, __le = function() return w(true) end, __len = function() return w(3) end,
        __unm = function() return w(-1) end, __close = function() w() end }
      local t, u = setmetatable({}, meta), setmetatable({}, meta)
      assert(t.x == "x" and t(2) == 2 and t + 1 == 1 and t .. "" == "c" and t == u and t < u and t <= u and #t == 3)
      assert(-t == -1)
      t.y = 4
      assert(rawget(t, "y") == 4)
      do local _ <close> = setmetatable({}, meta) end]]
  end)

  it("is fine in iterators, and in what is loaded", function()
    waits [[
      local function range(n)
        return coroutine.wrap(function() for i = 1, n do w() coroutine.yield(i) end end)
      end
      local sum = 0
      for i in range(3) do sum = sum + w(i) end
      for i in function(_, i) return w(i < 3 and i + 1 or nil) end, nil, 0 do sum = sum + i end
      assert(sum == 12)
      W = w
      assert(load "return W(5)"() == 5)]]
  end)

  it("is fine in tasks, handlers and jobs, at the same time", function()
    local lines = lines_of(output_of [[
      local s = new(function(task) ltsh.sleep(task.item) return task.id end, { limit = 3 })
      s:on("finished", function(task) ltsh.sleep(0.001) say("handled", task.output) end)
      s:add_all { { id = "c", item = 0.03 }, { id = "a", item = 0 }, { id = "b", item = 0.015 } }
      local job = ltsh.spawn(function(...) ltsh.sleep(0.045) return ... end, "d", nil, "e")
      for task in s:finished() do ltsh.sleep(0) end
      say(job:wait())]])
    table.sort(lines)
    assert.same({ "d\tnil\te", "handled\ta", "handled\tb", "handled\tc" }, lines)
  end)

  -- Prints what a call raises in places where one cannot wait.
  local function raises(code)
    local result = execute([[
      local uv = require "luv"
      local function try(...)
        local ok, message = pcall(...)
        say(ok, message)
      end
      local function nap() ltsh.sleep(0.01) end
      ]] .. code)
    assert.equal(0, result.code)
    local lines = lines_of(result.stdout)
    assert.is_true(#lines > 0)
    for _, line in ipairs(lines) do
      assert.matches("^false\t", line)
      contains(line, "cannot wait here")
      contains(line, "ltsh.spawn")
    end
    return result.stdout
  end

  it("raises in a callback of luv, and names itself and ltsh.spawn", function()
    local text = raises [[
      local s = new(function() end)
      uv.new_timer():start(0, 0, function()
        try(ltsh.sleep, 0.01)
        try(ltsh.await, function() end)
        try(function() ltsh.spawn(nap):wait() end)
        try(os.exit, 5)
        try(coroutine.wrap(nap))
        s:pause()
        s:add { id = "a" }
        try(function() s:wait "a" end)
        try(function() for task in s:finished() do end end)
        try(function() s:run() end)
        s:resume()
      end)]]
    for _, name in ipairs { "ltsh.sleep", "ltsh.await", "job:wait", "os.exit", "scheduler:wait", "scheduler:finished",
      "scheduler:run" } do
      contains(text, name .. ": ")
    end
  end)

  it("that raises holds nothing and does nothing", function()
    assert.equal("false\nfalse\na\n", output_of [[
      local s = new(function(task) say(task.id) end, { container = ltsh.container.queue { size = 1 } })
      s:pause()
      s:add { id = "a" }
      require("luv").new_timer():start(0, 0, function()
        say((pcall(s.run, s)))
        say((pcall(s.add, s, { id = "b" }, 10)))
        s:resume()
      end)]])
  end)

  it("takes any number of seconds", function()
    assert.equal("0\n", output_of [[
      local job = ltsh.spawn(ltsh.sleep, math.huge)
      local long = ltsh.spawn(ltsh.sleep, 1e300)
      say(select("#", ltsh.sleep(0)))
      job:cancel()
      long:cancel()]])
    for _, seconds in ipairs { "-1", "0/0", "'x'", "nil" } do
      assert.equal(1, execute("ltsh.sleep(" .. seconds .. ")").code)
    end
  end)

  it("raises where a function of C calls back", function()
    raises [[
      try(string.gsub, "a", "a", setmetatable({}, { __index = nap }))
      try(function() return tostring(setmetatable({}, { __tostring = function() nap() return "" end })) end)]]
  end)

  it("may be made from a callback of luv with ltsh.spawn", function()
    assert.equal("waited\n", output_of [[
      require("luv").new_timer():start(0, 0, function()
        ltsh.spawn(function()
          ltsh.sleep(0.01)
          say "waited"
        end)
      end)]])
  end)

  it("raises in a finalizer, and nothing else happens", function()
    local result = execute [[
      setmetatable({}, { __gc = function() say(pcall(ltsh.sleep, 0.01)) end })
      collectgarbage()
      collectgarbage()
      say "on"]]
    assert.matches("^false\t.*cannot wait here.*ltsh%.spawn.*\non\n$", result.stdout)
    assert.equal(0, result.code)
  end)
end)

describe("require \"luv\"", function()
  it("leaves the signal of the preemption to the host", function()
    local uv = require "luv"
    local handle = uv.new_signal()
    for what, begin in pairs {
      ["uv.signal_start"] = function(name) uv.signal_start(handle, name, print) end,
      ["uv.signal_start_oneshot"] = function(name) uv.signal_start_oneshot(handle, name, print) end,
      ["start"] = function(name) handle:start(name, print) end,
    } do
      for _, name in ipairs { "sigurg", 23, "23", "0x17" } do
        local started, why = pcall(begin, name)
        assert.is_false(started, what)
        contains(why, "SIGURG belongs to the host")
      end
      assert.is_true(pcall(begin, "sigusr2"), what)
      assert.is_true(pcall(begin, 12), what)
      handle:stop()
    end
    handle:close()
  end)

  it("is the host's loop, which cannot be run, stopped or closed", function()
    for _, name in ipairs { "run", "stop", "loop_close" } do
      local result = execute("require('luv')." .. name .. "()")
      assert.equal(1, result.code)
      contains(result.stderr, "luv." .. name .. ": the loop belongs to the host")
    end
    assert.equal("false\nfalse\nfalse\n", output_of [[
      local uv = require "luv"
      for _, name in ipairs { "run", "stop", "loop_close" } do say((pcall(uv[name]))) end]])
  end)

  it("walks over the handles that the script has made", function()
    assert.equal("0\n2\ttrue\ttrue\n1\n", output_of [[
      local uv = require "luv"
      local function handles()
        local all = {}
        uv.walk(function(handle) all[#all + 1], all[handle] = handle, true end)
        return all
      end
      local s = new(function() end)
      s:add {}
      say(#handles())
      local timer, pipe = uv.new_timer(), uv.new_pipe()
      local all = handles()
      say(#all, all[timer], all[pipe])
      uv.walk(function(handle) if handle == pipe then handle:close() end end)
      ltsh.sleep(0.001)
      say(#handles())]])
  end)

  it("may close every handle that it walks over", function()
    assert.equal("success\n", output_of [[
      local uv = require "luv"
      uv.new_timer():start(3600000, 0, function() end)
      uv.new_tcp()
      uv.walk(function(handle) if not handle:is_closing() then handle:close() end end)
      local s = new(function() ltsh.sleep(0.005) end)
      s:add {}
      for task in s:finished() do say(task.status) end]])
  end)

  it("logs an error in a callback, and goes on", function()
    local result = execute [[
      local uv = require "luv"
      local n = 0
      local timer = uv.new_timer()
      timer:start(0, 1, function()
        n = n + 1
        if n == 3 then timer:close() end
        local missing = nil
        return missing.field
      end)
      ltsh.sleep(0.02)
      uv.fs_stat(".", function() error({ code = "a table" }) end)
      ltsh.sleep(0.02)
      say(n)]]
    assert.equal("3\n", result.stdout)
    assert.equal(0, result.code)
    local _, count = result.stderr:gsub("a callback of luv raised an error", "")
    assert.equal(4, count)
    contains(result.stderr, "local 'missing'")
    contains(result.stderr, "stack traceback")
  end)
end)

describe("--check", function()
  local modules = {
    ["actuator.lua"] = "return { start = print, stop = print, status = print }",
    ["made.lua"] = "return function(options) return { start = print, stop = print, attach = print, o = options.x } end",
    ["container.lua"] = [[return { add = print, claim = print, to_waiting = print, to_exporting = print,
      to_success = print, to_failed = print, to_stopped = print, to_deleted = print, running = print,
      running_count = print }]],
    ["persister.lua"] = "return { save = print, load = print, delete = print }",
    ["receiver.lua"] = "return { receive = print }",
    ["bad.lua"] = "return { start = 5, status = {} }",
    ["syntax.lua"] = "return {\n  start = = 1\n}",
    ["raises.lua"] = "local config = nil\nreturn config.methods",
    ["needs.lua"] = "return function(options)\n  return { save = options.url .. '/x' }\nend",
    ["refuses.lua"] = "return function(options) return nil, 'url is required' end",
    ["nothing.lua"] = "local methods = {}",
    ["good_tasks.lua"] = "return function(task) end",
    ["bad_tasks.lua"] = "return 5",
    ["syntax_tasks.lua"] = "return function(",
    ["waits.lua"] = "require('ltsh').sleep(0.01) return {}",
    ["computes.lua"] = [[
      local from = os.clock()
      while os.clock() < from + 0.1 do end
      return { start = print, stop = print, status = print }]],
  }

  local function check(code)
    local folder = run.folder(modules)
    local file = assert(io.open(folder .. "/main.lua", "w"))
    file:write(code)
    file:close()
    return run.ltsh({ "--check", "main.lua" }, { cwd = folder })
  end

  it("runs nothing of the script", function()
    local result = check "print 'ran' os.exit(5)"
    assert.equal("main.lua: ok (it names no module files)\n", result.stdout)
    assert.equal("", result.stderr)
    assert.equal(0, result.code)
  end)

  it("reports a syntax error of the script", function()
    local result = check "local ltsh = \n = 5"
    assert.equal(1, result.code)
    contains(result.stderr, "main.lua:2:")
  end)

  it("checks the modules that are named literally", function()
    local result = check [[
      local ltsh = require "ltsh"
      ltsh.scheduler {
        container = ltsh.container.load "container.lua",
        actuator = ltsh.actuator.load('actuator.lua', { x = 1 }),
        persister = ltsh.persister.load [=[persister.lua]=],
        callback = ltsh . callback . load -- a comment
          ("receiver.lua"),
      }
      assert(pcall(ltsh.actuator.load, "made.lua"))]]
    assert.equal("", result.stderr)
    assert.equal("main.lua: ok (5 modules checked)\n", result.stdout)
    assert.equal(0, result.code)
  end)

  it("knows the parts by their names, whatever ltsh is called", function()
    local result = check [[
      local lt = require("ltsh")
      local container, actuator = lt["container"], lt.actuator
      container.load "container.lua"
      local t = { actuator = 5, load = actuator.load "actuator.lua" }
      lt["callback"].load("receiver.lua");
      (require "ltsh.persister").load "persister.lua"
      yaml.load "of-another.lua"
      t[1].load "of-another.lua"
      local load_another = lt.actuator.load
      load_another "made.lua"]]
    assert.equal("", result.stderr)
    assert.same({
      "main.lua:9: unchecked: the name of an actuator is computed",
      "main.lua: ok (4 modules checked, 1 unchecked)",
    }, lines_of(result.stdout))
  end)

  it("is not misled by comments and strings", function()
    local result = check [==[
#!/usr/bin/env ltsh
      local ltsh = require "ltsh"
      -- ltsh.actuator.load "none.lua"
      --[[ ltsh.actuator.load "none.lua"
      ]] local a = "ltsh.actuator.load 'none.lua'"
      local b = [[ ltsh.actuator.load "none.lua" ]] .. [=[ ]] ltsh.actuator.load "none.lua" ]=]
      local c = '\'' --[=[ ]] ]=] .. "\\" .. 'ltsh.actuator.load "none.lua"'
      a = 0x1p4 + 3.5e-2 // 1 ~ 5 --
      ltsh.actuator.load "actuator\x2Elua"]==]
    assert.equal("", result.stderr)
    assert.equal("main.lua: ok (1 module checked)\n", result.stdout)
  end)

  it("checks the modules of tasks, and names all their faults", function()
    local result = check [[
      local ltsh = require "ltsh"
      local func = ltsh.actuator.func
      func { workers = 2, module = "good_tasks.lua" }
      func({ module = "bad_tasks.lua"; memory = "64M" })
      pcall(ltsh.actuator.func, { module = "syntax_tasks.lua" })
      func { module = arg[1] .. "x.lua" }
      func { run = function() local module = "none.lua" end }
      func(function() end)]]
    assert.equal(1, result.code)
    assert.matches("bad_tasks.lua: it must return a function%(task%).*got 5 %(a module of tasks, "
      .. "loaded in main.lua:4%)", result.stderr)
    assert.matches("syntax_tasks.lua:1: .* %(a module of tasks, loaded in main.lua:5%)", result.stderr)
    assert.matches("main.lua:6: unchecked: the name of a module of tasks is computed", result.stdout)
    assert.matches("main.lua: 2 faults %(3 modules checked, 1 unchecked%)", result.stdout)
  end)

  it("lists the names that are computed", function()
    local result = check [[
      local ltsh = require "ltsh"
      ltsh.actuator.load(arg[1])
      local path = "actuator.lua"
      ltsh.container.load(path, {})
      ltsh.persister.load("per" .. "sister.lua")
      for _, kind in ipairs { "actuator" } do ltsh[kind].load("actuator.lua") end
      table.move({}, 1, 1, 1, ltsh.callback.load)
      ltsh.actuator.load "actuator.lua"]]
    assert.same({
      "main.lua:2: unchecked: the name of an actuator is computed",
      "main.lua:4: unchecked: the name of a container is computed",
      "main.lua:5: unchecked: the name of a persister is computed",
      "main.lua:6: unchecked: the name of a module is computed",
      "main.lua:7: unchecked: the name of a receiver is computed",
      "main.lua: ok (1 module checked, 5 unchecked)",
    }, lines_of(result.stdout))
    assert.equal("", result.stderr)
    assert.equal(0, result.code)
  end)

  it("reports all faults of all modules, with file and line", function()
    local result = check [[
      local ltsh = require "ltsh"
      ltsh.actuator.load "bad.lua"
      ltsh.container.load "syntax.lua"
      ltsh.persister.load "raises.lua"
      ltsh.persister.load "none.lua"
      ltsh.persister.load "nothing.lua"
      ltsh.callback.load "persister.lua"
      ltsh.actuator.load "bad.lua"]]
    assert.equal(1, result.code)
    assert.equal("main.lua: 8 faults (6 modules checked)\n", result.stdout)
    local expected = {
      "bad.lua: 'start' must be a function, got 5 (an actuator, loaded in main.lua:2)",
      "bad.lua: the method 'stop' is missing (an actuator, loaded in main.lua:2)",
      "bad.lua: 'status' must be a function, got a table (an actuator, loaded in main.lua:2)",
      "syntax.lua:2: unexpected symbol near '=' (a container, loaded in main.lua:3)",
      "raises.lua:2: attempt to index a nil value (local 'config') (a persister, loaded in main.lua:4)",
      "cannot open none.lua: No such file or directory (a persister, loaded in main.lua:5)",
      "nothing.lua must return a table of methods or a function that returns one, got nil"
        .. " (a persister, loaded in main.lua:6)",
      "persister.lua: the method 'receive' is missing (a receiver, loaded in main.lua:7)",
    }
    assert.same(expected, lines_of(result.stderr))
  end)

  it("only warns of what it cannot find out", function()
    local result = check [[
      local ltsh = require "ltsh"
      ltsh.persister.load("needs.lua", { url = "x" })
      ltsh.persister.load("refuses.lua", { url = "x" })
      ltsh.persister.load "waits.lua"]]
    assert.equal(0, result.code)
    assert.equal("main.lua: ok (0 modules checked, 3 unchecked)\n", result.stdout)
    local lines = lines_of(result.stderr)
    assert.equal(3, #lines)
    contains(lines[1], "needs.lua: could not be checked: needs.lua:2: attempt to concatenate a nil value (field 'url')")
    contains(lines[2], "refuses.lua: could not be checked: url is required")
    contains(lines[3], "waits.lua: could not be checked: ")
  end)

  it("gives a module the time that it computes", function()
    local result = check "require('ltsh').actuator.load 'computes.lua'"
    lacks(result.stderr, "could not be checked")
    assert.equal("main.lua: ok (1 module checked)\n", result.stdout)
  end)

  it("checks code of -e and standard input too", function()
    local folder = run.folder(modules)
    local code = "local ltsh = require 'ltsh' print 'ran' ltsh.actuator.load 'bad.lua'"
    local result = run.ltsh({ "-c", "-e", code }, { cwd = folder })
    assert.equal("-e: 3 faults (1 module checked)\n", result.stdout)
    contains(result.stderr, "loaded in -e:1")
    assert.equal(1, result.code)
    result = run.ltsh({ "-c", "-" }, { cwd = folder, stdin = code })
    lacks(result.stdout, "ran")
    contains(result.stdout, "stdin: ")
  end)

  it("leaves nothing behind when modules do more than they should", function()
    local folder = run.folder {
      ["a.lua"] = [[
        local ltsh = require "ltsh"
        KEPT = ltsh.scheduler {
          container = ltsh.container.queue {},
          actuator = ltsh.actuator.func(function() ltsh.sleep(3600) end),
        }
        KEPT:add {}
        require("luv").new_timer():start(3600000, 0, print)
        return { start = print, stop = print, status = print }]],
      ["b.lua"] = "os.exit(5)",
    }
    local result = run.ltsh({ "-c", "-e", "require('ltsh').actuator.load 'a.lua'" }, { cwd = folder })
    assert.equal("", result.stderr)
    assert.equal("-e: ok (1 module checked)\n", result.stdout)
    assert.equal(0, result.code)
    result = run.ltsh({ "-c", "-e", "require('ltsh').actuator.load 'b.lua'" }, { cwd = folder })
    contains(result.stderr, "b.lua:1: os.exit: a task or a module cannot end the host")
    lacks(result.stderr, "Sanitizer")
  end)
end)

describe("an installed copy", function()
  it("runs from another folder", function()
    local build = run.program:match "^(.*)/bin/[^/]+$"
    if not build or not require("luv").fs_stat(build .. "/CMakeCache.txt") then pending "this is no build tree" end
    local folder = run.folder()
    local installed = run.program_of_path("cmake", { "--install", build, "--prefix", folder })
    if not installed then pending "there is no cmake" end
    assert.equal("", installed.stderr)
    assert.equal(0, installed.code)
    local result = execute([[
      local s = new(function(task) return task.item end)
      s:add { item = "from afar" }
      for task in s:finished() do say(task.output) end
      say(package.searchpath("ltsh.scheduler", package.path))]], { program = folder .. "/bin/ltsh", cwd = "/" })
    assert.equal("", result.stderr)
    local lines = lines_of(result.stdout)
    assert.equal("from afar", lines[1])
    assert.equal(folder .. "/bin/../share/ltsh/lua/ltsh/scheduler.lua", lines[2])
  end)
end)

describe("an idle process", function()
  -- CPU time over half a second in which nothing happens, in milliseconds.
  local function idle(code, options)
    local arguments = { "-e", script(code .. [[
      ltsh.sleep(0.05)
      local before = os.clock()
      ltsh.sleep(0.5)
      say((os.clock() - before) * 1000)
      os.exit(0)]]) }
    if options then table.insert(arguments, 1, options) end
    local result = run.ltsh(arguments)
    assert.equal("", result.stderr)
    return tonumber(result.stdout)
  end

  it("uses no processor time", function()
    assert.is_true(idle "" < 10)
    assert.is_true(idle "new(function() end)" < 10)
  end)

  it("uses none while tasks run that wait, or are delayed, or a scheduler is paused", function()
    assert.is_true(idle [[
      local s = new(function() ltsh.sleep(60) end, { limit = 100, timeout = 50 })
      for i = 1, 200 do s:add { delay = i % 2 * 60 } end
      local p = new(function() end)
      p:pause()
      p:add {}
      ltsh.spawn(function() p:run() end)
      ltsh.spawn(function() for task in p:finished() do end end)]] < 10)
  end)

  it("uses none after tasks have ended, with a progress bar", function()
    assert.is_true(idle([[
      local s = new(function() end)
      s:progress_bar()
      s:pause()]], "-p") < 10)
  end)
end)

describe("--progress", function()
  local work = [[
    local s = new(function(task) if task.item == 0 then return nil, "no" end end, { name = "orders" })
    for i = 1, 40 do s:add { item = i % 10 } end
    for task in s:finished() do end
    print "the script's own"]]

  it("ends with a line of what became of the tasks", function()
    local result = run.ltsh { "-p", "-e", script(work) }
    assert.equal(0, result.code)
    assert.equal("the script's own\n", result.stdout)
    assert.matches("^orders  40/40  100%%  4 failed  [%d.]+/s  in [%d.]+ s\n$", result.stderr)
  end)

  it("is one line for all schedulers", function()
    local result = run.ltsh { "--progress", "-e", script [[
      local a, b = new(function() end), new(function() ltsh.sleep(0.01) end)
      for _ = 1, 5 do
        a:add {}
        b:add {}
      end]] }
    assert.matches("^2 schedulers  10/10  100%%  [%d.]+/s  in [%d.]+ s\n$", result.stderr)
  end)

  it("counts tasks that are stopped at the end", function()
    local result = run.ltsh { "-p", "-e", script [[
      local s = new(function(task) ltsh.sleep(3600) end, { name = "orders" })
      s:on("started", function() ltsh.spawn(function() s:close() end) end)
      for _ = 1, 10 do s:add {} end]] }
    assert.matches("^orders  10/10  100%%  10 stopped  ", result.stderr)
    assert.equal(0, result.code)
  end)

  it("says nothing when nothing is done", function()
    assert.equal("", run.ltsh({ "-p", "-e", script "new(function() end)" }).stderr)
  end)

  it("does not keep the process or a scheduler alive", function()
    local result = run.ltsh { "-p", "-e", script [[
      local from = os.time()
      local weak = setmetatable({}, { __mode = "v" })
      do
        local s = new(function() end)
        weak[1] = s
        s:wait(s:add {})
        s:progress_bar()
      end
      while weak[1] do
        collectgarbage()
        ltsh.sleep(0.001)
      end
      say "collected"]] }
    assert.equal("collected\n", result.stdout)
    assert.equal(0, result.code)
  end)

  it("can be asked for by scheduler:progress_bar(), and be ended", function()
    local result = execute [[
      local a, b = new(function() end, { name = "a" }), new(function() end, { name = "b" })
      a:progress_bar()
      b:progress_bar()()
      a:add {}
      b:add {}
      say(pcall(a.progress_bar))
      say(pcall(a.progress_bar, a, { colour = true }))]]
    assert.matches("^a  1/1  100%%  [^\n]*\n$", result.stderr)
    contains(result.stdout, "scheduler:progress_bar: called without its scheduler")
    contains(result.stdout, "false\tscheduler:progress_bar: unknown option \"colour\"")
  end)

  -- Runs ltsh on a terminal of 60 columns (or others), and returns what comes out of that.
  local function on_terminal(code, env, columns)
    local try = run.program_of_path("script", { "-qec", "true", "/dev/null" })
    if not try or try.code ~= 0 then pending "script(1) cannot make a terminal here" end
    local folder = run.folder { ["main.lua"] = script(code) }
    local command = ("stty cols %d; exec '%s' -p '%s/main.lua'"):format(columns or 60, run.program, folder)
    return run.program_of_path("script", { "-qec", command, "/dev/null" }, { env = env }).stdout
  end

  local slow = [[
    local s = new(function(task) ltsh.sleep(0.03) if task.item then return nil, "no" end end, { name = "orders" })
    for i = 1, 10 do s:add { item = i == 5 } end
    ltsh.spawn(function() ltsh.sleep(0.15) ltsh.log.info "from the log" end)
    for task in s:finished() do end
    say "the script's own"]]

  it("draws the line anew on a terminal, and takes it away before the script goes on", function()
    local text = on_terminal(slow, { TERM = "xterm", NO_COLOR = false })
    local _, frames = text:gsub("\r\27%[1morders\27%[0m  \27%[3%dm%[", "")
    assert.is_true(frames >= 2 and frames <= 8, text)
    contains(text, "from the log")
    contains(text, "\r\27[Kthe script's own\r\n")
    assert.matches("\n\27%[1morders[^\r\n]*10/10[^\r\n]*\27%[31m1 failed[^\r\n]*\r\n$", text)
    for row in text:gsub("\27%[[%d;]*%a", ""):gmatch "[^\r\n]+" do
      local width = #row:match "^(.-)%s*$"
      assert.is_true(width <= 60 or row:find "from the log" ~= nil, row)
    end
  end)

  -- Rows on the terminal, each as the parts that it was drawn with: { text, columns }.
  local function drawn_rows(name, columns)
    local named = slow:gsub("orders", function() return name end)
    local text = on_terminal(named, { TERM = "xterm", NO_COLOR = "1" }, columns)
    local rows = {}
    for row in text:gsub("\27%[[%d;]*%a", ""):gmatch "[^\r\n]+" do
      local shown, width = row:match "^(.-)%s*$", 0
      for _, code in utf8.codes(shown) do width = width + (code >= 0x1100 and 2 or 1) end
      if shown:find "%d/10" and not shown:find "from the log" then rows[#rows + 1] = { shown, width } end
    end
    assert.is_true(#rows > 0, text)
    return rows
  end

  for _, name in ipairs { "a name that is much longer than there is room for it in a row of the terminal",
    "漢字の長い名前漢字の長い名前漢字の長い名前漢字の長い名前" } do
    it("cuts a long name and never fills more than a row: " .. name:sub(1, 12), function()
      for _, columns in ipairs { 80, 60, 40, 24 } do
        for _, row in ipairs(drawn_rows(name, columns)) do
          assert.is_true(row[2] <= columns, row[1])
          if columns >= 40 then assert.equal(1, row[1]:find(utf8.char(utf8.codepoint(name)), 1, true), row[1]) end
          if columns >= 40 then contains(row[1], "...  ") end
        end
      end
    end)
  end

  it("shows no control characters of a name", function()
    local row = drawn_rows("bad\\27]0;title\\7name\\xC2\\x9Bx\\n", 60)[1][1]
    contains(row, "bad?]0;title?name?x?  ")
    row = drawn_rows("\\xFF\\27bytes", 60)[1][1]
    contains(row, "??bytes  ")
  end)

  it("has no colours with NO_COLOR, and no control characters on a dumb terminal", function()
    local text = on_terminal(slow, { TERM = "xterm", NO_COLOR = "1" })
    contains(text, "\rorders  [")
    assert.is_nil(text:find "\27%[[%d;]*m")
    text = on_terminal(slow, { TERM = "dumb", NO_COLOR = false })
    lacks(text, "\27")
    contains(text, "orders  10/10  100%  1 failed")
  end)
end)
