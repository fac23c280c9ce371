-- ltsh.http: servers and requests.
local client = require "ltsh.http_client"

return {
  server = require "ltsh.http_server",
  request = client.request,
  get = client.get,
  post = client.post,
}
