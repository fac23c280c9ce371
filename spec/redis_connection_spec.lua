-- ltsh.container.redis and its server: how it gets there, what it says of what is wrong, and what it makes of servers
-- and networks that fail.
local ltsh = require "ltsh"
local uv = require "luv"
local certificates = require "spec.support.certificates"
local free_port = require "spec.support.free_port"
local redis = require "spec.support.redis"
local run = require "spec.support.run"
local scene = require "spec.support.scene"
local Socket = require "spec.support.socket"
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

-- Hosts that work while their connections have faults of this kind, so many: what they say in the end.
local function storm(port, kind, count, certs)
  local done = run.ltsh({ "spec/support/storm.lua", tostring(port), kind, tostring(count), certs }, { limit = 120 })
  assert.same({ 0, "all was done once\n" }, { done.code, done.stdout:match "[^\n]*\n$" }, done.stdout .. done.stderr)
  local _, downs = done.stderr:gsub("the store is down", "")
  local _, backs = done.stderr:gsub("the store is back", "")
  assert.equal(downs, backs)
  assert.is_nil((done.stderr:match "[^\n]*claim failed[^\n]*")) -- as when it seems to be back for a moment
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
    assert.is_true(elapsed < 5)
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

  it("raises for a queue of another layout, and for a key that is somebody else's", function()
    local server, newer, older, foreign = redis.shared(), redis.queue(), redis.queue(), redis.queue()
    server:cli("HSET", "ltsh:{" .. newer .. "}", "layout", "1000")
    local message = refusal { url = server.url, queue = newer }
    assert.truthy(message:find("its layout is 1000, this one knows 2): update ltsh on this host", 1, true), message)
    server:cli("HSET", "ltsh:{" .. older .. "}", "layout", "1")
    message = refusal { url = server.url, queue = older }
    assert.truthy(message:find("its layout is 1, this one writes 2): let hosts with that one end its tasks", 1, true),
      message)
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
    assert.is_true((uv.hrtime() - began) / 1e9 < 20)
    assert.is_true(tonumber(children.refused.stdout:match "made ([%d.]+)") < 4)
    assert.is_true(tonumber(children.silent.stdout:match "made ([%d.]+)") < 9)
    refused:accept()
    silent:pass()
    silent:cut()
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
      print(ticks > 20)
      for _, scheduler in ipairs { numeric, path, named } do scheduler:close { drain = 0 } end
      print "closed"
    ]]):format(server.port, server.path)
    local elapsed, result = seconds_of(run.ltsh, { "-e", script }, { env = names.preload {} })
    assert.truthy(result.stdout:find "^success\tsuccess\ttrue\ntrue\n", result.stdout .. result.stderr)
    assert.truthy(result.stdout:find "closed\n$", result.stdout .. result.stderr)
    assert.truthy(result.stderr:find "its name is not looked up in time", result.stderr)
    assert.is_true(elapsed < 30)
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
    local port = free_port()
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

  it("that is cut at any byte: all that was asked is done once", function()
    storm(tonumber(url:match "%d+$"), "answers", 200, certs)
  end)

  it("may be for a name that is not the host's", function()
    local container = connect { url = url:gsub("127.0.0.1", "localhost"), tls = tls { name = "127.0.0.1" } }
    local scheduler = scene.open(nil, { container = container })
    scheduler:add { id = "a" }
    assert.equal("success", scheduler:wait("a").status)
  end)
end)

