-- ltsh.container.redis and its server: how it gets there, what it says of what is wrong, and what it makes of servers
-- and networks that fail.
local ltsh = require "ltsh"
local uv = require "luv"
local certificates = require "spec.support.certificates"
local redis = require "spec.support.redis"
local run = require "spec.support.run"
local scene = require "spec.support.scene"
local Wire = require "spec.support.wire"

local wires = {}

local function wire(server)
  wires[#wires + 1] = Wire(server.port)
  return wires[#wires]
end

after_each(function()
  scene.close()
  for _, one in ipairs(wires) do one:close() end
  wires = {}
end)
lazy_teardown(redis.stop)

-- A container, with a queue of its own unless it is named.
local function connect(options)
  options.queue = options.queue or redis.queue()
  return ltsh.container.redis(options)
end

-- Why there is none.
local function refusal(options)
  local made, message = pcall(connect, options)
  assert.is_false(made, options.url)
  return message
end

local function seconds_of(fn, ...)
  local began = uv.hrtime()
  local results = table.pack(fn(...))
  return (uv.hrtime() - began) / 1e9, table.unpack(results, 1, results.n)
end

describe("ltsh.container.redis", function()
  local guarded

  -- Asks for the password "secret"; "poor" may not use sorted sets, "deaf" no channels, "hosted" is as providers make
  -- them.
  setup(function()
    guarded = redis.start({ "--requirepass", "secret" }, { password = "secret" })
    guarded:cli("ACL", "SETUSER", "poor", "on", ">p", "~*", "&*", "+@all", "-@sortedset")
    guarded:cli("ACL", "SETUSER", "deaf", "on", ">p", "~*", "resetchannels", "+@all")
    guarded:cli("ACL", "SETUSER", "blind", "on", ">p", "~other:*", "&*", "+@all")
    guarded:cli("ACL", "SETUSER", "hosted", "on", ">p", "~*", "&*", "+@all", "-@admin", "-@dangerous")
  end)

  local function url_of(server, who) return ("redis://%s127.0.0.1:%d"):format(who, server.port) end

  it("raises at once, without the password, when the server refuses this host", function()
    local function has(message, ...)
      for _, part in ipairs { ("redis://127.0.0.1:%d/"):format(guarded.port), ... } do
        assert.truthy(message:find(part, 1, true), message)
      end
      assert.falsy(message:find("wrong", 1, true) and message:find(":wrong", 1, true), message)
    end
    local elapsed, message = seconds_of(refusal, { url = url_of(guarded, ":wrong@") })
    has(message, "ltsh.container.redis: ", "WRONGPASS", "give the right user and password in the url")
    assert.is_true(elapsed < 1)
    has(refusal { url = url_of(guarded, "nobody:wrong@") }, "WRONGPASS")
    has(refusal { url = url_of(guarded, "") }, "NOAUTH", "give a user and a password in the url")
    has(refusal { url = url_of(guarded, ":secret@") .. "/99" }, "/99: ERR DB index", "put a database that is there")
    has(refusal { url = url_of(guarded, "poor:p@") }, "NOPERM", "ZADD", "docs/redis.md")
    has(refusal { url = url_of(guarded, "deaf:p@") }, "NOPERM", "PUBLISH, SUBSCRIBE")
    has(refusal { url = url_of(guarded, "blind:p@") }, "NOPERM", "keys")
    local message_of_open = refusal { url = url_of(redis.shared(), ":secret@") }
    assert.truthy(message_of_open:find("leave the password out of the url", 1, true))
  end)

  it("works for a user without administration and what is dangerous", function()
    local scheduler = scene.open(nil, { container = connect { url = url_of(guarded, "hosted:p@") } })
    scheduler:add { id = "a" }
    assert.equal("success", scheduler:wait("a").status)
  end)

  it("raises for what is no Redis", function()
    local server = ltsh.http.server { port = 0, routes = {} }
    local message = refusal { url = "redis://127.0.0.1:" .. math.tointeger(server.port) }
    assert.truthy(message:find('this is no Redis server: it says "HTTP/1.1 400', 1, true), message)
    server:close { drain = 0 }
  end)

  it("raises for a queue of a newer layout, and for a key that is somebody else's", function()
    local server, newer, foreign = redis.shared(), redis.queue(), redis.queue()
    server:cli("HSET", "ltsh:{" .. newer .. "}", "layout", "2")
    local message = refusal { url = server.url, queue = newer }
    assert.truthy(message:find("its layout is 2, this one knows 1): update ltsh on this host", 1, true), message)
    server:cli("SET", "ltsh:{" .. foreign .. "}:ready", "x")
    message = refusal { url = server.url, queue = foreign }
    assert.truthy(message:find("the key ltsh:{" .. foreign .. "}:ready is a string and not a zset", 1, true), message)
    assert.equal("", server:cli("KEYS", "ltsh:{" .. foreign .. "}"))
  end)

  it("names what is wrong with its options", function()
    local function says(text, options)
      local message = refusal(options)
      assert.truthy(message:find(text, 1, true), message)
    end
    says("it begins with none of redis://, rediss:// and unix://", { url = "http://localhost" })
    says("its database is not a number", { url = "redis://:secret@localhost/x" })
    says("with one at least", { url = {} })
    says("url[2]", { url = { "redis://localhost", 7 } })
    says("too long for a unix socket", { url = "unix:///" .. ("x"):rep(200) })
    says("whose host is the name of the master", { url = "unix:///x", sentinels = { "redis://localhost" } })
    says("no url begins with rediss://", { url = "redis://localhost", tls = { ca = "/x" } })
    says("tls.ca: the authorities in /nothing", { url = "rediss://localhost", tls = { ca = "/nothing" } })
    says("cert and key go together", { url = "rediss://localhost", tls = { cert = "/x" } })
  end)
end)

-- A host in a process of its own that adds a task every 10 ms and runs it. `log()`: its lines but those of level debug.
local function host(url, options)
  local script = ([[
    local ltsh, uv = require "ltsh", require "luv"
    local began = ltsh.now()
    local container = ltsh.container.redis { url = %q, queue = %q, lease = %s }
    io.write(("made %%.1f\n"):format(ltsh.now() - began))
    local scheduler = ltsh.scheduler { container = container, limit = 4, actuator = ltsh.actuator.func(function() end) }
    io.write "open\n"
    io.flush()
    local n = 0
    while true do
      n = n + 1
      if scheduler:add { id = tostring(n) } then
        scheduler:wait(tostring(n))
        io.write(("ran %%d\n"):format(n))
        io.flush()
      end
      ltsh.sleep(0.01)
    end
  ]]):format(url, options.queue or redis.queue(), options.lease or 15)
  local child = run.start({ "--log-format", "json", "-e", script }, { limit = 60 })
  function child.log()
    local lines = {}
    for line in child.stderr:gmatch "[^\n]+" do
      local entry = ltsh.json.decode(line)
      if entry and entry.level ~= "debug" then lines[#lines + 1] = entry end
    end
    return lines
  end
  function child.runs() -- one more
    child.stdout = ""
    child:expect "ran %d+"
  end
  function child.over()
    child:kill "sigkill"
    child:wait()
  end
  return child
end

describe("a server that is not there", function()
  it("is told in a line when it is missed and when it is back, however it is missed", function()
    local server = redis.start()
    local refused, silent = wire(server), wire(server)
    refused:refuse()
    silent:stall()
    local children = {
      refused = host(refused.url, {}),
      silent = host(silent.url, {}),
      unknown = host("redis://nobody.invalid:1", {}),
    }
    local began = uv.hrtime()
    for _, child in pairs(children) do child:expect "open" end
    assert.is_true((uv.hrtime() - began) / 1e9 < 6)
    assert.is_true(tonumber(children.refused.stdout:match "made ([%d.]+)") < 1)
    assert.is_true(tonumber(children.silent.stdout:match "made ([%d.]+)") < 5)
    refused:accept()
    silent:pass()
    for name, words in pairs { refused = "connection refused", silent = "does not answer in time" } do
      local child = children[name]
      child:expect "ran %d+"
      local lines = child.log()
      assert.equal(2, #lines, child.stderr)
      assert.truthy(lines[1].message:find "the store is down")
      assert.truthy(lines[1].error:find("redis://127.0.0.1:", 1, true) and lines[1].error:find(words, 1, true),
        lines[1].error)
      assert.equal("the store is back", lines[2].message)
      assert.is_true(lines[2].seconds > 0)
    end
    assert.equal(1, #children.unknown.log(), children.unknown.stderr)
    assert.truthy(children.unknown.log()[1].error:find "its name cannot be looked up: ")
    for _, child in pairs(children) do child.over() end
  end)
end)

describe("a name server that does not answer", function()
  local names = require "spec.support.shim"("names_shim.c", "names cannot be held up for this build")
  lazy_setup(names.open)
  lazy_teardown(names.close)

  names.it(it, pending)("holds up neither other work nor the end, and is not asked for addresses", function()
    local server = redis.shared()
    local script = ([[
      local ltsh = require "ltsh"
      local began, ticks = ltsh.now(), 0
      local function open(url)
        local container = ltsh.container.redis { url = url, queue = "names" }
        return ltsh.scheduler { container = container, actuator = ltsh.actuator.func(function() end) }
      end
      local numeric, path = open "redis://127.0.0.1:%d", open "unix://%s"
      numeric:add { id = "a" }
      path:add { id = "b" }
      print(numeric:wait("b").status, path:wait("a").status, ltsh.now() - began < 2)
      ltsh.spawn(function()
        while ltsh.now() - began < 3 do
          ltsh.sleep(0.01)
          ticks = ticks + 1
        end
      end)
      local named = open "redis://some.where:6379"
      print(ticks > 100)
      for _, scheduler in ipairs { numeric, path, named } do scheduler:close { drain = 0 } end
      print "closed"
    ]]):format(server.port, server.path)
    local elapsed, result = seconds_of(run.ltsh, { "-e", script }, { env = names.preload {} })
    assert.truthy(result.stdout:find "^success\tsuccess\ttrue\ntrue\n", result.stdout .. result.stderr)
    assert.truthy(result.stdout:find "closed\n$", result.stdout .. result.stderr)
    assert.truthy(result.stderr:find "its name is not looked up in time", result.stderr)
    assert.is_true(elapsed < 10)
  end)
end)

describe("TLS", function()
  local server, certs, url

  lazy_setup(function()
    certs = run.folder() .. "/certs"
    certificates.make(certs, "IP:127.0.0.1")
    server = redis.start {
      "--tls-cert-file", certs .. "/server-cert.pem", "--tls-key-file", certs .. "/server-key.pem",
      "--tls-ca-cert-file", certs .. "/ca.pem",
    }
    local port = redis.free_port()
    server:cli("CONFIG", "SET", "tls-port", tostring(port))
    url = "rediss://127.0.0.1:" .. port
  end)

  local function tls(changes)
    local given = { ca = certs .. "/ca.pem", cert = certs .. "/cert.pem", key = certs .. "/key.pem" }
    for name, value in pairs(changes) do given[name] = value or nil end
    return given
  end

  -- A server that says only this.
  local function saying(bytes)
    local other = uv.new_tcp()
    assert(other:bind("127.0.0.1", 0))
    other:listen(1, function()
      local client = uv.new_tcp()
      other:accept(client)
      client:write(bytes, function() client:close() end)
    end)
    return {
      url = "://127.0.0.1:" .. math.tointeger(other:getsockname().port), close = function() other:close() end }
  end

  it("carries everything", function()
    local container = connect { url = url, tls = tls {} }
    local scheduler = scene.open(function(task) return #task.item end, { container = container })
    local text = ("x"):rep(1000000)
    for i = 1, 20 do scheduler:add { id = tostring(i), item = text } end
    for i = 1, 20 do assert.equal(1000000, scheduler:wait(tostring(i)).output) end
  end)

  it("raises when one side does not trust the other, or they do not both speak it", function()
    local function says(text, options)
      local message = refusal(options)
      assert.truthy(message:find(text, 1, true), message)
    end
    says("its certificate is not accepted: ", { url = url })
    says("hostname mismatch", { url = url:gsub("127.0.0.1", "localhost"), tls = tls {} })
    says("hostname mismatch", { url = url, tls = tls { name = "another.name" } })
    says("certificate required", { url = url, tls = tls { cert = false, key = false } })
    local alert, plain = saying "\x15\x03\x03\0\2\2\40", saying "-ERR unknown command\r\n"
    says("it speaks TLS (begin the url with rediss://)", { url = "redis" .. alert.url })
    says("it does not speak TLS", { url = "rediss" .. plain.url, tls = tls {} })
    alert.close()
    plain.close()
    says("tls.key: the key in", { url = url, tls = tls { key = certs .. "/server-key.pem" } })
  end)

  it("may be for a name that is not the host's", function()
    local container = connect { url = url:gsub("127.0.0.1", "localhost"), tls = tls { name = "127.0.0.1" } }
    local scheduler = scene.open(nil, { container = container })
    scheduler:add { id = "a" }
    assert.equal("success", scheduler:wait("a").status)
  end)
end)

describe("a connection that dies without a word", function()
  it("is noticed well before the lease ends, and work goes on soon after the network is back", function()
    local between = wire(redis.shared())
    local child = host(between.url, { lease = 3 })
    child:expect "ran %d+"
    between:stall()
    local noticed = seconds_of(child.expect, child, "the store is down", "stderr")
    assert.is_true(noticed < 2, noticed)
    between:pass()
    local back = seconds_of(child.runs)
    assert.is_true(back < 5, back)
    assert.equal(2, #child.log(), child.stderr)
    assert.truthy(child.log()[1].error:find "it does not answer in time")
    child.over()
  end)

  it("does not end what runs, and stores its end once", function()
    local between = wire(redis.shared())
    local door, starts = scene.door(), 0
    local scheduler = scene.open(function()
      starts = starts + 1
      door.pass()
      return "done"
    end, { container = connect { url = between.url, lease = 3 } })
    scheduler:add { id = "a" }
    scene.eventually("it runs", function() return door.waiting == 1 end)
    between:stall()
    door.is_open = true
    ltsh.sleep(1.5)
    between:pass()
    local task = scheduler:wait "a"
    assert.same({ "success", "done", 1, 1 }, { task.status, task.output, task.attempts, starts })
  end)
end)

describe("answers that come later than they are waited for", function()
  it("count once, as what is asked again", function()
    local between = wire(redis.shared())
    local starts = {}
    local scheduler = scene.open(function(task)
      starts[task.id] = (starts[task.id] or 0) + 1
      if task.attempts == 1 then error("once", 0) end
    end, {
      container = connect { url = between.url, lease = 2, keep = { success = 0.001 } }, limit = 8, max_retries = 3,
      backoff = 0.01,
    })
    for round = 1, 4 do
      for i = 1, 8 do assert(scheduler:add { id = round .. "." .. i }) end
      between.delay = 0.7 -- more than an answer may take with this lease, for a moment
      ltsh.sleep(0.2)
      between.delay = 0
    end
    local ends = {}
    for task in scheduler:finished() do
      assert.same({ "success", 2 }, { task.status, task.attempts })
      ends[task.id] = (ends[task.id] or 0) + 1
    end
    for round = 1, 4 do
      for i = 1, 8 do assert.same({ 2, 1 }, { starts[round .. "." .. i], ends[round .. "." .. i] }) end
    end
  end)
end)

-- Hosts side by side, each behind a wire of its own that `fault(wire, n)` does something to, so often: all tasks run
-- once and end once.
local function storm(server, count, fault)
  local LANES, BATCH = 8, 16
  local function lane()
    local between = wire(server)
    local starts, ends, at_once = {}, {}, {}
    local scheduler = scene.open(function(task)
      starts[task.id] = (starts[task.id] or 0) + 1
      at_once[task.id] = (at_once[task.id] or 0) + 1
      if at_once[task.id] > 1 then error "twice at once" end
      if starts[task.id] % 3 == 0 then ltsh.sleep(0.002) end
      at_once[task.id] = at_once[task.id] - 1
    end, { container = connect { url = between.url, lease = 60 }, limit = 64 })
    local function finish()
      for task in scheduler:finished() do
        assert.equal("success", task.status, task.reason)
        ends[task.id] = (ends[task.id] or 0) + 1
      end
    end
    for n = 1, count / LANES do
      local list = {}
      for i = 1, BATCH do list[i] = { id = n .. "." .. i } end
      fault(between, n)
      assert(scheduler:add_all(list))
      finish()
      for i = 1, BATCH do
        local id = n .. "." .. i
        if starts[id] ~= 1 then print(id, starts[id], ends[id], select(2, scheduler:get(id))) end
        assert.same({ id, 1, 1 }, { id, starts[id], ends[id] })
      end
    end
    return between
  end
  local jobs, cuts = {}, 0
  for i = 1, LANES do jobs[i] = ltsh.spawn(lane) end
  for i = 1, LANES do cuts = cuts + jobs[i]:wait().connections / 2 end
  return cuts
end

local CUTS = tonumber(os.getenv "LTSH_CUTS" or "400")

describe("connections that are cut", function()
  it("at any byte of the answers: all that was asked is done once", function()
    local cuts = storm(redis.shared(), CUTS, function(between, n) between:cut_at(n * 7 % 997) end)
    assert.is_true(cuts > CUTS * 0.9, cuts)
  end)

  it("with all slots under way: all that was asked is done once", function()
    local server, asked = redis.shared(), 0
    storm(server, CUTS, function(between, n)
      between.seen = function()
        asked = asked + 1
        if asked % 5 == n % 5 then
          between.seen = nil
          between:cut()
        end
      end
    end)
  end)
end)

describe("a server that forgets its scripts", function()
  it("gets them again, and does all that was asked in its order", function()
    local server = redis.shared()
    storm(server, 200, function() server:cli("SCRIPT", "FLUSH") end)
  end)
end)
