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

-- At the port that was given, or the first free one from `default` on: the console may have it.
local function open_at(name, default, open)
  local given = tonumber(os.getenv(name))
  for port = given or default, given or default + 19 do
    local ok, opened = pcall(open, port)
    if ok then return opened end
    if given or not tostring(opened):find("in use", 1, true) then error(opened, 0) end
  end
  error(("no port from %d to %d is free: set %s"):format(default, default + 19, name), 0)
end

local cutter = open_at("VIDEOCUT_SERVICE_PORT", 8001, function(port)
  return require "cutter" { folder = videos, port = port, allowed_hosts = hosts }
end)
local store = require "store" { path = data .. "/videocut.db" }

local scheduler = ltsh.scheduler {
  name = "videocut", limit = 2, timeout = 60, poll_interval = 0.2,
  container = ltsh.container.combine(ltsh.container.queue {}, store),
  actuator = require "actuator" { url = cutter.url },
  persister = store:persister(),
}

local web = open_at("VIDEOCUT_PORT", 8000, function(port)
  return require "web" {
    store = store, scheduler = scheduler, folder = videos, page = own .. "/page", port = port, allowed_hosts = hosts,
  }
end)
print("open " .. web.url)
scheduler:run()
