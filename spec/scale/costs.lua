--- What calls of queue.lua cost a Redis server: its processor time for each, measured on a server that is started for
--- it.
---
---     local costs = Costs(server)
---
--- A cost is { call = seconds of the call itself, task = seconds for each task in it }, from calls with 1 and with 50
--- tasks:
--- `add`, `claim`, `finish` (ends and the claim behind them), `take_over`; and { call = } alone: `renew`, `idle` (a
--- claim that brings nothing), `news` (one end that is told to who added the task).
local resp = require "spec.support.resp"
local words = require "spec.model.words"
local World = require "spec.model.world"

local ROUNDS = 200
local HOSTS = 50
local NO = ("\0"):rep(8)

local function owner(n) return ("owner%03d"):format(n) end

return function(server)
  local link = resp.open(server.port)
  link:call("FUNCTION", "LOAD", "REPLACE",
    "#!lua name=ltsh_scale\nlocal LIBRARY = 'ltsh_scale'\n" .. World.text_of_script())
  local number = 0

  local function cpu()
    local text = link:call("INFO", "cpu")
    local function of(field) return tonumber(text:match(field .. "_main_thread:([%d.]+)")) end
    return of "used_cpu_sys" + of "used_cpu_user"
  end

  local function call(who, asked, adds)
    local command = { "FCALL", adds and "ltsh_scale_adds" or "ltsh_scale", tostring(#World.KEYS) }
    table.move(World.KEYS, 1, #World.KEYS, #command + 1, command)
    table.move({ who, "-1", "-1", "-1", "1" }, 1, 5, #command + 1, command)
    table.move(asked, 1, #asked, #command + 1, command)
    return link:call(table.unpack(command))
  end

  local function next_number()
    number = number + 1
    return string.pack(">I8", number)
  end

  local function words_of_add(count)
    local list = {}
    for i = 1, count do
      list[i] = { id = "task " .. string.unpack(">I8", next_number()), rest = "\0\1\2a small item of a task" }
    end
    return words.add(next_number():sub(-6), list)
  end

  local function words_of_claim(room)
    return words.claim { number = next_number(), token = next_number(), room = room }
  end

  -- Ends, and the claim that goes with them.
  local function words_of_finish(tasks)
    local list = {}
    for _, task in ipairs(tasks) do
      local found = words.read(task[2])
      local change = words.change { id = task[1], run = found.run, token = found.token, to = "4", frees = true }
      table.move(change, 1, #change, #list + 1, list)
    end
    local claim = words_of_claim(0)
    table.move(claim, 1, #claim, #list + 1, list)
    return list
  end

  -- Seconds of the server for each call, and what the calls said.
  local function measure(rounds, make, who, adds)
    local made, said = {}, {}
    for i = 1, rounds do made[i] = make(i) end
    local before = cpu()
    for i = 1, rounds do said[i] = call(who or owner(i % HOSTS), made[i], adds) end
    return (cpu() - before) / rounds, said
  end

  local function fresh()
    link:call "FLUSHALL"
    for n = 0, HOSTS - 1 do call(owner(n), { "j", "15", "host", "about" }) end
    call("adder---", { "j", "15", "host", "about" })
  end

  local function through(count)
    fresh()
    local found = {}
    found.add = measure(ROUNDS, function() return words_of_add(count) end, "adder---", true)
    local said
    found.claim, said = measure(ROUNDS, function() return words_of_claim(count) end)
    found.finish = measure(ROUNDS, function(i) return words_of_finish(said[i][1][6]) end)
    return found
  end

  local one, many = through(1), through(50)
  local costs = {}
  for name, seconds in pairs(one) do
    local task = (many[name] - seconds) / 49
    costs[name] = { call = seconds - task, task = task }
  end
  costs.news = { call = (measure(1, function() return { "n", "" } end, "adder---")) }
  costs.renew = { call = (measure(1000, function() return { "k", "15" } end)) }
  costs.idle = { call = (measure(1000, function() return words_of_claim(8) end)) }

  -- A dead host with 10,000 tasks: each step is a claim of another.
  fresh()
  for _ = 1, 100 do call("adder---", words_of_add(100), true) end
  for _ = 1, 100 do call(owner(1), words_of_claim(100)) end
  call(owner(2), { "x", owner(1) })
  costs.take_over = { call = 0, task = (measure(100, function() return words_of_claim(100) end, owner(2))) / 100 }
  assert(call(owner(2), { "h" })[1][3][1][4] ~= NO)
  link:close()
  return costs
end
