-- The console's REST interface: /api/v1/... over any schedulers. Each function answers one kind of request; what they
-- raise with `fail` is an answer too.
local ltsh = require "ltsh"
local core = require "ltsh.core"
local feeds = require "ltsh.console_feed"
local view = require "ltsh.console_view"
local json = core.json

local api = {}

local STATUS_OF = {
  exists = 409, running = 409, ended = 409, not_ended = 409, unknown = 404, unstorable = 422, refused = 422, full = 503,
  closed = 503, timeout = 503, error = 500, bad_request = 400, read_only = 403,
}

local Failure = {}

local function fail(code, message)
  error(setmetatable({ code = code, message = message }, Failure), 0)
end

--- The answer for what one of these functions raised; nil: it is no failure of ours.
function api.failure(raised)
  if getmetatable(raised) ~= Failure then return nil end
  return {
    status = STATUS_OF[raised.code] or 500, json = { error = view.text(raised.message), code = raised.code },
    headers = raised.code == "full" and { ["Retry-After"] = "1" } or nil,
  }
end

-- What is asked for.

local function find_scheduler(console, request)
  local scheduler, record = console.feed:find(request.params.s)
  if not scheduler then fail("unknown", "there is no scheduler of this name") end
  return scheduler, record
end

local function find_task(console, request)
  local scheduler, record = find_scheduler(console, request)
  local task, message, code = scheduler:get(request.params.id)
  if not task then
    if code and code ~= "unknown" then fail(code, message) end
    fail("unknown", "there is no such task")
  end
  return scheduler, task, record
end

local function body_of(request, default)
  local body = request.json
  if body == nil then body = default end
  if type(body) ~= "table" then fail("bad_request", "the body must be a JSON object") end
  return body
end

local function integer_of(request, name, default, most)
  local text = request.query[name]
  if text == nil or text == "" then return default end
  local value = math.tointeger(tonumber(text))
  if not value or value < 0 then fail("bad_request", name .. " must be a whole number") end
  return most and math.min(value, most) or value
end

local DATA = { item = true, output = true, handle = true }

local function fields_of(request)
  local text = request.query.fields
  if not text then return nil end
  local fields = {}
  for name in text:gmatch "[^,]+" do
    if DATA[name] then fields[name] = true end
  end
  return fields
end

-- Schedulers.

local function show_scheduler(console, scheduler, record)
  local stats = scheduler:stats() or {}
  local config = core.config(scheduler)
  return {
    name = record.name, paused = core.paused(scheduler) or false,
    limit = config.limit or 1, global_limit = config.global_limit,
    timeout = config.timeout, read_only = console.read_only, stats = stats,
  }
end

