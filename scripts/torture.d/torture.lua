-- Starts hosts (host.lua), kills them, and looks at their journals and the database when it is over.
local ltsh = require "ltsh"
local uv = require "luv"

local minutes, root = tonumber(arg[1]), arg[2]
local KINDS = { "func", "func", "custom", "process" }
local PARALLEL = 3

local folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/ltsh-torture.XXXXXX"))
math.randomseed(uv.hrtime())

local host = root .. "/scripts/torture.d/host.lua"
local program = uv.exepath()
local number, killed, frozen = 0, 0, 0

local function say(...) io.stderr:write("ltsh: ", string.format(...), "\n") end

-- One life of a host, to its end by a signal.
local function live(path, journals, durability)
  number = number + 1
  local name = "h" .. number
  local journal = folder .. "/" .. name
  journals[#journals + 1] = journal
  local over = false
  local handle, pid
  local stderr = assert(uv.fs_open(folder .. "/log", "a", 420))
  handle, pid = uv.spawn(program, {
    args = { "--log-level", "error", host, path, journal, name, KINDS[math.random(#KINDS)], durability },
    stdio = { nil, stderr, stderr },
  }, function() handle:close() over = true end)
  uv.fs_close(stderr)
  ltsh.sleep(0.05 + math.random() ^ 2 * 1.5)
  if math.random() < 0.05 then
    frozen = frozen + 1
    uv.kill(pid, "sigstop")
    ltsh.sleep(math.random() * 7)
    uv.kill(pid, "sigcont")
    ltsh.sleep(math.random() * 0.5)
  end
  if not over then
    killed = killed + 1
    uv.kill(pid, "sigkill")
  end
  while not over do ltsh.sleep(0.001) end
end

local function lines_of(journals, each)
  for number_of_host, journal in ipairs(journals) do
    local file = io.open(journal)
    if file then
      for line in file:lines() do each(number_of_host, line:match "^(%S+) (%S+) ?(%S*)$") end
      file:close()
    end
  end
end

local problems = {}
local function problem(...)
  problems[#problems + 1] = string.format(...)
  if #problems <= 10 then say("%s", problems[#problems]) end
end

local totals = { accepted = 0, runs = 0, ends = 0 }

-- What the journals say, held against the database.
local function check(path, journals)
  local accepted, runs, ends = {}, {}, {}
  lines_of(journals, function(by, what, id, more)
    if what == "add" then
      accepted[id] = true
      totals.accepted = totals.accepted + 1
    elseif what == "run" then
      local run = id .. " " .. more
      if runs[run] then problem("run %s of task %s began twice", more, id) end
      runs[run] = true
      totals.runs = totals.runs + 1
    elseif what == "end" then
      -- By who ran it, and by who added it.
      if ends[by .. " " .. id] then problem("the end of task %s was told twice", id) end
      ends[by .. " " .. id] = true
      if ends[id] and ends[id] ~= more then problem("task %s ended as %s and as %s", id, ends[id], more) end
      ends[id] = more
      totals.ends = totals.ends + 1
    end
  end)
  local db <close> = assert(ltsh.sqlite.open(path))
  local known = {}
  for row in db:rows "select id, status from ltsh_view" do known[row.id] = row.status end
  for id in pairs(accepted) do
    if not known[id] then problem("task %s was accepted and is lost", id) end
  end
  for id, status in pairs(known) do
    if status ~= "success" then problem("task %s is %s when all is over", id, status) end
    if ends[id] and ends[id] ~= status then problem("task %s is %s and was told as %s", id, status, ends[id]) end
  end
  local counted = db:row "select sum(n0 + n1 + n2 + n3 + n7) as open, sum(n4) as success from ltsh_queues"
  local there = db:value "select count(*) from ltsh_tasks"
  if counted.open ~= 0 or counted.success ~= there then
    problem("the counts say %d open and %d done, there are %d", counted.open, counted.success, there)
  end
  local sound = db:value "pragma integrity_check"
  if sound ~= "ok" then problem("the database is damaged: %s", sound) end
  for _, name in ipairs { "owners", "news", "watchers", "items", "runs" } do
    local what = name == "runs" and "task not in (select seq from ltsh_tasks)" or "1"
    local left = db:value("select count(*) from ltsh_" .. name .. " where " .. what)
    if left > 0 then problem("%d rows are left in ltsh_%s", left, name) end
  end
end

-- A database, its hosts, and the last one that does what is left.
local function round(seconds, durability)
  local path = folder .. "/q" .. number .. ".db"
  local journals, jobs = {}, {}
  local till = ltsh.now() + seconds
  for i = 1, PARALLEL do
    jobs[i] = ltsh.spawn(function()
      while ltsh.now() < till do live(path, journals, durability) end
    end)
  end
  for _, job in ipairs(jobs) do assert(select("#", job:wait()) >= 0) end
  local journal = folder .. "/last" .. number
  journals[#journals + 1] = journal
  local result = assert(ltsh.exec {
    program, "--log-level", "error", host, path, journal, "last" .. number, "func", durability, "finish",
    timeout = 120,
  })
  if result.timed_out then problem("what was left was not done in two minutes") end
  if result.code ~= 0 then problem("the last host ended with %s: %s", tostring(result.code), result.stderr) end
  check(path, journals)
  if #problems > 0 then return end
  os.execute("rm -f " .. path .. "* " .. table.concat(journals, " "))
end

local till = ltsh.now() + minutes * 60
local rounds = 0
while ltsh.now() < till and #problems == 0 do
  rounds = rounds + 1
  round(math.min(15, math.max(1, till - ltsh.now())), rounds % 2 == 0 and "full" or "normal")
  say("%d hosts killed, %d of them stopped for a while before; %d tasks accepted, %d runs, %d ends told",
    killed, frozen, totals.accepted, totals.runs, totals.ends)
end
local log = io.open(folder .. "/log")
local text = log and log:read "a" or ""
if text:find "Sanitizer" then problem("a sanitizer reported: %s", folder) end
if #problems > 0 then
  say("%d things were wrong; what there is to look at is in %s", #problems, folder)
  os.exit(1)
end
os.execute("rm -rf " .. folder)
say("nothing lost, nothing twice, nothing left")
