-- ltsh.zone: time zones, from the system's database (TZif files, RFC 9636) and rules as POSIX writes them in TZ.
--
-- Not by setting TZ: that is no business of one thread's, and would change os.date for the script. Times are integers,
-- in seconds since 1970: of the clock (UTC), or as a clock in the zone shows them ("shown").
local zone = {}

local Zone = {}
Zone.__index = Zone

local DAY = 86400

--- Days since 1970 of a date; months beyond December count on.
-- The computation is Howard Hinnant's days_from_civil: years begin in March, so that a leap day is the last of one.
function zone.days(year, month, day)
  year = year + (month - 1) // 12
  month = (month - 1) % 12 + 1
  if month <= 2 then year = year - 1 end
  local era, of_era = year // 400, year % 400
  local of_year = (153 * (month > 2 and month - 3 or month + 9) + 2) // 5 + day - 1
  return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

--- The date of a day since 1970: year, month, day.
function zone.date(days)
  days = days + 719468
  local era, of_era = days // 146097, days % 146097
  local year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
  local of_year = of_era - (365 * year + year // 4 - year // 100)
  local month = (5 * of_year + 2) // 153
  local day = of_year - (153 * month + 2) // 5 + 1
  month = month < 10 and month + 3 or month - 9
  return era * 400 + year + (month <= 2 and 1 or 0), month, day
end

-- Rules: "CET-1CEST,M3.5.0,M10.5.0/3".

local function take(text, at, pattern)
  local from, to, a, b, c = text:find("^" .. pattern, at)
  if not from then return nil, at end
  return { a, b, c }, to + 1
end

local function take_name(text, at)
  local found, after = take(text, at, "<[%w+-]+>")
  if not found then found, after = take(text, at, "%a%a%a+") end
  return found ~= nil, after
end

-- [+-]hh[:mm[:ss]], as seconds.
local function take_time(text, at)
  local sign, after = take(text, at, "([+-]?)")
  local hours = take(text, after, "(%d+)")
  if not hours then return nil, at end
  after = after + #hours[1]
  local seconds, unit = tonumber(hours[1]) * 3600, 60
  while unit >= 1 do
    local part = take(text, after, ":(%d%d)")
    if not part then break end
    seconds, unit, after = seconds + tonumber(part[1]) * unit, unit // 60, after + 3
  end
  return sign[1] == "-" and -seconds or seconds, after
end

-- ,date[/time]: a function of the year that gives the shown time.
local function take_change(text, at)
  local day_of
  local found, after = take(text, at, ",M(%d+)%.(%d)%.(%d)")
  if found then
    local month, week, weekday = tonumber(found[1]), tonumber(found[2]), tonumber(found[3])
    if month < 1 or month > 12 or week < 1 or week > 5 or weekday > 6 then return nil end
    day_of = function(year)
      local first = zone.days(year, month, 1)
      local day = first + (weekday - (first + 4)) % 7 + (week - 1) * 7 -- 1970 began on a Thursday
      return day < zone.days(year, month + 1, 1) and day or day - 7
    end
  else
    found, after = take(text, at, ",J(%d+)")
    local zero_based
    if not found then
      found, after = take(text, at, ",(%d+)")
      zero_based = true
    end
    if not found then return nil end
    local number = tonumber(found[1])
    day_of = function(year)
      local first = zone.days(year, 1, 1)
      if zero_based then return first + number end
      local leap = zone.days(year, 3, 1) - zone.days(year, 2, 1) == 29
      return first + number - 1 + (leap and number >= 60 and 1 or 0) -- February 29th is never counted
    end
  end
  local seconds = 7200
  if text:sub(after, after) == "/" then
    seconds, after = take_time(text, after + 1)
    if not seconds then return nil end
  end
  return function(year) return day_of(year) * DAY + seconds end, after
end

-- A rule; nil: it is none. Offsets are seconds east of Greenwich.
local function read_rule(text)
  local named, at = take_name(text, 1)
  local standard
  if named then standard, at = take_time(text, at) end
  if not standard then return nil end
  local rule = { standard = -standard }
  if at > #text then return rule end
  named, at = take_name(text, at)
  if not named then return nil end
  local summer, after = take_time(text, at)
  rule.summer, at = summer and -summer or rule.standard + 3600, summer and after or at
  rule.begins, at = take_change(at <= #text and text or text .. ",M3.2.0,M11.1.0", at)
  if not rule.begins then return nil end
  rule.ends = take_change(text:sub(at, at) == "," and text or text .. ",M3.2.0,M11.1.0", at)
  return rule.ends and rule or nil
end

local function offset_by_rule(rule, time)
  if not rule.summer then return rule.standard end
  local year = zone.date((time + rule.standard) // DAY)
  local begins, ends = rule.begins(year) - rule.standard, rule.ends(year) - rule.summer
  local is_summer
  if begins < ends then
    is_summer = time >= begins and time < ends
  else
    is_summer = time >= begins or time < ends
  end
  return is_summer and rule.summer or rule.standard
end

-- Files.

-- One block of a file: its counts, and where it ends; `width` is that of a time in it.
local function read_counts(bytes, at, width)
  local isut, isstd, leap, times, types, chars = string.unpack(">I4I4I4I4I4I4", bytes, at + 20)
  local body = at + 44
  local size = times * (width + 1) + types * 6 + chars + leap * (width + 4) + isstd + isut
  return { body = body, times = times, types = types, after = body + size }
end

local function read_file(bytes)
  if bytes:sub(1, 4) ~= "TZif" then return nil end
  local width, block = 4, read_counts(bytes, 1, 4)
  if bytes:byte(5) >= 0x32 then width, block = 8, read_counts(bytes, block.after, 8) end
  local self = setmetatable({ times = {}, offsets = {} }, Zone)
  local types, at = {}, block.body + block.times * (width + 1)
  for i = 0, block.types - 1 do types[i] = string.unpack(">i4", bytes, at + 6 * i) end
  for i = 1, block.times do
    self.times[i] = string.unpack(">i" .. width, bytes, block.body + (i - 1) * width)
    self.offsets[i] = types[bytes:byte(block.body + block.times * width + i - 1)]
  end
  self.first = types[0]
  local footer = width == 8 and bytes:match("^\n([^\n]*)\n", block.after)
  self.rule = footer and read_rule(footer) or nil
  return self.first and self
end

local function load(path)
  local file = io.open(path, "rb")
  local bytes = file and file:read "a"
  if file then file:close() end
  local ok, found = pcall(read_file, bytes or "")
  return ok and found or nil
end

local function folder() return os.getenv "TZDIR" or "/usr/share/zoneinfo" end

local function load_named(name)
  if name == "" or name:find "%.%." or name:find "^/" or name:find "\0" then return nil end
  return load(folder() .. "/" .. name)
end

--- Opens a zone by its name ("Europe/Berlin"). Nil and a message: there is none.
function zone.open(name)
  if name == "UTC" then return zone.utc end
  local found = load_named(name)
  if found then return found end
  return nil, string.format("no such time zone in %s; is tzdata installed?", folder())
end

zone.utc = setmetatable({ times = {}, offsets = {}, first = 0 }, Zone)

--- The zone of this process: TZ, else /etc/localtime. Nil and a message: what TZ says makes no sense.
function zone.here()
  local name = os.getenv "TZ"
  if name == nil then return load "/etc/localtime" or zone.utc end
  name = name:gsub("^:", "")
  if name == "" then return zone.utc end
  local found = name:find "^/" and load(name) or load_named(name)
  local rule = not found and read_rule(name)
  if rule then found = setmetatable({ times = {}, offsets = {}, first = rule.standard, rule = rule }, Zone) end
  if found then return found end
  return nil, string.format("TZ=%s: no such time zone", name)
end

-- Questions.

--- Seconds east of Greenwich at a time of the clock.
function Zone:offset(time)
  local times = self.times
  local count = #times
  if (count == 0 or time >= times[count]) and self.rule then return offset_by_rule(self.rule, time) end
  if count == 0 or time < times[1] then return self.first end
  local low, high = 1, count -- times[low] <= time
  while low < high do
    local middle = (low + high + 1) // 2
    if times[middle] <= time then low = middle else high = middle - 1 end
  end
  return self.offsets[low]
end

-- The first moment after `low`, at the latest `high`, at which the offset is not that of `low`.
local function find_change(self, low, high)
  local before = self:offset(low)
  while high - low > 1 do
    local middle = (low + high) // 2
    if self:offset(middle) == before then low = middle else high = middle end
  end
  return high
end

--- When a clock in the zone shows this: one time, two where an hour is repeated, or none, and then the first moment
--- after the gap.
-- @return a list, and the moment after the gap
function Zone:moments(shown)
  local before, after = self:offset(shown - DAY), self:offset(shown + DAY)
  local found = {}
  if self:offset(shown - before) == before then found[1] = shown - before end
  if after ~= before and self:offset(shown - after) == after then found[#found + 1] = shown - after end
  if found[1] then return found end
  return found, find_change(self, shown - math.max(before, after) - 1, shown - math.min(before, after))
end

return zone
