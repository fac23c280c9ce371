-- What main.lua shows: on a terminal a picture that is drawn anew, with what happened above it; elsewhere plain lines.
local ltsh = require "ltsh"
local uv = require "luv"

local terminal = uv.guess_handle(1) == "tty" and os.getenv "TERM" ~= "dumb"
local colours = terminal and (os.getenv "NO_COLOR" or "") == ""
local SECONDS = terminal and 0.1 or 1 -- between pictures
local STATUSES = { "waiting", "running", "success", "failed" }

local view = {}

local picture = "" -- what is on the terminal, or was the latest plain line
local hint = ""    -- the latest one elsewhere

local function red(text) return colours and "\27[31m" .. text .. "\27[0m" or text end
local function dim(text) return colours and "\27[2m" .. text .. "\27[0m" or text end

local function write(above, below)
  if terminal then
    local height = select(2, picture:gsub("\n", ""))
    if height > 0 then io.write("\27[", height, "A\27[J") end
  end
  io.write(above, below)
  io.flush()
end

--- Says something that stays.
function view.say(...)
  write(string.format(...) .. "\n", terminal and picture or "")
end

local function show(lines)
  local text = table.concat(lines, terminal and "\n" or "; ") .. "\n"
  if terminal or text ~= picture then write("", text) end
  picture = text
end

-- What the queue knows: how many tasks there are, what each host runs (by its name), and when it was heard of last (by
-- its process's id). nil: the server does not answer.
local function look(queue)
  local known = { at = ltsh.now(), tasks = {}, heard = {} }
  local list, hosts = queue:list { status = "running" }, queue:hosts()
  if not list or not hosts then return nil end
  for _, task in ipairs(list) do
    local name = task.progress or "?"
    known.tasks[name] = (known.tasks[name] or "") .. " " .. task.id
  end
  for _, host in ipairs(hosts) do known.heard[host.pid] = host.heartbeat end
  for _, status in ipairs(STATUSES) do known[status] = queue:count { status = status } or 0 end
  return known
end

-- For how long nothing was heard, in words, if that is long.
local function silence(seconds)
  return seconds > 2 and red((" silent for %.0f s"):format(seconds)) or ""
end

local function draw(cluster, names, known, limit)
  local lines, pids = {}, {}
  for i, name in ipairs(names) do
    local task = cluster:get(name)
    local pid = task and task.status == "running" and tonumber(task.handle)
    pids[i] = pid or "PID"
    local seconds = name == "redis" and ltsh.now() - known.at or known.at - (known.heard[pid] or known.at)
    lines[i] = name .. (pid and dim(" pid " .. pid) .. silence(seconds) .. (known.tasks[name] or "") or red " is down")
  end
  table.insert(lines, ("waiting %d, running %d of %d, ended %d"):format(
    known.waiting, known.running, limit, known.success + known.failed))
  local try = ("try: kill -9 %s; kill -STOP %s, and later kill -CONT; kill -9 %s"):format(pids[2], pids[3], pids[1])
  if terminal then
    table.insert(lines, dim(try))
  elseif try ~= hint and not try:find "PID" then
    view.say("%s", try)
    hint = try
  end
  show(lines)
end

--- Shows the members of the cluster and what they do, until the function that it returns is called; `queue()` is the
--- one to look at.
function view.follow(cluster, names, queue, limit)
  local known
  local looking = ltsh.spawn(function()
    while true do
      known = look(queue()) or known
      ltsh.sleep(SECONDS)
    end
  end)
  local drawing = ltsh.spawn(function()
    while true do
      if known then draw(cluster, names, known, limit) end
      ltsh.sleep(SECONDS)
    end
  end)
  return function()
    looking:cancel()
    drawing:cancel()
    write("", "")
    picture = ""
  end
end

return view
