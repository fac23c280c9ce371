-- Cuts the first 100 seconds of a video into tens.
--
--   scripts/ltsh -p examples/videocut/demo.lua [VIDEO [queue|sqlite]]
local own = arg[0]:match "^(.*)/" or "."
package.path = own .. "/?.lua;" .. package.path

local ltsh = require "ltsh"
local tools = require "tools"

tools.need_ffmpeg()
local data = tools.folder(os.getenv "VIDEOCUT_DATA" or "videocut-data")
local videos = tools.folder(data .. "/videos")
local video = arg[1] and tools.bring(videos, arg[1]) or tools.sample(videos, 120)
local kind = arg[2] or "queue"

local containers = {
  queue = function() return ltsh.container.queue {} end,
  sqlite = function() return ltsh.container.sqlite { path = data .. "/demo.db" } end,
}
if not containers[kind] then
  io.stderr:write("usage: demo.lua [VIDEO [queue|sqlite]]\n")
  os.exit(2)
end

local cutter = require "cutter" { folder = videos, port = 0 }
local scheduler = ltsh.scheduler {
  name = "cuts", limit = 2, timeout = 20, poll_interval = 0.2, container = containers[kind](),
  actuator = require "actuator" { url = cutter.url },
}
for from = 0, 90, 10 do
  scheduler:add { id = ("cut-%d-%d"):format(from, from + 10), item = { input = video, from = from, to = from + 10 } }
end
for task in scheduler:finished() do
  print(task.id, task.status, task.status == "success" and scheduler:output(task.id) or task.reason)
end
cutter:close()
