-- ltsh.console: the REST interface over schedulers, who may use it, events, metrics.

local ltsh = require "ltsh"
local uv = require "luv"
local run = require "spec.support.run"
local scene = require "spec.support.scene"
local socket = require "spec.support.socket"

local eventually, door = scene.eventually, scene.door

local consoles = {}

local function open_console(options)
  options = options or {}
  options.port = options.port or 0
  local console = ltsh.console(options)
  consoles[#consoles + 1] = console
  return console
end

after_each(function()
  for _, console in ipairs(consoles) do console:close() end
  consoles = {}
  scene.close()
  run.clean()
end)

-- A scheduler and its console.
local function open(run_task, options, console_options)
  options = options or {}
  options.name = options.name or "orders"
  local scheduler = scene.open(run_task or function() end, options)
  console_options = console_options or {}
  console_options.schedulers = { scheduler }
  return scheduler, open_console(console_options)
end

local function ask(console, method, path, body, headers)
  local answer = assert(ltsh.http.request {
    url = console.url .. path, method = method, json = body, headers = headers, redirects = 0,
  })
  return answer, answer.body ~= "" and answer:json() or nil
end

local ORDERS = "api/v1/schedulers/orders"

describe("the console", function()
  describe("shows", function()
    it("its schedulers and their figures", function()
      local scheduler, console = open(nil, { limit = 7 })
      assert(scheduler:add { id = "a" })
      scheduler:wait "a"
      local _, all = ask(console, "GET", "api/v1/schedulers")
      assert.equal(1, #all.schedulers)
      local one = all.schedulers[1]
      assert.same({ "orders", false, 7, false, 1 },
        { one.name, one.paused, one.limit, one.read_only, one.stats.success })
      local _, same_one = ask(console, "GET", ORDERS)
      assert.equal("orders", same_one.name)
      local answer, error = ask(console, "GET", "api/v1/schedulers/none")
      assert.same({ 404, "unknown" }, { answer.status, error.code })
    end)

    it("all of the process, those made later too, and each under a name of its own", function()
      local first = scene.open(function() end, { name = "same" })
      local console = open_console()
      local second = scene.open(function() end, { name = "same" })
      assert(first and second)
      local _, all = ask(console, "GET", "api/v1/schedulers")
      local names = {}
      for _, one in ipairs(all.schedulers) do names[one.name] = true end
      assert.is_true(names["same"] and names["same#2"])
    end)

    it("none that is being collected, wherever it goes", function()
      collectgarbage()
      local console, held
      local weak = setmetatable({}, { __mode = "k" }) -- its keys are there until their finalizers have run
      local function make()
        weak[ltsh.scheduler { name = "gone", container = ltsh.container.queue {},
          actuator = ltsh.actuator.func(function() end) }] = true
        setmetatable({}, { __gc = function() -- called before the scheduler's own
          held = next(weak)
          console = open_console()
        end })
      end
      make()
      collectgarbage()
      collectgarbage "stop" -- or the next collection would take what should not have been there
      assert.is_not_nil(held)
      local answer, all = ask(console, "GET", "api/v1/schedulers")
      local metrics = ltsh.http.get(console.url .. "metrics")
      local given, why = pcall(open_console, { schedulers = { held } })
      collectgarbage "restart"
      assert.same({ 200, 200 }, { answer.status, metrics.status })
      for _, one in ipairs(all.schedulers) do assert.not_equal("gone", one.name) end
      assert.is_false(given)
      assert.matches("schedulers%[1%] must be a scheduler", why)
    end)

    it("a scheduler under the name of one that has gone", function()
      local console = open_console()
      for _ = 1, 2 do
        local scheduler = scene.open(function() end, { name = "again" })
        assert.equal("again", select(2, ask(console, "GET", "api/v1/schedulers")).schedulers[1].name)
        assert.equal(200, (ask(console, "GET", "api/v1/schedulers/again")).status)
        scheduler:close()
        scene.close()
        scheduler = nil
        collectgarbage()
        assert.is_nil(scheduler)
        assert.equal(404, (ask(console, "GET", "api/v1/schedulers/again")).status)
      end
    end)

    it("the hosts on each queue", function()
      local path = scene.temporary ".db"
      local scheduler, console = open(nil, {
        container = ltsh.container.sqlite { path = path, durability = "normal" },
      })
      assert(scheduler:count())
      local host = run.start { "-e", [[
        local ltsh = require "ltsh"
        local scheduler = ltsh.scheduler {
          container = ltsh.container.sqlite { path = arg[1] }, actuator = ltsh.actuator.func(function() end),
        }
        print "ready"
        scheduler:run()
      ]], path }
      host:expect "ready"
      local all
      eventually("both are there", function()
        all = select(2, ask(console, "GET", "api/v1/hosts"))
        return #all.hosts == 2
      end)
      local pids = {}
      for _, one in ipairs(all.hosts) do
        pids[one.pid] = one.self
        assert.same({ "orders", uv.os_gethostname(), ltsh.version, 0 },
          { one.scheduler, one.name, one.version, one.running })
        assert.is_true(one.lease_end > all.time - 1 and one.heartbeat <= all.time + 1)
      end
      assert.same({ [uv.os_getpid()] = true, [host.pid] = false }, pids)
      assert.same({}, select(2, ask(console, "GET", "api/v1/hosts?scheduler=none")).hosts)
    end)

    it("tasks page by page, each once, the newest or the oldest first", function()
      for _, make in ipairs {
        function() return ltsh.container.queue {} end,
        function() return ltsh.container.sqlite { path = scene.temporary ".db", durability = "normal" } end,
        function() return ltsh.container.load "examples/lua_container.lua" end,
      } do
        local scheduler, console = open(nil, { container = make() })
        scheduler:pause()
        for i = 1, 25 do assert(scheduler:add { id = ("t%02d"):format(i), key = i % 2 == 0 and "even" or nil }) end
        for _, order in ipairs { "oldest", "newest" } do
          local seen, after, pages = {}, "", 0
          repeat
            local _, page = ask(console, "GET", ORDERS .. "/tasks?limit=10&order=" .. order .. "&after=" .. after)
            for _, task in ipairs(page.tasks) do seen[#seen + 1] = task.id end
            assert.equal(25, page.total)
            after, pages = page.next ~= ltsh.json.null and page.next or nil, pages + 1
          until not after
          assert.equal(25, #seen)
          assert.equal(order == "oldest" and "t01" or "t25", seen[1])
          assert.equal(order == "oldest" and "t25" or "t01", seen[25])
        end
        local _, part = ask(console, "GET", ORDERS .. "/tasks?text=t1&limit=3&order=oldest")
        assert.same({ "t10", "t11", "t12" }, { part.tasks[1].id, part.tasks[2].id, part.tasks[3].id })
        assert.equal(ltsh.json.null, part.total)
        local _, even = ask(console, "GET", ORDERS .. "/tasks?key=even&limit=500")
        assert.equal(12, #even.tasks)
        local _, one = ask(console, "GET", ORDERS .. "/tasks?id=t07")
        assert.same({ 1, "t07" }, { one.total, one.tasks[1].id })
        scene.close()
      end
    end)

    it("tasks by one status or several", function()
      local scheduler, console = open(function(task) if task.item == "bad" then error "no" end end)
      for i = 1, 6 do assert(scheduler:add { id = "t" .. i, item = i % 3 == 0 and "bad" or "good" }) end
      for i = 1, 6 do scheduler:wait("t" .. i) end
      local function count(status)
        local _, page = ask(console, "GET", ORDERS .. "/tasks?limit=4&status=" .. status)
        return #page.tasks, page.total
      end
      assert.same({ 2, 2 }, { count "failed" })
      assert.same({ 4, 6 }, { count "failed,success" })
      assert.same({ 0, 0 }, { count "running" })
      local answer, why = ask(console, "GET", ORDERS .. "/tasks?status=nonsense")
      assert.same({ 400, "bad_request" }, { answer.status, why.code })
    end)

    it("a preview in lists, and all of a task by itself", function()
      local scheduler, console = open(function() return { big = 9007199254740993, small = 1.5, bytes = "\xff\0" } end)
      local item = { text = ("ü"):rep(1000), bytes = "\xff", inf = math.huge, map = { ["$x"] = 1 }, list = { 1, "2" } }
      assert(scheduler:add { id = "a b/c?d=e#ü%", item = item, key = "k", priority = 0 })
      scheduler:wait "a b/c?d=e#ü%"
      local _, page = ask(console, "GET", ORDERS .. "/tasks")
      local listed = page.tasks[1]
      assert.is_true(utf8.len(listed.preview) <= 201)
      assert.is_nil(listed.item)
      assert.is_nil(listed.output)
      local path = ORDERS .. "/tasks/a%20b%2Fc%3Fd%3De%23%C3%BC%25"
      local answer, one = ask(console, "GET", path)
      assert.equal(200, answer.status)
      assert.same({ ["$bytes"] = "/w==" }, one.task.item.bytes)
      assert.same({ ["$number"] = "inf" }, one.task.item.inf)
      assert.same({ ["$map"] = { ["$x"] = 1 } }, one.task.item.map)
      assert.same({ 1, "2" }, one.task.item.list)
      assert.matches('"big":9007199254740993', answer.body, 1, true)
      assert.same({ "success", "k", 1 }, { one.task.status, one.task.key, one.task.attempts })
      local _, with = ask(console, "GET", ORDERS .. "/tasks?fields=output")
      assert.equal(1.5, with.tasks[1].output.small)
      assert.is_nil(with.tasks[1].item)
    end)

    it("little of each task in lists, and of one as much as is asked for", function()
      local long = ("ü"):rep(100000)
      local scheduler, console = open(function(task)
        task:report { text = long }
        error(long)
      end)
      for i = 1, 50 do assert(scheduler:add { id = "t" .. i, item = long }) end
      for i = 1, 50 do scheduler:wait("t" .. i) end
      local answer, page = ask(console, "GET", ORDERS .. "/tasks?limit=50")
      assert.equal(50, #page.tasks)
      assert.is_true(#answer.body < 1 << 20, #answer.body)
      local short, one = ask(console, "GET", ORDERS .. "/tasks/t1?most=1000")
      assert.is_true(#short.body < 700000) -- the reason is there
      assert.is_true(one.task.larger.item >= 200000)
      assert.is_true(utf8.len(one.task.item) <= 1001)
      local _, all = ask(console, "GET", ORDERS .. "/tasks/t1")
      assert.equal(long, all.task.item)
      assert.is_nil(all.task.larger)
    end)

    it("the first page and a late one of a file at the same cost", function()
      local scheduler, console = open(nil, {
        container = ltsh.container.sqlite { path = scene.temporary ".db", durability = "normal" },
      })
      scheduler:pause()
      for part = 0, 19 do
        local tasks = {}
        for i = 1, 5000 do tasks[i] = { id = ("t%06d"):format(part * 5000 + i) } end
        assert(scheduler:add_all(tasks))
      end
      local function cost(query)
        local best = math.huge
        for _ = 1, 5 do
          local began = uv.hrtime()
          local _, page = ask(console, "GET", ORDERS .. "/tasks?order=oldest&limit=50" .. query)
          best = math.min(best, uv.hrtime() - began)
          assert.equal(50, #page.tasks)
          assert.equal(100000, page.total)
        end
        return best
      end
      local late = scheduler:list { limit = 1, offset = 90000 }
      assert.equal("t090001", late[1].id)
      local _, after = scheduler:list { limit = 1, offset = 90000 }
      local first, behind = cost "&status=waiting", cost("&status=waiting&after=" .. after)
      assert.is_true(behind < 5 * first + 5e6, behind / first)
    end)

    it("tasks in every status, with all that they lack", function()
      local gate = door()
      local scheduler, console = open(function(task)
        if task.id == "snoozes" then error { reason = "later", snooze = 1000 } end
        if task.id == "runs" then gate.pass() end
        if task.id == "fails" then error "no" end
      end, { limit = 2 })
      for _, id in ipairs { "snoozes", "fails", "succeeds", "runs" } do assert(scheduler:add { id = id }) end
      eventually("it runs", function() return gate.waiting == 1 and scheduler:get "fails".status == "failed" end)
      assert(scheduler:add { id = "delayed", delay = 1000 })
      assert(scheduler:add { id = "stopped", delay = 1000 })
      assert(scheduler:stop "stopped")
      local is = {
        snoozes = "waiting", fails = "failed", succeeds = "success", runs = "running", delayed = "waiting",
        stopped = "stopped",
      }
      for id, status in pairs(is) do
        local answer, one = ask(console, "GET", ORDERS .. "/tasks/" .. id)
        local history = ask(console, "GET", ORDERS .. "/tasks/" .. id .. "/history")
        assert.same({ 200, status, 200 }, { answer.status, one.task.status, history.status })
      end
      assert.is_nil(select(2, ask(console, "GET", ORDERS .. "/tasks/delayed")).task.started_at)
      gate.is_open = true
    end)

    it("the runs of a task, each with its reason", function()
      local scheduler, console = open(function(task) if task.attempts < 3 then error("try " .. task.attempts) end end,
        { max_retries = 3 })
      assert(scheduler:add { id = "a" })
      scheduler:wait "a"
      local _, history = ask(console, "GET", ORDERS .. "/tasks/a/history")
      assert.equal(3, #history.runs)
      assert.same({ "try 1", "try 2" }, { history.runs[1].reason, history.runs[2].reason })
    end)

    it("outputs only to be stored", function()
      local scheduler, console = open(function(task) return task.item end)
      assert(scheduler:add { id = "html", item = "<script>alert(1)</script>\xff" })
      assert(scheduler:add { id = "table", item = { a = "\xff" } })
      for id, body in pairs { html = "<script>alert(1)</script>\xff", table = '{"a":{"$bytes":"/w=="}}' } do
        scheduler:wait(id)
        local answer = assert(ltsh.http.get(console.url .. ORDERS .. "/tasks/" .. id .. "/output"))
        assert.equal(body, answer.body)
        assert.matches("^attachment", answer.headers["content-disposition"])
        assert.equal("sandbox", answer.headers["content-security-policy"])
        assert.equal("nosniff", answer.headers["x-content-type-options"])
        assert.not_matches("html", answer.headers["content-type"])
      end
    end)

    it("what a running task has printed", function()
      local scheduler = scene.keep(ltsh.scheduler {
        name = "orders", container = ltsh.container.queue {}, actuator = ltsh.actuator.process {},
      })
      local console = open_console { schedulers = { scheduler } }
      local shell = "head -c 100000 /dev/zero | tr '\\0' x; echo end; sleep 0.2; echo err >&2; sleep 60"
      assert(scheduler:add { id = "a", item = { shell = shell } })
      local log
      eventually("it has printed", function()
        log = assert(ltsh.http.get(console.url .. ORDERS .. "/tasks/a/log"))
        return log.body:find "end\n" and log.body:find "err\n"
      end)
      assert.is_true(#log.body >= 65536 and #log.body < 65536 + 70000)
      local err = ltsh.http.get(console.url .. ORDERS .. "/tasks/a/log?stream=stderr")
      assert.equal("err\n", err.body)
      assert.equal("", ltsh.http.get(console.url .. ORDERS .. "/tasks/a/log?offset=" .. log.headers["x-offset"]).body)
    end)

    it("only what it may, where something is to be hidden", function()
      local scheduler, console = open(function() return { secret = "s3cret" } end, nil, {
        redact = function(task)
          return { id = task.id, status = task.status, item = "hidden", output = "hidden" }
        end,
      })
      assert(scheduler:add { id = "a", item = { password = "s3cret" } })
      scheduler:wait "a"
      for _, path in ipairs { "/tasks", "/tasks/a", "/tasks?fields=item,output", "/tasks/a/output" } do
        local answer = assert(ltsh.http.get(console.url .. ORDERS .. path))
        assert.equal(200, answer.status)
        assert.not_matches("s3cret", answer.body, 1, true)
      end
    end)
  end)

  describe("changes", function()
    it("tasks: added, stopped, begun anew, deleted", function()
      local gate = door()
      local scheduler, console = open(function(task)
        if task.item == "waits" then gate.pass() end
        return task.item
      end)
      local answer, added = ask(console, "POST", ORDERS .. "/tasks",
        { id = "a/b", item = { bytes = { ["$bytes"] = "/w==" } } })
      assert.same({ 201, "a/b" }, { answer.status, added.id })
      assert.matches("/tasks/a%%2Fb$", answer.headers.location)
      assert.same({ bytes = "\xff" }, scheduler:wait("a/b").output)
      local _, many = ask(console, "POST", ORDERS .. "/tasks", { tasks = { { item = 1 }, { id = "x" } } })
      assert.equal("x", many.ids[2])
      assert(scheduler:add { id = "w", item = "waits" })
      eventually("it runs", function() return gate.waiting == 1 end)
      assert.equal(409, (ask(console, "DELETE", ORDERS .. "/tasks/w")).status)
      assert.equal(409, (ask(console, "POST", ORDERS .. "/tasks/w/retry")).status)
      local _, stopped = ask(console, "POST", ORDERS .. "/tasks/w/stop", { reason = "enough" })
      assert.same({ "stopped", "enough" }, { stopped.task.status, stopped.task.reason })
      local again, why = ask(console, "POST", ORDERS .. "/tasks/w/stop", {})
      assert.same({ 409, "ended" }, { again.status, why.code })
      gate.is_open = true
      assert.equal(200, (ask(console, "POST", ORDERS .. "/tasks/w/retry")).status)
      assert.equal("success", scheduler:wait("w").status)
      assert.equal(204, (ask(console, "DELETE", ORDERS .. "/tasks/w")).status)
      assert.equal(404, (ask(console, "DELETE", ORDERS .. "/tasks/w")).status)
    end)

    it("nothing with what it does not understand, and says why", function()
      local scheduler, console = open()
      assert(scheduler:add { id = "a" })
      scheduler:pause()
      assert(scheduler:add { id = "waits" })
      for _, case in ipairs {
        { "POST", "/tasks", { id = "waits" }, 409, "exists" },
        { "POST", "/tasks", { nonsense = 1 }, 400, "bad_request" },
        { "POST", "/tasks", { id = "" }, 400, "bad_request" }, { "POST", "/tasks", { 1, 2 }, 400, "bad_request" },
        { "POST", "/tasks", { item = { ["$bytes"] = "?" } }, 400, "bad_request" },
        { "PATCH", "", { limit = 0 }, 400, "bad_request" }, { "PATCH", "", { name = "x" }, 400, "bad_request" },
        { "POST", "/bulk", { action = "eat" }, 400, "bad_request" },
        { "POST", "/bulk", { action = "stop", filter = {} }, 400, "bad_request" },
        { "POST", "/pause", { queue = true }, 400, "bad_request" }, { "PUT", "", {}, 405, "method" },
        { "GET", "/tasks?limit=x", nil, 400, "bad_request" },
      } do
        local answer, why = ask(console, case[1], ORDERS .. case[2], case[3])
        assert.same({ case[4], case[5] }, { answer.status, why.code }, case[1] .. case[2] .. answer.body)
        assert.is_string(why.error)
      end
      local answer = assert(ltsh.http.post { url = console.url .. ORDERS .. "/tasks", body = "{", headers = {
        ["Content-Type"] = "application/json" } })
      assert.same({ 400, "bad_request" }, { answer.status, answer:json().code })
    end)

    it("a scheduler: paused, resumed, with other limits", function()
      local scheduler, console = open()
      local _, paused = ask(console, "POST", ORDERS .. "/pause", {})
      assert.is_true(paused.paused)
      assert(scheduler:add { id = "a" })
      ltsh.sleep(0.01)
      assert.equal("waiting", scheduler:get("a").status)
      local _, resumed = ask(console, "POST", ORDERS .. "/resume", {})
      assert.is_false(resumed.paused)
      assert.equal("success", scheduler:wait("a").status)
      local _, set = ask(console, "PATCH", ORDERS, { limit = 3 })
      assert.equal(3, set.limit)
    end)

    it("many at once, as they were seen", function()
      local scheduler, console = open(function(task) if task.item ~= "good" then error "no" end end)
      for i = 1, 600 do assert(scheduler:add { id = "t" .. i }) end
      for i = 1, 600 do scheduler:wait("t" .. i) end
      local _, page = ask(console, "GET", ORDERS .. "/tasks?status=failed&limit=1")
      assert.equal(600, page.total)
      assert(scheduler:add { id = "later" })
      scheduler:wait "later"
      local done, left = 0, 1
      while left > 0 do
        local _, answer = ask(console, "POST", ORDERS .. "/bulk",
          { action = "delete", filter = { status = "failed" }, as_of = page.as_of })
        done, left = done + answer.done, answer.done > 0 and answer.left or 0
        assert.same({}, answer.failed)
      end
      assert.equal(600, done)
      assert.equal("failed", scheduler:get("later").status)
      for i = 1, 600 do assert(scheduler:add { id = "u" .. i }) end
      for i = 1, 600 do scheduler:wait("u" .. i) end
      local seen, retried, after = select(2, ask(console, "GET", ORDERS .. "/tasks?limit=1")), 0, nil
      repeat -- those that fail again meanwhile are in the way of none
        local _, answer = ask(console, "POST", ORDERS .. "/bulk",
          { action = "retry", filter = { status = "failed" }, as_of = seen.as_of, after = after })
        for i = 1, 600 do scheduler:wait("u" .. i) end
        retried, after = retried + answer.done, answer.next
      until after == ltsh.json.null
      assert.equal(601, retried)
      local _, by_id = ask(console, "POST", ORDERS .. "/bulk", { action = "retry", ids = { "later", "none" } })
      assert.same({ 1, "none", "unknown" }, { by_id.done, by_id.failed[1].id, by_id.failed[1].code })
    end)
  end)

  describe("may be used", function()
    it("only by who has the token, if there is one", function()
      local _, console = open(nil, nil, { token = "secret" })
      for _, path in ipairs { "api/v1/schedulers", "metrics", "api/v1/events", "api/v1/openapi.json" } do
        assert.equal(401, (ask(console, "GET", path)).status, path)
      end
      for _, path in ipairs { "", "healthz", "static/console.js", "api/v1/settings" } do
        assert.equal(200, ltsh.http.get(console.url .. path).status, path)
      end
      assert.not_matches("orders", ltsh.http.get(console.url .. "healthz").body)
      assert.equal(200, (ask(console, "GET", "api/v1/schedulers", nil, { Authorization = "Bearer secret" })).status)
      for _, wrong in ipairs { "Bearer secre", "Bearer secretx", "Bearer ", "Basic secret", "secret" } do
        assert.equal(401, (ask(console, "GET", "api/v1/schedulers", nil, { Authorization = wrong })).status)
      end
      local login = ask(console, "POST", "login", { token = "secret" })
      assert.equal(303, login.status)
      local cookie = login.headers["set-cookie"]
      assert.matches("^ltsh_" .. console.port .. "=%x+; Path=/; HttpOnly; SameSite=Strict", cookie)
      assert.not_matches("secret", cookie, 1, true)
      local header = { Cookie = cookie:match "^[^;]+" }
      assert.equal(200, (ask(console, "GET", "api/v1/schedulers", nil, header)).status)
      ask(console, "POST", "logout", {}, header)
      assert.equal(401, (ask(console, "GET", "api/v1/schedulers", nil, header)).status)
      assert.equal(401, (ask(console, "POST", "login", { token = "wrong" })).status)
    end)

    it("with all of the token, and no text that is nearly it", function()
      local token = "s3cret-t0ken"
      local _, console = open(nil, nil, { token = token })
      local wrongs = { token .. token, token .. "s", token .. "\xff", "x", token:upper(), token:reverse() }
      for i = 1, #token do -- of the same length, but for one byte or one bit; and each beginning
        wrongs[#wrongs + 1] = token:sub(1, i - 1) .. "x" .. token:sub(i + 1)
        wrongs[#wrongs + 1] = token:sub(1, i - 1) .. string.char(token:byte(i) ~ 1) .. token:sub(i + 1)
        if i > 1 then wrongs[#wrongs + 1] = token:sub(1, i - 1) end
      end
      local left, taken = 2 * #wrongs, {}
      local function try(wrong, path, body, headers)
        ltsh.spawn(function() -- each costs half a second
          local answer = ask(console, body and "POST" or "GET", path, body, headers)
          if answer.status ~= 401 then taken[#taken + 1] = path .. " " .. wrong end
          left = left - 1
        end)
      end
      for _, wrong in ipairs(wrongs) do
        try(wrong, "api/v1/schedulers", nil, { Authorization = "Bearer " .. wrong })
        try(wrong, "login", { token = wrong:gsub("\xff", "\u{fffd}") })
      end
      eventually("all are answered", function() return left == 0 end)
      assert.same({}, taken)
      for _, wrong in ipairs { "", 5, true, { token } } do
        assert.equal(401, (ask(console, "POST", "login", { token = wrong })).status)
      end
      assert.equal(200, (ask(console, "GET", "api/v1/schedulers", nil, { Authorization = "Bearer " .. token })).status)
      assert.equal(303, (ask(console, "POST", "login", { token = token })).status)
    end)

    it("with paths that are open, a wrong token costing time, and none of it in the log", function()
      local host = run.start { "-l", "debug", "-e", [[
        local ltsh = require "ltsh"
        local scheduler = ltsh.scheduler { name = "orders", container = ltsh.container.queue {},
          actuator = ltsh.actuator.func(function() end) }
        local console = ltsh.console { port = 0, token = "s3cret-token", open = { "/metrics" } }
        print("at " .. console.url)
        scheduler:run()
      ]] }
      local console = { url = host:expect "at (%S+)" }
      assert.equal(200, (ltsh.http.get(console.url .. "metrics")).status)
      assert.equal(401, (ask(console, "GET", "api/v1/schedulers")).status)
      local began = uv.hrtime()
      local wrong = { Authorization = "Bearer wr0ng-token" }
      assert.equal(401, (ask(console, "GET", "api/v1/schedulers", nil, wrong)).status)
      assert.equal(401, (ask(console, "POST", "login", { token = "wr0ng-token" })).status)
      assert.is_true(uv.hrtime() - began >= 0.9e9)
      local right = { Authorization = "Bearer s3cret-token" }
      assert.equal(200, (ask(console, "POST", ORDERS .. "/pause", {}, right)).status)
      host:kill "sigkill"
      host:wait()
      assert.matches("a change was asked for", host.stderr)
      assert.is_nil(host.stderr:find("s3cret", 1, true) or host.stderr:find("wr0ng", 1, true))
    end)

    it("by no page of another site, and for no other host", function()
      local scheduler, console = open()
      local path, body = ORDERS .. "/tasks", { id = "evil" }
      for _, headers in ipairs {
        { Origin = "http://evil.example" }, { Origin = "null" }, { ["Sec-Fetch-Site"] = "cross-site" },
        { ["Sec-Fetch-Site"] = "same-site" }, { Origin = "http://127.0.0.1:1" },
      } do
        local answer, why = ask(console, "POST", path, body, headers)
        assert.same({ 403, "cross_site" }, { answer.status, why.code })
      end
      local form = assert(ltsh.http.post { url = console.url .. path, body = '{"id":"evil"}', headers = {
        ["Content-Type"] = "text/plain" } })
      assert.equal(415, form.status)
      local rebound = socket.ask(console.port,
        "GET /api/v1/schedulers HTTP/1.1\r\nHost: evil.example:8000\r\nConnection: close\r\n\r\n")
      assert.matches("^HTTP/1.1 421 ", rebound)
      assert.is_nil((scheduler:get "evil"))
      local own = { Origin = console.url:gsub("/$", "") }
      assert.equal(201, (ask(console, "POST", path, { id = "own" }, own)).status)
    end)

    it("only to look, if it is read-only", function()
      local scheduler, console = open(nil, nil, { read_only = true })
      scheduler:pause()
      assert(scheduler:add { id = "a" })
      for _, request in ipairs {
        { "POST", "/tasks" }, { "DELETE", "/tasks/a" }, { "POST", "/tasks/a/stop" }, { "POST", "/bulk" },
        { "POST", "/pause" }, { "PATCH", "" }, { "POST", "/tasks/a/retry" }, { "POST", "/resume" },
      } do
        local answer, why = ask(console, request[1], ORDERS .. request[2], {})
        assert.same({ 403, "read_only" }, { answer.status, why.code })
      end
      assert.equal("waiting", scheduler:get("a").status)
      assert.is_true(select(2, ask(console, "GET", ORDERS)).read_only)
    end)

    it("below a path", function()
      local _, console = open(nil, nil, { base_path = "jobs", token = "t" })
      assert.matches(":%d+/jobs/$", console.url)
      assert.equal(200, ltsh.http.get(console.url).status)
      assert.matches("Path=/jobs/;", ask(console, "POST", "login", { token = "t" }).headers["set-cookie"])
      assert.equal(404, ltsh.http.get((console.url:gsub("jobs/$", ""))).status)
    end)

    it("with headers that let no foreign code run", function()
      local _, console = open()
      for _, path in ipairs { "", "static/console.js", "api/v1/schedulers", "nothing" } do
        local headers = ltsh.http.get(console.url .. path).headers
        if path ~= "nothing" then
          assert.matches("script%-src 'self'", headers["content-security-policy"])
          assert.not_matches("unsafe", headers["content-security-policy"])
          assert.same({ "nosniff", "no-referrer" }, { headers["x-content-type-options"], headers["referrer-policy"] })
        end
      end
      local page = ltsh.http.get(console.url).body
      assert.not_matches("https?://", page)
      assert.not_matches("<script>", page, 1, true)
      assert.not_matches("style=", page, 1, true)
    end)
  end)

  describe("tells", function()
    local function listen(console, query)
      local client = socket.open(console.port)
      client:send("GET /api/v1/events" .. (query or "") .. " HTTP/1.1\r\nHost: localhost\r\n\r\n")
      client:expect "event: hello"
      return client
    end

    it("what happens, without items and outputs", function()
      local scheduler, console = open(function() return "s3cret" end)
      local client = listen(console)
      client:expect "event: stats"
      assert(scheduler:add { id = "a", item = "s3cret" })
      client:expect '"status":"success"'
      assert.not_matches("s3cret", client:received(), 1, true)
      assert.not_matches('"preview"', client:received(), 1, true)
      client:close()
    end)

    it("what a task prints, to who looks at it", function()
      local scheduler = scene.keep(ltsh.scheduler {
        name = "orders", container = ltsh.container.queue {}, actuator = ltsh.actuator.process {},
      })
      local console = open_console { schedulers = { scheduler } }
      local all, one = listen(console), listen(console, "?task=a")
      local seen = scene.temporary ".seen"
      assert(scheduler:add { id = "a", item = {
        shell = "echo hello; while [ ! -e " .. seen .. " ]; do sleep 0.01; done; printf '\\377'; echo no >&2",
      } })
      one:expect '"text":"hello'
      io.open(seen, "w"):close()
      one:expect '"$bytes":"/w=="'
      one:expect '"stream":"stderr"'
      all:expect '"status":"success"'
      assert.not_matches("event: output", all:received(), 1, true)
      all:close()
      one:close()
    end)

    it("many browsers at little more cost than one", function()
      local scheduler, console = open(nil, { limit = 64 })
      local function cost_of(count)
        local clients = {}
        for i = 1, count do clients[i] = listen(console) end
        local began = os.clock()
        for i = 1, 3000 do assert(scheduler:add { id = count .. "-" .. i }) end
        scheduler:wait(count .. "-3000")
        local cost = os.clock() - began
        for i = 1, count do clients[i]:expect "event: [tr][ae]s" end -- some tasks, or that there were too many
        for i = 1, count do clients[i]:close() end
        return cost
      end
      cost_of(1)
      local one = cost_of(1)
      assert.is_true(cost_of(300) < 5 * one + 0.2, one)
    end)

    it("each browser what it asked for, and nobody of the ends of others", function()
      local scheduler, console = open(function(task) return task.item end)
      local other = scene.open(function() end, { name = "others" })
      local both = open_console { schedulers = { scheduler, other } }
      local all, one, task = listen(both), listen(both, "?scheduler=others"), listen(both, "?scheduler=orders&task=a")
      for _, id in ipairs { "a", "b" } do
        assert(scheduler:add { id = id })
        assert(other:add { id = "other-" .. id })
      end
      for _, id in ipairs { "a", "b", "other%-a", "other%-b" } do all:expect('"id":"' .. id .. '"') end
      one:expect '"id":"other%-b"'
      task:expect '"id":"a"'
      assert.is_nil(one:received():find('"scheduler":"orders"', 1, true))
      assert.is_nil(task:received():find('"id":"b"', 1, true))
      assert.is_nil(task:received():find('"scheduler":"others"', 1, true))
      assert.matches('\nltsh_event_streams 3\n', ltsh.http.get(both.url .. "metrics").body)
      for _, client in ipairs { all, one, task } do client:close() end
      eventually("they have gone", function()
        return ltsh.http.get(both.url .. "metrics").body:find "\nltsh_event_streams 0\n"
      end)
      assert(console)
    end)

    it("nothing more to a session that has ended", function()
      local scheduler, console = open(nil, nil, { token = "secret" })
      local function log_in()
        return ask(console, "POST", "login", { token = "secret" }).headers["set-cookie"]:match "^[^;]+"
      end
      local mine, other = log_in(), log_in()
      local function listen_as(header, query)
        local client = socket.open(console.port)
        client:send(("GET /api/v1/events%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n"):format(query or "", header))
        client:expect "event: stats"
        return client
      end
      local ended = { listen_as("Cookie: " .. mine), listen_as("Cookie: " .. mine, "?task=a") }
      local going = { listen_as("Cookie: " .. other), listen_as "Authorization: Bearer secret" }
      ask(console, "POST", "logout", {}, { Cookie = mine })
      for _, client in ipairs(ended) do client:expect "\r\n0\r\n\r\n$" end
      assert(scheduler:add { id = "a" })
      for _, client in ipairs(going) do client:expect '"status":"success"' end
      for _, client in ipairs(ended) do assert.not_matches('"status":"success"', client:received(), 1, true) end
      console.sessions[other:match "=(.*)$"] = ltsh.now() -- as if its thirty days were over
      assert(scheduler:add { id = "b" })
      going[1]:expect "\r\n0\r\n\r\n$"
      going[2]:expect '"id":"b"'
      assert.not_matches('"id":"b"', going[1]:received(), 1, true)
      for _, clients in ipairs { ended, going } do
        for _, client in ipairs(clients) do client:close() end
      end
    end)

    it("the latest of each task, and that some are missing, to who is slow", function()
      local scheduler, console = open(nil, { limit = 64 })
      local client = listen(console)
      client.tcp:read_stop()
      for i = 1, 20000 do assert(scheduler:add { id = "t" .. i, key = ("k"):rep(200) }) end
      scheduler:wait "t20000"
      client:read()
      client:expect "event: resync"
      client:close()
    end)
  end)

  it("has figures for Prometheus", function()
    local scheduler, console = open(function(task) if task.item then error(task.item) end end, { limit = 9 })
    assert(scheduler:add { id = "a" })
    assert(scheduler:add { id = "b", item = 'strange "reason"\n' })
    scheduler:wait "a"
    scheduler:wait "b"
    local answer = ltsh.http.get(console.url .. "metrics")
    assert.equal("text/plain; version=0.0.4; charset=utf-8", answer.headers["content-type"])
    for _, line in ipairs {
      'ltsh_tasks{scheduler="orders",status="waiting"} 0', 'ltsh_limit{scheduler="orders"} 9',
      'ltsh_tasks_added_total{scheduler="orders"} 2',
      'ltsh_tasks_finished_total{scheduler="orders",status="success"} 1',
      'ltsh_tasks_failed_total{scheduler="orders",reason="error"} 1',
      'ltsh_task_run_seconds_count{scheduler="orders"} 2',
      'ltsh_task_wait_seconds_bucket{scheduler="orders",le="+Inf"} 2', 'ltsh_event_streams 0',
    } do
      assert.matches("\n" .. line .. "\n", answer.body, 1, true)
    end
    local kinds, last = {}, nil
    for line in answer.body:gmatch "[^\n]+" do
      local family, kind = line:match "^# TYPE (%S+) (%S+)$"
      if family then
        assert.is_nil(kinds[family])
        kinds[family], last = kind, family
      elseif not line:find "^#" then
        local name = line:match "^([%w_]+)[{ ]"
        if kinds[last] == "histogram" then name = name:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", "") end
        assert.equal(last, name)
        assert.matches("^[%w_]+%b{} %S+$", line:find "{" and line or line:gsub(" ", "{} ", 1))
        if kinds[last] == "counter" then assert.matches("_total$", name) end
      end
    end
    assert.not_matches("strange", answer.body, 1, true)
  end)

  it("is described by its OpenAPI file", function()
    local _, console = open()
    local _, file = ask(console, "GET", "api/v1/openapi.json")
    local api = require "ltsh.console_api"
    local served, described = {}, {}
    for _, path in ipairs { "", "static/*rest", "healthz", "metrics", "api/v1/settings", "api/v1/openapi.json" } do
      served["get /" .. path:gsub("[:*](%w+)", "{%1}")] = true
    end
    served["post /login"], served["post /logout"] = true, true
    for path in pairs(api.reads) do served["get /" .. path:gsub(":(%w+)", "{%1}")] = true end
    for route in pairs(api.changes) do
      local method, path = route:match "^(%S+) (.*)$"
      served[method:lower() .. " /" .. path:gsub(":(%w+)", "{%1}")] = true
    end
    for path, methods in pairs(file.paths) do
      for method in pairs(methods) do described[method .. " " .. path] = true end
    end
    assert.same(served, described)
  end)

  it("is opened by the command line", function()
    local host = run.start { "--console=0", "-e", [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler { name = "mine", container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() ltsh.sleep(0.3) end) }
      scheduler:add { id = "a" }
    ]] }
    local url
    eventually("it says where", function()
      url = host.stderr:match "console: (http://127%.0%.0%.1:%d+/)\n"
      return url
    end)
    local answer = assert(ltsh.http.get(url .. "api/v1/schedulers"))
    assert.equal("mine", answer:json().schedulers[1].name)
    assert.equal(0, host:wait().code) -- it does not hold the process
    local server = uv.new_tcp()
    assert(server:bind("127.0.0.1", 0))
    assert(server:listen(1, function() end))
    local taken = run.ltsh { "--console=" .. server:getsockname().port, "-e", "print 'begun'" }
    server:close()
    assert.same({ 1, "" }, { taken.code, taken.stdout })
    assert.matches(("address already in use: port %%d+ is taken by %%S+ %%(pid %d%%)\n$"):format(uv.os_getpid()),
      taken.stderr)
    local six = run.start { "--console=[::1]:0", "-e", "require('ltsh').sleep(5)" }
    eventually("it says where", function()
      url = six.stderr:match "console: (http://%[::1%]:%d+/)\n"
      return url or six.exited
    end)
    if url then -- there is IPv6 here
      assert.equal(200, ltsh.http.get(url).status)
      six:kill "sigkill"
    end
    six:wait()
    local wrong = run.ltsh { "--console=x", "-e", "print 'begun'" }
    assert.same({ 1, "" }, { wrong.code, wrong.stdout })
    assert.matches("%[HOST:%]PORT is expected", wrong.stderr)
  end)

  it("has a token of its own where others reach it, and says it once", function()
    local host = run.start({ "--console=0.0.0.0:0", "-e", "require('ltsh').sleep(5)" },
      { env = { LTSH_CONSOLE_TOKEN = "given" } })
    local port
    eventually("it says where", function()
      port = host.stderr:match "console: http://127%.0%.0%.1:(%d+)/#token=given\n"
      return port
    end)
    assert.equal(401, ltsh.http.get("http://127.0.0.1:" .. port .. "/api/v1/schedulers").status)
    host:kill "sigkill"
    host:wait()
    local console = open_console { host = "0.0.0.0" }
    assert.matches("^%x+$", console.token)
    assert.equal(32, #console.token)
  end)

  it("refuses what it cannot be", function()
    for message, options in pairs {
      ["unknown option"] = { prot = 1 }, ["port"] = { port = -1 }, ["schedulers%[1%]"] = { schedulers = { {} } },
      ["redact"] = { redact = 5 }, ["base_path"] = { base_path = "/a b" },
      ["host must be an address"] = { host = "no.such" },
    } do
      local ok, why = pcall(ltsh.console, options)
      assert.is_false(ok)
      assert.matches("^ltsh.console: .*" .. message, why)
    end
  end)

  it("says who has the port that it should have", function()
    local console = open_console()
    local ok, why = pcall(ltsh.console, { port = console.port })
    assert.is_false(ok)
    assert.matches(("^ltsh.console: http://127.0.0.1:%d/: .*: port %d is taken by %%S+ %%(pid %d%%)$"):format(
      console.port, console.port, uv.os_getpid()), why)
  end)
end)
