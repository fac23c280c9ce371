-- Cron expressions: when they come next, and which are refused.
local cron = require "ltsh.cron"
local zone = require "ltsh.zone"

local function read_utc(text)
  local year, month, day, hour, minute = text:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+)Z$"
  return zone.days(tonumber(year), tonumber(month), tonumber(day)) * 86400 + hour * 3600 + minute * 60
end

local function show_utc(time)
  local year, month, day = zone.date(time // 86400)
  return ("%04d-%02d-%02dT%02d:%02dZ"):format(year, month, day, time % 86400 // 3600, time % 3600 // 60)
end

-- What it is about, expression, zone, asked after, the next times.
local cases = {
  { "fixed time in the skipped hour", "30 2 * * *", "Europe/Berlin",
    "2027-03-27T12:00Z", "2027-03-28T01:00Z 2027-03-29T00:30Z 2027-03-30T00:30Z" },
  { "two fixed times in the skipped hour: one run", "0,30 2 * * *", "Europe/Berlin",
    "2027-03-27T12:00Z", "2027-03-28T01:00Z 2027-03-29T00:00Z 2027-03-29T00:30Z" },
  { "fixed time in the repeated hour", "30 2 * * *", "Europe/Berlin",
    "2027-10-30T12:00Z", "2027-10-31T00:30Z 2027-11-01T01:30Z 2027-11-02T01:30Z" },
  { "every half hour across the skipped hour", "*/30 * * * *", "Europe/Berlin",
    "2027-03-28T00:00Z", "2027-03-28T00:30Z 2027-03-28T01:00Z 2027-03-28T01:30Z" },
  { "every half hour across the repeated hour", "*/30 * * * *", "Europe/Berlin",
    "2027-10-31T00:00Z", "2027-10-31T00:30Z 2027-10-31T01:00Z 2027-10-31T01:30Z" },
  { "every 2 h: 2 o'clock is not shown", "0 */2 * * *", "Europe/Berlin",
    "2027-03-27T22:00Z", "2027-03-27T23:00Z 2027-03-28T02:00Z 2027-03-28T04:00Z" },
  { "weekly, searched from before a day of 23 h", "0 12 * * 0", "Europe/Berlin",
    "2027-03-24T12:00Z", "2027-03-28T10:00Z 2027-04-04T10:00Z 2027-04-11T10:00Z" },
  { "fixed time in the repeated hour", "30 1 * * *", "America/New_York",
    "2027-11-06T12:00Z", "2027-11-07T05:30Z 2027-11-08T06:30Z 2027-11-09T06:30Z" },
  { "fixed time in the skipped hour", "30 2 * * *", "America/New_York",
    "2027-03-13T12:00Z", "2027-03-14T07:00Z 2027-03-15T06:30Z 2027-03-16T06:30Z" },
  { "the day after the change has 23 h between runs", "0 17 * * *", "America/New_York",
    "2027-03-12T22:30Z", "2027-03-13T22:00Z 2027-03-14T21:00Z 2027-03-15T21:00Z" },
  { "midnight itself is skipped", "0 0 * * *", "America/Santiago",
    "2026-09-05T12:00Z", "2026-09-06T04:00Z 2026-09-07T03:00Z 2026-09-08T03:00Z" },
  { "leap day", "0 0 29 2 *", "UTC",
    "2027-01-01T00:00Z", "2028-02-29T00:00Z 2032-02-29T00:00Z 2036-02-29T00:00Z" },
  { "eight years to the next leap day", "0 0 29 2 *", "UTC",
    "2096-03-01T00:00Z", "2104-02-29T00:00Z 2108-02-29T00:00Z 2112-02-29T00:00Z" },
  { "starred weekday: leap day and Sunday", "0 0 29 2 */7", "UTC",
    "2027-01-01T00:00Z", "2032-02-29T00:00Z 2060-02-29T00:00Z" },
  { "months without a 31st are passed over", "0 0 31 * *", "UTC",
    "2027-01-31T00:00Z", "2027-03-31T00:00Z 2027-05-31T00:00Z 2027-07-31T00:00Z" },
  { "one possible date among impossible ones", "0 0 31 2,4,5 *", "UTC",
    "2027-01-01T00:00Z", "2027-05-31T00:00Z 2028-05-31T00:00Z 2029-05-31T00:00Z" },
  { "both days given: either", "0 0 13 * 5", "UTC",
    "2027-07-30T00:00Z", "2027-08-06T00:00Z 2027-08-13T00:00Z 2027-08-20T00:00Z" },
  { "starred day of month: both", "0 0 */10 * 1", "UTC",
    "2027-01-01T00:00Z", "2027-01-11T00:00Z 2027-02-01T00:00Z 2027-03-01T00:00Z" },
  { "full range is no star: either, so daily", "0 9 1-31 * 1", "UTC",
    "2027-01-01T12:00Z", "2027-01-02T09:00Z 2027-01-03T09:00Z 2027-01-04T09:00Z" },
  { "first of the month", "0 0 1 * *", "UTC",
    "2027-01-31T23:59Z", "2027-02-01T00:00Z 2027-03-01T00:00Z 2027-04-01T00:00Z" },
  { "start/step without a range", "5/15 * * * *", "UTC",
    "2027-01-01T00:00Z", "2027-01-01T00:05Z 2027-01-01T00:20Z 2027-01-01T00:35Z" },
  { "uneven step starts anew each hour", "*/7 * * * *", "UTC",
    "2027-01-01T00:45Z", "2027-01-01T00:49Z 2027-01-01T00:56Z 2027-01-01T01:00Z" },
  { "hours over midnight", "0 22-2 * * *", "UTC",
    "2027-01-01T12:00Z", "2027-01-01T22:00Z 2027-01-01T23:00Z 2027-01-02T00:00Z" },
  { "named weekdays over the weekend", "0 8 * * FRI-MON", "UTC",
    "2027-01-05T12:00Z", "2027-01-08T08:00Z 2027-01-09T08:00Z 2027-01-10T08:00Z" },
  { "weekend", "0 8 * * sat-sun", "UTC",
    "2027-01-04T12:00Z", "2027-01-09T08:00Z 2027-01-10T08:00Z 2027-01-16T08:00Z" },
  { "7 is Sunday", "0 8 * * 7", "UTC",
    "2027-01-04T12:00Z", "2027-01-10T08:00Z 2027-01-17T08:00Z 2027-01-24T08:00Z" },
  { "range that ends in 7", "0 8 * * 5-7", "UTC",
    "2027-01-04T12:00Z", "2027-01-08T08:00Z 2027-01-09T08:00Z 2027-01-10T08:00Z" },
  { "months over the year", "0 0 1 NOV-FEB *", "UTC",
    "2027-02-01T00:00Z", "2027-11-01T00:00Z 2027-12-01T00:00Z 2028-01-01T00:00Z" },
  { "names in lists, any case", "0 0 * jan,Jul MON", "UTC",
    "2027-01-20T00:00Z", "2027-01-25T00:00Z 2027-07-05T00:00Z 2027-07-12T00:00Z" },
  { "name: Sunday midnight", "@weekly", "UTC",
    "2027-01-01T00:00Z", "2027-01-03T00:00Z 2027-01-10T00:00Z 2027-01-17T00:00Z" },
  { "name, local midnight", "@yearly", "Europe/Berlin",
    "2026-06-01T00:00Z", "2026-12-31T23:00Z 2027-12-31T23:00Z 2028-12-31T23:00Z" },
  { "starred weekday 0 and 6: leap day that is Saturday or Sunday", "0 0 29 2 */6", "UTC",
    "2028-03-01T00:00Z", "2032-02-29T00:00Z 2048-02-29T00:00Z 2060-02-29T00:00Z" },
  { "odd days that are Mondays, over a month's end", "0 0 */2 * mon", "UTC",
    "2027-01-30T12:00Z", "2027-02-01T00:00Z 2027-02-15T00:00Z 2027-03-01T00:00Z" },
}

describe("the next time of a cron expression", function()
  for _, case in ipairs(cases) do
    local about, expression, name, after, wanted = table.unpack(case)
    it(("%s: %s in %s"):format(about, expression, name), function()
      local schedule, place = assert(cron.read(expression)), assert(zone.open(name))
      local time, found = read_utc(after), {}
      for _ in wanted:gmatch "%S+" do
        time = schedule:next(time, place)
        found[#found + 1] = show_utc(time)
      end
      assert.equal(wanted, table.concat(found, " "))
    end)
  end

  it("is found though blanks are many, and names in any case", function()
    local place = zone.utc
    for _, expression in ipairs { " \t0  8 \t* * sUN ", "0 8 * * 0", "00 08 * * 7" } do
      assert.equal("2027-01-03T08:00Z", show_utc(cron.read(expression):next(read_utc "2027-01-01T00:00Z", place)))
    end
    for name, same in pairs { ["@Daily"] = "0 0 * * *", ["@hourly"] = "0 * * * *", ["@monthly"] = "0 0 1 * *" } do
      local after = read_utc "2027-01-01T00:00Z"
      assert.equal(cron.read(same):next(after, place), cron.read(name):next(after, place))
    end
  end)
end)

describe("a cron expression", function()
  local refused = {
    ["60 * * * *"] = "minute: 60 is not from 0 to 59", ["* * * 13 *"] = "month: 13 is not from 1 to 12",
    ["* * * * 8"] = "weekday: 8 is not from 0 to 7", ["*/0 * * * *"] = "minute: a step of 0",
    ["*/90 * * * *"] = "minute: the step 90 is larger than the field; for every 90 minutes: ltsh.every(5400, fn)",
    ["0 */36 * * *"] = "hour: the step 36 is larger than the field; for every 36 hours: ltsh.every(129600, fn)",
    ["1,,2 * * * *"] = "minute: something is missing between its commas", ["1- * * * *"] = "minute: '' is no number",
    ["a * * * *"] = "minute: 'a' is no number", ["mon * * * *"] = "minute: 'mon' is no number",
    ["0 0 * * mond"] = "weekday: 'mond' is no number or a name of three letters",
    ["* * * *"] = "it has 4 fields in place of five: minute hour day month weekday",
    ["* * * * * *"] = "it has six fields, and none is of seconds or years: minute hour day month weekday",
    [""] = "it has 0 fields in place of five: minute hour day month weekday",
    ["@reboot"] = "@reboot is not known: call the function where the script begins",
    ["@every 5m"] = "@every is not known: ltsh.every takes seconds, as ltsh.every(5400, fn)",
    ["0 0 L * *"] = "day of the month: L, W, # and ? are not known: look at the day in the function, and return",
    ["0 0 30 2 *"] = "day 30 never comes in these months", ["0 0 31 4 *"] = "day 31 never comes in these months",
    ["0 0 31 2,4,6,9,11 *"] = "day 31 never comes in these months",
  }

  for expression, message in pairs(refused) do
    it(("that means nothing is refused: '%s'"):format(expression), function()
      assert.same({ n = 2, nil, message }, table.pack(cron.read(expression)))
    end)
  end

  it("that comes rarely is none of these", function()
    for _, expression in ipairs { "0 0 31 4 1", "0 0 29 2 *", "0 0 31 2,4,5 *", "0 0 * * 7-1/2", "*/60 * * * *" } do
      assert.is_table(cron.read(expression))
    end
  end)
end)

describe("a time zone", function()
  it("is known by the system's names, and others are refused", function()
    for _, name in ipairs { "Europe/Berln", "", "../etc/passwd", "/etc/localtime", "zone.tab" } do
      local found, message = zone.open(name)
      assert.is_nil(found)
      assert.matches("no such time zone in .*; is tzdata installed%?", message)
    end
  end)

  it("has its offsets also beyond what its file lists", function()
    local berlin, sydney = zone.open "Europe/Berlin", zone.open "Australia/Sydney"
    for year = 2020, 2120, 10 do
      assert.same({ 3600, 7200 }, {
        berlin:offset(read_utc(year .. "-01-15T12:00Z")), berlin:offset(read_utc(year .. "-07-15T12:00Z")),
      })
      assert.same({ 39600, 36000 }, {
        sydney:offset(read_utc(year .. "-01-15T12:00Z")), sydney:offset(read_utc(year .. "-07-15T12:00Z")),
      })
    end
  end)

  it("shows the same as date(1)", function()
    local run = require "spec.support.run"
    for _, name in ipairs {
      "Europe/Berlin", "America/New_York", "America/Santiago", "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Apia",
      "Australia/Lord_Howe", "UTC",
    } do
      local place, times, expected = assert(zone.open(name)), {}, {}
      for i = 1, 60 do times[i] = -1500000000 + i * 100003217 end
      for i, time in ipairs(times) do
        local offset = place:offset(time)
        local sign, rest = offset < 0 and "-" or "+", math.abs(offset)
        expected[i] = ("%s%02d:%02d:%02d"):format(sign, rest // 3600, rest % 3600 // 60, rest % 60)
      end
      local script = "for t in " .. table.concat(times, " ") .. "; do date -d @$t +%::z; done"
      local shown = run.start({ "-c", script }, { program = "/bin/sh", env = { TZ = name } }):wait().stdout
      assert.equal(table.concat(expected, "\n") .. "\n", shown, name)
    end
  end)
end)
