-- ltsh.http.server: routes, requests and answers, on core.http_server.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local event_text = require "ltsh.http_events"
local http_headers = require "ltsh.http_headers"
local json = require "ltsh.core".json
local log = require "ltsh.core".log
local port_holder = require "ltsh.port_holder"

local WHERE = "ltsh.http.server"
local header_lines = http_headers.lines

-- Text.

local SLASH = ("/"):byte()

local function unescape(text)
  if not text:find("%", 1, true) then return text end
  if text:find "%%%X" or text:find "%%.?$" and not text:find "%%%x%x$" or text:find "%%%x%X" then return nil end
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function parse_query(text)
  local last, all = {}, {}
  for pair in (text or ""):gmatch "[^&]+" do
    local name, value = pair:match "^([^=]*)=?(.*)$"
    name, value = unescape((name:gsub("+", " "))), unescape((value:gsub("+", " ")))
    if not name or not value then return nil end
    all[name] = all[name] or {}
    table.insert(all[name], value)
    last[name] = value
  end
  return last, all
end

-- Errors that are an answer: raised by what reads a request.

local Refusal = {}

local function refuse(status, code, message)
  error(setmetatable({ status = status, code = code, reason = message }, Refusal), 0)
end

local function error_answer(status, code, message)
  return { status = status, json = { error = message, code = code } }
end

-- Requests.

local any_case = { __index = function(headers, name)
  return type(name) == "string" and rawget(headers, name:lower()) or nil
end }

local lazy = {}

function lazy.query(request)
  local last, all = parse_query(rawget(request, "query_text"))
  if not last then refuse(400, "bad_request", "the query cannot be decoded") end
  request.query, request.query_all = last, all
  return last
end

function lazy.query_all(request)
  return lazy.query(request) and request.query_all
end

function lazy.json(request)
  if request.body == "" then return nil end
  local value, message = json.decode(request.body)
  if value == nil then refuse(400, "bad_request", "the body is no JSON: " .. message) end
  request.json = value
  return value
end

local Request = { __index = function(request, name)
  local read = lazy[name]
  return read and read(request)
end }

-- Answers.

local TYPES = {
  html = "text/html; charset=utf-8", htm = "text/html; charset=utf-8", css = "text/css; charset=utf-8",
  js = "text/javascript; charset=utf-8", mjs = "text/javascript; charset=utf-8", json = "application/json",
  txt = "text/plain; charset=utf-8", md = "text/markdown; charset=utf-8", csv = "text/csv; charset=utf-8",
  xml = "application/xml", svg = "image/svg+xml", png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg",
  gif = "image/gif", webp = "image/webp", avif = "image/avif", ico = "image/x-icon", pdf = "application/pdf",
  mp4 = "video/mp4", m4v = "video/mp4", webm = "video/webm", mkv = "video/x-matroska", mov = "video/quicktime",
  mp3 = "audio/mpeg", ogg = "audio/ogg", wav = "audio/wav", wasm = "application/wasm", zip = "application/zip",
  gz = "application/gzip", woff2 = "font/woff2",
}

-- The first byte and the number of bytes of a range header; nil: all of it; false: none of it.
local function range_of(text, size)
  local from, to = text:match "^bytes=(%d*)%-(%d*)$"
  if not from or (from == "" and to == "") then return nil end
  if #from > 18 or #to > 18 then return false end
  local first, last = tonumber(from), tonumber(to)
  if not first then
    if last == 0 then return false end
    first, last = math.max(size - last, 0), size - 1
  end
  last = math.min(last or size - 1, size - 1)
  if first >= size then return false end
  if last < first then return nil end
  return first, last - first + 1
end

