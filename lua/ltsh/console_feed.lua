-- What the console knows of its schedulers: events for browsers, live output, counts for metrics.
--
--     scheduler events -> a record for each scheduler: counts, histograms, the end of each running task's output
--                      -> each browser's own queue: the latest of each task, never more than MOST; else it is told to
--                         fetch anew ("resync")
--
-- Nothing here runs without need, or keeps the process alive: while browsers listen, a timer looks at the figures twice
-- a second.
local ltsh = require "ltsh"
local uv = require "luv"
local view = require "ltsh.console_view"

local feed = {}

local TICK = 500        -- milliseconds between looks at the figures
local HEARTBEAT = 15    -- seconds after which a browser hears that it is still connected
local MOST = 1000       -- events that wait for a browser
local KEPT = 64 << 10   -- bytes of a running task's output
local PIECE = 4096      -- bytes up to which what follows in a stream is put together
local MOST_PIECES = 512
local BUCKETS = { 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 3600 }

local function new_histogram()
  local counts = {}
  for i = 1, #BUCKETS + 1 do counts[i] = 0 end
  return { counts = counts, sum = 0 }
end

local function observe(histogram, seconds)
  if seconds ~= seconds or seconds < 0 then seconds = 0 end
  local i = 1
  while BUCKETS[i] and seconds > BUCKETS[i] do i = i + 1 end
  histogram.counts[i] = histogram.counts[i] + 1
  histogram.sum = histogram.sum + seconds
end

feed.BUCKETS = BUCKETS

-- A class of a failure: labels of metrics come from bounded sets.
local function reason_class(reason)
  reason = tostring(reason or "")
  if reason == "timeout" or reason == "expired" or reason == "lost" then return reason end
  if reason:find "^exit code " or reason:find "^signal " then return "exit" end
  if reason:find "memory" then return "memory" end
  return "error"
end

-- Live output.

local Output = {}
Output.__index = Output

-- The last KEPT bytes of all streams, in order: pieces { offset, stream, bytes }. Handlers may be cut
-- anywhere, and another begin: what is put in or taken out is so by one call.
local function new_output(run)
  return setmetatable({ run = run, pieces = {}, size = 0, offset = 0 }, Output)
end

