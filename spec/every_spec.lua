-- ltsh.every: slots, calls that take long, errors, and times that were missed.
local ltsh = require "ltsh"
local clock = require "spec.support.clock"
local run = require "spec.support.run"

after_each(run.clean)

local function host(code, options)
  options = options or {}
  local folder = run.folder { ["s.lua"] = 'local ltsh = require "ltsh" local STORE = arg[1]\n' .. code }
  local result = run.ltsh({ folder .. "/s.lua", options.store or folder .. "/store" }, options)
  assert.equal(options.code or 0, result.code, result.stderr)
  return result
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines
end

describe("ltsh.every", function()
  it("calls at multiples of its interval, each once, until it is ended, and holds the process so long", function()
    local result = host [[
      local stop, count = nil, 0
      stop = ltsh.every(0.05, function(time)
        count = count + 1
        print(string.format("%.2f", time))
        if count == 5 then stop() end
      end)
    ]]
    local slots, seen = lines_of(result.stdout), {}
    assert.equal(5, #slots)
    for _, slot in ipairs(slots) do
      assert.is_nil(seen[slot])
      seen[slot] = true
      local multiple = slot / 0.05
      assert.is_true(math.abs(multiple - math.floor(multiple + 0.5)) < 0.01, slot)
    end
  end)

  it("gives whole seconds where its interval is of those", function()
    local result = host [[
      local stop stop = ltsh.every(1, function(time) print(math.type(time), time <= ltsh.now()) stop() end)
    ]]
    assert.equal("integer\ttrue\n", result.stdout)
  end)

  it("does not call while the last call is at work, says so once, and calls again afterwards", function()
    local result = host [[
      local at_work, most, count, stop = 0, 0, 0, nil
      stop = ltsh.every(0.02, function()
        at_work = at_work + 1
        most = math.max(most, at_work)
        ltsh.sleep(0.1)
        at_work = at_work - 1
        count = count + 1
        if count == 3 then stop() print(most) end
      end)
    ]]
    assert.equal("1\n", result.stdout)
    assert.equal(1, select(2, result.stderr:gsub("does not call while the last call is at work", "")))
  end)

  it("does with overlap", function()
    local result = host [[
      local at_work, stop = 0, nil
      stop = ltsh.every(0.02, function()
        at_work = at_work + 1
        if at_work == 3 then stop() print "three" end
        ltsh.sleep(1)
      end, { overlap = true })
    ]]
    assert.equal("three\n", result.stdout)
  end)

  it("goes on after an error", function()
    local result = host [[
      local count, stop = 0, nil
      stop = ltsh.every(0.02, function()
        count = count + 1
        if count == 2 then stop() print "again" end
        error "broken"
      end, { name = "mine" })
    ]]
    assert.equal("again\n", result.stdout)
    assert.matches("what ltsh.every called raised an error.* every=mine", result.stderr)
  end)

  it("lets a call in progress come to its end when the host is told to end, and makes no further one", function()
    local child = run.start { "-e", [[
      local ltsh = require "ltsh"
      ltsh.every(0.05, function() print "begins" ltsh.sleep(0.3) print "ends" end)
    ]] }
    child:expect "begins"
    child:kill "sigterm"
    local result = child:wait()
    assert.equal(128 + 15, result.code)
    assert.equal("begins\nends\n", result.stdout)
  end)

  it("raises for what makes no sense", function()
    local every = ltsh.every
    local function fn() end
    for message, arguments in pairs {
      ["schedule must be a positive number of seconds, got 0"] = { 0, fn },
      ["schedule must be a number of seconds, or a cron expression such as \"0 3 * * *\", got a table"] = { {}, fn },
      ["fn must be a function, got nil"] = { 1 },
      ["\"@reboot\": @reboot is not known"] = { "@reboot", fn },
      ["tz \"Europe/Berln\": no such time zone"] = { "@daily", fn, { tz = "Europe/Berln" } },
      ["tz is for cron expressions"] = { 5, fn, { tz = "UTC" } },
      ["unknown option \"catchup\""] = { 5, fn, { catchup = true } },
      ["name must be a text"] = { 5, fn, { store = "x" } },
      ["store \"/no/such/folder/x\": "] = { 5, fn, { name = "x", store = "/no/such/folder/x" } },
    } do
      local ok, raised = pcall(every, table.unpack(arguments, 1, 3))
      assert.is_false(ok)
      assert.matches("ltsh.every: " .. message, raised, 1, true)
    end
  end)
end)

describe("times that were missed", function()
  local old = math.floor(os.time() / 3600 - 1000.5) * 3600 -- a thousand hours ago
  local function stored(schedule)
    return run.folder { store = ('{"hourly":{"time":%d,"schedule":"%s"}}'):format(old, schedule) } .. "/store"
  end
  local code = [[
    local stop = ltsh.every("0 * * * *", function(time)
      print(time, math.type(time), time % 3600, ltsh.now() - time < 3600)
    end, { tz = "UTC", name = "hourly", store = STORE, catch_up = CATCH_UP })
    ltsh.sleep(0.1)
    stop()
  ]]

  it("are made up for by one call with the newest, and how many they were is said", function()
    local store = stored "0 * * * *"
    local result = host(code:gsub("CATCH_UP", "true"), { store = store })
    assert.matches("^%d+\tinteger\t0\ttrue\n$", result.stdout)
    assert.matches("makes up for what was missed with one call.* missed=100[01]", result.stderr)
    assert.equal("", host(code:gsub("CATCH_UP", "true"), { store = store }).stdout)
  end)

  it("are found in a durable container too", function()
    local database = run.folder {} .. "/q.db"
    local text = code:gsub("CATCH_UP", "true"):gsub("STORE", "container")
    text = "local container = ltsh.container.sqlite { path = STORE }\n" .. text
    assert.equal("", host(text, { store = database }).stdout)
    local db <close> = assert(ltsh.sqlite.open(database))
    assert.equal("0 * * * *", db:value "select schedule from ltsh_slots where name = 'hourly'")
    db:exec("update ltsh_slots set time = ?", old)
    assert.matches("^%d+\tinteger\t0\ttrue\n$", host(text, { store = database }).stdout)
    assert.equal("", host(text, { store = database }).stdout)
  end)

  it("are not, unless that is wanted", function()
    assert.equal("", host(code:gsub("CATCH_UP", "false"), { store = stored "0 * * * *" }).stdout)
  end)

  it("of another schedule do not count", function()
    assert.equal("", host(code:gsub("CATCH_UP", "true"), { store = stored "30 * * * *" }).stdout)
  end)

  it("are not looked for in a file that is something else", function()
    local folder = run.folder { store = "a text" }
    local result = run.ltsh { "-e", ([[
      require("ltsh").every(5, print, { name = "x", store = %q })
    ]]):format(folder .. "/store") }
    assert.equal(1, result.code)
    assert.matches("it is not what ltsh.every wrote there", result.stderr)
    assert.equal("a text", io.open(folder .. "/store"):read "a")
  end)

  it("while a call was at work are made up for when it ends", function()
    local result = host [[
      local calls, stop = {}, nil
      stop = ltsh.every(0.05, function(time)
        calls[#calls + 1] = time
        if #calls == 1 then ltsh.sleep(0.3) else stop() end
      end, { catch_up = true })
      ltsh.sleep(0.5)
      print(#calls, calls[2] - calls[1] > 0.2)
    ]]
    assert.equal("2\ttrue\n", result.stdout)
  end)
end)

describe("by a clock that is set", function()
  local it_when_set = clock.it(it, pending)

  lazy_setup(clock.open)
  lazy_teardown(clock.close)

  it_when_set("cron calls once at its minute, not before, and gives the minute", function()
    local till_before = 60 - os.time() % 60 - 2
    local result = host([[
      ltsh.every("* * * * *", function(time)
        local now = ltsh.now()
        print(math.type(time), time % 60, now >= time and now < time + 2)
      end)
      ltsh.sleep(4)
      os.exit(0)
    ]], { env = clock.env(0, till_before) })
    assert.equal("integer\t0\ttrue\n", result.stdout)
  end)

  for _, by in ipairs { -3600, 3600 } do
    it_when_set("an interval goes on, and no slot comes twice: " .. by .. " s", function()
      local result = host([[
        local calls, last = 0, 0
        ltsh.every(0.05, function(time)
          assert(time > last)
          last, calls = time, calls + 1
        end)
        ltsh.sleep(1)
        print(calls >= 5 and calls <= 22)
        os.exit(0)
      ]], { env = clock.env(0.3, by) })
      assert.same({ "true\n", "" }, { result.stdout, result.stderr })
    end)
  end
end)