local function file_answer(request, answer)
  local path = answer.file
  local folder, name = answer.folder, path
  if not folder then
    folder, name = path:match "^(.*)/([^/]+)$"
    if not folder then folder, name = ".", path end
    if folder == "" then folder = "/" end
  end
  local fd, size, changed = core.open_beneath(folder, name)
  if not fd then return nil end
  local etag = ('"%x-%x"'):format(size, math.floor(changed * 1e6))
  local defaults = {
    ["Content-Type"] = TYPES[(path:match "%.(%w+)$" or ""):lower()] or "application/octet-stream",
    ["ETag"] = etag, ["Accept-Ranges"] = "bytes", ["X-Content-Type-Options"] = "nosniff",
    ["Last-Modified"] = os.date("!%a, %d %b %Y %H:%M:%S GMT", math.floor(changed)),
  }
  local known = request.headers["if-none-match"]
  if known and (known == "*" or known:find(etag, 1, true)) then
    core.close_descriptor(fd)
    return 304, header_lines(answer.headers, defaults)
  end
  local range, valid_for = request.headers.range, request.headers["if-range"]
  local status, offset, length = answer.status or 200, 0, size
  if range and status == 200 and (not valid_for or valid_for == etag) then
    local first, count = range_of(range, size)
    if first == false then
      core.close_descriptor(fd)
      return 416, header_lines(nil, { ["Content-Range"] = "bytes */" .. size }), nil
    elseif first then
      status, offset, length = 206, first, count
      defaults["Content-Range"] = ("bytes %d-%d/%d"):format(first, first + count - 1, size)
    end
  end
  local ok, lines = pcall(header_lines, answer.headers, defaults)
  if not ok then
    core.close_descriptor(fd)
    error(lines, 0)
  end
  return status, lines, "file", fd, offset, length
end

local JSON = http_headers.fixed { ["Content-Type"] = "application/json" }
local EVENTS = http_headers.fixed {
  ["Content-Type"] = "text/event-stream", ["Cache-Control"] = "no-store", ["X-Accel-Buffering"] = "no",
}

local function status_of(answer, default)
  local status = answer.status or default
  if math.type(status) ~= "integer" or status < 200 or status > 599 then
    error("status must be an integer from 200 to 599, got " .. check.show(status), 0)
  end
  return status
end

-- What core.http_server is answered.
local function give(request, answer)
  if type(answer) ~= "table" then
    error("the handler must return a table { status =, ... }, got " .. check.show(answer), 0)
  end
  if answer.events ~= nil then
    if not check.is_callable(answer.events) then
      error("events must be a function, got " .. check.show(answer.events), 0)
    end
    return status_of(answer, 200), header_lines(answer.headers, EVENTS), "events", answer.events
  elseif answer.file ~= nil then
    check.text("the answer", "file", answer.file)
    status_of(answer, 200)
    local status, lines, what, fd, offset, length = file_answer(request, answer)
    if status then return status, lines, what, fd, offset, length end
    return give(request, error_answer(404, "unknown", "there is no such file"))
  elseif answer.json ~= nil then
    local body = json.encode(answer.json)
    return status_of(answer, 200), header_lines(answer.headers, JSON), body
  end
  local body = answer.body
  if type(body) == "number" then body = tostring(body) end
  if body ~= nil and type(body) ~= "string" then error("body must be a string, got " .. check.show(body), 0) end
  local types = body and { ["Content-Type"] = "text/plain; charset=utf-8" } or {}
  return status_of(answer, body and 200 or 204), header_lines(answer.headers, types), body
end

-- Routes: a tree of the segments of their paths. What is literal comes before :name, and that before *rest.

local METHODS = "^[A-Z]+$"

local function new_node() return { fixed = {}, methods = {} } end

