-- The console's page in a real browser (spec/browser/console.mjs): Chromium, driven by playwright-core. Skipped where
-- these are missing, unless LTSH_TEST_BROWSER=required.
local ltsh = require "ltsh"
local uv = require "luv"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local root = uv.cwd()
local modules = os.getenv "LTSH_BROWSER_MODULES" or root .. "/build/browser"

local function find_browser()
  for _, path in ipairs { "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome" } do
    if uv.fs_stat(path) then return path end
  end
end

local chromium = find_browser()
local there = chromium and uv.fs_stat(modules .. "/node_modules/playwright-core")
if not there and os.getenv "LTSH_TEST_BROWSER" == "required" then
  error("Chromium or playwright-core is missing: scripts/setup --test installs both")
end

-- What the page shows: tasks of every kind.
local HOST = [[
  local ltsh = require "ltsh"
  local orders = ltsh.scheduler {
    name = "orders", container = ltsh.container.queue {}, limit = 4,
    actuator = ltsh.actuator.func(function(task)
      local item = type(task.item) == "table" and task.item or {}
      if item.fail then error "the mail server said no" end
      if item.sleep then ltsh.sleep(item.sleep) end
      return { big = 9007199254740993, html = "<script>window.hacked = 1</script>" }
    end),
  }
  local builds = ltsh.scheduler {
    name = "builds", container = ltsh.container.queue {}, actuator = ltsh.actuator.process {},
  }
  for i = 1, 120 do orders:add { id = "many-" .. i, item = { fail = true } } end
  for i = 1, 120 do orders:wait("many-" .. i) end
  orders:add { id = "<img src=x onerror=window.hacked=1>", item = { html = "<img src=x onerror=window.hacked=1>" } }
  orders:add { id = "a b/c?d=e#f", item = {} }
  orders:add { id = "good", item = { to = "someone" } }
  orders:add { id = "large", item = ("x"):rep(3000000) }
  orders:add { id = "bad", item = { fail = true } }
  orders:add { id = "long", item = { sleep = 600 } }
  orders:wait "bad"
  builds:add { id = "build", item = {
    shell = "printf '10 %%\\r50 %%\\r90 %%\\n'; echo careful >&2; " ..
      "for i in 1 2 3 4 5 6 7 8; do printf '\\033[32mstep %s\\033[0m\\n' $i; sleep 0.5; done; sleep 600" } }
  print "ready"
  orders:run()
]]

local hosts = {}

-- A host, which ends with the test.
local function start(args, options)
  options = options or {}
  options.limit = 120
  local host = run.start(args, options)
  table.insert(hosts, host)
  return host
end

local function clean()
  for _, host in ipairs(hosts) do
    if not host.exited then host:kill "sigkill" end
  end
  hosts = {}
  run.clean()
  scene.close()
end

