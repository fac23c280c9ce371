-- ltsh.http: servers of scripts, with what clients send that they should not, and requests to others.

local ltsh = require "ltsh"
local uv = require "luv"
local run = require "spec.support.run"
local scene = require "spec.support.scene"
local socket = require "spec.support.socket"

local eventually = scene.eventually

local servers = {}

local function serve(options)
  local server = ltsh.http.server(options)
  servers[#servers + 1] = server
  return server
end

local function echo(request)
  return { json = {
    method = request.method, path = request.path, query = request.query, all = request.query_all, body = request.body,
    params = request.params, remote = request.remote,
  } }
end

local function get(server, path, options)
  options = options or {}
  options.url = server.url .. path
  return assert(ltsh.http.request(options))
end

-- A request by hand, which ends the connection.
local function lines(method, path, headers, body)
  return ("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n%s"):format(method, path, headers or "", body or "")
end

local function status_of(answer) return tonumber(answer:match "^HTTP/1%.1 (%d+)") end

local function folder_with(files)
  local path = scene.temporary ".d"
  assert(uv.fs_mkdir(path, 448))
  for name, text in pairs(files) do
    local file <close> = assert(io.open(path .. "/" .. name, "wb"))
    file:write(text)
  end
  return path
end

after_each(function()
  for _, server in ipairs(servers) do server:close { drain = 0 } end
  servers = {}
  scene.close()
  run.clean()
end)

describe("ltsh.http.server", function()
  describe("routes", function()
    it("by method and path, the literal before names and the rest", function()
      local said = function(text) return function(request)
        return { body = text .. ":" .. (request.params.id or request.params.rest or "") }
      end end
      local server = serve { routes = {
        ["GET /"] = said "root", ["GET /tasks"] = said "list", ["GET /tasks/:id"] = said "one",
        ["GET /tasks/new"] = said "new", ["GET /tasks/:id/log"] = said "log", ["* /files/*rest"] = said "files",
        ["POST /tasks/:id"] = said "post",
      } }
      for path, expected in pairs {
        [""] = "root:", tasks = "list:", ["tasks/7"] = "one:7", ["tasks/new"] = "new:", ["tasks/7/log"] = "log:7",
        ["tasks/a%2Fb%20c"] = "one:a/b c", ["files/a/b/c"] = "files:a/b/c", ["files/"] = "files:",
        ["tasks/n%65w"] = "new:", ["tasks/7?x=/y"] = "one:7",
      } do
        assert.equal(expected, get(server, path).body, path)
      end
      assert.equal("post:7", get(server, "tasks/7", { method = "POST" }).body)
      for _, path in ipairs { "nothing", "tasks/", "tasks/7/other", "tasks/7/log/" } do
        local answer = get(server, path)
        assert.same({ 404, "unknown" }, { answer.status, answer:json().code }, path)
      end
    end)

    it("and say what is possible where another method is asked for", function()
      local server = serve { routes = { ["GET /a"] = echo, ["POST /a"] = echo, ["PUT /b"] = echo } }
      local answer = get(server, "a", { method = "DELETE" })
      assert.same({ 405, "GET, HEAD, POST" }, { answer.status, answer.headers.allow })
      assert.equal("PUT", get(server, "b").headers.allow)
    end)

    it("answer HEAD as GET, without a body", function()
      local server = serve { routes = { ["GET /a"] = function() return { body = "12345" } end } }
      local answer = socket.ask(server.port, lines("HEAD", "/a"))
      assert.matches("Content%-Length: 5\r\n", answer)
      assert.matches("\r\n\r\n$", answer)
    end)

    it("are checked when the server is made", function()
      local wrong = { ["GET"] = echo, ["get /a"] = echo, ["/a"] = echo, ["GET /a"] = 5, ["GET a"] = echo }
      for route, handler in pairs(wrong) do
        local ok, message = pcall(ltsh.http.server, { routes = { [route] = handler } })
        assert.is_false(ok)
        assert.matches("^ltsh.http.server: ", message)
      end
    end)
  end)

  describe("a request", function()
    it("has its query, decoded, and each value of a name", function()
      local server = serve { routes = { ["GET /q"] = echo } }
      local query = get(server, "q?a=1&a=2&b=x+y%20z&c&d=%C3%BC&=e"):json()
      assert.same({ a = "2", b = "x y z", c = "", d = "ü", [""] = "e" }, query.query)
      assert.same({ "1", "2" }, query.all.a)
      assert.equal(400, get(server, "q?a=%zz").status)
      assert.equal(400, get(server, "q?a=%4").status)
    end)

    it("has its headers under any spelling, always as text", function()
      local seen
      local server = serve { routes = { ["GET /"] = function(request)
        seen = request.headers
        return {}
      end } }
      socket.ask(server.port, lines("GET", "/", "X-One: a\r\nX-ONE:  b \r\nx-empty:\r\nCookie: a=1\r\nCookie: b=2\r\n"))
      assert.same({ "a, b", "a, b", "", "a=1; b=2" }, { seen["x-one"], seen["X-One"], seen["X-Empty"], seen.cookie })
      assert.is_nil(seen["x-none"])
      assert.is_nil(seen[5])
    end)

    it("has its body, however it comes", function()
      local server = serve { max_body = "2M", routes = { ["POST /"] = function(request)
        return { json = { size = #request.body, sum = request.body:byte(1), last = request.body:byte(-1) } }
      end } }
      for _, size in ipairs { 1, 32768, 900000 } do
        local body = ("a"):rep(size - 1) .. "z"
        local client = socket.open(server.port)
        client:send(("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"):format(size))
        local step = math.max(1, size // 50)
        for i = 1, size, step do
          client:send(body:sub(i, i + step - 1))
          ltsh.sleep(0)
        end
        client:expect('"size":' .. size)
        client:send("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i = 1, size, step do
          local piece = body:sub(i, i + step - 1)
          client:send(("%x\r\n%s\r\n"):format(#piece, piece))
        end
        client:send("0\r\nTrailer: ignored\r\n\r\n")
        assert.equal(2, select(2, client:rest():gsub('"size":' .. size, "")))
      end
    end)

    it("has its body as JSON, or is answered that it is none", function()
      local server = serve { routes = { ["POST /"] = function(request) return { json = { got = request.json } } end } }
      assert.same({ got = { a = { 1, 2 } } }, get(server, "", { json = { a = { 1, 2 } } }):json())
      local answer = get(server, "", { body = '{"a":' })
      assert.same({ 400, "bad_request" }, { answer.status, answer:json().code })
      assert.matches("no JSON", answer:json().error)
    end)

    it("may wait, beside others", function()
      local gate = scene.door()
      local server = serve { routes = {
        ["GET /slow"] = function()
          gate.pass()
          return { body = "slow" }
        end,
        ["GET /"] = function() return { body = "quick" } end,
      } }
      local slow = ltsh.spawn(function() return get(server, "slow").body end)
      eventually("it waits", function() return gate.waiting == 1 end)
      for _ = 1, 10 do assert.equal("quick", get(server, "").body) end
      gate.is_open = true
      assert.equal("slow", slow:wait())
    end)

    it("is answered 500 when its handler raises or returns nonsense, and the server goes on", function()
      local result = run.ltsh { "-e", [[
        local ltsh = require "ltsh"
        local server = ltsh.http.server { routes = {
          ["GET /raise"] = function() error "secret text" end,
          ["GET /table"] = function() error {} end,
          ["GET /nothing"] = function() end,
          ["GET /status"] = function() return { status = "200" } end,
          ["GET /line"] = function() return { headers = { ["X-A"] = "a\r\nSet-Cookie: b" }, body = "x" } end,
          ["GET /name"] = function() return { headers = { ["X A"] = "a" }, body = "x" } end,
          ["GET /json"] = function() return { json = print } end,
          ["GET /ok"] = function() return { body = "ok" } end,
        } }
        for _, path in ipairs { "raise", "table", "nothing", "status", "line", "name", "json", "ok" } do
          local answer = ltsh.http.get(server.url .. path)
          print(path, answer.status, answer.headers["set-cookie"], answer.body)
        end
        server:close()
      ]] }
      for line in result.stdout:gmatch "[^\n]+" do
        local path, status, cookie, body = line:match "^(%w+)\t(%d+)\t(%w+)\t(.*)$"
        assert.equal("nil", cookie)
        if path == "ok" then
          assert.same({ "200", "ok" }, { status, body })
        else
          assert.equal("500", status)
          assert.same({ error = "the request could not be handled", code = "internal" }, ltsh.json.decode(body))
        end
      end
      assert.matches("secret text", result.stderr)
      assert.matches("traceback", result.stderr)
      assert.equal(7, select(2, result.stderr:gsub("a request could not be handled", "")), result.stderr)
    end)

    it("is given up when its handler takes too long", function()
      local server = serve { handler_timeout = 0.05, routes = { ["GET /"] = function()
        ltsh.sleep(10)
        return {}
      end } }
      local answer = get(server, "")
      assert.same({ 503, "timeout" }, { answer.status, answer:json().code })
    end)

    it("may come ahead of the answer to another, and is answered in its turn", function()
      local server = serve { routes = { ["GET /:n"] = function(request)
        ltsh.sleep(request.params.n == "1" and 0.05 or 0)
        return { body = "<" .. request.params.n .. ">" }
      end } }
      local many = {}
      for i = 1, 100 do
        many[i] = ("GET /%d HTTP/1.1\r\nHost: x\r\n%s\r\n"):format(i, i == 100 and "Connection: close\r\n" or "")
      end
      local found = {}
      for n in socket.ask(server.port, table.concat(many)):gmatch "<(%d+)>" do found[#found + 1] = tonumber(n) end
      assert.equal(100, #found)
      for i = 1, 100 do assert.equal(i, found[i]) end
    end)

    it("may be one of many that are answered together, of which some have gone and some send more", function()
      local gate = scene.door()
      local server = serve { routes = { ["GET /:n"] = function(request)
        gate.pass()
        return { body = "<" .. request.params.n .. ">" .. ("x"):rep(tonumber(request.params.n) % 3 * 20000) }
      end } }
      local sockets = {}
      for i = 1, 60 do
        sockets[i] = socket.open(server.port)
        local more = i % 2 == 0 and lines("GET", "/1000") or ""
        sockets[i]:send(("GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"):format(i) .. more)
      end
      eventually("all are asked for", function() return gate.waiting == 60 end)
      for i = 1, 60, 7 do sockets[i]:close() end
      gate.is_open = true
      for i = 1, 60 do
        if i % 7 ~= 1 then
          sockets[i]:expect("<" .. i .. ">")
          if i % 2 == 0 then assert.matches("<1000>", sockets[i]:rest(), 1, true) else sockets[i]:close() end
        end
      end
      assert.equal(200, get(server, "7").status)
    end)
  end)

  describe("refuses", function()
    local body, chunked = "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"
    -- What is sent, and the status: those that may be read in two ways, and those that are no requests.
    local cases = {
      { "two lengths", lines("POST", "/", body .. body, "abc"), 400 },
      { "two lengths that differ", lines("POST", "/", body .. "Content-Length: 4\r\n", "abc"), 400 },
      { "a length and chunks", lines("POST", "/", body .. chunked, "3\r\nabc\r\n0\r\n\r\n"), 400 },
      { "chunks and a length", lines("POST", "/", chunked .. body, "3\r\nabc\r\n0\r\n\r\n"), 400 },
      { "an unknown coding", lines("POST", "/", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400 },
      { "a coding that is hidden", lines("POST", "/", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400 },
      { "a coding that is given twice",
        lines("POST", "/", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400 },
      { "a length that is no number", lines("POST", "/", "Content-Length: 3x\r\n", "abc"), 400 },
      { "a negative length", lines("POST", "/", "Content-Length: -3\r\n", "abc"), 400 },
      { "a signed length", lines("POST", "/", "Content-Length: +3\r\n", "abc"), 400 },
      { "a list of lengths", lines("POST", "/", "Content-Length: 3, 3\r\n", "abc"), 400 },
      { "a huge length", lines("POST", "/", "Content-Length: 99999999999999999999999\r\n", "abc"), 400 },
      { "an odd chunk size", lines("POST", "/", "Transfer-Encoding: chunked\r\n", "0x3\r\nabc\r\n0\r\n\r\n"), 400 },
      { "a signed chunk size", lines("POST", "/", "Transfer-Encoding: chunked\r\n", "+3\r\nabc\r\n0\r\n\r\n"), 400 },
      { "a huge chunk size", lines("POST", "/", "Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nabc"), 400 },
      { "a chunk that is longer than it says", lines("POST", "/", chunked, "3\r\nabcd\r\n0\r\n\r\n"), 400 },
      { "no host", "GET / HTTP/1.1\r\n\r\n", 400 },
      { "two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400 },
      { "another version", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505 },
      { "no version", "GET /\r\n\r\n", 505 },
      { "an unknown method", "BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 400 },
      { "a proxy's method", "CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", 405 },
      { "noise", "\x16\x03\x01\x02\x00\x01\x00\x01", 400 },
      { "a NUL in a header", "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400 },
      { "a name with a space", "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400 },
      { "a space in the path", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400 },
      { "a path that cannot be decoded", lines("GET", "/%zz"), 400 },
      { "a header without end", "GET / HTTP/1.1\r\nHost: x\r\nA: " .. ("a"):rep(40000), 431 },
      { "10,000 headers", "GET / HTTP/1.1\r\nHost: x\r\n" .. ("A: b\r\n"):rep(10000) .. "\r\n", 431 },
      { "an endless address", "GET /" .. ("a"):rep(40000) .. " HTTP/1.1\r\nHost: x\r\n\r\n", 414 },
      { "a body that is too large", lines("POST", "/", "Content-Length: 2000000\r\n", "abc"), 413 },
      { "chunks that are too large",
        lines("POST", "/", chunked, ("10000\r\n" .. ("x"):rep(65536) .. "\r\n"):rep(20)), 413 },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local asked = 0
        local server = serve { routes = { ["* /*rest"] = function()
          asked = asked + 1
          return {}
        end } }
        local answer = socket.ask(server.port, case[2])
        assert.equal(case[3], status_of(answer), answer)
        assert.equal(0, asked)
        assert.matches('"code":"', answer, 1, true)
        assert.equal(1, select(2, answer:gsub("HTTP/1.1 %d%d%d ", ""))) -- and nothing behind it is taken for a request
      end)
    end

    it("a request that is cut off, at any byte, and goes on", function()
      local server = serve { routes = { ["POST /"] = function(request) return { body = request.body } end } }
      local whole = lines("POST", "/", "Content-Length: 5\r\n", "hello")
      for i = 1, #whole - 1 do
        local client = socket.open(server.port)
        client:send(whole:sub(1, i))
        client.tcp:shutdown()
        assert.equal("", client:rest())
      end
      assert.matches("hello$", socket.ask(server.port, whole))
    end)

    it("nothing for ever, and is not harmed by what was changed at random", function()
      local seed = tonumber(os.getenv "LTSH_TEST_SEED") or 7
      local server = serve { timeout = 0.3, idle_timeout = 0.3, max_body = 2000, files = { ["/f/"] = "examples" },
        routes = { ["* /*rest"] = function(request)
          assert(request.query)
          if request.path:find "events" then return { events = function(send) send "x" end } end
          return { body = request.path }
        end } }
      require "spec.support.noise"(server.port, tonumber(os.getenv "LTSH_TEST_NOISE") or 3000, seed)
      assert.equal("/still", get(server, "still").body, "seed " .. seed)
      server:close { drain = 2 }
    end)

    it("hosts that are not its own, if it is told which are", function()
      local hosts = { "localhost", "127.0.0.1", "Example.org" }
      local server = serve { allowed_hosts = hosts, routes = { ["GET /"] = echo } }
      assert.equal(200, get(server, "").status)
      assert.equal(200, status_of(socket.ask(server.port, "GET / HTTP/1.0\r\nHost: EXAMPLE.org:99\r\n\r\n")))
      assert.equal(421, status_of(socket.ask(server.port, "GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n")))
    end)

    it("a port that is taken", function()
      local server = serve {}
      local ok, message = pcall(ltsh.http.server, { port = server.port })
      assert.is_false(ok)
      assert.matches("^ltsh.http.server: http://127.0.0.1:" .. server.port .. "/: address already in use", message)
      ok, message = pcall(ltsh.http.server, { host = "no.such.name" })
      assert.is_false(ok)
      assert.matches("the host must be an address", message)
    end)

    it("a port that is taken, and says by whom", function()
      local program = scene.temporary "-a) name"
      assert(uv.fs_symlink(run.program, program))
      local function hold(host)
        local holder = run.start({ "-e", [[
          local server = require("luv").new_tcp()
          assert(server:bind(arg[1], 0))
          assert(server:listen(1, function() end))
          print(("at %d."):format(server:getsockname().port))
          require("ltsh").sleep(60)
        ]], host }, { program = program })
        return holder, math.tointeger(tonumber(holder:expect "at (%d+)%."))
      end
      local six = uv.new_tcp()
      local has_six = six:bind("::1", 0)
      six:close()
      for held, asked in pairs { ["127.0.0.1"] = "127.0.0.1", ["0.0.0.0"] = "127.0.0.1", ["127.0.0.2"] = "0.0.0.0",
        ["::1"] = "::1", ["::"] = "::1" } do
        if has_six or not held:find ":" then
          local holder, port = hold(held)
          local ok, message = pcall(ltsh.http.server, { host = asked, port = port })
          assert.is_false(ok)
          local whole = (": address already in use: port %d is taken by %s (pid %d)"):format(port,
            program:match "[^/]+$":sub(1, 15), holder.pid)
          assert.equal(whole, message:sub(-#whole))
          holder:kill "sigkill"
          holder:wait()
        end
      end
      os.remove(program)
    end)

    it("a port that is taken, and names nobody where it cannot be known", function()
      local server = serve {}
      local asker = { "-rpf", "--mount-proc", run.program, "-e", -- it sees the socket, and not its process
        "print(select(2, pcall(require('ltsh').http.server, { port = tonumber(arg[1]) })))", tostring(server.port) }
      if ltsh.exec { "unshare", "-rpf", "--mount-proc", "true" }.code ~= 0 then
        return pending "a namespace of processes cannot be made here"
      end
      local said = run.start(asker, { program = run.find "unshare" }):wait()
      assert.matches(("http://127.0.0.1:%d/: address already in use\n$"):format(server.port), said.stdout)
    end)
  end)

  describe("time", function()
    it("ends a request that does not become whole, and an idle connection", function()
      local server = serve { timeout = 0.1, idle_timeout = 0.2, routes = { ["POST /"] = echo } }
      local trickle = socket.open(server.port)
      local sender = ltsh.spawn(function()
        for byte in (lines("POST", "/", "Content-Length: 100\r\n")):gmatch "." do
          trickle:send(byte)
          ltsh.sleep(0.005)
        end
      end)
      assert.equal(408, status_of(trickle:rest()))
      sender:cancel()
      assert.equal("", socket.open(server.port):rest())
    end)

    it("does not count for clients that read slowly, as long as they read", function()
      local function large() return { body = ("x"):rep(1 << 20):rep(20) } end
      local server = serve { timeout = 2, routes = { ["GET /"] = large } }
      local slow = socket.open(server.port)
      slow:send(lines("GET", "/"))
      for megabytes = 2, 16, 2 do
        slow:wait_for(megabytes << 20)
        slow.tcp:read_stop()
        ltsh.sleep(0.4)
        slow:read()
      end
      local answer = slow:rest()
      assert.equal(20 << 20, #answer - select(2, answer:find "\r\n\r\n"))

      server = serve { timeout = 0.2, routes = { ["GET /"] = large } }
      local dead = socket.open(server.port)
      dead:send(lines("GET", "/"))
      dead:wait_for(1)
      dead.tcp:read_stop()
      dead:send_until_refused()
      dead:read()
      assert.is_true(#dead:rest() < 20 << 20)
    end)

    it("is not lost with a client that asks whether it may send", function()
      local function same(request) return { body = request.body } end
      local server = serve { max_body = 10, routes = { ["POST /"] = same } }
      local client = socket.open(server.port)
      client:send "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
      client:expect "^HTTP/1.1 100 Continue\r\n\r\n"
      client:send "abc"
      assert.matches("abc$", client:rest())
      assert.equal(413, status_of(socket.ask(server.port,
        "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")))
    end)
  end)

  describe("files", function()
    local function files()
      local path = folder_with { ["a.txt"] = "0123456789", ["b.html"] = "<p>", ["a b.css"] = "" }
      local secret = path .. "_secret"
      assert(uv.fs_mkdir(secret, 448))
      local file <close> = assert(io.open(secret .. "/s.txt", "w"))
      file:write "secret"
      assert(uv.fs_symlink("/etc/passwd", path .. "/out"))
      assert(uv.fs_symlink("a.txt", path .. "/inside"))
      assert(uv.fs_mkdir(path .. "/sub", 448))
      return serve { files = { ["/static/"] = path } }, path:match "[^/]+$"
    end

    it("come with type, tag and date, as a whole or in part", function()
      local server = files()
      local whole = get(server, "static/a.txt")
      assert.same({ 200, "0123456789", "text/plain; charset=utf-8" },
        { whole.status, whole.body, whole.headers["content-type"] })
      assert.equal("", get(server, "static/a%20b.css").body)
      assert.equal("0123456789", get(server, "static/inside").body)
      local tag = whole.headers.etag
      assert.equal(304, get(server, "static/a.txt", { headers = { ["If-None-Match"] = tag } }).status)
      for range, expected in pairs {
        ["bytes=0-3"] = "206 0123 bytes 0-3/10", ["bytes=7-"] = "206 789 bytes 7-9/10",
        ["bytes=-2"] = "206 89 bytes 8-9/10", ["bytes=5-99"] = "206 56789 bytes 5-9/10",
        ["bytes=10-"] = "416  bytes */10", ["bytes=-0"] = "416  bytes */10", ["bytes=3-1"] = "200 0123456789 ",
        ["lines=1-2"] = "200 0123456789 ", ["bytes=99999999999999999999-"] = "416  bytes */10",
      } do
        local part = get(server, "static/a.txt", { headers = { Range = range } })
        assert.equal(expected, ("%d %s %s"):format(part.status, part.body, part.headers["content-range"] or ""), range)
      end
      assert.equal(200, get(server, "static/a.txt", { headers = { Range = "bytes=0-1", ["If-Range"] = '"x"' } }).status)
    end)

    it("come only from their folder", function()
      local server, name = files()
      for _, path in ipairs {
        "static/../" .. name .. "_secret/s.txt", "static/%2e%2e/" .. name .. "_secret/s.txt",
        "static/..%2F" .. name .. "_secret%2Fs.txt",
        "static/out", "static/sub", "static/", "static/a.txt%00.html", "static/%2e%2e%5c%2e%2e", "static/none",
        "static//etc/passwd", "static/%2Fetc%2Fpasswd", "static/%252e%252e/x", "static",
      } do
        local answer = socket.ask(server.port, lines("GET", "/" .. path))
        assert.equal(404, status_of(answer), path)
        assert.not_matches("secret", answer, 1, true)
      end
    end)

    it("may be large, and more than one at a time", function()
      local path = folder_with { large = ("0123456789abcdef"):rep(1 << 16) }
      local function large() return { file = path .. "/large" } end
      local server = serve { files = { ["/"] = path }, routes = { ["GET /x"] = large } }
      local jobs = {}
      for i = 1, 8 do jobs[i] = ltsh.spawn(function() return #get(server, i % 2 == 0 and "large" or "x").body end) end
      for _, job in ipairs(jobs) do assert.equal(1 << 20, job:wait()) end
      assert.equal(404, get(server, "y").status)
    end)
  end)

  describe("events", function()
    it("are sent as they come", function()
      local server = serve { routes = { ["GET /"] = function()
        return { events = function(send)
          send { event = "n", id = 7, data = "two\nlines" }
          send { data = { a = 1 }, retry = 2000 }
          send { comment = "still\nthere" }
          send "text"
        end }
      end } }
      local answer = get(server, "")
      assert.same({ "text/event-stream", "no-store", "no" },
        { answer.headers["content-type"], answer.headers["cache-control"], answer.headers["x-accel-buffering"] })
      assert.equal("event: n\nid: 7\ndata: two\ndata: lines\n\nretry: 2000\ndata: {\"a\":1}\n\n" ..
        ": still there\n\ndata: text\n\n", answer.body)
    end)

    it("wait for a client that is slow, and end with one that has gone", function()
      local sent, over = 0, false
      local server = serve { routes = { ["GET /"] = function()
        return { events = function(send)
          while send(("x"):rep(10000)) do sent = sent + 1 end
          over = true
        end }
      end } }
      local client = socket.open(server.port)
      client.tcp:read_stop()
      client:send(lines("GET", "/"))
      eventually("it waits", function()
        local before = sent
        ltsh.sleep(0.05)
        return sent > 0 and sent == before
      end)
      assert.is_true(sent < 2000)
      client:close()
      eventually("it is told", function() return over end)
    end)

    it("do nothing while nothing comes, beside bodies of any size", function()
      local server = serve { max_body = "1M", routes = {
        ["GET /"] = function() return { events = function(send)
          send "here"
          ltsh.sleep(100)
        end } end,
        ["POST /"] = function(request) return { body = tostring(#request.body) } end,
      } }
      local clients = {}
      for i = 1, 1000 do
        clients[i] = socket.open(server.port)
        clients[i]:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
      end
      for i = 1, 1000 do clients[i]:expect "data: here" end
      for _, size in ipairs { 1, 32 << 10, 900000 } do
        for _, packets in ipairs { 1, 50 } do
          local client = socket.open(server.port)
          client:send(("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"):format(size))
          local body, part = ("x"):rep(size), math.max(1, size // packets)
          for at = 1, size, part do
            client:send(body:sub(at, at + part - 1))
            if packets > 1 then ltsh.sleep(0) end
          end
          assert.matches("\r\n\r\n" .. size .. "$", client:rest())
        end
      end
      local began = os.clock()
      ltsh.sleep(1)
      assert.is_true(os.clock() - began < 0.1, os.clock() - began)
      for i = 1, 1000 do clients[i]:close() end
    end)

    it("reach a thousand clients", function()
      local streams = 0
      local server = serve { routes = { ["GET /"] = function()
        return { events = function(send)
          streams = streams + 1
          send "hello"
          while send { comment = "" } do ltsh.sleep(0.2) end
          streams = streams - 1
        end }
      end } }
      local clients = {}
      for i = 1, 1000 do
        clients[i] = socket.open(server.port)
        clients[i]:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
      end
      for _, client in ipairs(clients) do client:expect "data: hello" end
      assert.equal(1000, streams)
      for _, client in ipairs(clients) do client:close() end
      eventually("all have ended", function() return streams == 0 end)
    end)
  end)

  describe("its end", function()
    it("lets what is under way be answered", function()
      local server = serve { routes = { ["GET /"] = function()
        ltsh.sleep(0.1)
        return { body = "answered" }
      end } }
      local answered = ltsh.spawn(function() return get(server, "").body end)
      ltsh.sleep(0.03)
      server:close { drain = 5 }
      assert.equal("answered", answered:wait())
      assert.is_nil((ltsh.http.get { url = server.url, timeout = 1 }))
    end)

    it("comes behind what was answered in the same turn, though it waits for nothing", function()
      local gate = scene.door()
      local server = serve { routes = { ["GET /"] = function()
        gate.pass()
        return { body = "answered" }
      end } }
      local asked = {}
      for i = 1, 5 do asked[i] = ltsh.spawn(function() return get(server, "").body end) end
      eventually("all are asked for", function() return gate.waiting == 5 end)
      gate.is_open = true
      eventually("they are answered", function() return gate.waiting == 0 end)
      server:close { drain = 0 }
      for i = 1, 5 do assert.equal("answered", asked[i]:wait()) end
    end)

    it("gives up what takes longer than it may", function()
      local server = serve { routes = { ["GET /"] = function() ltsh.sleep(100) end } }
      local asked = ltsh.spawn(function() return select(3, ltsh.http.get(server.url)) end)
      ltsh.sleep(0.03)
      local began = uv.hrtime()
      server:close { drain = 0.1 }
      assert.is_true(uv.hrtime() - began < 20e9)
      assert.equal("network", asked:wait())
    end)

    it("comes with the process, which answers first", function()
      local host = run.start { "-e", [[
        local ltsh = require "ltsh"
        local server = ltsh.http.server { routes = { ["GET /"] = function()
          print "asked"
          ltsh.sleep(0.2)
          return { body = "answered" }
        end } }
        print(server.port)
      ]] }
      local port = tonumber((host:expect "(%d+)\n"))
      local client = socket.open(port)
      client:send "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
      host:expect "asked"
      host:kill "sigterm"
      assert.matches("Connection: close\r\n.*answered$", client:rest())
      assert.equal(143, host:wait().code)
    end)

    it("holds the process as long as it is open, unless it is told not to", function()
      assert.equal("done\n", run.ltsh { "-e", [[
        local ltsh = require "ltsh"
        ltsh.http.server { hold = false }
        print "done"
      ]] }.stdout)
      assert.equal("closed\n", run.ltsh { "-e", [[
        local ltsh = require "ltsh"
        local server = ltsh.http.server {}
        ltsh.spawn(function() ltsh.sleep(0.05) server:close() print "closed" end)
      ]] }.stdout)
    end)
  end)
end)

describe("ltsh.http.request", function()
  it("leaves its connections, which it keeps for later, to no process that is started", function()
    local result = run.ltsh { "-e", [[
      local ltsh, uv = require "ltsh", require "luv"
      local server = ltsh.http.server { routes = { ["GET /"] = function() return { body = "here" } end } }
      assert(ltsh.http.get("http://127.0.0.1:" .. server.port .. "/"))
      local connections = io.open "/proc/net/tcp":read "a"
      for name in uv.fs_scandir_next, uv.fs_scandir "/proc/self/fd" do
        local link, info = uv.fs_readlink("/proc/self/fd/" .. name), io.open("/proc/self/fdinfo/" .. name)
        local inode = link and link:match "^socket:%[(%d+)%]"
        if info and inode and connections:find(" " .. inode .. " ", 1, true) then
          print(tonumber(info:read("a"):match "flags:%s+(%d+)", 8) & 524288 > 0 and "not left" or "left")
        end
      end
      server:close()
    ]] }
    assert.equal("", result.stderr)
    assert.matches("not left", result.stdout)
    assert.not_matches("%f[%w]left", (result.stdout:gsub("not left", "")))
  end)

  local names = require "spec.support.shim"("names_shim.c", "names cannot be held up for this build")
  lazy_setup(names.open)
  lazy_teardown(names.close)

  names.it(it, pending)("waits for no name server that does not answer, nor does the end of the process", function()
    local began = uv.hrtime()
    local result = run.ltsh({ "-e", [[
      local ltsh, uv = require "ltsh", require "luv"
      local server = ltsh.http.server { routes = { ["GET /"] = function() return { body = "here" } end } }
      local longest, last = 0, uv.hrtime()
      local timer = uv.new_timer()
      timer:start(1, 1, function()
        local now = uv.hrtime()
        longest, last = math.max(longest, now - last), now
      end)
      local jobs = {}
      for i = 1, 40 do
        jobs[i] = ltsh.spawn(function()
          return select(3, ltsh.http.get { url = "http://some.host/", timeout = 0.3 })
        end)
      end
      local cancelled = ltsh.spawn(function() ltsh.http.get "http://another.host/" end)
      for _ = 1, 20 do assert(ltsh.http.get(server.url).body == "here") end
      cancelled:cancel()
      local late = 0
      for i = 1, 40 do if jobs[i]:wait() == "timeout" then late = late + 1 end end
      timer:close()
      server:close()
      print(late, longest < 0.1e9)
    ]] }, { env = names.preload {} })
    assert.equal("40\ttrue\n", result.stdout, result.stderr)
    assert.is_true(uv.hrtime() - began < 10e9)
  end)

  it("asks, and gives status, headers and body", function()
    local server = serve { routes = {
      ["* /echo"] = function(request)
        return {
          status = 201, headers = { ["X-Two"] = { "a", "b" }, ["Set-Cookie"] = { "a=1", "b=2" } },
          json = { method = request.method, body = request.body, type = request.headers["content-type"] },
        }
      end,
    } }
    local answer = assert(ltsh.http.request { url = server.url .. "echo", method = "PUT", json = { 1, 2 } })
    assert.same({ 201, "a, b", "a, b" }, { answer.status, answer.headers["x-two"], answer.headers["X-Two"] })
    assert.same({ "a=1", "b=2" }, answer.cookies)
    assert.same({ method = "PUT", body = "[1,2]", type = "application/json" }, answer:json())
    assert.equal("POST", ltsh.http.post { url = server.url .. "echo", body = "x" }:json().method)
    assert.equal("DELETE", ltsh.http.request { url = server.url .. "echo", method = "DELETE" }:json().method)
    assert.equal("", ltsh.http.request { url = server.url .. "echo", method = "HEAD" }.body)
  end)

  it("says what went wrong, by a code", function()
    local server = serve { routes = {
      ["GET /slow"] = function() ltsh.sleep(5) end, ["GET /big"] = function() return { body = ("x"):rep(100000) } end,
    } }
    local tls = serve {}
    local free <const> = (function()
      local other = ltsh.http.server {}
      other:close { drain = 0 }
      return other.url
    end)()
    for code, options in pairs {
      timeout = { url = server.url .. "slow", timeout = 0.05 },
      too_large = { url = server.url .. "big", max_body = "10K" },
      network = { url = free }, bad_url = { url = "ftp://x/" }, tls = { url = "https://127.0.0.1:" .. tls.port .. "/" },
    } do
      local answer, message, got = ltsh.http.request(options)
      assert.is_nil(answer)
      assert.equal(code, got, message)
      assert.matches(options.url, message, 1, true)
    end
    assert.equal("network", select(3, ltsh.http.get "http://no-such-host.invalid/"))
    assert.equal("bad_url", select(3, ltsh.http.get "http://"))
  end)

  it("counts what comes by what it is unpacked, and asks nobody whether it may send", function()
    local zeros = ltsh.exec { "gzip", "-c", stdin = ("\0"):rep(20 << 20) }.stdout
    local asked
    local server = serve { max_body = "8M", routes = {
      ["GET /zeros"] = function() return { headers = { ["Content-Encoding"] = "gzip" }, body = zeros } end,
      ["POST /"] = function(request)
        asked = request.headers.expect
        return { body = tostring(#request.body) }
      end,
    } }
    assert.is_true(#zeros < 1 << 20)
    assert.equal(20 << 20, #get(server, "zeros").body)
    assert.equal("too_large", select(3, ltsh.http.get { url = server.url .. "zeros", max_body = "1M" }))
    local path = scene.temporary ".bin"
    assert.equal("too_large", select(3, ltsh.http.get { url = server.url .. "zeros", max_body = "1M", to_file = path }))
    assert.is_nil((uv.fs_stat(path)))
    for _, size in ipairs { 1025, 5 << 20 } do
      assert.equal(tostring(size), assert(ltsh.http.post { url = server.url, body = ("x"):rep(size) }).body)
      assert.is_nil(asked)
    end
  end)

  it("sends nothing that would be another header, or another request", function()
    for _, options in ipairs {
      { url = "http://127.0.0.1/", headers = { A = "b\r\nC: d" } },
      { url = "http://127.0.0.1/", headers = { ["A\r\nB"] = "c" } },
      { url = "http://127.0.0.1/ HTTP/1.1\r\nA: b" },
      { url = "http://127.0.0.1/", method = "GET / HTTP/1.1\r\nA: b\r\n" },
      { url = "http://127.0.0.1/", headers = { ["A:"] = "c" } },
    } do
      assert.is_false((pcall(ltsh.http.request, options)))
    end
  end)

  it("follows where an answer leads to, and keeps secrets from others", function()
    local seen = {}
    local other = serve { routes = { ["* /"] = function(request)
      seen.other = request.headers.authorization or "none"
      return { body = request.method }
    end } }
    local server = serve { routes = {
      ["* /to/:status"] = function(request)
        return { status = tonumber(request.params.status), headers = { Location = request.query.url } }
      end,
      ["* /here"] = function(request)
        seen.here = request.headers.authorization or "none"
        return { json = { request.method, request.body } }
      end,
      ["GET /loop"] = function() return { status = 302, headers = { Location = "/loop" } } end,
    } }
    local function post(status, url)
      return assert(ltsh.http.post {
        url = server.url .. "to/" .. status .. "?url=" .. url, body = "x", headers = { Authorization = "secret" },
      })
    end
    assert.same({ "GET", "" }, post(302, "/here"):json())
    assert.equal("secret", seen.here)
    assert.same({ "GET", "" }, post(303, "/here"):json())
    assert.same({ "POST", "x" }, post(307, "/here"):json())
    assert.equal("POST", post(308, other.url).body)
    assert.equal("none", seen.other)
    assert.equal(302, ltsh.http.get { url = server.url .. "loop", redirects = 3 }.status)
    assert.equal(302, ltsh.http.get { url = server.url .. "to/302?url=/here", redirects = 0 }.status)
    assert.equal("bad_url", select(3, ltsh.http.get(server.url .. "to/302?url=file:///etc/passwd")))
  end)

  it("stores what comes in a file, when all of it is there", function()
    local path = scene.temporary ".bin"
    local server = serve { routes = { ["GET /"] = function() return { body = ("0123456789"):rep(50000) } end } }
    local answer = assert(ltsh.http.get { url = server.url, to_file = path })
    assert.same({ 200, "" }, { answer.status, answer.body })
    assert.equal(500000, uv.fs_stat(path).size)
    local small = scene.temporary ".bin"
    assert.equal("too_large", select(3, ltsh.http.get { url = server.url, to_file = small, max_body = 1000 }))
    assert.is_nil((uv.fs_stat(small)))
    assert.equal("error", select(3, ltsh.http.get { url = server.url, to_file = "/no/such/folder/x" }))
    for name in uv.fs_scandir_next, uv.fs_scandir(path:match "^(.*)/") do assert.not_matches("%.part%-", name) end
  end)

  it("ends with who waits for it", function()
    local gone = false
    local server = serve { routes = { ["GET /"] = function()
      return { events = function(send)
        while send { comment = "" } do ltsh.sleep(0.01) end
        gone = true
      end }
    end } }
    local job = ltsh.spawn(function() ltsh.http.get(server.url) end)
    ltsh.sleep(0.05)
    job:cancel()
    eventually("the server sees that", function() return gone end)
  end)

  it("does a thousand at once", function()
    local server = serve { routes = { ["GET /:n"] = function(request) return { body = request.params.n } end } }
    local jobs = {}
    for i = 1, 1000 do jobs[i] = ltsh.spawn(function() return get(server, tostring(i)).body end) end
    for i = 1, 1000 do assert.equal(tostring(i), jobs[i]:wait()) end
  end)

  local function count_files()
    local count, found = 0, uv.fs_scandir "/proc/self/fd"
    for _ in uv.fs_scandir_next, found do count = count + 1 end
    return count
  end

  it("goes on when connections are reset, at any point, and their descriptors are others' at once", function()
    local tcp = uv.new_tcp()
    assert(tcp:bind("127.0.0.1", 0))
    local asked = 0
    assert(tcp:listen(512, function()
      local client = uv.new_tcp()
      tcp:accept(client)
      client:read_start(function(_, bytes)
        if not bytes then
          if not client:is_closing() then client:close() end
          return
        end
        asked = asked + 1
        local begun = ({ "", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" })[asked % 3 + 1]
        local function reset() if not client:is_closing() then client:close_reset() end end
        if begun == "" then reset() else client:write(begun, reset) end
      end)
    end))
    local server = serve { routes = { ["GET /"] = function() return { body = "fine" } end } }
    local files, jobs, failed = count_files(), {}, {}
    for i = 1, 300 do
      jobs[i] = ltsh.spawn(function()
        local answer, _, code = ltsh.http.get("http://127.0.0.1:" .. tcp:getsockname().port .. "/")
        assert(answer or code == "network", code)
        if not answer then table.insert(failed, i) end
        assert.equal("fine", ltsh.http.get(server.url).body)
      end)
    end
    for i = 1, 300 do jobs[i]:wait() end
    assert.is_true(#failed >= 150, #failed)
    local began = os.clock()
    ltsh.sleep(0.2)
    assert.is_true(os.clock() - began < 0.1) -- nothing is watched that says something for ever
    tcp:close()
    eventually("they are closed", function() return count_files() < files + 300 end)
    assert.equal("fine", ltsh.http.get(server.url).body)
  end)

  it("keeps connections to more addresses than it may, the latest ones", function()
    local server = serve { host = "0.0.0.0", routes = { ["GET /"] = function(request)
      return { body = request.headers.host }
    end } }
    local files = count_files()
    for round = 1, 2 do
      for i = 1, 120 do
        local host = ("127.0.%d.%d:%d"):format(round, i, server.port)
        assert.equal(host, ltsh.http.get("http://" .. host .. "/").body)
      end
    end
    assert.is_true(count_files() < files + 480)
    local jobs = {}
    for i = 1, 200 do
      jobs[i] = ltsh.spawn(function()
        return ltsh.http.get(("http://127.0.3.%d:%d/"):format(i % 100 + 1, server.port)).status
      end)
    end
    for i = 1, 200 do assert.equal(200, jobs[i]:wait()) end
  end)

  it("does not send a request again on another connection", function()
    local requests = 0
    local listener = uv.new_tcp()
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(10, function()
      local client = uv.new_tcp()
      listener:accept(client)
      client:read_start(function(_, bytes)
        if not bytes then
          if not client:is_closing() then client:close() end
          return
        end
        requests = requests + 1
        if requests == 1 then
          client:write "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        else
          client:close() -- it has come, and is not answered
        end
      end)
    end))
    local url = "http://127.0.0.1:" .. listener:getsockname().port .. "/"
    assert.equal("ok", ltsh.http.get(url).body)
    assert.equal("network", select(3, ltsh.http.post { url = url, body = "x" }))
    assert.equal("network", select(3, ltsh.http.post { url = url }))
    listener:close()
    assert.equal(3, requests)
  end)
end)