local function add_route(root, route, handler)
  local method, path = tostring(route):match "^(%S+)%s+(/%S*)$"
  if not method or (method ~= "*" and not method:find(METHODS)) then
    error(("%s: a route is a method and a path, as \"GET /tasks/:id\", got %s"):format(WHERE, check.show(route)), 0)
  end
  if not check.is_callable(handler) then
    error(("%s: route %s: its handler must be a function, got %s"):format(WHERE, route, check.show(handler)), 0)
  end
  local node, names = root, {}
  for segment in path:sub(2):gmatch "([^/]*)" do
    local kind, name = segment:match "^([:*])(.*)$"
    if kind == "*" then
      node.rest = node.rest or new_node()
      node, names[#names + 1] = node.rest, name
      break
    elseif kind == ":" then
      node.any = node.any or new_node()
      node, names[#names + 1] = node.any, name
    else
      node.fixed[segment] = node.fixed[segment] or new_node()
      node = node.fixed[segment]
    end
  end
  node.methods[method] = { handler = handler, names = names, route = route }
end

local function has_methods(node) return next(node.methods) ~= nil end

-- The node of the segments of `path` from `at` on; `values` gets what :name and *rest stand for, as they were sent;
-- values.escaped: the path has escapes.
local function find_node(node, path, at, values)
  if at > #path + 1 then
    if has_methods(node) then return node end
  else
    local ends = path:find("/", at, true) or #path + 1
    local segment = path:sub(at, ends - 1)
    local fixed = node.fixed[values.escaped and unescape(segment) or segment]
    local found = fixed and find_node(fixed, path, ends + 1, values)
    if found then return found end
    if node.any and segment ~= "" then
      values[#values + 1] = segment
      found = find_node(node.any, path, ends + 1, values)
      if found then return found end
      values[#values] = nil
    end
  end
  if node.rest and has_methods(node.rest) then
    values[#values + 1] = path:sub(at)
    return node.rest
  end
end

local function allowed_of(node)
  local names = {}
  for method in pairs(node.methods) do names[#names + 1] = method end
  if node.methods.GET and not node.methods.HEAD then names[#names + 1] = "HEAD" end
  table.sort(names)
  return table.concat(names, ", ")
end

local function find_route(root, method, path)
  local values = { escaped = path:find("%", 1, true) ~= nil }
  local node = find_node(root, path, 2, values)
  if not node then return nil, error_answer(404, "unknown", "there is nothing at " .. path) end
  local route = node.methods[method] or (method == "HEAD" and node.methods.GET) or node.methods["*"]
  if not route then
    local answer = error_answer(405, "method", ("%s is not possible here"):format(method))
    answer.headers = { Allow = allowed_of(node) }
    return nil, answer
  end
  local params = {}
  for i, name in ipairs(route.names) do
    params[name] = unescape(values[i])
    if not params[name] then return nil, error_answer(400, "bad_request", "the path cannot be decoded") end
  end
  return route, params
end

-- A file below one of the folders; nil: the path is none of theirs.
local function find_file(files, path)
  for _, place in ipairs(files) do
    if path:sub(1, #place.prefix) == place.prefix then
      local name = unescape(path:sub(#place.prefix + 1))
      if not name or name == "" or name:find "[%z\\]" or ("/" .. name .. "/"):find("/../", 1, true) then
        return error_answer(404, "unknown", "there is no such file")
      end
      return { file = name, folder = place.folder }
    end
  end
end

-- The server.

local SIZES = { max_body = 1 << 20, max_header = 32768 }
local NAMES = {
  host = true, port = true, routes = true, files = true, max_body = true, max_header = true, timeout = true,
  idle_timeout = true, handler_timeout = true, max_connections = true, allowed_hosts = true, hold = true,
}

local function read_files(files)
  local places = {}
  for prefix, folder in pairs(check.table(WHERE, "files", files or {})) do
    check.text(WHERE, "a path of files", prefix)
    if not prefix:find "^/.*/$" and prefix ~= "/" then
      check.fail(WHERE, "a path of files", 'a path as "/static/"', prefix)
    end
    places[#places + 1] = { prefix = prefix, folder = check.text(WHERE, "files[" .. prefix .. "]", folder) }
  end
  table.sort(places, function(a, b) return #a.prefix > #b.prefix end)
  return places
end

local function read_hosts(hosts)
  if hosts == nil then return nil end
  local set = {}
  for _, host in ipairs(check.table(WHERE, "allowed_hosts", hosts)) do
    set[check.text(WHERE, "allowed_hosts", host):lower()] = true
  end
  return set
end

local function read_options(options)
  check.table(WHERE, "its options", options)
  check.names(WHERE, options, NAMES)
  local function seconds(name, default)
    return options[name] == nil and default or check.seconds(WHERE, name, options[name], true)
  end
  local read = {
    host = options.host == nil and "127.0.0.1" or check.text(WHERE, "host", options.host),
    port = options.port == nil and 0 or check.integer(WHERE, "port", options.port, 0),
    timeout = seconds("timeout", 30), idle_timeout = seconds("idle_timeout", 60),
    handler_timeout = seconds("handler_timeout", 60),
    max_connections = options.max_connections == nil and 10000 or
      check.integer(WHERE, "max_connections", options.max_connections, 1),
    hold = options.hold ~= false,
  }
  if read.port > 65535 then check.fail(WHERE, "port", "a number up to 65535", options.port) end
  if read.host == "localhost" then read.host = "127.0.0.1" end
  for name, default in pairs(SIZES) do
    read[name] = options[name] == nil and default or check.size(WHERE, name, options[name])
  end
  return read
end

local Server = {}
Server.__index = Server

--- Ends it: requests under way may be answered for `drain` seconds (default 5). Waits until all is over.
function Server:close(options)
  local drain = 5
  if options ~= nil then
    check.table("server:close", "its argument", options)
    check.names("server:close", options, { drain = true })
    if options.drain ~= nil then drain = check.seconds("server:close", "drain", options.drain) end
  end
  self.made:close(drain)
end

-- Why the address cannot be had; who has it, where that can be known.
local function why_not(raised, options)
  local message = check.raised(raised)
  local holder = message:find("address already in use", 1, true) and port_holder(options.host, options.port)
  return holder and ("%s: port %d is taken by %s"):format(message, options.port, holder) or message
end

--- An HTTP server.
-- @param options { host =, port =, routes = { ["GET /tasks/:id"] = function(request) return { json = ... } end }, ... }
-- @return { url =, port =, close{ drain = } }; raises if the address cannot be had
local function server(options)
  local made_of = read_options(options)
  local root, files, hosts = new_node(), read_files(options.files), read_hosts(options.allowed_hosts)
  for route, handler in pairs(check.table(WHERE, "routes", options.routes or {})) do add_route(root, route, handler) end

  local function respond(request, path)
    if hosts then
      local host = (request.headers.host or ""):lower():gsub(":%d+$", "")
      if not hosts[host] then return error_answer(421, "host", "this server does not answer for that host") end
    end
    local route, params = find_route(root, request.method, path)
    if route then
      request.params, request.route = params, route.route
      return route.handler(request)
    end
    if request.method == "GET" or request.method == "HEAD" then
      local file = find_file(files, path)
      if file then return file end
    end
    return params
  end

  local function explain(raised)
    if getmetatable(raised) == Refusal then return raised end
    return { traceback = debug.traceback(check.raised(raised), 2), text = check.raised(raised) }
  end

  local methods = {}

  local function answer_to(request, path) return give(request, respond(request, path)) end

  function methods.handle(_, method, target, given, body, remote)
    if target:byte() ~= SLASH then target = target:match "^%a+://[^/?]*(.*)$" or target end
    local raw, query = target, ""
    if target:find "[?#]" then raw, query = target:match "^([^?#]*)%??([^#]*)" end
    if raw == "" then raw = "/" end
    local request = setmetatable({
      method = method, target = target, query_text = query, headers = setmetatable(given, any_case), body = body,
      remote = remote, path = unescape(raw),
    }, Request)
    if raw:byte() ~= SLASH or not request.path then
      return give(request, error_answer(400, "bad_request", "the path cannot be decoded"))
    end
    local ok, why, lines, what, fd, offset, length = xpcall(answer_to, explain, request, raw)
    if ok then return why, lines, what, fd, offset, length end
    if why.status then return give(request, error_answer(why.status, why.code, why.reason)) end
    log.error("a request could not be handled",
      { method = method, path = raw, error = why.text, traceback = why.traceback })
    return give(request, error_answer(500, "internal", "the request could not be handled"))
  end

  function methods.events(_, events, stream)
    return events(function(event)
      local prepared = type(event) == "table" and event.prepared -- the console's: several, made once for many streams
      return stream:send(prepared or event_text(event))
    end)
  end

  local ok, made = pcall(core.http_server, made_of, methods)
  if not ok then error(WHERE .. ": " .. why_not(made, made_of), 0) end
  local port = made:port()
  local host = made_of.host
  if host == "0.0.0.0" then host = "127.0.0.1" elseif host == "::" then host = "::1" end
  local url = ("http://%s:%d/"):format(host:find ":" and "[" .. host .. "]" or host, port)
  return setmetatable({ url = url, port = port, made = made }, Server)
end

return server
