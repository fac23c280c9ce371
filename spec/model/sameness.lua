--- Whether the double of a Redis server (redis.lua) answers as a server does: the same calls of the real script, by
--- chance but from a seed, are made on both.
---
---     local same = Sameness(server.port)
---     same.run(seed, count)          so many calls; raises where an answer, or at the end a key, is another
---
--- Both are told the time by the call, since a server's own goes on by itself.
local Redis = require "spec.model.redis"
local resp = require "spec.support.resp"
local words = require "spec.model.words"
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
    local found = record and words.read(record)
    if found and number(4) > 1 then return found.run, number(8) > 1 and found.token or NOTHING end
    return pack_number(number(30)), string.pack(">I8", number(5))
  end
  local function maybe(text) return number(3) == 1 and text or nil end
  local function choices()
    local list = {}
    for i, id in ipairs(IDS) do
      if number(2) == 1 then list[#list + 1] = { id = id, run = (run_and_token(IDS[i])) } end
    end
    return list
  end
  local make = {}
  function make.a()
    local list, first = {}, one_of(IDS)
    local second = one_of(IDS)
    for i, id in ipairs { first, second ~= first and second or nil } do
      list[i] = { id = id, once = number(6) == 1, key = one_of(PARTS),
                  when = one_of { false, false, "+2", "=1000010.5" }, within = one_of { false, false, "3" },
                  rest = "rest", large = one_of { false, "large" } }
    end
    return words.add(("name%02d"):format(number(99)), list)
  end
  function make.c()
    local id = one_of(IDS)
    local run, token = run_and_token(id)
    local wish = one_of { "", "u", "ul", "n", "un" }
    return words.change {
      id = id, run = run, token = token, to = tostring(number(7)), again = number(2) == 1, frees = number(2) == 1,
      uncounted = wish:find "u", lost = wish:find "l", not_begun = wish:find "n",
      when = one_of { false, "+1.5", "=1000004" }, reason = maybe "why", version = maybe "2", progress = maybe "50",
      output = maybe "out",
    }
  end
  function make.u()
    local id = one_of(IDS)
    local run, token = run_and_token(id)
    return { "u", id, run, token, number(3) == 1 and "+handle" or "", number(3) == 1 and "+half" or "" }
  end
  function make.q()
    return words.claim {
      number = string.pack(">I8", number(4)), token = string.pack(">I8", number(1000)), room = number(4) - 1,
      global_limit = number(5) - 1, key_limit = number(3) - 1, key_once = number(2) == 1, fair = number(20) == 1,
      full = number(3) == 1 and { "k" } or nil, choices = number(3) == 1 and choices() or nil, look = number(4) - 1,
      known = number(30),
    }
  end
  function make.s()
    local id = one_of(IDS)
    return { "s", id, (run_and_token(id)), number(3) == 1 and "+enough" or "" }
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
