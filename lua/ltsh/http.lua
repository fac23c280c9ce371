-- ltsh.http: servers and requests.
local modules = {
  server = { "ltsh.http_server" }, request = { "ltsh.http_client", "request" }, get = { "ltsh.http_client", "get" },
  post = { "ltsh.http_client", "post" },
}

return setmetatable({}, {
  __index = function(http, name)
    local place = modules[name]
    if not place then return nil end
    local module = require(place[1])
    http[name] = place[2] and module[place[2]] or module
    return http[name]
  end,
})