function Output:add(stream, bytes)
  local piece = { offset = self.offset, stream = stream, bytes = bytes }
  self.offset, self.size = self.offset + #bytes, self.size + #bytes
  local last = self.pieces[#self.pieces]
  if last and last.stream == stream and #last.bytes < PIECE then
    last.bytes = last.bytes .. bytes
  else
    table.insert(self.pieces, piece)
  end
  while self.pieces[2] and (self.size - #self.pieces[1].bytes >= KEPT or #self.pieces > MOST_PIECES) do
    local oldest = table.remove(self.pieces, 1)
    self.size = self.size - #oldest.bytes
  end
  return piece
end

--- What is kept from an offset on, of one stream or of all; and the offset behind it.
function Output:text(stream, from)
  local parts = {}
  for _, piece in ipairs(self.pieces) do
    if (not stream or piece.stream == stream) and piece.offset + #piece.bytes > from then
      parts[#parts + 1] = piece.bytes:sub(math.max(1, from - piece.offset + 1))
    end
  end
  return table.concat(parts), self.offset
end

-- Browsers.

local Listener = {}
Listener.__index = Listener

function Listener:wake()
  local wake = self.waits
  self.waits = nil
  if wake then wake() end
end

-- The latest of what has this key (nil: each counts).
function Listener:put(key, event)
  if key and self.at[key] then
    self.queue[self.at[key]] = event
  elseif #self.queue >= MOST then
    self.queue, self.at, self.lost = {}, {}, true
  else
    self.queue[#self.queue + 1] = event
    if key then self.at[key] = #self.queue end
  end
  self:wake()
end

function Listener:wants(record, id)
  return (not self.scheduler or self.scheduler == record.name) and (not self.task or self.task == id)
end

-- The feed of one console.

local Feed = {}
Feed.__index = Feed

function feed.new(redact)
  return setmetatable({
    records = {}, named = {}, listeners = {}, listening = 0, redact = redact, id = 0, boot = ("%x"):format(uv.hrtime()),
  }, Feed)
end

--- A task as it may be shown; nil: it may not.
function Feed:shown(task, fields)
  if self.redact then
    local ok, other = pcall(self.redact, task)
    if not ok or other == nil then return { id = view.text(task.id), status = task.status, reason = "redacted" } end
    task = other
  end
  return view.task(task, fields)
end

function Feed:each(fn)
  for listener in pairs(self.listeners) do fn(listener) end
end

function Feed:tell_task(record, task)
  if self.listening == 0 then return end
  local shown
  self:each(function(listener)
    if not listener:wants(record, task.id) then return end
    shown = shown or self:shown(task, false)
    listener:put(record.name .. "\0" .. task.id,
      { event = "task", data = { scheduler = record.name, task = shown } })
  end)
end

function Feed:tell_output(record, task, piece)
  if self.listening == 0 then return end
  self:each(function(listener)
    if listener.task ~= task.id or not listener:wants(record, task.id) then return end
    local data = { scheduler = record.name, id = task.id, run = task.run, stream = piece.stream, offset = piece.offset }
    local bytes = view.data(piece.bytes)
    if type(bytes) == "table" then data["$bytes"] = bytes["$bytes"] else data.text = bytes end
    listener:put(nil, { event = "output", data = data })
  end)
end

local function count_end(record, task)
  record.finished[task.status] = (record.finished[task.status] or 0) + 1
  if task.status == "failed" then
    local class = reason_class(task.reason)
    record.failed[class] = (record.failed[class] or 0) + 1
  end
  if task.started_at and task.ended_at and task.run then observe(record.run, task.ended_at - task.started_at) end
  record.outputs[task.id] = nil
end

--- The scheduler of this name, and its record; nil: there is none. One that nobody refers to may go at any moment, so
--- whoever uses it holds it, and does not look twice.
function Feed:find(name)
  local record = self.named[name]
  local scheduler = record and record.ref[1]
  if scheduler then return scheduler, record end
end

--- A list of { scheduler =, record = } of those that are there, in the order in which they were made.
function Feed:live()
  local live = {}
  for _, record in ipairs(table.move(self.records, 1, #self.records, 1, {})) do
    local scheduler = record.ref[1]
    if scheduler then live[#live + 1] = { scheduler = scheduler, record = record } end
  end
  return live
end

--- Forgets those that went. Only from the loop, where nothing else comes between.
function Feed:sweep()
  for i = #self.records, 1, -1 do
    local record = self.records[i]
    if not record.ref[1] then
      table.remove(self.records, i)
      if self.named[record.name] == record then self.named[record.name] = nil end
    end
  end
end

--- Follows a scheduler from now on. It does not keep it alive. Raises, and has not begun, if it is being collected.
function Feed:follow(scheduler, name)
  local record = {
    name = name, ref = setmetatable({ scheduler }, { __mode = "v" }), added = 0, finished = {}, failed = {},
    retries = 0, outputs = {},
    wait = new_histogram(), run = new_histogram(),
  }
  scheduler:on("added", function(task)
    record.added = record.added + 1
    self:tell_task(record, task)
  end)
  scheduler:on("started", function(task)
    record.outputs[task.id] = nil
    if task.started_at and task.added_at then
      observe(record.wait, task.started_at - math.max(task.added_at, task.run_at or 0))
    end
    self:tell_task(record, task)
  end)
  scheduler:on("progress", function(task) self:tell_task(record, task) end)
  scheduler:on("retried", function(task)
    record.retries = record.retries + 1
    self:tell_task(record, task)
  end)
  scheduler:on("finished", function(task)
    count_end(record, task)
    self:tell_task(record, task)
  end)
  scheduler:on("output", function(task, stream, bytes)
    local output = record.outputs[task.id]
    if not output or output.run ~= task.run then
      output = new_output(task.run)
      record.outputs[task.id] = output
    end
    self:tell_output(record, task, output:add(stream, bytes))
  end)
  self.named[name] = record
  table.insert(self.records, record)
end

-- The figures.

local function same(a, b)
  if not a or not b then return false end
  for name, value in pairs(a) do
    if type(value) == "table" and type(b[name]) == "table" then
      if not same(value, b[name]) then return false end
    elseif name ~= "oldest_waiting" and b[name] ~= value then
      return false
    end
  end
  return true
end

function Feed:look()
  if self.looking then return end
  self.looking = true
  ltsh.spawn(function()
    for _, one in ipairs(self:live()) do
      local record, stats = one.record, one.scheduler:stats()
      if stats and not same(stats, record.stats) then
        record.stats = stats
        self:each(function(listener)
          if listener:wants(record, listener.task) then
            listener:put("\0" .. record.name, { event = "stats", data = { scheduler = record.name, stats = stats } })
          end
        end)
      end
    end
    self.looking = false
  end)
end

function Feed:tick()
  self:look()
  self:each(function(listener)
    if ltsh.now() - listener.said >= HEARTBEAT then listener:wake() end
  end)
end

function Feed:listen(listener)
  self.listeners[listener], self.listening = true, self.listening + 1
  if self.timer then return end
  self.timer = uv.new_timer()
  self.timer:start(TICK, TICK, function() self:tick() end)
  self.timer:unref()
end

function Feed:leave(listener)
  if not self.listeners[listener] then return end
  self.listeners[listener], self.listening = nil, self.listening - 1
  if self.listening > 0 or not self.timer then return end
  self.timer:close()
  self.timer = nil
end

--- Ends all streams.
function Feed:close()
  self.closed = true
  self:each(function(listener) listener:wake() end)
end

function Feed:send(send, event)
  self.id = self.id + 1
  event.id = self.id
  return send(event)
end

function Feed:send_queue(listener, send)
  local queue, lost = listener.queue, listener.lost
  listener.queue, listener.at, listener.lost = {}, {}, false
  if lost and not self:send(send, { event = "resync", data = {} }) then return false end
  for _, event in ipairs(queue) do
    if not self:send(send, { event = event.event, data = event.data }) then return false end
  end
  return true
end

--- Fills a stream of events until its browser has gone.
function Feed:stream(send, scheduler, task)
  local listener <close> = setmetatable({
    queue = {}, at = {}, scheduler = scheduler, task = task, said = ltsh.now(),
  }, { __index = Listener, __close = function(listener) self:leave(listener) end })
  self:listen(listener)
  local hello = { version = ltsh.version, time = ltsh.now(), boot = self.boot }
  if not self:send(send, { event = "hello", data = hello, retry = 2000 }) then return end
  for _, one in ipairs(self:live()) do one.record.stats = nil end
  self:look()
  while not self.closed do
    if not listener.queue[1] and not listener.lost then
      ltsh.await(function(done)
        listener.waits = done
        return function() listener.waits = nil end
      end)
    end
    if listener.queue[1] or listener.lost then
      if not self:send_queue(listener, send) then return end
    elseif not send { comment = "still there" } then
      return
    end
    listener.said = ltsh.now()
  end
end

return feed
