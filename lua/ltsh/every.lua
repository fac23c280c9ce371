-- ltsh.every: calls a function again and again, by seconds or a cron expression.
--
-- The next time (the slot) is computed, and the timer only wakes for it: too early it sleeps on, a little late it
-- calls. A slot is called at most once, also when the clock is set back by less than three hours. Cron goes by the wall
-- clock; seconds go by one that no step holds up, at multiples of the interval, so that hosts agree on them.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local cron = require "ltsh.cron"
local slots = require "ltsh.slots"
local zone = require "ltsh.zone"
local uv = require "luv"

local LATE = 10 -- seconds within which a slot is called, and not missed
local SET_BACK = 3 * 3600 -- a clock that is set back by more begins anew
local LOOK = 30 -- seconds at most until the clock and the local zone are looked at again
local MOST_COUNTED = 10000 -- of those that were missed

-- What makes the slots: now() and next(after), in seconds.

local function monotonic() return uv.hrtime() / 1e9 end

-- As the wall clock at first, and when that is ahead (a sleep, a step); never back.
local function by_seconds(interval)
  local ahead = core.now() - monotonic()
  local plan = { late = math.max(LATE, interval / 2) }
  function plan.now()
    ahead = math.max(ahead, core.now() - monotonic() - 0.5)
    return monotonic() + ahead
  end
  function plan.next(after)
    local slot = (after // interval + 1) * interval
    if slot <= after then slot = slot + interval end -- fractions
    return math.tointeger(slot) or slot
  end
  function plan.newest(_, now) return plan.next(now - interval) end
  function plan.count(after, newest) return (newest - after + interval / 2) // interval end
  return plan
end

local function by_cron(schedule, place)
  local here, looked, said
  local plan = { late = LATE, now = core.now }
  -- The local one may be changed meanwhile.
  local function find_place()
    local now = monotonic()
    if place or (here and now < looked + LOOK / 2) then return place or here end
    local found, message = zone.here()
    if not found and said ~= message then
      said = message
      core.log.error("the local time zone is not known, UTC is taken", { error = message })
    end
    here, looked = found or zone.utc, now
    return here
  end
  function plan.next(after) return schedule:next(math.floor(after), find_place()) end
  -- The newest after `after` that is not after `now`, which there is: in ever longer steps back.
  function plan.newest(after, now)
    local back, found = 60
    repeat
      local from = math.max(after, now - back)
      found = plan.next(from)
      back = back * 8
    until found <= now
    while true do
      local following = plan.next(found)
      if following > now then return found end
      found = following
    end
  end
  function plan.count(after, newest)
    local count = 0
    while after < newest and count < MOST_COUNTED do
      after, count = plan.next(after), count + 1
    end
    return count
  end
  return plan
end

-- Calls.

local Every = {}
Every.__index = Every

local function describe(self) return self.name or self.words end

-- The end of the process waits for it, for its grace.
function Every:perform(slot)
  local work <close> = core.at_work()
  if not work then return end
  if self.store then self.store:save(slot) end
  local ok, message = pcall(self.fn, slot)
  if not ok then
    core.log.error("what ltsh.every called raised an error", { every = describe(self), time = slot,
      error = check.raised(message) })
  end
end

-- In one go, by core.held, as a strand may be cut anywhere else: whether a call may begin; and what follows one.

local function begin_call(self, slot)
  if self.at_work and not self.overlap then
    self.skipped = slot
    return false
  end
  self.at_work = true
  return true
end

local function end_call(self)
  local skipped = self.skipped
  self.skipped = nil
  self.said = self.said and skipped ~= nil
  if skipped and self.catch_up and not self.ended then return skipped end
  self.at_work = false
end

-- One after the other, or beside each other with `overlap`.
function Every:call(slot)
  if not core.held(begin_call, self, slot) then
    if not self.said then
      self.said = true -- until calls are in time again
      core.log.warn("ltsh.every does not call while the last call is at work", { every = describe(self), time = slot })
    end
    return
  end
  core.spawn(function()
    repeat
      self:perform(slot)
      slot = core.held(end_call, self)
    until not slot
  end)
end

-- Slots that were missed, before now.
function Every:miss(after, newest)
  if not self.catch_up then return end
  local count = self.plan.count(after, newest)
  core.log.info("ltsh.every makes up for what was missed with one call", { every = describe(self), time = newest,
    missed = count >= MOST_COUNTED and count .. " or more" or math.tointeger(count) })
  self:call(newest)
end

-- Waits until it is time for the slot after `last`, and returns the time by then; nil: the clock was set back.
function Every:await(last)
  local plan = self.plan
  while true do
    local now, slot = plan.now(), plan.next(last)
    if now < last - SET_BACK then return nil end
    if now >= slot then return now end
    core.sleep(math.min(slot - now, LOOK))
  end
end

-- `known`: the last slot that was called before this process began, or nil.
function Every:run(last, known)
  local plan = self.plan
  core.sleep(0) -- whoever calls ltsh.every has what it gives back
  if known and known > last and known - SET_BACK < last then last = known end
  local newest_missed = known and plan.next(known) <= last and plan.newest(known, last)
  if newest_missed then self:miss(known, newest_missed) end
  while not self.ended do
    local now = self:await(last)
    if self.ended then return end
    if not now then
      last = plan.now()
    else
      local newest = plan.newest(last, now)
      if now - newest <= plan.late then self:call(newest) else self:miss(last, newest) end
      last = newest
    end
  end
end

local OPTIONS = { tz = true, catch_up = true, overlap = true, name = true, store = true }

local function read_plan(where, schedule, options)
  if type(schedule) == "number" then
    if options.tz ~= nil then error(where .. ": tz is for cron expressions", 0) end
    return by_seconds(check.seconds(where, "schedule", schedule, true)), string.format("%g s", schedule)
  end
  if type(schedule) ~= "string" then
    check.fail(where, "schedule", "a number of seconds, or a cron expression such as \"0 3 * * *\"", schedule)
  end
  local read, message = cron.read(schedule)
  if not read then error(string.format("%s: %q: %s", where, schedule, message), 0) end
  local place
  if options.tz ~= nil then
    if type(options.tz) ~= "string" then check.fail(where, "tz", "the name of a time zone", options.tz) end
    place, message = zone.open(options.tz)
    if not place then error(string.format("%s: tz %q: %s", where, options.tz, message), 0) end
  end
  return by_cron(read, place), schedule
end

local function read_store(where, options, words)
  local name, path = options.name, options.store
  if name == nil and path == nil then return nil end
  if type(name) ~= "string" or name == "" then
    check.fail(where, "name", "a text, by which its times are found again in `store`", name)
  end
  if path == nil then return nil end
  local database = core.is_container(path) and core.database_of(path)
  if not database and (type(path) ~= "string" or path == "") then
    check.fail(where, "store", "the path of a file, or a durable container", path)
  end
  local store, message = slots[database and "in_database" or "open"](database or path, name, words)
  if not store then error(string.format("%s: store %q: %s", where, database or path, message), 0) end
  return store
end

--- Calls fn(time) at each time of a schedule, in a job of its own.
-- @param schedule seconds between two calls; or a cron expression, five fields or @daily and the like
-- @param fn gets the slot: Unix time, whole seconds for cron, the same on every host
-- @param options tz = "Europe/Berlin" (else local time); catch_up = true: the newest missed slot is made up once;
-- overlap = true: also while the last call is at work; name, store = path: with catch_up also over a restart
-- @return a function that ends it; calls in progress go on
return function(schedule, fn, options)
  local where = "ltsh.every"
  options = options == nil and {} or options
  check.table(where, "options", options)
  check.names(where, options, OPTIONS)
  if not check.is_callable(fn) then check.fail(where, "fn", "a function", fn) end
  local plan, words = read_plan(where, schedule, options)
  local store = read_store(where, options, words)
  local self = setmetatable({ plan = plan, words = words, fn = fn, name = options.name, store = store,
    catch_up = options.catch_up == true, overlap = options.overlap == true }, Every)
  local last = plan.now()
  local job = core.spawn(function() self:run(last, store and store.time) end)
  return function()
    self.ended = true
    job:cancel()
  end
end
