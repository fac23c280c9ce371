--- A registry of images with one image, `thing`, whose only program is busybox. It speaks as much of the registry's API
--- as a pull needs.
---
---     local registry = Registry(folder)        registry.image is its name, with the address
---     registry.close()
local run = require "spec.support.run"
local uv = require "luv"

local SCRIPT = [[set -e; cd "$0"; mkdir -p root/bin; cp "$(command -v busybox)" root/bin/; ln -s busybox root/bin/sh
tar c -C root . > layer.tar; gzip -c layer.tar > layer
printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$(sha256sum < layer.tar | cut -c 1-64)" > config
for name in layer config; do printf '%s %s\n' "$(sha256sum < $name | cut -c 1-64)" "$(wc -c < $name)"; done]]

local MANIFEST = [[{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%d,"digest":"sha256:%s"},
"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":%d,"digest":"sha256:%s"}]}]]

local function read_file(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

return function(folder)
  local made = run.start({ "-c", SCRIPT, folder }, { program = "/bin/sh" }):wait()
  local layer, layer_size, config, config_size = made.stdout:match "^(%x+) (%d+)\n(%x+) (%d+)\n$"
  assert(layer, made.stderr)
  local manifest = MANIFEST:format(config_size, config, layer_size, layer)
  local files = {
    ["/v2/"] = { "application/json", "{}" },
    ["/v2/thing/manifests/latest"] = { "application/vnd.docker.distribution.manifest.v2+json", manifest },
    ["/v2/thing/blobs/sha256:" .. layer] = { "application/octet-stream", read_file(folder .. "/layer") },
    ["/v2/thing/blobs/sha256:" .. config] = { "application/octet-stream", read_file(folder .. "/config") },
  }
  local server, clients = uv.new_tcp(), {}
  assert(server:bind("127.0.0.1", 0))
  server:listen(16, function()
    local client = uv.new_tcp()
    server:accept(client)
    clients[client] = true
    client:read_start(function(_, bytes)
      local method, path = (bytes or ""):match "^(%u+) (%S+) HTTP/1.1\r\n"
      if not method then
        if not client:is_closing() then client:close() end
        return
      end
      local found = files[path] or files[path:gsub("manifests/sha256:%x+", "manifests/latest")]
      local kind, text = table.unpack(found or { "application/json", '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}' })
      client:write(("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"):format(
        found and "200 OK" or "404 Not Found", kind, #text))
      if method == "GET" then client:write(text) end
    end)
  end)
  return {
    image = "127.0.0.1:" .. server:getsockname().port .. "/thing",
    close = function()
      server:close()
      for client in pairs(clients) do
        if not client:is_closing() then client:close() end
      end
    end,
  }
end
