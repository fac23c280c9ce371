--- Whether the double of a Redis server (redis.lua) answers as a server does: the same calls of the real script, by
--- chance but from a seed, are made on both.
---
---     local same = Sameness(server.port)
---     same.run(seed, count)          so many calls; raises where an answer, or at the end a key, is another
---
--- Both are told the time by the call, since a server's own goes on by itself.
local Redis = require "spec.model.redis"
local resp = require "spec.support.resp"
local World = require "spec.model.world"

local SECONDS = "KEYS[#KEYS]"
local KEYS, NAMES = World.KEYS, World.NAMES
local HASHES = { meta = true, tasks = true, items = true, outputs = true, more = true, heads = true, names = true,
                 claims = true, watchers = true, stops = true }
local OWNERS = { "owner--A", "owner--B", "owner--C" }
local IDS = { "t1", "t2", "t3", "t4", "t5", "t6" }
local PARTS = { "", "k", "key" }
local NOTHING = ("\0"):rep(8)

-- Numbers of our own: the same seed gives the same calls everywhere.
local function chance_of(seed)
  local state = seed
  local function number(most)
    state = (state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
    return (state >> 33) % most + 1
  end
  return number, function(list) return list[number(#list)] end
end

local function pack_number(value) return string.pack(">I6", value) end

-- Operations by chance; runs and tokens are often those that a task has.
local function operations(number, one_of, record_of)
  local function run_and_token(id)
    local record = record_of(id)
    if record and number(4) > 1 then return record:sub(31, 36), number(8) > 1 and record:sub(37, 44) or NOTHING end
    return pack_number(number(30)), string.pack(">I8", number(5))
  end
  local function maybe(text) return number(3) == 1 and "+" .. text or "" end
  local make = {}
  function make.a()
    local list = { "a", "2", ("name%02d"):format(number(99)) }
    for _, id in ipairs { one_of(IDS), one_of(IDS) } do
      for _, value in ipairs { id, number(6) == 1 and "1" or "0", string.pack(">I8", number(3)), one_of(PARTS),
                               one_of { "", "", "+2", "=1000010.5" }, one_of { "", "", "3" }, "rest",
                               one_of { "", "large" } } do
        list[#list + 1] = value
      end
    end
    return list
  end
  function make.c()
    local id = one_of(IDS)
    local run, token = run_and_token(id)
    return { "c", id, run, token, tostring(number(7)), one_of { "0", "1" }, one_of { "0", "1" },
             one_of { "", "u", "ul", "n", "un" }, one_of { "", "+1.5", "=1000004" }, maybe "why", maybe "2", maybe "50",
             maybe "out" }
  end
  function make.u()
    local id = one_of(IDS)
    local run, token = run_and_token(id)
    return { "u", id, run, token, maybe "handle", maybe "half" }
  end
  function make.q()
    local list = { "q", string.pack(">I8", number(4)), string.pack(">I8", number(1000)), "host",
                   tostring(number(4) - 1), tostring(number(5) - 1), tostring(number(3) - 1), one_of { "0", "1" } }
    local rest = one_of { { "0", "0", "0" }, { "3", "2", "0" }, { "0", "0", "1", "k" } }
    table.move(rest, 1, #rest, #list + 1, list)
    return list
  end
  function make.s()
    local id = one_of(IDS)
    return { "s", id, (run_and_token(id)), maybe "enough" }
  end
  function make.l()
    return { "l", one_of { "", "1", "2", "4" }, one_of { "", "+k", "+" }, one_of { "", "t" },
             tostring(number(5) - 1), "3", one_of { "0", "1" } }
  end
  local function simple(...)
    local made = { ... }
    return function() return made end
  end
  make.j, make.k, make.e, make.h = simple("j", "2", "host", "about"), simple("k", "2"), simple "e", simple "h"
  make.i, make.f = simple "i", simple "f"
  function make.n() return { "n", "" } end
  function make.v() return { "v", one_of { "", "t2" } } end
  function make.g() return { "g", one_of(IDS), one_of { "0", "1" } } end
  function make.x() return { "x", one_of(OWNERS) } end
  function make.t() return { "t", string.pack(">I8", number(1000)) } end
  function make.o() return { "o", one_of(PARTS) } end
  function make.p() return { "p", one_of { "0", "0", "1" } } end
  function make.m() return { "m", one_of { "", "2" }, one_of { "", "1" }, "", "" } end
  return make
end

local LETTERS = { "a", "a", "a", "c", "c", "c", "c", "u", "q", "q", "q", "q",
                  "s", "l", "j", "k", "k", "e", "h", "i", "f",
                  "n", "v", "g", "x", "t", "o", "p", "m" }

-- An answer as text; what a server gives back as "nothing" ends a list of Lua's.
local function shown(value)
  if type(value) == "table" then
    local parts = {}
    for i = 1, #value do parts[i] = shown(value[i]) end
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  if type(value) == "number" then return ("%d"):format(value // 1) end
  return value and ("%q"):format(value) or "-"
end

local function shown_double(value)
  if type(value) ~= "table" then return shown(value) end
  local parts = {}
  for i = 1, #value do
    if value[i] == nil then break end
    parts[i] = shown_double(value[i])
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function sorted_lines(map, value_text)
  local lines = {}
  for field, value in pairs(map) do lines[#lines + 1] = ("%q = %s"):format(field, value_text(value)) end
  table.sort(lines)
  return table.concat(lines, "\n")
end

local function number_text(score) return ("%.17g"):format(tonumber(score)) end

return function(port)
  local link = resp.open(port)
  local text = Redis.changed(World.text_of_script(), { [[call("TIME")]], ("{ %s, \"0\" }"):format(SECONDS) })
  local sha = link:call("SCRIPT", "LOAD", text)
  local double = Redis.script(text)

  local function keys_at(now)
    local keys = table.move(KEYS, 1, #KEYS, 1, {})
    keys[#keys + 1] = tostring(now)
    return keys
  end

  -- The keys, by the server and by the double.
  local function compare_keys(db, where)
    for i, key in ipairs(KEYS) do
      local list = HASHES[NAMES[i]] and link:call("HGETALL", key) or link:call("ZRANGE", key, "0", "-1", "WITHSCORES")
      local map = {}
      for n = 1, #list, 2 do map[list[n]] = list[n + 1] end
      local text_of = HASHES[NAMES[i]] and shown or number_text
      local is, wanted = sorted_lines(db[key] or {}, text_of), sorted_lines(map, text_of)
      if is ~= wanted then error(("%s: %s\ndouble:\n%s\nserver:\n%s"):format(where, key, is, wanted), 0) end
    end
  end

  local same = {}
  function same.run(seed, count)
    local number, one_of = chance_of(seed)
    local db, now, said = {}, 1000000, {}
    local make = operations(number, one_of, function(id) return (db["q:tasks"] or {})[id] end)
    link:call "FLUSHALL"
    for n = 1, count do
      local argv = { one_of(OWNERS), "-1", one_of { "-1", "5" }, "0", tostring(number(2)) }
      for _ = 1, number(3) do
        local made = make[one_of(LETTERS)]()
        table.move(made, 1, #made, #argv + 1, argv)
      end
      if number(4) == 1 then now = now + number(3) end
      local keys = keys_at(now)
      local next_db, answer = double(db, keys, argv, now, function() return 0 end)
      db = next_db
      local command = { "EVALSHA", sha, tostring(#keys) }
      table.move(keys, 1, #keys, #command + 1, command)
      table.move(argv, 1, #argv, #command + 1, command)
      local is, wanted = shown_double(answer), shown(link:call(table.unpack(command)))
      local where = ("seed %d, call %d"):format(seed, n)
      if is ~= wanted then error(("%s: %s\ndouble: %s\nserver: %s"):format(where, shown(argv), is, wanted), 0) end
      said[argv[6]] = true
    end
    compare_keys(db, "seed " .. seed)
    return said
  end
  function same.close() link:close() end
  return same
end
