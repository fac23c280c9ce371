-- ltsh.console: a page and a REST interface over schedulers, on ltsh.http.server.
--
-- Who may: on an address of this machine alone anybody, on others who has the token (as a bearer, or a cookie that the
-- login gives). The Host header must be ours, and what changes something must not come from another site's page.
local ltsh = require "ltsh"
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local uv = require "luv"
local api = require "ltsh.console_api"
local feeds = require "ltsh.console_feed"
local http_headers = require "ltsh.http_headers"
local made = require "ltsh.made"
local server = require "ltsh.http_server"

local WHERE = "ltsh.console"
local SLOW = 0.5 -- seconds that a wrong token costs
local SESSION = 30 * 86400
local NAMES = {
  schedulers = true, host = true, port = true, token = true, allowed_hosts = true, base_path = true, read_only = true,
  open = true, redact = true, title = true, hold = true,
}

local PAGES = debug.getinfo(1, "S").source:match "^@(.*)%.lua$" -- the folder of the page's files

local SECURITY = {
  ["Content-Security-Policy"] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " ..
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  ["X-Content-Type-Options"] = "nosniff", ["Referrer-Policy"] = "no-referrer", ["X-Frame-Options"] = "DENY",
  ["Cross-Origin-Opener-Policy"] = "same-origin", ["Cross-Origin-Resource-Policy"] = "same-origin",
}

