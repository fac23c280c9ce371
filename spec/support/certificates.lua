--- Certificates of the specs' own, made by openssl.
---
---     local certificates = require "spec.support.certificates"
---     certificates.make(folder, "IP:127.0.0.1")     for a server of this name; the folder is made
---
--- In the folder are then ca.pem (the authority's), server-cert.pem and server-key.pem, and cert.pem and key.pem of a
--- client.
local assert = require "luassert"
local run = require "spec.support.run"

local certificates = {}

function certificates.make(folder, name)
  local script = [[
    set -e
    mkdir "$0"; cd "$0"
    new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@"; }
    new -x509 -days 2 -keyout ca-key.pem -out ca.pem -subj /CN=authority
    new -keyout server-key.pem -out server.csr -subj /CN=server
    new -keyout key.pem -out client.csr -subj /CN=client
    sign() { openssl x509 -req -days 2 -CA ca.pem -CAkey ca-key.pem -CAcreateserial "$@"; }
    echo "subjectAltName=$1" > server.ext
    echo extendedKeyUsage=clientAuth > client.ext
    sign -in server.csr -out server-cert.pem -extfile server.ext
    sign -in client.csr -out cert.pem -extfile client.ext
  ]]
  local made = run.start({ "-c", script, folder, name }, { program = "/bin/sh" }):wait()
  assert.equal(0, made.code, made.stderr)
end

return certificates
