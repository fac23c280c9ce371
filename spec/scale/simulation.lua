--- Many hosts on one queue of one Redis server, event by event: what the server is kept busy with, and how long tasks
--- wait.
---
---     local found = Simulation { hosts =, limit =, rate =, run =, seconds =, costs =, renews =, backlog = }
---     found.busy          of the server's one thread, 0 to 1
---     found.calls         of the script for each task that ended; found.per_task: seconds of the server
---     found.p50, found.p99: seconds from the add to the start; found.ended: tasks a second
---
--- `rate` tasks a second are added, each by a call of its own, by one that runs none; `backlog` tasks wait at the
--- beginning; a task runs for `run` seconds; `costs` are those of costs.lua. The rules are those of queue.lua and its
--- hosts, as far as they make calls: an add wakes one idle host; a host that could not take all that it has room for is
--- idle; what has ended goes out with the claim behind it if there may be work, and what ends while a call of the host
--- is under way goes out together with the next; an end is news for who added the task, who reads them, and once more
--- when there were some; who adds looks once whether anything waits; unless `renews` is false a renewal comes every two
--- seconds. The server does one call after the other; a way takes `way` seconds.
local WAY = 0.0002
local RENEWALS = 2

-- A heap of events by time.
local function push(heap, at, fn, a, b)
  local i = #heap + 1
  heap[i] = { at, fn, a, b }
  while i > 1 and heap[i // 2][1] > heap[i][1] do
    heap[i], heap[i // 2] = heap[i // 2], heap[i]
    i = i // 2
  end
end

local function pop(heap)
  local first, last = heap[1], table.remove(heap)
  if #heap == 0 then return first end
  heap[1] = last
  local i = 1
  while true do
    local child = i * 2
    if child > #heap then break end
    if child < #heap and heap[child + 1][1] < heap[child][1] then child = child + 1 end
    if heap[i][1] <= heap[child][1] then break end
    heap[i], heap[child] = heap[child], heap[i]
    i = child
  end
  return first
end

-- First in, first out; those who leave from the middle are passed over.
local function line() return { first = 1, last = 0 } end
local function enter(queue, value)
  queue.last = queue.last + 1
  queue[queue.last] = value
end
local function take(queue)
  if queue.first > queue.last then return nil end
  local value = queue[queue.first]
  queue[queue.first] = nil
  queue.first = queue.first + 1
  return value
end

local function percentile(list, part)
  table.sort(list)
  return list[math.max(1, math.ceil(#list * part))] or 0
end

return function(options)
  local costs, heap, now = options.costs, {}, 0
  local way = options.way or WAY
  local ready, ready_count, idle, free_at, busy, calls, ended = line(), 0, line(), 0, 0, 0, 0
  local waits, hosts = {}, {}
  local flush, read_news

  local function cost_of(name, count) return (costs[name].task or 0) * count end

  -- The server's thread takes the next call when it is through with those before; `done` happens there and then.
  local function serve(at, seconds, done)
    local start = math.max(at, free_at)
    free_at = start + seconds
    busy, calls = busy + seconds, calls + 1
    push(heap, free_at, done)
  end

  local function wake_one()
    local host = take(idle)
    while host and not host.idle do host = take(idle) end
    if not host then return end
    host.idle = false
    push(heap, now + way, function(h)
      h.work = true
      flush(h)
    end, host)
  end

  local function run_task(host)
    push(heap, now + options.run, function(h)
      h.ended = h.ended + 1
      flush(h)
    end, host)
  end

  local function claim(host, room)
    host.idle = false
    local count = math.min(room, ready_count)
    for _ = 1, count do waits[#waits + 1] = now - take(ready) end
    ready_count = ready_count - count
    if count < room then
      host.idle = true
      enter(idle, host)
    elseif ready_count > 0 then
      wake_one()
    end
    return count, ready_count > 0
  end

  local function answered(host, count, more)
    host.asking, host.work = false, host.work or more
    for _ = 1, count do run_task(host) end
    flush(host)
  end

  -- Who adds reads what has ended, and looks again; what comes meanwhile is read then.
  local reading, more_news = false, false
  function read_news()
    more_news = true
    if reading then return end
    reading, more_news = true, false
    serve(now + way, costs.renew.call + costs.add.task, function()
      serve(now + 2 * way, costs.idle.call, function()
        reading = false
        if more_news then read_news() end
      end)
    end)
  end

  -- What is gathered goes out, if no call of the host is under way.
  function flush(host)
    local ends, room = host.ended, options.limit - host.running + host.ended
    local asks = host.work and room > 0
    if host.asking or (ends == 0 and not asks) then return end
    host.asking, host.ended = true, 0
    host.running = host.running - ends
    if asks then host.work = false end
    local seconds = costs.idle.call + cost_of("finish", ends)
    serve(now + way, seconds, function()
      ended = ended + ends
      if ends > 0 then push(heap, now + way, read_news) end
      local count, more = 0, false
      if asks then count, more = claim(host, room) end
      free_at = free_at + cost_of("claim", count)
      busy = busy + cost_of("claim", count)
      host.running = host.running + count
      push(heap, now + way, function() answered(host, count, more) end)
    end)
  end

  local function renew(host)
    push(heap, now + RENEWALS, renew, host)
    serve(now + way, costs.renew.call, function()
      if ready_count == 0 then return end
      host.work = true
      flush(host)
    end)
  end

  local added = 0
  local function add()
    added = added + 1
    push(heap, now + 1 / options.rate, add)
    serve(now + way, costs.add.call + costs.add.task, function()
      enter(ready, now)
      ready_count = ready_count + 1
      wake_one()
      serve(now + 2 * way, costs.idle.call, function() end)
    end)
  end

  for i = 1, options.hosts do
    hosts[i] = { running = 0, ended = 0, idle = true, work = false, asking = false }
    enter(idle, hosts[i])
    if options.renews ~= false then push(heap, RENEWALS * i / options.hosts, renew, hosts[i]) end
  end
  for _ = 1, options.backlog or 0 do enter(ready, 0) end
  ready_count = options.backlog or 0
  if ready_count > 0 then wake_one() end
  if options.rate > 0 then push(heap, 0, add) end
  while #heap > 0 and heap[1][1] < options.seconds do
    local event = pop(heap)
    now = event[1]
    event[2](event[3], event[4])
  end
  return {
    busy = math.min(busy / options.seconds, 1), calls = calls / math.max(ended, 1), ended = ended / options.seconds,
    per_task = busy / math.max(ended, 1), p50 = percentile(waits, 0.5),
    p99 = percentile(waits, 0.99), left = ready_count,
  }
end