describe("a connection that dies without a word", function()
  it("is noticed before the lease ends, and work goes on when the network is back", function()
    local between = wire(redis.shared())
    local child = host(between.url, { lease = 12 })
    child:expect "ran %d+"
    between:stall()
    local noticed = seconds_of(child.expect, child, "the store is down", "stderr")
    assert.is_true(noticed < 12, noticed)
    between:pass()
    child.runs()
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
      if task.attempts == 1 then return nil, "once" end
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

describe("all that was asked is done once", function()
  it("when connections are cut at any byte of the answers", function() storm(redis.shared().port, "answers", 400) end)
  it("when they are cut with all slots under way", function() storm(redis.shared().port, "questions", 400) end)
  it("when the server forgets its scripts", function() storm(redis.shared().port, "scripts", 400) end)
  it("when it has no libraries of functions, and forgets its scripts", function()
    local server = redis.start() -- as those before Redis 7
    server:cli("ACL", "SETUSER", "default", "-function", "-fcall")
    storm(server.port, "scripts", 400)
    assert.equal("", server:cli("FUNCTION", "LIST"):match "ltsh" or "")
    assert.truthy(server:cli("INFO", "commandstats"):find "cmdstat_evalsha:calls=%d%d%d")
  end)
end)

-- Adds tasks one after the other, each when the one before has ended, until so many were accepted, and `over()`
-- (if it is given). All that were accepted have run, and ended, once.
local function keep_busy(scheduler, starts, count, over)
  local ids = {}
  repeat
    starts.last = (starts.last or 0) + 1
    local id = "busy " .. starts.last
    if scheduler:add { id = id } then
      ids[#ids + 1] = id
      assert.equal("success", scheduler:wait(id).status)
    end
  until #ids >= count and (not over or over())
  for _, id in ipairs(ids) do assert.same({ id, 1 }, { id, starts[id] }) end
end

-- A scheduler that counts its starts by id.
local function counting(container)
  local starts = {}
  return scene.open(function(task) starts[task.id] = (starts[task.id] or 0) + 1 end, { container = container }), starts
end

describe("sentinels", function()
  local master, replica, sentinel, urls

  lazy_setup(function()
    master = redis.start()
    replica = redis.replica(master)
    sentinel = redis.sentinel(master)
    urls = { "redis://127.0.0.1:" .. free_port(), sentinel.url }
    scene.eventually("the replica is known", function()
      return sentinel:cli("SENTINEL", "REPLICAS", "mymaster"):find "flags\nslave\n"
    end)
  end)

  it("that know no master of this name: it raises", function()
    local message = refusal { url = "redis://nobody", sentinels = urls }
    assert.truthy(message:find("it knows no master that is named 'nobody'", 1, true), message)
  end)

  it("are asked again when the master is another, though no connection was closed", function()
    local before, after = master, replica
    local scheduler, starts = counting(connect { url = "redis://mymaster", sentinels = urls, lease = 8 })
    keep_busy(scheduler, starts, 1)
    sentinel:cli("SENTINEL", "FAILOVER", "mymaster")
    scene.eventually("there is another", function() return after:cli("ROLE"):find "^master" end)
    assert.equal("success", scheduler:wait(assert(scheduler:add { id = "there" })).status)
    scene.eventually("it knows", function() return before:cli("ROLE"):find "^slave" end)
    keep_busy(scheduler, starts, 2)
    assert.truthy(after:cli("CLIENT", "LIST"):find "name=ltsh")
  end)

  it("are asked again when the master is dead", function()
    scene.eventually("both are there", function() return replica:cli("ROLE"):find "^master" end)
    local scheduler, starts = counting(connect { url = "redis://mymaster", sentinels = urls, lease = 8 })
    scene.eventually("it has caught up", function()
      return sentinel:cli("SENTINEL", "REPLICAS", "mymaster"):find "flags\nslave\n" and
        replica:cli("INFO", "replication"):find "connected_slaves:1"
    end)
    keep_busy(scheduler, starts, 1)
    replica:kill()
    keep_busy(scheduler, starts, 2)
    assert.truthy(master:cli("CLIENT", "LIST"):find "name=ltsh")
  end)
end)

describe("a cluster", function()
  local nodes

  lazy_setup(function() nodes = redis.cluster(3) end)

  local function owner_of(slot)
    for _, node in ipairs(nodes) do
      if node:cli("CLUSTER", "COUNTKEYSINSLOT", slot) ~= "0" then return node end
    end
  end

  it("is found through any of its nodes, and one that is down is passed over", function()
    local queue, dead = redis.queue(), "redis://127.0.0.1:" .. free_port()
    for i, node in ipairs(nodes) do
      local scheduler = counting(connect { url = { dead, node.url }, queue = queue })
      assert(scheduler:add { id = tostring(i) })
      assert.equal("success", scheduler:wait(tostring(i)).status)
    end
    local message = refusal { url = nodes[1].url .. "/3" }
    assert.truthy(message:find("a cluster has database 0 only", 1, true), message)
  end)

  it("may move the queue from one node to another while it is used", function()
    local queue = redis.queue()
    local scheduler, starts = counting(connect { url = nodes[1].url, queue = queue })
    keep_busy(scheduler, starts, 1)
    local slot = nodes[1]:cli("CLUSTER", "KEYSLOT", "{" .. queue .. "}")
    local from = owner_of(slot)
    local to = from == nodes[1] and nodes[2] or nodes[1]
    local from_id, to_id = from:cli("CLUSTER", "MYID"), to:cli("CLUSTER", "MYID")
    local moved = false
    ltsh.spawn(function()
      to:cli("CLUSTER", "SETSLOT", slot, "IMPORTING", from_id)
      from:cli("CLUSTER", "SETSLOT", slot, "MIGRATING", to_id)
      local keys = {}
      for key in from:cli("CLUSTER", "GETKEYSINSLOT", slot, "100"):gmatch "[^\n]+" do keys[#keys + 1] = key end
      ltsh.sleep(0.2) -- they are here and there for a while
      from:cli("MIGRATE", "127.0.0.1", tostring(to.port), "", "0", "1000", "KEYS", table.unpack(keys, 1, #keys // 2))
      ltsh.sleep(0.2)
      from:cli("MIGRATE", "127.0.0.1", tostring(to.port), "", "0", "1000", "KEYS", table.unpack(keys, #keys // 2 + 1))
      for _, node in ipairs { to, from, nodes[3] } do node:cli("CLUSTER", "SETSLOT", slot, "NODE", to_id) end
      moved = true
    end)
    keep_busy(scheduler, starts, 1, function()
      return moved and owner_of(slot) == to and to:cli("CLIENT", "LIST"):find "name=ltsh"
    end)
  end)

  it("without the queue's slot is down until it has it again", function()
    local queue = redis.queue()
    local child = host(nodes[1].url, { queue = queue })
    child:expect "ran %d+"
    local slot = nodes[1]:cli("CLUSTER", "KEYSLOT", "{" .. queue .. "}")
    local owner = owner_of(slot)
    for _, node in ipairs(nodes) do node:cli("CLUSTER", "DELSLOTS", slot) end
    child:expect("CLUSTERDOWN", "stderr")
    owner:cli("CLUSTER", "ADDSLOTS", slot)
    child.runs()
    assert.equal(2, #child.log(), child.stderr)
    child.over()
  end)
end)

describe("wait_replicas", function()
  it("has what add returned on so many of them, and says so where it has not", function()
    local server = redis.start()
    local replica = redis.replica(server)
    local container = connect { url = server.url, wait_replicas = 1, lease = 4 }
    local scheduler = scene.open(function() end, { container = container })
    scheduler:pause()
    assert(scheduler:add { id = "a" })
    local queue = server:cli("KEYS", "*:tasks")
    assert.equal("1", replica:cli("HEXISTS", queue, "a"))
    replica:pause()
    local id, message, code = scheduler:add { id = "b" }
    assert.same({ nil, "it was added, but only 0 of 1 replicas have it in time", "timeout" }, { id, message, code })
    assert.equal("waiting", scheduler:get("b").status)
    local jobs = {} -- many at once travel together, and hold up no renewal
    for i = 1, 300 do jobs[i] = ltsh.spawn(function() return select(3, scheduler:add { id = "many" .. i }) end) end
    for i = 1, 300 do assert.equal("timeout", jobs[i]:wait()) end
    replica:resume()
    scene.eventually("it is there", function() return scheduler:add { id = "c" .. ltsh.now() } end)
    scheduler:resume()
    assert.equal("success", scheduler:wait("b").status)
  end)
end)

describe("a server that can do nothing for now", function()
  -- What a server says, and how it comes to say that, and not any more; `cut`: it cuts the connection first.
  local cases = {
    LOADING = {
      cut = true,
      breaks = function(server)
        server:cli("CONFIG", "SET", "rdbcompression", "no")
        for i = 1, 40 do server:cli("SET", "other" .. i, ("x"):rep(2000)) end -- it looks up now and then only
        server:cli("SHUTDOWN", "SAVE")
        server.child:wait()
        server.options = { "--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024" }
        server.ready = "Server initialized"
        server:restart()
      end,
      mends = function() end,
    },
    BUSY = {
      breaks = function(server)
        server:cli("CONFIG", "SET", "busy-reply-threshold", "50")
        server.loops = run.start({ "-s", server.path, "EVAL", "while true do end", "0" }, { program = "redis-cli" })
      end,
      mends = function(server)
        server:cli("SCRIPT", "KILL")
        server.loops:wait()
      end,
    },
    MISCONF = {
      breaks = function(server)
        uv.fs_mkdir(server.folder .. "/dump.rdb", 448)
        uv.fs_mkdir(server.folder .. "/dump.rdb/x", 448) -- so that nothing can be renamed to this
        server:cli("BGSAVE")
      end,
      mends = function(server)
        uv.fs_rmdir(server.folder .. "/dump.rdb/x")
        uv.fs_rmdir(server.folder .. "/dump.rdb")
        server:cli("BGSAVE")
      end,
    },
    NOREPLICAS = {
      breaks = function(server) server:cli("CONFIG", "SET", "min-replicas-to-write", "1") end,
      mends = function(server) server:cli("CONFIG", "SET", "min-replicas-to-write", "0") end,
    },
    READONLY = {
      breaks = function(server) server:cli("REPLICAOF", "127.0.0.1", "1") end,
      mends = function(server) server:cli("REPLICAOF", "NO", "ONE") end,
    },
    MASTERDOWN = { -- as scripts are told
      prepares = function(server) server:cli("ACL", "SETUSER", "default", "-fcall", "-function") end,
      breaks = function(server)
        server:cli("CONFIG", "SET", "replica-serve-stale-data", "no")
        server:cli("REPLICAOF", "127.0.0.1", "1")
      end,
      mends = function(server) server:cli("REPLICAOF", "NO", "ONE") end,
    },
    ["max number of clients"] = {
      cut = true,
      breaks = function(server)
        server.other = Socket.open(server.port)
        server.other:send "CONFIG SET maxclients 1\r\nCLIENT KILL TYPE normal SKIPME yes\r\n"
        server.other:expect "OK\r\n:%d+\r\n"
      end,
      mends = function(server)
        server.other:send "CONFIG SET maxclients 100\r\n"
        server.other:expect "OK\r\n:%d+\r\n%+OK"
        server.other:close()
      end,
    },
  }

  it("is told as down in one line and as back in one, and all goes on", function()
    local jobs = {}
    for says, case in pairs(cases) do
      jobs[says] = ltsh.spawn(function()
        local server = redis.start()
        if case.prepares then case.prepares(server) end
        local child = host(server.url, {})
        child:expect "ran %d+"
        case.breaks(server)
        child:expect(case.cut and "the connection was cut" or says, "stderr")
        if case.cut then
          scene.eventually("it says so", function()
            local asked, answer = pcall(Socket.ask, server.port, "GET x\r\nQUIT\r\n")
            return asked and answer:find(says, 1, true)
          end)
        end
        case.mends(server)
        child:expect("the store is back", "stderr")
        child.runs()
        assert.equal(2, #child.log(), child.stderr)
        child.over()
        return true
      end)
    end
    for says, job in pairs(jobs) do
      local fine, message = job:wait()
      assert(fine, says .. ": " .. tostring(message))
    end
  end)

  it("is waited for by the constructor as well", function()
    local server = redis.start()
    server:cli("CONFIG", "SET", "min-replicas-to-write", "1")
    local scheduler = counting(connect { url = server.url })
    server:cli("CONFIG", "SET", "min-replicas-to-write", "0")
    assert.equal("success", scheduler:wait(assert(scheduler:add { id = "a" })).status)
  end)

  it("takes no more tasks when its memory is full, and lets others end", function()
    local server, door = redis.start(), scene.door()
    local scheduler = scene.open(door.pass, { container = connect { url = server.url, lease = 3 }, limit = 4 })
    for i = 1, 4 do scheduler:add { id = tostring(i) } end
    scene.eventually("they run", function() return door.waiting == 4 end)
    server:cli("CONFIG", "SET", "maxmemory", "1")
    local id, message, code = scheduler:add { id = "more" }
    assert.same({ nil, "full" }, { id, code })
    assert.truthy(message:find "^OOM ", message)
    door.is_open = true
    for i = 1, 4 do assert.equal("success", scheduler:wait(tostring(i)).status) end
    server:cli("CONFIG", "SET", "maxmemory", "0")
    assert.equal("success", scheduler:wait(assert(scheduler:add { id = "more" })).status)
  end)

  it("takes no tasks when its memory is full, though they come along with ends", function()
    local server, door, jobs = redis.start(), scene.door(), {}
    local scheduler = scene.open(door.pass, { container = connect { url = server.url, lease = 3 }, limit = 20 })
    for i = 1, 20 do assert(scheduler:add { id = tostring(i) }) end
    scene.eventually("they run", function() return door.waiting == 20 end)
    for i = 1, 20 do
      jobs[i] = ltsh.spawn(function()
        door.pass()
        return select(3, scheduler:add { id = "more" .. i })
      end)
    end
    server:cli("CONFIG", "SET", "maxmemory", "1")
    door.is_open = true
    for i = 1, 20 do assert.equal("full", jobs[i]:wait()) end
    for i = 1, 20 do assert.equal("success", scheduler:wait(tostring(i)).status) end
  end)
end)

describe("a server that may lose tasks", function()
  local function warnings(options)
    local server = redis.start(options)
    local child = host(server.url, {})
    child:expect "ran %d+"
    child.runs()
    server:cli("CLIENT", "KILL", "TYPE", "normal") -- it is said once
    child:expect("the store is back", "stderr")
    local messages = {}
    for _, line in ipairs(child.log()) do
      if not line.message:find "^the store is" then messages[#messages + 1] = line.message end
    end
    child.over()
    return messages
  end

  it("is warned of once", function()
    local evicting = warnings { "--maxmemory-policy", "allkeys-lru" }
    assert.equal(1, #evicting)
    assert.truthy(evicting[1]:find "set its maxmemory%-policy to noeviction")
    local forgetful = warnings { "--save", "" }
    assert.equal(1, #forgetful)
    assert.truthy(forgetful[1]:find "set its appendonly to yes")
    assert.same({}, warnings { "--save", "", "--appendonly", "yes", "--maxmemory-policy", "volatile-lru" })
  end)
end)
