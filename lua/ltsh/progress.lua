-- The progress bar: `scheduler:progress_bar()` and `ltsh -p`.
--
--     orders  [########............]  1234/5000  24%  3 failed  412/s  ETA 0:09
--
-- One line on standard error for all schedulers that are shown, drawn anew ten times a second on a terminal; elsewhere a
-- plain line every ten seconds and one at the end. Nothing runs while the schedulers have nothing to do:
--
--     at rest --an event `added` or `started`--> a job draws --nothing left, or nothing happens--> at rest
local ltsh = require "ltsh"
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local uv = require "luv"

local progress = {}

local FRAME = 0.1     -- seconds between two frames
local LINE = 10       -- and between two plain lines
local PATIENCE = 2    -- after this long without a task that runs (all are paused or delayed), the job ends
local WINDOW = 5      -- seconds that the speed is measured over
local BAR_LEAST, BAR_MOST = 10, 40

local shown = {}   -- a list of records, one for each scheduler that is shown
local job          -- draws; nil: at rest
local wake         -- lets the job look before its frame is over; nil: it does not sleep

local function clock() return uv.hrtime() / 1e9 end

---- The figures.

local function add(to, stats)
  for name in pairs(to) do to[name] = to[name] + (stats[name] or 0) end
  to.unknown = to.unknown or stats.waiting == nil -- a container that does not count
end

local function left_of(sums) return sums.waiting + sums.delayed + sums.running + sums.exporting end
local function done_of(sums) return sums.success + sums.failed + sums.stopped end

-- Asks the scheduler. What a closed one had at last stays.
local function look(record)
  local scheduler = record.ref[1]
  local stats = scheduler and scheduler:stats()
  if stats then
    record.stats = stats
    record.left = left_of(setmetatable({}, { __index = function(_, name) return stats[name] or 0 end }))
  else
    record.closed, record.left = true, 0
  end
end

return progress
