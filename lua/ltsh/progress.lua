-- The progress bar: `scheduler:progress_bar()` and `ltsh -p`.
--
--     orders  [########............]  1234/5000  24%  3 failed  412/s  ETA 0:09
--
-- One line on standard error for all schedulers that are shown: on a terminal drawn anew ten times a second, and taken
-- away while nothing is left to do, so that what the script prints then has a line of its own; elsewhere a plain line
-- every ten seconds. What it came to is the last line. Nothing here keeps the process alive or runs without need:
--
--     at rest --event `added` or `started`--> a job draws --no task has run for a while--> at rest
local ltsh = require "ltsh"
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local uv = require "luv"

local progress = {}

local FRAME = 0.1  -- seconds between frames on a terminal
local LOOK = 1     -- seconds between looks elsewhere
local LINE = 10    -- seconds between plain lines
local PATIENCE = 2 -- seconds without a task that runs until the job ends: all are over, paused or delayed
local WINDOW = 5   -- seconds over which the speed is measured
local SHORTEST_NAME = 8 -- columns: what remains of a long name

-- A scheduler that nobody refers to is closed, so neither it nor its handlers are kept alive from here.
local shown = {}                                    -- a list of records
local handlers = setmetatable({}, { __mode = "k" }) -- scheduler -> functions that remove our event handlers
local view                                          -- the line; nil: at rest
local timer                                         -- of the frames

local function now() return uv.hrtime() / 1e9 end

---- Text on a terminal.

-- How many columns a character takes at most: what is wide (CJK, most pictures) comes after the scripts that are not.
-- A line that is a little shorter than it could be does no harm.
local function columns_of_character(code)
  return code < 0x1100 and 1 or 2
end

local function columns_of(text)
  local columns = 0
  for _, code in utf8.codes(text) do columns = columns + columns_of_character(code) end
  return columns
end

-- A name without what a terminal would take for a command, or could not show.
local function printable(name)
  if not utf8.len(name) then name = name:gsub("[\x80-\xFF]", "?") end
  return (name:gsub("%c", "?"):gsub("\xC2[\x80-\x9F]", "?"))
end

-- As much of a text as has room, with dots for what is left out.
local function shorten(text, room)
  if columns_of(text) <= room then return text end
  local columns = #"..."
  for at, code in utf8.codes(text) do
    columns = columns + columns_of_character(code)
    if columns > room then return text:sub(1, at - 1) .. "..." end
  end
end

---- Figures.

local ends = { "success", "failed", "stopped" }

local function new_record(scheduler)
  return {
    ref = setmetatable({ scheduler }, { __mode = "v" }),
    name = printable(core.name(scheduler)),
    base = { success = 0, failed = 0, stopped = 0 }, -- what had ended before
    stats = { success = 0, failed = 0, stopped = 0 },
    open = true,
    counts = true, -- whether the container counts what waits
    running = 0,
    left = 0,
  }
end

-- Asks the scheduler of a record how it stands. A closed one is remembered as it was.
local function look(record)
  local scheduler = record.ref[1]
  local stats = scheduler and scheduler:stats()
  record.open = stats ~= nil
  record.stats = stats or record.stats
  record.counts = stats == nil or stats.waiting ~= nil
  record.running = stats and stats.running + stats.exporting or 0
  record.left = record.running + (stats and (stats.waiting or 0) + (stats.delayed or 0) or 0)
end

-- All that is shown, as far as it is known, since the bar began.
local function sum_up()
  local sum = { success = 0, failed = 0, stopped = 0, left = 0, running = 0, counts = true }
  for _, record in ipairs(shown) do
    for _, status in ipairs(ends) do sum[status] = sum[status] + record.stats[status] - record.base[status] end
    sum.left, sum.running = sum.left + record.left, sum.running + record.running
    sum.counts = sum.counts and record.counts
  end
  sum.done = sum.success + sum.failed + sum.stopped
  return sum
end

---- What the line says.

local function clock_time(seconds)
  local s = math.tointeger(seconds // 1)
  if s >= 3600 then return string.format("%d:%02d:%02d", s // 3600, s // 60 % 60, s % 60) end
  return string.format("%d:%02d", s // 60, s % 60)
end

local function name_of_all()
  if #shown == 1 then return shown[1].name end
  return string.format("%d schedulers", #shown)
end

-- The texts, but for the bar, each { text, colour }. `elapsed` is set at the end.
local function words_of(sum, speed, elapsed)
  local total = sum.done + sum.left
  local words = {}
  local function say(colour, format, ...) table.insert(words, { format:format(...), colour }) end
  say("1", "%s", name_of_all())
  say(nil, "%d/%s", sum.done, sum.counts and total or "?")
  if sum.counts then say(nil, "%d%%", total > 0 and sum.done * 100 // total or 100) end
  if sum.failed > 0 then say("31", "%d failed", sum.failed) end
  if sum.stopped > 0 then say("33", "%d stopped", sum.stopped) end
  if speed > 0 then say("2", speed >= 10 and "%.0f/s" or "%.1f/s", speed) end
  if elapsed then
    say("2", "in %s", elapsed < 10 and string.format("%.1f s", elapsed) or clock_time(elapsed))
  elseif sum.counts and speed > 0 and sum.left / speed < 360000 then
    say("2", "ETA %s", clock_time(sum.left / speed + 0.5))
  end
  return words
end

local function bar_of(sum, width)
  local total = sum.done + sum.left
  local full = sum.counts and total > 0 and sum.done * width // total or 0
  return { "[" .. ("#"):rep(full) .. ("."):rep(width - full) .. "]", sum.failed > 0 and "33" or "32" }
end

---- The line.

local View = {}
View.__index = View

local function new_view()
  local terminal = uv.guess_handle(2) == "tty" and os.getenv "TERM" ~= "dumb"
  return setmetatable({
    terminal = terminal,
    colours = terminal and os.getenv "TERM" ~= nil and (os.getenv "NO_COLOR" or "") == "",
    tty = terminal and uv.new_tty(2, false) or nil,
    began = now(),
    printed = now(),  -- when the last plain line was
    visible = false,  -- whether the cursor is behind the bar
    ended = nil,      -- when there was nothing left to do
    history = {},     -- { time =, done = } of the last seconds
  }, View)
end

-- Tasks a second, of late.
function View:speed(done)
  local history, time = self.history, now()
  table.insert(history, { time = time, done = done })
  while #history > 2 and history[2].time <= time - WINDOW do table.remove(history, 1) end
  local first = history[1]
  return time > first.time and (done - first.done) / (time - first.time) or 0
end

function View:columns()
  local columns = self.tty and self.tty:get_winsize()
  return columns and columns > 0 and columns or 80
end

function View:paint(word)
  local text, colour = word[1], word[2]
  return self.colours and colour and "\27[" .. colour .. "m" .. text .. "\27[0m" or text
end

-- Gives the name, the first of the words, what the others leave, but not less than a third; none if that is too little.
local function fit_name(words, columns)
  local others = 0
  for i = 2, #words do others = others + #words[i][1] + 2 end
  local room = math.max(columns // 3, columns - others - 2)
  if room < SHORTEST_NAME and columns_of(words[1][1]) > room then
    table.remove(words, 1)
  else
    words[1][1] = shorten(words[1][1], room)
  end
end

-- The words in a row of so many columns: with a bar if there is room, else as many as fit. A line of several rows could
-- not be drawn over.
function View:row(words, sum, columns)
  fit_name(words, columns)
  local used = 0
  for i, word in ipairs(words) do
    used = used + columns_of(word[1]) + 2
    if used > columns then return { table.unpack(words, 1, i - 1) } end
  end
  local width = math.min(columns - used - #"[]", columns // 3, 40)
  if width >= 5 then table.insert(words, 2, bar_of(sum, width)) end
  return words
end

function View:text(sum, elapsed)
  local speed = self:speed(sum.done)
  if elapsed and elapsed > 0 then speed = sum.done / elapsed end
  local words = words_of(sum, speed, elapsed)
  if self.terminal then words = self:row(words, sum, self:columns()) end
  for i, word in ipairs(words) do words[i] = self:paint(word) end
  return table.concat(words, "  ")
end

-- The log writes on the same terminal. What it says comes behind the bar, and the next frame on the line after that.
function View:draw(sum)
  if self.terminal then
    io.stderr:write("\r", self:text(sum), "\27[K ")
    self.visible = true
  elseif now() - self.printed >= LINE then
    io.stderr:write(self:text(sum), "\n")
    self.printed = now()
  end
end

function View:hide()
  if self.visible then io.stderr:write "\r\27[K" end
  self.visible = false
end

function View:finish(sum)
  self:hide()
  if sum.done + sum.left == 0 then return end
  local ended = sum.left == 0 and self.ended or now()
  io.stderr:write(self:text(sum, ended - self.began), "\n")
end

---- The job.

-- Holds nothing: when nothing else is left to do, the process ends, and the job with it.
local function nap(seconds)
  timer = timer or uv.new_timer()
  ltsh.await(function(done)
    timer:start(math.tointeger(seconds * 1000), 0, done)
    timer:unref()
  end)
end

local function draw_until_rest()
  local _ <close> = setmetatable({}, {
    __close = function()
      view:finish(sum_up())
      view = nil
    end,
  })
  local active, done = now(), 0
  repeat
    for _, record in ipairs(shown) do look(record) end
    local sum = sum_up()
    if sum.running > 0 or sum.done ~= done then active, done = now(), sum.done end
    if sum.left > 0 or not sum.counts then view:draw(sum) end
    nap(view.terminal and FRAME or LOOK)
  until now() - active > PATIENCE
end

-- Replaces our handlers of a scheduler by { event = function }.
local function handle(scheduler, functions)
  for _, remove in ipairs(handlers[scheduler] or {}) do remove() end
  handlers[scheduler] = {}
  for event, fn in pairs(functions) do table.insert(handlers[scheduler], scheduler:on(event, fn)) end
end

-- While the job runs: ends are counted, as a scheduler that is closed cannot be asked any more; and the bar goes away
-- before the script goes on after the last one.
local function follow(record)
  local function finished(task)
    record.stats[task.status] = record.stats[task.status] + 1
    record.left = record.left - 1
    if record.left > 0 then return end
    look(record)
    if record.running > 0 then record.left = record.left - 1 end -- the run that has just ended is counted still
    if view and sum_up().left <= 0 then
      view.ended = now()
      view:hide()
    end
  end
  handle(record.ref[1], { finished = finished })
end

local begin

-- While it does not: the next task starts it.
local function rest(record)
  handle(record.ref[1], { added = begin, started = begin })
end

local function each_open(fn)
  for i = #shown, 1, -1 do
    local record = shown[i]
    if record.open and record.ref[1] then fn(record) else table.remove(shown, i) end
  end
end

function begin()
  if view then return end
  view = new_view()
  each_open(follow)
  ltsh.spawn(function()
    draw_until_rest()
    each_open(function(record)
      record.base = record.stats -- the next bar counts from here
      rest(record)
    end)
  end)
end

local function track(scheduler)
  if handlers[scheduler] then return end
  local record = new_record(scheduler)
  table.insert(shown, record)
  if view then follow(record) else rest(record) end
end

local function untrack(scheduler)
  for i = #shown, 1, -1 do
    if shown[i].ref[1] == scheduler then table.remove(shown, i) end
  end
  for _, remove in ipairs(handlers[scheduler] or {}) do remove() end
  handlers[scheduler] = nil
  if view and #shown == 0 then view:hide() end
end

--- Shows a scheduler whenever it has work. Returns a function that ends this.
function progress.show(scheduler, options)
  local where = "scheduler:progress_bar"
  core.name(scheduler, where)
  if options ~= nil then check.names(where, check.table(where, "options", options), {}) end
  track(scheduler)
  begin() -- it may have work already
  return function() untrack(scheduler) end
end

--- Shows every scheduler that is made from now on.
function progress.all()
  local make = require "ltsh.scheduler"
  package.loaded["ltsh.scheduler"] = function(options)
    local scheduler = make(options)
    track(scheduler)
    return scheduler
  end
end

return progress
