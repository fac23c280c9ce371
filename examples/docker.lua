-- Ten containers, two at a time, each with 10 MB of memory and a folder of the host.
--
--   ltsh examples/docker.lua [IMAGE]        the image needs /bin/sh (default busybox)
--
-- The engine is where DOCKER_HOST says, else at /var/run/docker.sock.
local ltsh = require "ltsh"

local folder = os.tmpname()
os.remove(folder)
assert(os.execute("mkdir " .. folder))
local file <close> = assert(io.open(folder .. "/greeting", "w"))
file:write "hello world"
file:flush()

local scheduler = ltsh.scheduler {
  name = "hello",
  container = ltsh.container.queue {},
  actuator = ltsh.actuator.docker {
    image = arg[1] or "busybox", memory = "10M", network_mode = "none", volumes = { [folder] = "/data:ro" },
  },
  limit = 2,
  timeout = 60,
}

for i = 1, 10 do
  scheduler:add { id = "hello-" .. i, item = { shell = 'echo "$(cat /data/greeting) from $NAME"', env = { NAME = i } } }
end

for task in scheduler:finished() do
  local said = task.status == "success" and task.output.stdout or task.reason
  print(task.id, task.status, (said:gsub("\n$", "")))
end
os.remove(folder .. "/greeting")
os.remove(folder)
