-- What the journal of the hosts says, held against what the queue knows: see redis.lua. Each record is a moment at
-- which something was true for certain: a task's slot is held from before its S to behind its E.
local ltsh = require "ltsh"
local limits = require "redis_limits"

local function read_journal(path, each)
  local file <close> = assert(io.open(path))
  for line in file:lines() do
    local what, host, time, id, more, key = line:match "^(%u) (%S+) (%d+) (%S+) ?(%S*) ?(%S*)$"
    if what then each(what, host, math.tointeger(time), id, more, key) end
  end
end

-- All that hosts did: accepted ids, runs, and ends as they were told.
local function gather(path, problem, totals)
  local all = { accepted = {}, runs = {}, list = {}, ends = {} }
  local told, ran_by, stale = {}, {}, {}
  read_journal(path, function(what, host, time, id, more, key)
    if what == "A" then
      all.accepted[id] = true
      totals.accepted = totals.accepted + 1
    elseif what == "S" then
      local name = id .. " " .. more
      if all.runs[name] then problem("run %s of task %s began twice", more, id) end
      local one = { host = host, id = id, from = time, key = key }
      all.runs[name] = one
      table.insert(all.list, one)
      totals.runs = totals.runs + 1
    elseif what == "E" then
      all.runs[id .. " " .. more].to = time
    elseif what == "F" or what == "T" then
      -- By who ran it, and by who added it.
      local by = what .. host .. " " .. id
      if told[by] then problem("the end of task %s was told twice by %s: %s", id, host, what) end
      told[by] = true
      if what == "F" and host ~= id:match "^[^-]+" then
        if ran_by[id] then problem("task %s ended on %s and on %s", id, ran_by[id], host) end
        ran_by[id] = host
      end
      if not all.ends[id] then totals.ends = totals.ends + 1 end
      if (all.ends[id] or more) ~= more then problem("task %s ended as %s and %s", id, all.ends[id], more) end
      all.ends[id] = more
    elseif what == "R" then
      stale[host] = tonumber(id)
    end
  end)
  for _, count in pairs(stale) do totals.stale = totals.stale + count end
  return all
end

-- Until when a run held its slot for certain; nil: not at all. Hosts that died ran nothing after that; what one that
-- was frozen ran then may run elsewhere, and what it begins as it goes on, before it knows of that.
local function bounds_of(one, deaths, freezes, totals)
  local to = one.to or deaths[one.host] or math.huge
  for _, freeze in ipairs(freezes[one.host] or {}) do
    if one.from < freeze.till + 1e9 and to > freeze.from then
      totals.apart = totals.apart + 1
      to = freeze.from
    end
  end
  return to > one.from and to or nil
end

-- The greatest number of runs at once, of those that `group` puts together; and how many were more than the limit.
local function most_at_once(runs, limit, group, what, problem)
  local steps, running, most = {}, {}, 0
  for _, one in ipairs(runs) do
    local name = group(one)
    if name then
      table.insert(steps, { at = one.from, change = 1, name = name, one = one })
      if one.till < math.huge then table.insert(steps, { at = one.till, change = -1, name = name }) end
    end
  end
  table.sort(steps, function(a, b)
    if a.at == b.at then return a.change < b.change end
    return a.at < b.at
  end)
  for _, step in ipairs(steps) do
    local count = (running[step.name] or 0) + step.change
    running[step.name] = count
    most = math.max(most, count)
    if step.change > 0 and count > limit then
      problem("%d ran at once of %s %s, as %s began on %s", count, what, step.name, step.one.id, step.one.host)
    end
  end
  return most
end

-- All tasks of the queue, and of each its runs.
local function ask(queue)
  local known, after = {}, nil
  repeat
    local tasks, cursor = assert(queue:list { limit = 1000, after = after })
    for _, task in ipairs(tasks) do table.insert(known, { id = task.id, status = task.status, run = task.run }) end
    after = cursor
  until not cursor or #tasks == 0
  local next_one = 0
  local jobs = {}
  for i = 1, 32 do
    jobs[i] = ltsh.spawn(function()
      while next_one < #known do
        next_one = next_one + 1
        local task = known[next_one]
        task.history = assert(queue:history(task.id))
      end
    end)
  end
  for _, job in ipairs(jobs) do job:wait() end
  return known
end

-- No start before there was a token for it, by the server's clock.
local function check_rate(starts, problem)
  table.sort(starts)
  local burst, per = limits.rate[1], limits.rate.per
  local tokens, last = burst, starts[1]
  for _, time in ipairs(starts) do
    tokens = math.min(burst, tokens + (time - last) * burst / per) - 1
    last = time
    if tokens < -0.01 then
      problem("the rate was exceeded by %.2f", -tokens)
      tokens = 0
    end
  end
end

--- Checks all; `deaths` has when hosts died, `freezes` when they were stopped, lists of { from =, till = }.
return function(queue, path, deaths, freezes, problem, totals)
  local all = gather(path, problem, totals)
  local there, starts = {}, {}
  for _, task in ipairs(ask(queue)) do
    there[task.id] = true
    if task.status ~= "success" then problem("task %s is %s when all is over", task.id, task.status) end
    local told = all.ends[task.id]
    if told and told ~= task.status then problem("task %s is %s and was told as %s", task.id, task.status, told) end
    local last = all.runs[task.id .. " " .. math.tointeger(task.run)]
    if not last or not last.to then problem("task %s has succeeded, and its run did not", task.id) end
    for _, run in ipairs(task.history) do
      table.insert(starts, run.start)
      if run.reason == "lost" then totals.taken = totals.taken + 1 end
    end
  end
  for id in pairs(all.accepted) do
    if not there[id] then problem("task %s was accepted and is lost", id) end
  end
  local certain = {}
  for _, one in ipairs(all.list) do
    one.till = bounds_of(one, deaths, freezes, totals)
    if one.till then table.insert(certain, one) end
  end
  local most = most_at_once(certain, limits.global, function() return "the queue" end, "all of", problem)
  local key = most_at_once(certain, limits.key, function(one) return one.key ~= "-" and one.key end, "key", problem)
  most_at_once(certain, 1, function(one) return one.id end, "task", problem)
  totals.most, totals.most_of_key = math.max(totals.most, most), math.max(totals.most_of_key, key)
  check_rate(starts, problem)
end