local function random_text()
  return (assert(uv.random(16)):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

-- As long for a wrong one as for the right one.
local function same_text(a, b)
  local difference = #a ~ #b
  for i = 1, #a do difference = difference | (a:byte(i) ~ (b:byte((i - 1) % math.max(#b, 1) + 1) or 0)) end
  return difference == 0
end

local function refusal(status, code, message)
  return { status = status, json = { error = message, code = code } }
end

local function is_loopback(host)
  return host == "localhost" or host == "::1" or host:find "^127%." ~= nil
end

-- Two schedulers of one name: the second is name#2.
local function free_name(feed, name)
  local n, free = 1, name
  while feed:find(free) do
    n = n + 1
    free = name .. "#" .. n
  end
  return free
end

-- One that a script found in a finalizer may go between any two calls: it is left out.
local function follow(console, scheduler)
  local ok, raised = pcall(function()
    console.feed:follow(scheduler, free_name(console.feed, core.name(scheduler)))
  end)
  if not ok and pcall(core.name, scheduler) then error(raised, 0) end
end

-- Requests.

local Console = {}
Console.__index = Console

local function header_host(request)
  return (request.headers.host or ""):lower():gsub(":%d+$", "")
end

-- A page of another site can make a browser send something, but not without saying where it comes from.
local function is_cross_site(request)
  local site = request.headers["sec-fetch-site"]
  if site and site ~= "same-origin" and site ~= "none" then return true end
  local origin = request.headers.origin
  if not origin then return false end
  return (origin:lower():match "^%a[%w+.-]*://(.*)$" or "") ~= (request.headers.host or ""):lower()
end

local function bearer_of(request) return (request.headers.authorization or ""):match "^[Bb]earer (.+)$" end

--- Whether this session goes on.
function Console:goes_on(session) return (self.sessions[session] or 0) > ltsh.now() end

--- The session that a request belongs to; nil: none that goes on, or it came with the token itself.
function Console:session_of(request)
  if not self.token or bearer_of(request) then return nil end
  for name, value in (request.headers.cookie or ""):gmatch "([^=;%s]+)=([^;]*)" do
    if name == self.cookie and self:goes_on(value) then return value end
  end
end

function Console:has_token(request)
  if not self.token then return true end
  local bearer = bearer_of(request)
  if bearer then return same_text(bearer, self.token) end
  return self:session_of(request) ~= nil
end

function Console:refuse(request, changes, path)
  if not self.hosts[header_host(request)] then
    return refusal(421, "host", "this console does not answer for that host; see allowed_hosts")
  end
  if not self.open[path] and not self:has_token(request) then
    if request.headers.authorization then ltsh.sleep(SLOW) end
    local answer = refusal(401, "token", "a token is needed")
    answer.headers = { ["WWW-Authenticate"] = "Bearer" }
    return answer
  end
  if not changes then return nil end
  if is_cross_site(request) then return refusal(403, "cross_site", "the request comes from another site") end
  if self.read_only then return refusal(403, "read_only", "this console only shows") end
  if request.body ~= "" and not (request.headers["content-type"] or ""):find "^application/json" then
    return refusal(415, "type", "the body must be application/json")
  end
end

local function with_usual(given)
  local headers = { ["Cache-Control"] = "no-store" }
  for name, value in pairs(SECURITY) do headers[name] = value end
  for name, value in pairs(given) do headers[name] = value end
  return headers
end

local USUAL = http_headers.fixed(with_usual {})

local function add_headers(answer)
  answer.headers = answer.headers and with_usual(answer.headers) or USUAL
  return answer
end

local function log_change(request, status)
  ltsh.log.info("console: a change was asked for",
    { method = request.method, path = request.path, from = request.remote, status = status })
end

local function explain(raised)
  if api.failure(raised) then return raised end
  return { raised = raised, traceback = debug.traceback(check.raised(raised), 2) }
end

-- A handler of the server for one of ours: `changes`, or only looks.
function Console:guard(handler, changes, path)
  return function(request)
    local answer = self:refuse(request, changes, path)
    if not answer then
      local ok, result = xpcall(handler, explain, self, request)
      answer = ok and result or api.failure(result)
      if not answer then
        if type(result.raised) == "table" and result.raised.status then error(result.raised, 0) end -- the server's own
        ltsh.log.error("console: a request could not be handled",
          { method = request.method, path = request.path, traceback = result.traceback })
        answer = refusal(500, "internal", "the request could not be handled")
      end
    end
    local status = answer.status or 200
    local key = request.method .. " " .. status
    self.requests[key] = (self.requests[key] or 0) + 1
    if changes then log_change(request, status) end
    return add_headers(answer)
  end
end

-- Login.

local function form_value(body, name)
  for key, value in body:gmatch "([^=&]+)=([^&]*)" do
    if key == name then
      return (value:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
    end
  end
end

function Console:login(request)
  local token
  if (request.headers["content-type"] or ""):find "^application/json" then
    token = type(request.json) == "table" and request.json.token
  else
    token = form_value(request.body, "token")
  end
  if not self.token then return { status = 303, headers = { Location = self.base_path } } end
  if type(token) ~= "string" or not same_text(token, self.token) then
    ltsh.sleep(SLOW)
    return refusal(401, "token", "that is not the token")
  end
  for session, ends in pairs(self.sessions) do
    if ends <= ltsh.now() then self.sessions[session] = nil end
  end
  local session = random_text()
  self.sessions[session] = ltsh.now() + SESSION
  return { status = 303, headers = {
    Location = self.base_path,
    ["Set-Cookie"] = ("%s=%s; Path=%s; HttpOnly; SameSite=Strict; Max-Age=%d"):format(self.cookie, session,
      self.base_path, SESSION),
  } }
end

function Console:logout(request)
  for name, value in (request.headers.cookie or ""):gmatch "([^=;%s]+)=([^;]*)" do
    if name == self.cookie and self.sessions[value] then
      self.sessions[value] = nil
      self.feed:look_whether_over()
    end
  end
  return { status = 303, headers = {
    Location = self.base_path,
    ["Set-Cookie"] = ("%s=; Path=%s; HttpOnly; SameSite=Strict; Max-Age=0"):format(self.cookie, self.base_path),
  } }
end

-- The page.

function Console:page() return { file = "index.html", folder = PAGES, headers = { ["Cache-Control"] = "no-cache" } } end

function Console:static(request)
  return { file = request.params.rest, folder = PAGES .. "/static", headers = { ["Cache-Control"] = "no-cache" } }
end

function Console:settings()
  return { json = {
    title = self.title, read_only = self.read_only, token = self.token ~= nil, version = ltsh.version,
  } }
end

function Console:openapi() return { file = "openapi.json", folder = PAGES } end

function Console:health() return { json = { status = "ok", version = ltsh.version } } end

function Console:metrics()
  local metrics = require "ltsh.console_metrics"
  return { body = metrics.page(self), headers = { ["Content-Type"] = metrics.TYPE } }
end

-- What the page needs to ask for the token is open.
local ALWAYS_OPEN = { [""] = true, ["static/*rest"] = true, ["healthz"] = true, ["api/v1/settings"] = true }

local function routes_of(console)
  local routes = {}
  local function add(method, path, handler, changes)
    routes[method .. " " .. console.base_path .. path] = console:guard(handler, changes, path)
  end
  add("GET", "", Console.page)
  add("GET", "static/*rest", Console.static)
  add("GET", "healthz", Console.health)
  add("GET", "metrics", Console.metrics)
  add("GET", "api/v1/settings", Console.settings)
  add("GET", "api/v1/openapi.json", Console.openapi)
  for path, handler in pairs(api.reads) do add("GET", path, handler) end
  for route, handler in pairs(api.changes) do
    local method, path = route:match "^(%S+) (.*)$"
    add(method, path, handler, true)
  end
  local function open(handler)
    return function(request)
      if not console.hosts[header_host(request)] then return add_headers(refusal(421, "host", "not this host")) end
      if is_cross_site(request) then return add_headers(refusal(403, "cross_site", "another site asks")) end
      return add_headers(handler(console, request))
    end
  end
  routes["POST " .. console.base_path .. "login"] = open(Console.login)
  routes["POST " .. console.base_path .. "logout"] = open(Console.logout)
  return routes
end

-- Opening.

local function read_base(base)
  base = base == nil and "/" or check.text(WHERE, "base_path", base)
  if not base:find "^/" then base = "/" .. base end
  if not base:find "/$" then base = base .. "/" end
  if base:find "[%s%z?#:*]" then check.fail(WHERE, "base_path", "the beginning of a path", base) end
  return base
end

local function read_hosts(options, host)
  local hosts = {}
  if is_loopback(host) then
    hosts.localhost, hosts["127.0.0.1"], hosts["[::1]"] = true, true, true
  end
  hosts[host:find ":" and "[" .. host .. "]" or host] = true
  for _, name in ipairs(check.table(WHERE, "allowed_hosts", options.allowed_hosts or {})) do
    hosts[check.text(WHERE, "allowed_hosts", name):lower()] = true
  end
  if host == "0.0.0.0" or host == "::" then -- any name may lead here: there is a token
    setmetatable(hosts, { __index = function(_, name) return name ~= "" end })
  end
  return hosts
end

local function read_open(open)
  local set = {}
  for path in pairs(ALWAYS_OPEN) do set[path] = true end
  for _, path in ipairs(check.table(WHERE, "open", open or {})) do
    set[check.text(WHERE, "a path of open", path):gsub("^/", "")] = true
  end
  return set
end

local function read_schedulers(given)
  if given == nil then return nil end
  for i, scheduler in ipairs(check.table(WHERE, "schedulers", given)) do
    if not pcall(core.name, scheduler) then check.fail(WHERE, "schedulers[" .. i .. "]", "a scheduler", scheduler) end
  end
  return given
end

local function start_turns(console)
  local timer, expected = uv.new_timer(), nil
  timer:start(1000, 1000, function()
    console.feed:sweep()
    local now = uv.hrtime() / 1e9
    if expected then
      local late, i = math.max(now - expected - 1, 0), 1
      while feeds.BUCKETS[i] and late > feeds.BUCKETS[i] do i = i + 1 end
      console.turns.counts[i] = console.turns.counts[i] + 1
      console.turns.sum = console.turns.sum + late
    end
    expected = now
  end)
  timer:unref()
  console.turn_timer = timer
end

--- Ends it: the page is not served any more.
function Console:close()
  if self.closed then return end
  self.closed = true
  if self.hook then made.hooks[self.hook] = nil end
  self.turn_timer:close()
  self.feed:close()
  self.server:close { drain = 1 }
end

--- A console over schedulers.
-- @param options { schedulers =, host =, port =, token =, ... }: docs/console.md
-- @return { url =, port =, token =, close() }; raises if the address cannot be had
local function open(options)
  options = options == nil and {} or check.table(WHERE, "its options", options)
  check.names(WHERE, options, NAMES)
  local host = options.host == nil and "127.0.0.1" or check.text(WHERE, "host", options.host)
  local token = options.token ~= nil and check.text(WHERE, "token", options.token) or nil
  if not token and not is_loopback(host) then token = os.getenv "LTSH_CONSOLE_TOKEN" or random_text() end
  if options.redact ~= nil and not check.is_callable(options.redact) then
    check.fail(WHERE, "redact", "a function", options.redact)
  end
  local schedulers = read_schedulers(options.schedulers)
  local zeros = {}
  for i = 1, #feeds.BUCKETS + 1 do zeros[i] = 0 end
  local console = setmetatable({
    feed = feeds.new(options.redact), token = token, sessions = {}, requests = {},
    base_path = read_base(options.base_path), read_only = options.read_only == true, open = read_open(options.open),
    hosts = read_hosts(options, host:lower()),
    title = options.title ~= nil and check.text(WHERE, "title", options.title) or nil,
    turns = { counts = zeros, sum = 0 }, began = ltsh.now(),
  }, Console)
  local ok, made_server = pcall(server, {
    host = host, port = options.port == nil and 8000 or check.integer(WHERE, "port", options.port, 0),
    routes = routes_of(console), hold = options.hold ~= false, handler_timeout = 120,
  })
  if not ok then error((check.raised(made_server):gsub("^ltsh.http.server", WHERE)), 0) end
  console.server, console.port = made_server, made_server.port
  console.cookie = "ltsh_" .. console.port
  console.url = made_server.url .. console.base_path:sub(2)
  for _, scheduler in ipairs(schedulers or core.schedulers()) do follow(console, scheduler) end
  if not schedulers then
    console.hook = function(scheduler) follow(console, scheduler) end
    made.hooks[console.hook] = true
  end
  start_turns(console)
  return console
end

return open
