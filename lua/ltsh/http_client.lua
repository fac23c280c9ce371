-- ltsh.http.request, get and post: requests to other servers, on core.http_request.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local json = core.json

local NAMES = {
  url = true, method = true, headers = true, body = true, json = true, unix = true, timeout = true, to_file = true,
  max_body = true, connect_timeout = true, redirects = true, ca_file = true, insecure = true,
}
local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$"
local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }
local SECRETS = { authorization = true, cookie = true, ["proxy-authorization"] = true }

local function read_headers(where, headers)
  local read = {}
  for name, value in pairs(check.table(where, "headers", headers or {})) do
    if type(name) ~= "string" or not name:find(TOKEN) then
      check.fail(where, "the name of a header", "a token", name)
    end
    if type(value) == "number" then value = tostring(value) end
    if type(value) ~= "string" or value:find "[%z\r\n]" then
      check.fail(where, "header " .. name, "a text of one line", value)
    end
    read[#read + 1] = { name = name, value = value }
  end
  return read
end

local function has_header(headers, wanted)
  for _, header in ipairs(headers) do
    if header.name:lower() == wanted then return true end
  end
  return false
end

local function lines_of(headers)
  local lines = {}
  for _, header in ipairs(headers) do
    lines[#lines + 1] = header.value == "" and header.name .. ";" or header.name .. ": " .. header.value
  end
  return lines
end

local any_case = { __index = function(headers, name)
  return type(name) == "string" and rawget(headers, name:lower()) or nil
end }

local Response = {}
Response.__index = Response

--- The body as JSON; nil and a message if it is none.
function Response:json()
  return json.decode(self.body)
end

local function response_of(status, pairs_of_headers, body, url)
  local headers, cookies = setmetatable({}, any_case), {}
  for i = 1, #pairs_of_headers, 2 do
    local name, value = pairs_of_headers[i]:lower(), pairs_of_headers[i + 1]
    local before = rawget(headers, name)
    if name == "set-cookie" then cookies[#cookies + 1] = value end
    rawset(headers, name, before and before .. ", " .. value or value)
  end
  return setmetatable({ status = status, headers = headers, body = body, url = url, cookies = cookies }, Response)
end

local function origin_of(url) return (url:match "^%a[%w+.-]*://[^/?#]*" or ""):lower() end

local function without_secrets(headers)
  local kept = {}
  for _, header in ipairs(headers) do
    if not SECRETS[header.name:lower()] then kept[#kept + 1] = header end
  end
  return kept
end

local function read_options(where, options)
  check.names(where, options, NAMES)
  local function seconds(name, default)
    return options[name] == nil and default or check.seconds(where, name, options[name], true)
  end
  local headers = read_headers(where, options.headers)
  local body = options.body
  if body ~= nil and type(body) ~= "string" then check.fail(where, "body", "a string", body) end
  if options.json ~= nil then
    if body ~= nil then error(where .. ": there is both a body and json", 0) end
    body = json.encode(options.json)
    if not has_header(headers, "content-type") then
      headers[#headers + 1] = { name = "Content-Type", value = "application/json" }
    end
  elseif body and not has_header(headers, "content-type") then
    headers[#headers + 1] = { name = "Content-Type", value = "application/octet-stream" }
  end
  local method = options.method == nil and (body and "POST" or "GET") or check.text(where, "method", options.method)
  if not method:find "^%u+$" then check.fail(where, "method", "a word in capitals", method) end
  local url = check.text(where, "url", options.url)
  if url:find "[%c ]" then check.fail(where, "url", "an address without spaces and control characters", url) end
  return {
    url = url, method = method, body = body, headers = headers, timeout = seconds("timeout", 60),
    connect_timeout = seconds("connect_timeout", 10),
    max_body = options.max_body == nil and (64 << 20) or check.size(where, "max_body", options.max_body),
    unix = options.unix ~= nil and check.text(where, "unix", options.unix) or nil,
    file = options.to_file ~= nil and check.text(where, "to_file", options.to_file) or nil,
    ca_file = options.ca_file ~= nil and check.text(where, "ca_file", options.ca_file) or nil,
    insecure = options.insecure == true,
  }, options.redirects == nil and 10 or check.integer(where, "redirects", options.redirects, 0)
end

-- What is asked where an answer leads to: 303, and 301 and 302 of a POST, are a GET of another page.
local function next_request(asked, status, url)
  local changes = status == 303 and asked.method ~= "HEAD" or (status < 303 and asked.method == "POST")
  if changes then
    asked.method, asked.body = "GET", nil
    local kept = {}
    for _, header in ipairs(asked.headers) do
      if not header.name:lower():find "^content%-" then kept[#kept + 1] = header end
    end
    asked.headers = kept
  end
  if origin_of(url) ~= origin_of(asked.url) then asked.headers = without_secrets(asked.headers) end
  asked.url = url
end

--- One request.
-- @param options { url =, method =, headers =, body = or json =, timeout =, ... }
-- @return { status =, headers =, body =, url =, json() }; or nil, a message and a code: timeout, network, tls,
-- too_large, bad_url, error
local function request(options, where)
  where = where or "ltsh.http.request"
  check.table(where, "its argument", options)
  local asked, redirects = read_options(where, options)
  local ends = core.now() + asked.timeout
  while true do
    asked.lines = lines_of(asked.headers)
    local status, headers, body, leads_to = core.http_request(asked)
    if not status then return nil, ("%s %s: %s"):format(asked.method, asked.url, headers), body end
    if not leads_to or not REDIRECTS[status] or redirects == 0 then
      return response_of(status, headers, body, asked.url)
    end
    redirects = redirects - 1
    next_request(asked, status, leads_to)
    asked.timeout = ends - core.now()
    if asked.timeout <= 0 then
      return nil, ("%s %s: it took longer than the time given"):format(asked.method, asked.url), "timeout"
    end
  end
end

local function by(method)
  return function(given)
    local where = "ltsh.http." .. method:lower()
    if type(given) == "string" then given = { url = given } end
    check.table(where, "its argument", given)
    local options = {}
    for name, value in pairs(given) do options[name] = value end
    options.method = method
    return request(options, where)
  end
end

return { request = function(options) return request(options) end, get = by "GET", post = by "POST" }
