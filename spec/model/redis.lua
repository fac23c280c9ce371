--- What queue.lua needs of a Redis server, in memory, so that the script itself is what the model runs (world.lua).
---
---     local server = Redis.script(text)            the script, ready to be called
---     local db = {}                                an empty server
---     local next_db, answer = server(db, keys, argv, now, publish)
---
--- A database is never changed: a call answers with another one, which shares all keys that it did not write. So a
--- state of the search is kept by keeping its database. Hashes and sorted sets are tables by field, or by member with
--- the score. `publish(channel, message)` says how many hear it. What a server of its own would answer to the same
--- calls is compared in model_spec.lua.
local Redis = {}

local function text_of(value)
  if type(value) == "number" then return ("%.17g"):format(value) end
  return value
end

local function by_score(a, b)
  if a.score ~= b.score then return a.score < b.score end
  return a.member < b.member
end

-- All members in their order.
local function ordered(set)
  local list = {}
  for member, score in pairs(set) do list[#list + 1] = { member = member, score = score } end
  table.sort(list, by_score)
  return list
end

-- The test of a bound: "(" before one that is not in, "[" of a member, -inf and +inf.
local function score_bound(text, is_lower)
  local open = text:sub(1, 1) == "("
  local value = open and text:sub(2) or text
  local number = value == "-inf" and -math.huge or value == "+inf" and math.huge or assert(tonumber(value), value)
  if is_lower then return function(score) return score > number or (not open and score == number) end end
  return function(score) return score < number or (not open and score == number) end
end

local function lex_bound(text, is_lower)
  if text == "-" or text == "+" then return function() return (text == "-") == is_lower end end
  local kind, value = text:sub(1, 1), text:sub(2)
  assert(kind == "(" or kind == "[", "not a bound of members")
  if is_lower then return function(member) return member > value or (kind == "[" and member == value) end end
  return function(member) return member < value or (kind == "[" and member == value) end
end

-- What is asked for behind the bounds: WITHSCORES, LIMIT offset count.
local function options_of(args, from)
  local scores, offset, count = false, 0, math.huge
  local i = from
  while i <= #args do
    if args[i] == "WITHSCORES" then
      scores = true
    elseif args[i] == "LIMIT" then
      offset, count = tonumber(args[i + 1]), tonumber(args[i + 2])
      i = i + 2
    else
      error("unknown option " .. tostring(args[i]))
    end
    i = i + 1
  end
  return scores, offset, count
end

local function answer_of(list, scores, offset, count)
  local answer = {}
  for i = offset + 1, math.min(#list, offset + count) do
    answer[#answer + 1] = list[i].member
    if scores then answer[#answer + 1] = ("%.17g"):format(list[i].score) end
  end
  return answer
end

local function within(set, low, high, bound, what)
  local above, below, list = bound(low, true), bound(high, false), {}
  for _, entry in ipairs(ordered(set)) do
    if above(entry[what]) and below(entry[what]) then list[#list + 1] = entry end
  end
  return list
end

local function reversed(list)
  local other = {}
  for i = #list, 1, -1 do other[#other + 1] = list[i] end
  return other
end

-- Each takes what reads a key, what gives it to be written, and the arguments.
local commands = {}

function commands.HGET(read, _, args) return read(args[1])[args[2]] or false end

function commands.HMGET(read, _, args)
  local answer = {}
  for i = 2, #args do answer[i - 1] = read(args[1])[args[i]] or false end
  return answer
end

function commands.HSET(_, write, args)
  local hash = write(args[1])
  assert(#args >= 3 and #args % 2 == 1, "wrong number of arguments for HSET")
  for i = 2, #args, 2 do hash[args[i]] = args[i + 1] end
  return 0
end

local function remove(_, write, args)
  local fields, count = write(args[1]), 0
  assert(#args >= 2, "wrong number of arguments")
  for i = 2, #args do
    if fields[args[i]] ~= nil then count = count + 1 end
    fields[args[i]] = nil
  end
  return count
end
commands.HDEL, commands.ZREM = remove, remove

function commands.ZADD(_, write, args)
  local set = write(args[1])
  assert(#args >= 3 and #args % 2 == 1, "wrong number of arguments for ZADD")
  for i = 2, #args, 2 do set[args[i + 1]] = assert(tonumber(args[i]), "not a score") + 0.0 end
  return 0
end

function commands.ZSCORE(read, _, args)
  local score = read(args[1])[args[2]]
  return score and ("%.17g"):format(score) or false
end

function commands.ZCARD(read, _, args)
  local count = 0
  for _ in pairs(read(args[1])) do count = count + 1 end
  return count
end

function commands.ZCOUNT(read, _, args) return #within(read(args[1]), args[2], args[3], score_bound, "score") end

function commands.ZLEXCOUNT(read, _, args) return #within(read(args[1]), args[2], args[3], lex_bound, "member") end

function commands.ZRANGE(read, _, args)
  local list, first, last = ordered(read(args[1])), tonumber(args[2]), tonumber(args[3])
  assert(first >= 0 and last >= 0, "no place from behind")
  return answer_of(list, args[4] == "WITHSCORES", first, last - first + 1)
end

function commands.ZRANGEBYSCORE(read, _, args)
  return answer_of(within(read(args[1]), args[2], args[3], score_bound, "score"), options_of(args, 4))
end

function commands.ZREVRANGEBYSCORE(read, _, args)
  return answer_of(reversed(within(read(args[1]), args[3], args[2], score_bound, "score")), options_of(args, 4))
end

function commands.ZRANGEBYLEX(read, _, args)
  return answer_of(within(read(args[1]), args[2], args[3], lex_bound, "member"), options_of(args, 4))
end

-- What is read while nothing is there.
local NOTHING = setmetatable({}, { __newindex = function() error "written without being asked for" end })

-- One call of the script: what it wrote is apart from the database that it was called on.
local function transaction(db, now, publish)
  local next_db, own = {}, {}
  for key, value in pairs(db) do next_db[key] = value end
  local function read(key) return next_db[key] or NOTHING end
  local function write(key)
    if not own[key] then
      local copy = {}
      for field, value in pairs(read(key)) do copy[field] = value end
      next_db[key], own[key] = copy, true
    end
    return next_db[key]
  end
  local function call(name, ...)
    if name == "TIME" then return { ("%d"):format(now // 1), ("%d"):format(now % 1 * 1e6) } end
    local args = { ... }
    for i = 1, #args do args[i] = text_of(args[i]) end
    if name == "PUBLISH" then return publish(args[1], args[2]) end
    return assert(commands[name], name)(read, write, args)
  end
  return next_db, call
end

-- What the script sees: Lua 5.1's names, and those of the server.
local function room_of_script()
  local number_text = function(value) return type(value) == "number" and ("%.14g"):format(value) or tostring(value) end
  return {
    string = string, math = math, table = table, pairs = pairs, ipairs = ipairs, tonumber = tonumber, type = type,
    tostring = number_text, unpack = table.unpack, struct = { pack = string.pack, unpack = string.unpack },
    bit = { band = function(a, b) return a & b end },
    redis = {},
  }
end

--- The text of the script, with changes: pairs of a text in it, which must be there, and what stands in its place.
function Redis.changed(text, changes)
  for i = 1, #(changes or {}), 2 do
    local first, last = text:find(changes[i], 1, true)
    assert(first, "the script has no such text: " .. changes[i])
    text = text:sub(1, first - 1) .. changes[i + 1] .. text:sub(last + 1)
  end
  return text
end

function Redis.script(text)
  local room = room_of_script()
  local run = assert(load(text, "=queue.lua", "t", room))
  return function(db, keys, argv, now, publish)
    local next_db, call = transaction(db, now, publish)
    room.redis.call, room.KEYS, room.ARGV = call, keys, argv
    return next_db, run()
  end
end

return Redis