-- What the program in the browser says of each thing that it tried.
local function try(program, address, options)
  local result = run.start({ "spec/browser/" .. program, address, os.getenv "LTSH_TEST_PICTURES" or "" }, {
    program = "/usr/bin/node", limit = 110, env = {
      LTSH_BROWSER_MODULES = modules, LTSH_CHROMIUM = chromium, HOME = scene.temporary "", LTSH_TOKEN = options.token,
      LTSH_TRIES = options.tries,
    },
  }):wait()
  local failed, passed = {}, 0
  for line in result.stdout:gmatch "[^\n]+" do
    if line:find "^ok " then passed = passed + 1 else failed[#failed + 1] = line end
  end
  assert.same({}, failed, result.stderr)
  assert.is_true(passed >= options.least, result.stdout .. result.stderr)
  if os.getenv "LTSH_TEST_FIGURES" then io.stderr:write(result.stderr) end
end

local function try_console(options)
  local host = start({ "-l", "error", "--console=0", "-e", HOST }, { env = options.env })
  host:expect "ready"
  try("console.mjs", host.stderr:match "console: (http://[^#%s]+)", options)
end

local function it_in_browser(name, check)
  it(name, function()
    if not there then return pending "there is no Chromium, or no playwright-core" end
    check()
  end)
end

describe("the console's page", function()
  after_each(clean)

  it_in_browser("is used by people", function()
    try_console { least = 20 }
  end)

  it_in_browser("asks for a token where there is one", function()
    try_console { env = { LTSH_CONSOLE_TOKEN = "s3cret-token" }, token = "s3cret-token", tries = "token", least = 4 }
  end)
end)

describe("the console's page", function()
  after_each(clean)

  it_in_browser("is used behind a proxy that holds events back, below a path", function()
    local console
    local proxy = ltsh.http.server { routes = { ["* /*rest"] = function(request)
      local headers = { Host = request.headers.host }
      for _, name in ipairs { "cookie", "content-type", "origin", "sec-fetch-site", "accept" } do
        headers[name] = request.headers[name]
      end
      local query = {}
      for name, value in pairs(request.query) do
        query[#query + 1] = name .. "=" .. value:gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end)
      end
      local answer = ltsh.http.request { -- which is given on when all of it is there
        url = console .. request.path:gsub("^/", "") .. (query[1] and "?" .. table.concat(query, "&") or ""),
        method = request.method, headers = headers, body = request.body ~= "" and request.body or nil, redirects = 0,
      }
      if not answer then return { status = 502, body = "bad gateway" } end
      local passed = {}
      for _, name in ipairs { "content-type", "location", "content-security-policy" } do
        passed[name] = answer.headers[name]
      end
      passed["set-cookie"] = answer.cookies
      return { status = answer.status, headers = passed, body = answer.body }
    end } }
    local scheduler = scene.open(function() end, { name = "orders" })
    assert(scheduler:add { id = "good" })
    local opened = ltsh.console {
      schedulers = { scheduler }, port = 0, base_path = "/jobs/", token = "t0ken", allowed_hosts = { "127.0.0.1" },
    }
    console = opened.url:gsub("jobs/$", "")
    try("console.mjs", proxy.url .. "jobs/", { least = 3, tries = "proxy", token = "t0ken" })
    opened:close()
    proxy:close { drain = 0 }
  end)

  it_in_browser("shows a page that is there, and beside a row what could not be", function()
    local scheduler = scene.open(function() end, { name = "orders" })
    for i = 1, 120 do
      assert(scheduler:add { id = "t-" .. i })
      assert(scheduler:wait("t-" .. i))
    end
    for i = 1, 60 do assert(scheduler:add { id = "w-" .. i, delay = 1000 }) end
    local console = ltsh.console { schedulers = { scheduler }, port = 0 }
    try("console.mjs", console.url, { least = 4, tries = "pages" })
    console:close()
  end)

  it_in_browser("only shows, if it is read-only", function()
    local scheduler = scene.open(function() end, { name = "orders" })
    assert(scheduler:add { id = "good" })
    local console = ltsh.console { schedulers = { scheduler }, port = 0, read_only = true }
    try("console.mjs", console.url, { least = 3, tries = "watch" })
    console:close()
  end)

  it_in_browser("shows the hosts that share a queue", function()
    local path = scene.temporary ".db"
    local SHARED = [[
      local ltsh = require "ltsh"
      local shared = ltsh.scheduler {
        name = "shared", container = ltsh.container.sqlite { path = arg[1], durability = "normal" },
        actuator = ltsh.actuator.func(function() end),
      }
      assert(shared:count())
      print "ready"
    ]]
    start({ "-e", SHARED .. " shared:run()", path }):expect "ready"
    local host = start({ "-l", "error", "--console=0", "-e", SHARED .. [[
      local orders = ltsh.scheduler { name = "orders", container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() end) }
      orders:add { id = "good" }
      shared:run()
    ]], path })
    host:expect "ready"
    try("console.mjs", host.stderr:match "console: (http://[^#%s]+)", { least = 3, tries = "hosts" })
  end)

  it_in_browser("stays quick with a million tasks", function()
    local host = start({ "-l", "error", "--console=0", "-e", [[
      local ltsh = require "ltsh"
      local orders = ltsh.scheduler {
        name = "orders", container = ltsh.container.queue { size = 2000000 }, limit = 4, keep = { tasks = 2000000 },
        actuator = ltsh.actuator.func(function() end),
      }
      orders:pause()
      for i = 1, 1000000 do orders:add { id = "t-" .. i, item = { n = i } } end
      orders:on("added", function(task)
        if task.id ~= "burst" then return end
        ltsh.spawn(function() -- a thousand in each second
          for i = 1, 300 do
            for k = 1, 10 do orders:add { id = "fresh-" .. i .. "-" .. k } end
            ltsh.sleep(0.01)
          end
        end)
      end)
      print "ready"
      orders:run()
    ]] })
    host:expect "ready"
    try("console.mjs", host.stderr:match "console: (http://[^#%s]+)", { least = 3, tries = "million" })
  end)
end)

describe("the video cutting page", function()
  after_each(clean)

  it_in_browser("is used by people", function()
    if not ltsh.exec { "ffmpeg", "-version" } then return pending "there is no ffmpeg" end
    local host = start({ "-l", "error", "examples/videocut/main.lua" }, { env = {
      VIDEOCUT_DATA = scene.temporary ".d", VIDEOCUT_PORT = "0", VIDEOCUT_SERVICE_PORT = "0", PATH = os.getenv "PATH",
    } })
    local address = host:expect "open (http://[^%s]+)"
    try("videocut.mjs", address, { least = 5 })
  end)
end)
