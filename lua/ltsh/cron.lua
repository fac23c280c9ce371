-- ltsh.cron: cron expressions of five fields, and when they come next.
--
-- As crontab(5), where cron programs differ:
--   - If the hour field begins with `*`, the expression follows the clock as it is shown: both passes of a repeated
--     hour, nothing for an hour that is not shown. Otherwise each of its times comes once on its day: one that is
--     skipped at the first moment after the gap, one that is shown twice at its first pass.
--   - A day field that begins with `*` does not restrict, and both must match; if neither does, either matches.
--   - `n/step` is `n-max/step`; a range whose end lies before its start goes over the end of its field; 7 is Sunday.
--   - What cannot mean anything, or never comes, is refused.
local zone = require "ltsh.zone"

local cron = {}

local Schedule = {}
Schedule.__index = Schedule

local MINUTE, HOUR, DAY = 60, 3600, 86400
local MONTHS = { jan = 1, feb = 2, mar = 3, apr = 4, may = 5, jun = 6, jul = 7, aug = 8, sep = 9, oct = 10, nov = 11,
  dec = 12 }
local WEEKDAYS = { sun = 0, mon = 1, tue = 2, wed = 3, thu = 4, fri = 5, sat = 6 }
local LONGEST = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local FIELDS = {
  { name = "minute", low = 0, high = 59, unit = MINUTE, units = "minutes" },
  { name = "hour", low = 0, high = 23, unit = HOUR, units = "hours" },
  { name = "day of the month", low = 1, high = 31, unit = DAY, units = "days" },
  { name = "month", low = 1, high = 12, names = MONTHS },
  { name = "weekday", low = 0, high = 6, highest = 7, names = WEEKDAYS },
}

local SHORT = {
  ["@yearly"] = "0 0 1 1 *", ["@annually"] = "0 0 1 1 *", ["@monthly"] = "0 0 1 * *", ["@weekly"] = "0 0 * * 0",
  ["@daily"] = "0 0 * * *", ["@midnight"] = "0 0 * * *", ["@hourly"] = "0 * * * *",
}

-- Reading. What is wrong is raised as { message }, and caught in cron.read.

local function refuse(format, ...) error({ string.format(format, ...) }, 0) end

local function refuse_in(field, format, ...) refuse("%s: %s", field.name, string.format(format, ...)) end

local function read_value(field, text)
  local value = text:find "^%d+$" and tonumber(text) or field.names and field.names[text:lower()]
  if not value then
    local words = field.names and " or a name of three letters" or ""
    refuse_in(field, "'%s' is no number%s", text, words)
  end
  local highest = field.highest or field.high
  if value < field.low or value > highest then
    refuse_in(field, "%d is not from %d to %d", value, field.low, highest)
  end
  return value
end

local function read_step(field, text)
  local step = text:find "^%d+$" and tonumber(text)
  local size = field.high - field.low + 1
  if not step then refuse_in(field, "the step '%s' is no number", text) end
  if step == 0 then refuse_in(field, "a step of 0") end
  if step > size then
    local way_out = field.unit and string.format("; for every %d %s: ltsh.every(%d, fn)", step, field.units,
      step * field.unit) or ""
    refuse_in(field, "the step %d is larger than the field%s", step, way_out)
  end
  return step
end

-- One part of a list, into the set.
local function read_part(field, part, set)
  if part == "" then refuse_in(field, "something is missing between its commas") end
  if part:find "[LW#?]" and not part:find "^%a%a%a" then
    refuse_in(field, "L, W, # and ? are not known: look at the day in the function, and return")
  end
  local range, step_text = part:match "^([^/]*)/(.*)$"
  range = range or part
  local size = field.high - field.low + 1
  local step = step_text and read_step(field, step_text) or 1
  local first, last
  if range == "*" then
    first, last = field.low, field.high
  else
    local from, to = range:match "^([^-]*)%-(.*)$"
    first = read_value(field, from or range)
    last = to and read_value(field, to) or step_text and field.high or first
    if first > field.high then first, last = first - size, last > field.high and last - size or last end
    if last < first then last = last + size end
  end
  for value = first, last, step do set[field.low + (value - field.low) % size] = true end
