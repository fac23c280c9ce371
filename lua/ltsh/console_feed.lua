-- What the console knows of its schedulers: events for browsers, live output, counts for metrics.
--
--     scheduler events -> a record for each scheduler: counts, histograms, the end of each running task's output
--                      -> the channels of those that listen (console_channels.lua): the latest of each task, or that
--                         some are missing ("resync")
--
-- Nothing here runs without need, or keeps the process alive: while browsers listen, a timer looks at the figures twice
-- a second.
local ltsh = require "ltsh"
local uv = require "luv"
local channels = require "ltsh.console_channels"
local view = require "ltsh.console_view"

local feed = {}

local TICK = 500        -- milliseconds between looks at the figures
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

--- The same as a list of { stream =, offset =, bytes = }.
function Output:pieces_from(from)
  local pieces, all = {}, table.move(self.pieces, 1, #self.pieces, 1, {})
  for _, piece in ipairs(all) do
    local skip = math.max(0, from - piece.offset)
    if skip < #piece.bytes then
      table.insert(pieces, { stream = piece.stream, offset = piece.offset + skip, bytes = piece.bytes:sub(skip + 1) })
    end
  end
  return pieces
end

--- A piece as it is shown.
function feed.piece(piece)
  local shown = { stream = piece.stream, offset = piece.offset }
  local bytes = view.data(piece.bytes)
  if type(bytes) == "table" then shown["$bytes"] = bytes["$bytes"] else shown.text = bytes end
  return shown
end

-- The feed of one console.

local Feed = {}
Feed.__index = Feed

function feed.new(redact)
  local self = setmetatable({
    records = {}, named = {}, redact = redact, boot = ("%x"):format(uv.hrtime()), timer = uv.new_timer(),
  }, Feed)
  self.channels = channels.new(function(event) return self:render(event) end)
  self.timer:unref()
  return self
end

--- A task as it may be shown; nil: it may not.
function Feed:shown(task, fields, most)
  if self.redact then
    local ok, other = pcall(self.redact, task)
    if not ok or other == nil then return { id = view.text(task.id), status = task.status, reason = "redacted" } end
    task = other
  end
  return view.task(task, fields, most)
end

-- A task object stays as it is; it is made text when that is sent.
function Feed:tell_task(record, task)
  self.channels:put(record.name, task.id, record.name .. "\0" .. task.id, { record = record, task = task })
end

function Feed:tell_output(record, task, piece)
  if not self.channels:any() then return end
  local data = feed.piece(piece)
  data.scheduler, data.id, data.run = record.name, task.id, task.run
  self.channels:put(record.name, task.id, nil, { event = "output", data = data }, true)
end

-- What was put into the channels, for sending.
function Feed:render(event)
  if not event.task then return event end
  local data = { scheduler = event.record.name, task = self:shown(event.task, false) }
  return { event = "task", data = data }
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
        self.channels:put_all(record.name, "\0" .. record.name,
          { event = "stats", data = { scheduler = record.name, stats = stats } })
      end
    end
    self.looking = false
  end)
end

function Feed:tick()
  self.channels:tick()
  if self.channels:any() then self:look() else self.timer:stop() end
end

--- Ends the streams that are over, as their session is.
function Feed:look_whether_over() self.channels:wake() end

--- Ends all streams.
function Feed:close()
  self.closed = true
  self.channels:wake()
  self.timer:close()
end

-- How the schedulers are when a browser comes.
function Feed:send_stats(send, scheduler)
  for _, one in ipairs(self:live()) do
    local name = one.record.name
    local stats = (not scheduler or scheduler == name) and one.scheduler:stats()
    local data = stats and { scheduler = name, stats = stats }
    if data and not send { prepared = self.channels:text { event = "stats", data = data } } then return false end
  end
  return true
end

--- Fills a stream of events until its browser has gone, or `is_over()`.
function Feed:stream(send, scheduler, task, is_over)
  local function ends() return self.closed or is_over() end
  if ends() then return end
  local listener = self.channels:listen(scheduler, task, ends)
  local _ <close> = setmetatable({}, { __close = function() listener:leave() end })
  if not self.timer:is_active() then self.timer:start(TICK, TICK, function() self:tick() end) end
  local hello = { version = ltsh.version, time = ltsh.now(), boot = self.boot }
  if not send { prepared = self.channels:text { event = "hello", data = hello, retry = 2000 } } then return end
  if not self:send_stats(send, scheduler) then return end
  while not ends() do
    listener:wait()
    local text, sent = listener:next(), false
    while text do
      if ends() or not send { prepared = text } then return end
      text, sent = listener:next(), true
    end
    if not sent and not ends() and not send { comment = "still there" } then return end
    listener.said = ltsh.now()
  end
end

return feed
