-- Scripts made of calls of the API in odd places: a seed makes a list of chunks, each complete in itself, so that any
-- part of the list is a script too and a failing one can be shrunk.
--
--     body      = statements: calls with odd values, and constructs that run further bodies where nobody expects Lua:
--                 `<close>`, __gc, __tostring, comparators, message handlers, events, jobs, tasks, methods of modules
--     what they find is kept in lists (S schedulers, J jobs, T tasks, C coroutines, U uv handles, D databases) and used
--                 again later
local grammar = {}

-- What each script begins with. `at(list, n)` is one of what was found, or nil. Bodies run only so deep, and all of a
-- script's together so often: handlers that add tasks that call handlers would never come to an end.
grammar.prelude = [[
local ltsh, uv = require "ltsh", require "luv"
local S, J, T, C, U, A, D = {}, {}, {}, {}, {}, {}, {}
local left = 3000
local depth = 0
local function at(list, n) return list[n % (#list + 1)] end
local function keep(list, value)
  if value ~= nil and #list < 200 then list[#list + 1] = value end
  return value
end
local function body(fn)
  return function(...)
    left = left - 1
    if left < 0 or depth > 12 then return end
    depth = depth + 1
    local counted <close> = setmetatable({}, { __close = function() depth = depth - 1 end })
    for _, value in ipairs { ... } do
      if type(value) == "userdata" and tostring(value):find "^task" then keep(T, value) end
    end
    return fn(...)
  end
end
local try = pcall
ltsh.spawn(function() ltsh.sleep(0.3) os.exit(0) end)
]]

local random = math.random
local function one_of(list) return list[random(#list)] end

-- Text is made from templates: $name is expanded by what stands under that name below, $(a|b) by one of these.
local expand

local lists = {
  value = { "nil", "true", "false", "0", "1", "-1", "2^53", "1/0", "0/0", "-0.0", "math.mininteger", "math.maxinteger",
    "1e308", "''", "'x'", "'a b'", "'\\0'", "'\\xff\\xfe'", "('x'):rep(70000)", "{}", "{ 1, 2, 3 }", "{ a = 1 }",
    "{ [1] = 1, [3] = 3 }", "{ { {} } }", "print", "ltsh", "io.stdout", "coroutine.create(print)", "S", "at(S, 1)",
    "at(T, 1)", "at(J, 1)", "A", "ltsh.json.null", "{ reason = 'r', retry = false }", "{ reason = 'r', snooze = 0.01 }",
    "{ reason = {}, retry_after = -1 }", "(function() local t = {} t.t = t return t end)()",
    "setmetatable({}, { __index = function() error 'index' end })",
    "setmetatable({}, { __tostring = function() error 'tostring' end })",
    "setmetatable({}, { __tostring = function() return 5 end })",
    "setmetatable({}, { __len = function() return 2^40 end })",
    "setmetatable({}, { __pairs = function() return error end })",
    "setmetatable({}, { __name = 5, __metatable = 1 })",
    "(function() local t = {} for i = 1, 300 do t = { t } end return t end)()",
  },
  id = { "'a'", "'b'", "'c'", "tostring(random(5))", "nil", "(at(T, 2) or {}).id", "''", "('i'):rep(255)",
    "('i'):rep(256)" },
  event = { "added", "started", "progress", "output", "retried", "finished", "nonsense" },
  S = { "at(S, 0)", "at(S, 1)", "at(S, 2)", "at(S, 3)" },
  J = { "at(J, 0)", "at(J, 1)", "at(J, 2)", "at(J, 3)" },
  T = { "at(T, 0)", "at(T, 1)", "at(T, 2)", "at(T, 3)" },
  C = { "at(C, 0)", "at(C, 1)", "at(C, 2)", "at(C, 3)" },
  short = { "0", "0.001", "0.01", "$value" },
  -- How a function ends.
  ending = { "", "", "return true", "return ...", "return nil, 'failed'", "error 'raised'",
    "error({ reason = 'r', retry = false })", "error($value)", "return $value", "do return nil, $value end",
    "ltsh.sleep(0.001)", "coroutine.yield($value)" },
  field = { "item = $($value|{ n = 1 })", "priority = $(0|$value)", "delay = $(0.01|$value)", "run_at = $value",
    "expires = $(1|$value)", "key = $('k'|$value)", "timeout = $(0.05|$value)", "max_retries = $(2|$value)",
    "backoff = $(0.01|$value)", "once = $(true|$value)", "output = $value", "status = $value", "run = $value",
    "nonsense = $value" },
  container = { "ltsh.container.queue {}", "ltsh.container.queue { size = 3 }", "ltsh.container.priority {}",
    "new_table()", "odd_table($fn)", "$durable", "$durable",
    "ltsh.container.combine($(ltsh.container.queue {}|ltsh.container.priority {}|new_table()|odd_table($fn)), " ..
      "$(new_table()|odd_table($fn)|$durable))", "ltsh.container.combine($value, $value)" },
  durable = { "ltsh.container.sqlite { path = $('q.db'|'q.db'|'q.db'|'r.db'|$value), durability = 'normal', " ..
    "queue = $('a'|'b'|nil), keep = $(nil|{ success = 0 }), lease = $(nil|0.2) }" },
  db = { "at(D, 1)", "at(D, 2)" },
  sql = { "'create table if not exists t(a, b)'", "'insert into t values(?, ?)'", "'select * from t'", "'begin'",
    "[[select 1, null, x'00']]", "'update ltsh_tasks set state = 9'", "'delete from t'", "'commit'", "$value" },
  actuator = { "ltsh.actuator.func($fn)", "ltsh.actuator.func($fn)", "{ start = $started, stop = $fn, status = $fn }",
    "{ attach = $attach, start = $started, stop = $started, status = $fn, output = $fn, close = $fn }",
  },
  attach = { "function(_, push) keep(A, push) end" },
  option = { "timeout = 0.1", "max_retries = 2", "backoff = 0.01", "backoff = $fn", "key_limit = 1", "key_limit = $fn",
    "rate = { 5, per = 0.05 }", "rate = { 2, per = 0.05, key = true }", "poll_interval = 0.02", "finished_size = 2",
    "keep = { tasks = 2 }", "max_stall = 0.05", "name = $value", "nonsense = 1",
    "persister = { save = $fn, load = $fn, delete = $fn }", "global_limit = 2", "export_timeout = 0.1",
    "persister = ltsh.persister.$(sqlite { path = 'q.db' }|sqlite { path = 'o.db' }|files { dir = 'outputs' })" },
  statement = {
    "keep(S, ltsh.scheduler $scheduler)", "$S:add($task)", "$S:add($task)", "$S:add($task, $short)",
    "$S:add_all({ $task, $task })", "keep(T, $S:$(get|wait|stop|retry|delete|output|history|explain)($id, 0.01))",
    "$S:$(get|wait|stop|retry|delete|output|explain|on|set|list|count|close|pause)($value, $value)",
    "$S:$(pause|resume|stats|list|count|run|finished)()", "$S:list({ status = 'waiting', limit = 2 })",
    "$S:set({ $(limit = 1|limit = 3|timeout = 0.05|rate = { 1, per = 0.05 }|key_limit = 2|limit = $value) })",
    "$S:close($(|{ drain = 0 }|{ drain = 0.02 }))", "keep(U, $S:on('$event', $fn))",
    "for task in $S:finished() do keep(T, task) $statements break end", "keep(J, ltsh.spawn($fn, $value))",
    "local job = $J if job then job:$(cancel|wait)() end", "ltsh.sleep($short)",
    "ltsh.await(function(done) uv.new_timer():start(1, 0, function() done($value) end) $statements end)",
    "keep(D, ltsh.sqlite.open($('q.db'|'t.db'|'t.db'|$value)))", "keep(D, ltsh.sqlite.open('t.db'))",
    "$db:$(exec|rows|row|value|prepare)($sql, $value, $value)", "$db:transaction($fn)", "$db:close()",
    "for row in $db:rows($sql) do $statements break end", "$db:transaction(function() $statements end)",
    "keep(U, ltsh.every($(0.01|'* * * * *'|$value), $fn, $(nil|{ overlap = true }|" ..
      "{ name = 'e', store = 'e.json', catch_up = true }|$value)))", "local stop = at(U, 3) if stop then stop() end",
    "ltsh.await($fn)", "coroutine.wrap($fn)($value)",
    "local co = keep(C, coroutine.create($fn)) coroutine.resume(co, $value)", "coroutine.$(close|resume|status)($C)",
    "do local held <close> = setmetatable({}, { __close = $fn }) $statements end",
    "setmetatable({}, { __gc = $fn }) collectgarbage()",
    "setmetatable({}, { __gc = setmetatable({}, { __call = $fn }) })",
    "tostring(setmetatable({}, { __tostring = $fn }))", "error(setmetatable({}, { __tostring = $fn }))",
    "error($value)",
    "collectgarbage($('collect'|'step', 10|'incremental'|'generational'|'stop'|'restart'))", "xpcall($fn, $fn)",
    "table.sort({ 3, 1, 2, 5, 4 }, $fn)", "('abc'):gsub('.', $fn)", "load($fn)",
    "local task = $T if task then task:report($value) end", "local task = $T if task then task:cancelled() end",
    "local task = $T if task then task.item = $value at(S, 1):add(task) end", "for _ in pairs($T) do end",
    "local task = $T local _ = tostring(task), task.item, task.progress, task.handle, task.output, task.reason",
    "getmetatable(at($(S|T|J|U), 1)).__gc($value)",
    "at(A, 1)({ id = $id, run = $(1|2|nil|$value), status = $('success'|'failed'|'running'|$value), output = $value })",
    "keep(U, uv.new_timer()):start(1, 0, $fn)", "ltsh.json.decode(ltsh.json.encode($value))", "ltsh.reload()",
    "$endless", "local function deep() return deep() + 1 end deep()", "debug.sethook(print, 'c', 1) debug.sethook()",
    "debug.setlocal(2, 1, $value)", "os.exit($(0|true|3|$value))",
    "debug.$(getinfo|getlocal|traceback|gethook|upvalueid|getupvalue)($($C|$value), $value, $value)",
    "debug.sethook($($C, |)$(print|nil|math.random|function() end), $('c'|'l'|'r'|''), $(0|1|5000))",
    "debug.setmetatable($value, { __gc = $fn })",
    "keep(U, $S:finished())", "local ends = $(at(U, 1)|at(U, 2)) if ends then keep(T, ends()) end",
    "local o = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) local _ = o[1]",
    "local o = setmetatable({}, { __$(add|concat|eq|lt|call|len|unm) = $fn }) try(function() return o + o, o .. o end)",
    "local function again(n) return pcall(again, n + 1) end again(1)",
    "coroutine.wrap(function() local held <close> = setmetatable({}, { __close = $fn }) coroutine.yield() end)()",
    "local job = keep(J, ltsh.spawn($fn)) job:cancel() job:wait()",
    "ltsh.spawn(function() ltsh.await($fn) end):cancel()",
    "coroutine.wrap(function() ltsh.await(function(done) keep(A, done) end) end)()", "at(A, 1)($value)",
    "ltsh.log.$(debug|error)($value, { a = $value })", "require $('no.such'|'luv'|'ltsh')",
    "local a <close>, b <const> = setmetatable({}, { __close = function() error($value) end }), 1 $statements",
    "setmetatable({}, { __gc = function() os.exit(true, true) end })", "string.dump($fn)", "load($value)",
    "table.$(concat|unpack|insert|remove)($value, $value, $value)",
  },
}

local function several(name, deep, most, separator)
  local parts = {}
  for i = 1, random(0, most) do parts[i] = expand("$" .. name, deep) end
  return table.concat(parts, separator)
end

local DEEPEST = 4

-- What is more than one of a list; `deep` is how many functions are around it.
local made = {
  fn = function(deep)
    if deep >= DEEPEST then return "print" end
    return expand("body(function(...) $statements $ending end)", deep + 1)
  end,
  started = function(deep)
    if deep >= DEEPEST then return "print" end
    return expand("body(function(...) $statements return true end)", deep + 1)
  end,
  statements = function(deep) return several("guarded", deep, 3, " ") end,
  guarded = function(deep)
    return (random(4) > 1 and "try(function() %s end)" or "do %s end"):format(expand("$statement", deep))
  end,
  endless = function(deep) return deep > 0 and "while true do end" or "local _" end, -- the script itself has no limit
  task = function(deep) return "{ id = " .. expand("$id, ", deep) .. several("field", deep, 3, ", ") .. " }" end,
  scheduler = function(deep)
    return expand("{ container = $container, actuator = $actuator, limit = $(1|2|64), shutdown_grace = 0.05, " ..
      "container_timeout = 0.2, callback_timeout = 0.2, ", deep) .. several("option", deep, 3, ", ") .. " }"
  end,
}

function expand(template, deep)
  local text = template:gsub("%$(%b())", function(choices)
    local list = {}
    for choice in (choices:sub(2, -2) .. "|"):gmatch "([^|]*)|" do list[#list + 1] = choice end
    return one_of(list)
  end)
  return (text:gsub("%$(%a+)", function(name)
    local make = made[name]
    return make and make(deep) or expand(one_of(lists[name]), deep)
  end))
end

-- Lua containers: one that is right, and one whose every method runs something else first.
grammar.containers = [[
local random = math.random
local function new_table()
  local tasks, order = {}, {}
  local function becomes(status)
    return function(_, task, reason)
      local own = tasks[task.id]
      if not own then return nil, "unknown" end
      own.status, own.reason, own.run, own.run_at = status, reason, task.run, task.run_at
      if status == "waiting" then order[#order + 1] = task.id end
      if status == "deleted" then tasks[task.id] = nil end
      return true
    end
  end
  return {
    add = function(_, task)
      tasks[task.id] = { id = task.id, item = task.item, status = "waiting", run = 0 }
      order[#order + 1] = task.id
      return true
    end,
    waiting = function(_, limit)
      local list, rest = {}, {}
      for _, id in ipairs(order) do
        local task = tasks[id]
        if task and task.status == "waiting" then
          if #list < limit then list[#list + 1] = task end
          rest[#rest + 1] = id
        end
      end
      order = rest
      return list
    end,
    to_running = becomes "running", to_waiting = becomes "waiting", to_exporting = becomes "exporting",
    to_success = becomes "success", to_failed = becomes "failed", to_stopped = becomes "stopped",
    to_deleted = becomes "deleted",
    add_running = function(_, task)
      tasks[task.id] = { id = task.id, item = task.item, status = "running", run = task.run }
      return true
    end,
    update_running = function() return true end,
    running = function() return {} end,
    running_count = function() return 0 end,
  }
end
local function odd_table(fn)
  local made = new_table()
  for name, method in pairs(made) do
    made[name] = function(...)
      if random(5) == 1 then return fn(...) end
      return method(...)
    end
  end
  return made
end
]]

--- The chunks of a script: a list of texts.
function grammar.chunks(seed)
  math.randomseed(seed, 0)
  local chunks = {}
  for i = 1, random(2) do chunks[i] = expand("try(function() keep(S, ltsh.scheduler $scheduler) end)", 0) end
  for _ = 1, random(10, 30) do chunks[#chunks + 1] = expand("try(function() $guarded end)", 0) end
  return chunks
end

--- The script of these chunks. Its own random numbers depend on the seed alone.
function grammar.script(seed, chunks)
  local seeded = ("math.randomseed(%d, 1)"):format(seed)
  return table.concat({ grammar.prelude, grammar.containers, seeded, table.unpack(chunks) }, "\n")
end

return grammar