end

local function read_field(field, text)
  local set, list = {}, {}
  for part in (text .. ","):gmatch "([^,]*)," do read_part(field, part, set) end
  for value = field.low, field.high do
    if set[value] then list[#list + 1] = value end
  end
  return { set = set, list = list, star = text:sub(1, 1) == "*" }
end

local function check_words(text, words)
  local name = words[1] or ""
  if name == "@reboot" then refuse "@reboot is not known: call the function where the script begins" end
  if name == "@every" then refuse "@every is not known: ltsh.every takes seconds, as ltsh.every(5400, fn)" end
  if name:find "^@" then refuse("%s is not known: there are @yearly, @monthly, @weekly, @daily and @hourly", name) end
  if #words == 6 then
    refuse "it has six fields, and none is of seconds or years: minute hour day month weekday"
  elseif #words ~= 5 then
    refuse("it has %d field%s in place of five: minute hour day month weekday", #words, #words == 1 and "" or "s")
  end
end

local function read(text)
  local words = {}
  text = SHORT[text:match "^%s*(.-)%s*$":lower()] or text
  for word in text:gmatch "[^ \t]+" do words[#words + 1] = word end
  check_words(text, words)
  local fields = {}
  for i, field in ipairs(FIELDS) do fields[i] = read_field(field, words[i]) end
  local schedule = setmetatable({ minutes = fields[1], hours = fields[2], days = fields[3], months = fields[4],
    weekdays = fields[5] }, Schedule)
  if schedule.days.star or schedule.weekdays.star then
    local comes = false
    for _, month in ipairs(schedule.months.list) do comes = comes or schedule.days.list[1] <= LONGEST[month] end
    if not comes then refuse("day %d never comes in these months", schedule.days.list[1]) end
  end
  return schedule
end

--- Reads an expression. Nil and a message: it makes no sense.
function cron.read(text)
  local ok, found = pcall(read, text)
  if ok then return found end
  if type(found) == "table" then return nil, found[1] end
  error(found, 0)
end

-- The next time.

function Schedule:has_day(day, month, days_since_1970)
  if not self.months.set[month] then return false end
  local by_day, by_weekday = self.days.set[day], self.weekdays.set[(days_since_1970 + 4) % 7]
  if self.days.star or self.weekdays.star then return by_day and by_weekday end
  return by_day or by_weekday
end

-- The first matching day at or after this one.
function Schedule:find_day(days)
  while true do
    local year, month, day = zone.date(days)
    if not self.months.set[month] then
      days = zone.days(year, month + 1, 1)
    elseif self:has_day(day, month, days) then
      return days
    else
      days = days + 1
    end
  end
end

-- The first moment after `after` on this day; nil: none.
function Schedule:find_on_day(days, after, place)
  local best
  local east = math.max(place:offset(days * DAY - DAY), place:offset(days * DAY + 2 * DAY))
  local earliest = after + math.min(place:offset(after), place:offset(after - DAY)) - DAY // 8 -- shown then, or before
  for _, hour in ipairs(self.hours.list) do
    local hour_shown = days * DAY + hour * HOUR
    if best and hour_shown - east > best then break end
    if hour_shown + HOUR > earliest then
      for _, minute in ipairs(self.minutes.list) do
        local moments, after_gap = place:moments(hour_shown + minute * MINUTE)
        if self.hours.star then
          for _, moment in ipairs(moments) do
            if moment > after and (not best or moment < best) then best = moment end
          end
        else
          local moment = moments[1] or after_gap
          if moment > after and (not best or moment < best) then best = moment end
        end
      end
    end
  end
  return best
end

--- The first time after `after`, both in whole seconds of the clock; `place` is a zone.
function Schedule:next(after, place)
  -- From the day before: a gap may end on the next day.
  local days = (after + place:offset(after)) // DAY - 1
  while true do
    days = self:find_day(days)
    local found = self:find_on_day(days, after, place)
    if found then return found end
    days = days + 1
  end
end

return cron
