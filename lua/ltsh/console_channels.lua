-- Who listens to the console. Browsers that want the same share a channel: what happens is put into it, gathered for
-- a moment, made a text once, and handed to each. So what happens costs as much for a thousand as for one.
--
-- Coroutines may be cut anywhere, and others go on: so lists grow by one call, and what has gone is taken out by
-- `tick`, which the loop calls, where nothing comes between.
local ltsh = require "ltsh"
local event_text = require "ltsh.http_events"

local channels = {}

local MOST, LEAST = 1000, 20 -- events that are gathered in a channel
local DELIVERIES = 20000     -- so many in all for a gathering: where many listen, it holds fewer
local PAUSE = 0.1            -- seconds between two
local LONG_PAUSE = 1         -- when some were left out: who is told that fetches anew
local SLICE = 50             -- listeners that are handed a text in one turn of the loop
local BEHIND = 20            -- texts that wait for one that is slow
local HEARTBEAT = 15         -- seconds after which one hears that it is still connected
local BEATS = 100            -- at most so many hear it at a time

-- A listener: one stream.

local Listener = {}
Listener.__index = Listener

local function wake(listener)
  local waits = listener.waits
  listener.waits = nil
  if waits then waits() end
end

local function hand(listener, text)
  if #listener.texts >= BEHIND then
    listener.texts, listener.lost = {}, true
  else
    table.insert(listener.texts, text)
  end
  wake(listener)
end

--- Waits until there is something to send, or it is time to send that it is still there.
function Listener:wait()
  if self.texts[1] or self.lost or self.is_over() then return end
  ltsh.await(function(done)
    self.waits = done
    if self.texts[1] or self.lost or self.is_over() then wake(self) end
    return function() self.waits = nil end
  end)
end

--- The next text to send, or nil. Also what says that some are missing.
function Listener:next()
  if self.lost then
    self.lost = false
    return self.channel.owner:text { event = "resync", data = {} }
  end
  return table.remove(self.texts, 1)
end

--- It listens no more.
function Listener:leave() self.gone = true end

-- A channel.

local Channel = {}
Channel.__index = Channel

function Channel:most() return math.max(LEAST, math.min(MOST, DELIVERIES // math.max(1, #self.listeners))) end

-- What is gathered, as one text; nil: nothing.
function Channel:gather()
  self.flushing = false -- what is put from here on begins another
  local queue, lost = self.queue, self.lost
  self.queue, self.at, self.lost = {}, {}, false
  ltsh.sleep(0) -- who was cut with the old list in hand puts into it yet
  if lost then return self.owner:text { event = "resync", data = {} }, true end
  local parts = {}
  for i, box in ipairs(queue) do parts[i] = self.owner:text(self.owner.render(box[1])) end
  return parts[1] and table.concat(parts), false
end

function Channel:flush()
  ltsh.sleep(math.max(0, self.again - ltsh.now()))
  self.again = ltsh.now() + PAUSE
  local text, lost = self:gather()
  if lost then self.again = ltsh.now() + LONG_PAUSE end
  if not text then return end
  for i, listener in ipairs(table.move(self.listeners, 1, #self.listeners, 1, {})) do
    if not listener.gone then hand(listener, text) end
    if i % SLICE == 0 then ltsh.sleep(0) end
  end
end

-- The latest of what has this key (nil: each counts).
function Channel:put(key, event)
  if self.lost then return end
  local box = key and self.at[key]
  if box then
    box[1] = event
    if self.at[key] == box then return end -- else it was gathered just now
  end
  if #self.queue >= self:most() then
    self.lost = true
  else
    box = { event }
    if key then self.at[key] = box end
    table.insert(self.queue, box)
  end
  if self.flushing then return end
  self.flushing = true
  ltsh.spawn(self.flush, self)
end

-- All of them.

local Channels = {}
Channels.__index = Channels

--- `render(event)` -> { event =, data = } of what was put in, when it is sent.
function channels.new(render)
  return setmetatable({ list = {}, by = {}, render = render, id = 0 }, Channels)
end

function Channels:text(event)
  self.id = self.id + 1
  event.id = self.id
  return event_text(event)
end

local function find(by, scheduler, task)
  local tasks = by[scheduler]
  return tasks and tasks[task]
end

--- Whether anybody listens.
function Channels:any() return self.list[1] ~= nil end

--- How many listen.
function Channels:count()
  local count = 0
  for _, channel in ipairs(table.move(self.list, 1, #self.list, 1, {})) do
    for _, listener in ipairs(table.move(channel.listeners, 1, #channel.listeners, 1, {})) do
      if not listener.gone then count = count + 1 end
    end
  end
  return count
end

--- A listener to what is of this scheduler and this task (nil: of any), until `is_over()`.
function Channels:listen(scheduler, task, is_over)
  scheduler, task = scheduler or false, task or false
  local listener = setmetatable({ texts = {}, said = ltsh.now(), is_over = is_over }, Listener)
  repeat -- until its channel is one that was not taken out meanwhile
    self.by[scheduler] = self.by[scheduler] or {}
    local channel = self.by[scheduler][task]
    if not channel then
      channel = setmetatable({
        owner = self, scheduler = scheduler, task = task, listeners = {}, queue = {}, at = {}, again = 0,
      }, Channel)
      self.by[scheduler][task] = channel
      table.insert(self.list, channel)
    end
    listener.channel = channel
    table.insert(channel.listeners, listener)
  until find(self.by, scheduler, task) == channel
  return listener
end

--- What is new of a task of a scheduler. `own`: only to those that asked for this task.
function Channels:put(scheduler, task, key, event, own)
  if not self.list[1] then return end
  for _, one in ipairs { scheduler, false } do
    local channel = find(self.by, one, task)
    if channel then channel:put(key, event) end
    channel = not own and find(self.by, one, false)
    if channel then channel:put(key, event) end
  end
end

--- What is new of a scheduler, to all that hear of it.
function Channels:put_all(scheduler, key, event)
  for _, channel in ipairs(table.move(self.list, 1, #self.list, 1, {})) do
    if not channel.scheduler or channel.scheduler == scheduler then channel:put(key, event) end
  end
end

--- Wakes those that are over.
function Channels:wake()
  for _, channel in ipairs(table.move(self.list, 1, #self.list, 1, {})) do
    for _, listener in ipairs(table.move(channel.listeners, 1, #channel.listeners, 1, {})) do
      if listener.is_over() then wake(listener) end
    end
  end
end

--- Only from the loop, twice a second: takes out who has gone, and wakes those that are to say that they are still
--- there.
function Channels:tick()
  local now, beats = ltsh.now(), 0
  for i = #self.list, 1, -1 do
    local channel = self.list[i]
    for k = #channel.listeners, 1, -1 do
      local listener = channel.listeners[k]
      if listener.gone then
        table.remove(channel.listeners, k)
      elseif beats < BEATS and now - listener.said >= HEARTBEAT then
        beats = beats + 1
        listener.said = now
        wake(listener)
      end
    end
    if not channel.listeners[1] then
      table.remove(self.list, i)
      self.by[channel.scheduler][channel.task] = nil
      if next(self.by[channel.scheduler]) == nil then self.by[channel.scheduler] = nil end
    end
  end
end

return channels
