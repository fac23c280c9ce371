-- Cutting videos, with a page: a service that cuts, a scheduler before it, tasks in a table of their own.
--
--   scripts/ltsh examples/videocut/main.lua [VIDEO...]
--
-- Then open the address that is printed. Videos, results and the database are in ./videocut-data, or in $VIDEOCUT_DATA.
-- It may be ended and started again at any moment: what waited waits, and what ran goes on or begins anew.
local own = arg[0]:match "^(.*)/" or "."
package.path = own .. "/?.lua;" .. package.path

local ltsh = require "ltsh"
local tools = require "tools"

tools.need_ffmpeg()
local data = tools.folder(os.getenv "VIDEOCUT_DATA" or "videocut-data")
local videos = tools.folder(data .. "/videos")
if arg[1] then
  for _, path in ipairs(arg) do tools.bring(videos, path) end
else
  tools.sample(videos, 120)
end

local hosts = { "localhost", "127.0.0.1" }
local function port_of(name, default) return tonumber(os.getenv(name) or default) end

local cutter = require "cutter" {
  folder = videos, port = port_of("VIDEOCUT_SERVICE_PORT", 8001), allowed_hosts = hosts,
}
local store = require "store" { path = data .. "/videocut.db" }

local scheduler = ltsh.scheduler {
  name = "videocut", limit = 2, timeout = 60, poll_interval = 0.2,
  container = ltsh.container.combine(ltsh.container.queue {}, store),
  actuator = require "actuator" { url = cutter.url },
  persister = store:persister(),
}

local web = require "web" {
  store = store, scheduler = scheduler, folder = videos, page = own .. "/page", port = port_of("VIDEOCUT_PORT", 8000),
  allowed_hosts = hosts,
}
print("open " .. web.url)
scheduler:run()
