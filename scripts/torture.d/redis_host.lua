-- A host of the torture of Redis (redis.lua): it adds tasks and runs them, and notes at once what happens.
--
--   ltsh redis_host.lua URL QUEUE JOURNAL NAME SECONDS LEASE
--
-- It adds for so many seconds and goes on until a signal ends it. Lines of the journal, which all hosts share, begin
-- with the letter, the name of the host, and the nanoseconds of the machine's monotonic clock:
--
--   A ID           add has returned
--   S ID RUN KEY   a run begins        E ID RUN   its work is over, also where it was stopped
--   F ID STATUS    finished() gave it  T ID STATUS   the event told it
--   R COUNT        changes that were refused as stale, so far
local ltsh = require "ltsh"
local uv = require "luv"

local url, queue, journal, name, seconds, lease = table.unpack(arg)

local fd = assert(uv.fs_open(journal, "a", 420))
local function note(what, ...)
  assert(uv.fs_write(fd, table.concat({ what, name, ("%d"):format(uv.hrtime()), ... }, " ") .. "\n"))
end

math.randomseed(uv.hrtime())

local function work(task)
  note("S", task.id, task.run, task.key or "-")
  local _ <close> = setmetatable({}, { __close = function() note("E", task.id, task.run) end })
  if math.random() < 0.5 then ltsh.sleep(math.random() ^ 4 * 0.2) end
end

local limits = require "redis_limits"
local scheduler = ltsh.scheduler {
  container = ltsh.container.redis { url = url, queue = queue, lease = tonumber(lease) },
  actuator = ltsh.actuator.func(work), name = name, limit = 6, max_lost = 1000000, shutdown_grace = 1,
  global_limit = limits.global, key_limit = limits.key, rate = limits.rate,
}
scheduler:on("finished", function(task) note("T", task.id, task.status) end)

ltsh.spawn(function()
  while true do
    for task in scheduler:finished() do note("F", task.id, task.status) end
    ltsh.sleep(0.01)
  end
end)

local function note_stale()
  local stats = scheduler:stats()
  if stats then note("R", math.tointeger(stats.stale)) end
end
ltsh.every(0.2, note_stale)

-- Where the server was not there, nobody knows whether the tasks were taken: only what was answered counts.
ltsh.spawn(function()
  local count, till = 0, ltsh.now() + tonumber(seconds)
  while ltsh.now() < till do
    local list = {}
    for i = 1, math.random(1, 30) do
      count = count + 1
      local key = limits.keys[math.random(#limits.keys)]
      list[i] = { id = name .. "-" .. count, key = key ~= "" and key or nil, item = { n = count } }
      if math.random() < 0.05 then list[i].delay = math.random() * 0.5 end
    end
    for _, id in ipairs(scheduler:add_all(list) or {}) do note("A", id) end
    local waiting = scheduler:count { status = "waiting" }
    ltsh.sleep(waiting and waiting < 150 and 0.005 or 0.1)
  end
end)

scheduler:run()