function api.schedulers(console)
  local list = json.array {}
  for _, one in ipairs(console.feed:live()) do list[#list + 1] = show_scheduler(console, one.scheduler, one.record) end
  return { json = { schedulers = list, time = ltsh.now() } }
end

function api.scheduler(console, request)
  return { json = show_scheduler(console, find_scheduler(console, request)) }
end

local SETTABLE = { limit = true, global_limit = true, timeout = true }

function api.set(console, request)
  local scheduler, record = find_scheduler(console, request)
  local changes = {}
  for name, value in pairs(body_of(request)) do
    if not SETTABLE[name] then fail("bad_request", "only limit, global_limit and timeout can be set") end
    changes[name] = value
  end
  local ok, done, message, code = pcall(scheduler.set, scheduler, changes)
  if not ok then fail("bad_request", done) end
  if done == nil and message then fail(code or "error", message) end
  return { json = show_scheduler(console, scheduler, record) }
end

local function pause_with(method)
  return function(console, request)
    local scheduler, record = find_scheduler(console, request)
    local queue = body_of(request, {}).queue == true
    local ok, done, message, code = pcall(scheduler[method], scheduler, { queue = queue })
    if not ok then fail("bad_request", done) end
    if done == nil and message then fail(code == "unsupported" and "bad_request" or code or "error", message) end
    return { json = show_scheduler(console, scheduler, record) }
  end
end

api.pause = pause_with "pause"
api.resume = pause_with "resume"

-- Tasks.

local STATUSES = { waiting = true, running = true, exporting = true, success = true, failed = true, stopped = true }
local MOST_LISTED, MOST_LOOKED_AT = 500, 5000

local function statuses_of(text)
  if not text or text == "" then return nil, nil end
  local set, count, only = {}, 0, nil
  for name in text:gmatch "[^,]+" do
    if not STATUSES[name] then fail("bad_request", ("there is no status '%s'"):format(view.text(name))) end
    if not set[name] then count = count + 1 end
    set[name], only = true, name
  end
  return set, count == 1 and only or nil
end

-- Pages are looked through until there is enough: the container lists one status, or all.
local function list_some(scheduler, wanted, options)
  local found, looked = {}, 0
  local after = options.after
  while #found < options.limit and looked < MOST_LOOKED_AT do
    local count = options.limit - #found
    local tasks, cursor, code = scheduler:list {
      status = options.status, key = options.key, text = options.text, order = options.order, limit = count,
      after = after,
    }
    if not tasks then fail(code or "error", cursor) end
    looked = looked + math.max(#tasks, 1)
    for _, task in ipairs(tasks) do
      if not wanted or wanted[task.status] then found[#found + 1] = task end
    end
    if #tasks < count or not cursor then return found, nil end
    after = cursor
  end
  return found, after
end

local function total_of(scheduler, set, request)
  if (request.query.key or "") ~= "" or (request.query.text or "") ~= "" then return nil end
  if not set then return (scheduler:count()) end
  local total = 0
  for status in pairs(set) do
    local count = scheduler:count { status = status }
    if not count then return nil end
    total = total + count
  end
  return total
end

function api.list(console, request)
  local scheduler = find_scheduler(console, request)
  local query, set, only = request.query, statuses_of(request.query.status)
  local as_of, fields = ltsh.now(), fields_of(request)
  local shown = json.array {}
  if (query.id or "") ~= "" then
    local task = scheduler:get(query.id)
    if task and (not set or set[task.status]) then shown[1] = console.feed:shown(task, fields) end
    return { json = { tasks = shown, total = #shown, next = json.null, as_of = as_of } }
  end
  local function given(name) return (query[name] or "") ~= "" and query[name] or nil end
  local tasks, after = list_some(scheduler, not only and set or nil, {
    status = only, key = given "key", text = given "text", order = query.order == "oldest" and "oldest" or "newest",
    limit = math.max(1, integer_of(request, "limit", 50, MOST_LISTED)), after = integer_of(request, "after", nil),
  })
  for i, task in ipairs(tasks) do shown[i] = console.feed:shown(task, fields) end
  local total = total_of(scheduler, set, request)
  return { json = {
    tasks = shown, total = total or json.null, next = after and tostring(after) or json.null, as_of = as_of,
  } }
end

local TASK_FIELDS = {
  id = true, item = true, priority = true, delay = true, run_at = true, expires = true, key = true, timeout = true,
  max_retries = true, backoff = true, once = true,
}

local function task_of(data)
  if type(data) ~= "table" then fail("bad_request", "a task must be a JSON object") end
  local task = {}
  for name, value in pairs(data) do
    if not TASK_FIELDS[name] then fail("bad_request", ("a task has no field '%s'"):format(view.text(name))) end
    if value ~= json.null or name == "item" then
      local ok, decoded = pcall(view.value, value)
      if not ok then fail("bad_request", name .. ": " .. decoded) end
      task[name] = decoded
    end
  end
  return task
end

local function escape(text)
  return (text:gsub("[^%w%-._~]", function(byte) return ("%%%02X"):format(byte:byte()) end))
end

function api.add(console, request)
  local scheduler = find_scheduler(console, request)
  local body = body_of(request)
  local many = body.tasks ~= nil
  local ok, done, message, code
  if many then
    if type(body.tasks) ~= "table" then fail("bad_request", "tasks must be a list") end
    local tasks = {}
    for i, data in ipairs(body.tasks) do tasks[i] = task_of(data) end
    ok, done, message, code = pcall(scheduler.add_all, scheduler, tasks)
  else
    ok, done, message, code = pcall(scheduler.add, scheduler, task_of(body))
  end
  if not ok then fail("bad_request", done) end
  if not done then fail(code or "error", message) end
  if many then return { status = 201, json = { ids = json.array(done) } } end
  return { status = 201, json = { id = done }, headers = { Location = request.path .. "/" .. escape(done) } }
end

function api.task(console, request)
  local _, task = find_task(console, request)
  local shown = console.feed:shown(task, DATA, integer_of(request, "most", nil))
  return { json = { task = shown, time = view.time(ltsh.now()) } }
end

function api.history(console, request)
  local scheduler = find_task(console, request)
  local runs = json.array {}
  for i, run in ipairs(scheduler:history(request.params.id) or {}) do runs[i] = view.run(run) end
  return { json = { runs = runs } }
end

-- What a task returned must not run in the console.
local DOWNLOAD = {
  ["Content-Disposition"] = 'attachment; filename="output"', ["Content-Security-Policy"] = "sandbox",
  ["X-Content-Type-Options"] = "nosniff",
}

local function with_type(kind)
  local headers = { ["Content-Type"] = kind }
  for name, value in pairs(DOWNLOAD) do headers[name] = value end
  return headers
end

function api.output(console, request)
  local scheduler, task = find_task(console, request)
  if console.feed.redact then
    local shown = console.feed:shown(task, { output = true })
    if shown.output == nil then fail("unknown", "the task has no output") end
    return { body = json.encode(shown.output), headers = with_type "application/json" }
  end
  local output, message, code = scheduler:output(request.params.id)
  if output == nil then fail(code or "unknown", message or "the task has no output") end
  if type(output) == "string" then return { body = output, headers = with_type "application/octet-stream" } end
  return { body = json.encode(view.data(output)), headers = with_type "application/json" }
end

function api.log(console, request)
  local _, task, record = find_task(console, request)
  local output, from = record.outputs[task.id], integer_of(request, "offset", 0)
  if request.query.as == "pieces" then
    local pieces = json.array {}
    for i, piece in ipairs(output and output:pieces_from(from) or {}) do pieces[i] = feeds.piece(piece) end
    return { json = { run = output and output.run, pieces = pieces } }
  end
  local text, offset = "", 0
  if output then text, offset = output:text(request.query.stream, from) end
  local headers = with_type "text/plain; charset=utf-8"
  headers["X-Offset"] = tostring(offset)
  return { status = 200, body = text, headers = headers }
end

local function stop(scheduler, task, reason)
  if task.status == "success" or task.status == "failed" or task.status == "stopped" then
    fail("ended", "the task has ended")
  end
  local done, message, code = scheduler:stop(task.id, reason)
  if not done then fail(code or "ended", message) end
  return done
end

local function retry(scheduler, task)
  if task.status == "waiting" or task.status == "running" or task.status == "exporting" then
    fail("not_ended", "the task has not ended")
  end
  local done, message, code = scheduler:retry(task.id)
  if not done then fail(code == "error" and "error" or "not_ended", message) end
  return type(done) ~= "boolean" and done or scheduler:get(task.id)
end

local function delete(scheduler, task)
  if task.status == "running" or task.status == "exporting" then fail("running", "the task runs: stop it first") end
  local done, message, code = scheduler:delete(task.id)
  if not done then fail(code == "error" and "error" or "running", message) end
end

function api.stop(console, request)
  local scheduler, task = find_task(console, request)
  local reason = body_of(request, {}).reason
  if reason ~= nil and type(reason) ~= "string" then fail("bad_request", "reason must be a text") end
  local stopped = stop(scheduler, task, reason)
  return { json = { task = console.feed:shown(stopped, DATA) } }
end

function api.retry(console, request)
  local scheduler, task = find_task(console, request)
  local again = retry(scheduler, task)
  return { json = { task = again and console.feed:shown(again, DATA) or json.null } }
end

function api.delete(console, request)
  local scheduler, task = find_task(console, request)
  delete(scheduler, task)
  return { status = 204 }
end

-- Many at once.

local ACTIONS = { stop = stop, retry = retry, delete = delete }
local MOST_AT_ONCE = 500

-- Those that match, as they were seen: what was added, or ended, later is not among them. From behind the place `after`
-- on; and where the next of them are, or nil.
local function match_filter(scheduler, filter, as_of, after)
  if type(filter) ~= "table" or type(filter.status) ~= "string" or filter.status == "" then
    fail("bad_request", "a filter needs a status")
  end
  local set, only = statuses_of(filter.status)
  local seen, looked = {}, 0
  repeat
    local tasks
    tasks, after = list_some(scheduler, not only and set or nil, {
      status = only, key = filter.key, text = filter.text, order = "oldest", limit = MOST_AT_ONCE, after = after,
    })
    for _, task in ipairs(tasks) do
      local changed = math.max(task.added_at or 0, task.ended_at or 0)
      if not as_of or changed <= as_of then seen[#seen + 1] = task end
    end
    looked = looked + #tasks
  until seen[1] or not after or looked >= MOST_LOOKED_AT
  return seen, after
end

local function tasks_of_ids(scheduler, ids, failed)
  local tasks = {}
  for i, id in ipairs(ids) do
    if i > MOST_AT_ONCE then break end
    local task = type(id) == "string" and scheduler:get(id)
    if task then
      tasks[#tasks + 1] = task
    else
      failed[#failed + 1] = { id = view.text(id), code = "unknown", error = "there is no such task" }
    end
  end
  return tasks, #ids > MOST_AT_ONCE and #ids - MOST_AT_ONCE or 0
end

function api.bulk(console, request)
  local scheduler = find_scheduler(console, request)
  local body = body_of(request)
  local act = ACTIONS[body.action]
  if not act then fail("bad_request", "action must be stop, retry or delete") end
  local failed, done = json.array {}, 0
  local tasks, left, after
  if body.ids ~= nil then
    if type(body.ids) ~= "table" then fail("bad_request", "ids must be a list") end
    tasks, left = tasks_of_ids(scheduler, body.ids, failed)
  else
    after = body.after ~= nil and body.after ~= json.null and math.tointeger(tonumber(body.after)) or nil
    tasks, after = match_filter(scheduler, body.filter, tonumber(body.as_of), after)
    left = after and 1 or 0
  end
  for _, task in ipairs(tasks) do
    local ok, raised = pcall(act, scheduler, task, "stopped from the console")
    if ok then
      done = done + 1
    elseif getmetatable(raised) == Failure then
      failed[#failed + 1] = { id = view.text(task.id), code = raised.code, error = view.text(raised.message) }
    else
      error(raised, 0)
    end
  end
  return { json = { done = done, failed = failed, left = left, next = after and tostring(after) or json.null } }
end

-- The rest.

function api.events(console, request)
  local scheduler, task = request.query.scheduler, request.query.task
  local session = console:session_of(request)
  local function is_over() return session ~= nil and not console:goes_on(session) end
  return { events = function(send) console.feed:stream(send, scheduler, task, is_over) end }
end

-- Of each scheduler's queue; one that cannot say now is left out.
function api.hosts(console, request)
  local hosts = json.array {}
  for _, one in ipairs(console.feed:live()) do
    local wanted = not request.query.scheduler or request.query.scheduler == one.record.name
    for _, host in ipairs(wanted and one.scheduler:hosts() or {}) do
      host.scheduler, host.name, host.version = one.record.name, view.text(host.name), view.text(host.version)
      table.insert(hosts, host)
    end
  end
  return { json = { hosts = hosts, time = ltsh.now(), boot = console.feed.boot } }
end

--- The routes below base_path, which ends with a slash: those of `changes` change something.
api.reads = {
  ["api/v1/schedulers"] = api.schedulers, ["api/v1/schedulers/:s"] = api.scheduler,
  ["api/v1/schedulers/:s/tasks"] = api.list, ["api/v1/schedulers/:s/tasks/:id"] = api.task,
  ["api/v1/schedulers/:s/tasks/:id/history"] = api.history, ["api/v1/schedulers/:s/tasks/:id/output"] = api.output,
  ["api/v1/schedulers/:s/tasks/:id/log"] = api.log, ["api/v1/events"] = api.events, ["api/v1/hosts"] = api.hosts,
}

api.changes = {
  ["PATCH api/v1/schedulers/:s"] = api.set, ["POST api/v1/schedulers/:s/pause"] = api.pause,
  ["POST api/v1/schedulers/:s/resume"] = api.resume, ["POST api/v1/schedulers/:s/tasks"] = api.add,
  ["DELETE api/v1/schedulers/:s/tasks/:id"] = api.delete, ["POST api/v1/schedulers/:s/tasks/:id/stop"] = api.stop,
  ["POST api/v1/schedulers/:s/tasks/:id/retry"] = api.retry, ["POST api/v1/schedulers/:s/bulk"] = api.bulk,
}

return api
