-- scripts/bench docker [N [LIMIT]]: containers a second, beside the Docker client and the raw API.
--
-- Starts an engine of its own (needs root, docker.io, busybox-static). At concurrency 2 and 4, in turn: N containers
-- (default 40) of /bin/true by ltsh.actuator.docker, with captured output; by `docker run --rm` through xargs -P; by
-- LIMIT, a program that is called with N, the concurrency, the socket and the image, and prints `name: value unit`.
package.path = arg[0]:match "^(.*)/scripts/" .. "/?.lua;" .. package.path
local engine = require "spec.support.engine"
local figures = require "support.figures"
local ltsh = require "ltsh"
local run = require "spec.support.run"

local n, limit_program = tonumber(arg[1] or 40), arg[2]
local ROUNDS = 3

local function by_ltsh(concurrency)
  local scheduler <close> = ltsh.scheduler {
    container = ltsh.container.queue {}, limit = concurrency,
    actuator = ltsh.actuator.docker {
      host = engine.host, image = "busybox:test", cmd = { "true" }, network_mode = "none",
      network_disabled = true, -- as LIMIT has it
    },
  }
  local start = figures.seconds()
  for _ = 1, n do scheduler:add { item = {} } end
  for task in scheduler:finished() do assert(task.status == "success", task.reason) end
  return n / (figures.seconds() - start)
end

local function by_client(concurrency)
  local start = figures.seconds()
  local script = 'seq "$0" | xargs -P "$1" -I _ docker -H "$2" run --rm --network none busybox:test true'
  local args = { "-c", script, tostring(n), tostring(concurrency), engine.host }
  assert(run.start(args, { program = "/bin/sh", limit = 600 }):wait().code == 0)
  return n / (figures.seconds() - start)
end

local function by_limit(concurrency)
  local args = { tostring(n), tostring(concurrency), engine.socket, "busybox:test" }
  return tonumber(run.start(args, { program = limit_program, limit = 600 }):wait().stdout:match ": ([%d.]+)")
end

assert(engine.start())
for _, concurrency in ipairs { 2, 4 } do
  local own, client, raw = {}, {}, {}
  for i = 1, ROUNDS do
    own[i], client[i] = by_ltsh(concurrency), by_client(concurrency)
    raw[i] = limit_program and by_limit(concurrency)
  end
  local function say(name, value, unit) figures.out(string.format("docker.%s.c%d", name, concurrency), value, unit) end
  say("ltsh", figures.median(own), "containers/s")
  say("run_rm", figures.median(client), "containers/s")
  say("over_run_rm", figures.median(own) / figures.median(client), "times")
  if limit_program then
    say("raw_api", figures.median(raw), "containers/s")
    say("over_raw_api", figures.median(own) / figures.median(raw), "times")
  end
end
engine.stop()
