-- ltsh.scheduler: its options are checked here; the work is done in C.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local made = require "ltsh.made"

local WHERE = "ltsh.scheduler"

-- How each option that may change while it runs is read: value -> fields of the C side's configuration.
local readers = {}

function readers.limit(where, value, config) config.limit = check.integer(where, "limit", value, 1) end

function readers.key_limit(where, value, config)
  config.key_limit = type(value) == "function" and value
    or value ~= false and check.integer(where, "key_limit", value, 1) or nil
end

function readers.rate(where, value, config)
  config.rate, config.key_rate = nil, nil
  if value == false then return end
  check.table(where, "rate", value)
  check.names(where .. ": rate", value, { [1] = true, per = true, key = true })
  local rate = {
    burst = check.integer(where, "rate[1]", value[1], 1),
    per = check.seconds(where, "rate.per", value.per, true),
  }
  if value.key ~= nil and type(value.key) ~= "boolean" then
    check.fail(where, "rate.key", "true or false", value.key)
  end
  config[value.key and "key_rate" or "rate"] = rate
end

function readers.timeout(where, value, config)
  config.timeout = value ~= false and check.seconds(where, "timeout", value, true) or nil
end

function readers.export_timeout(where, value, config)
  config.export_timeout = check.seconds(where, "export_timeout", value, true)
end

function readers.max_retries(where, value, config)
  config.max_retries = check.integer(where, "max_retries", value, 0)
end

function readers.backoff(where, value, config)
  if type(value) == "function" then
    config.backoff = value
  elseif type(value) == "table" then
    check.names(where .. ": backoff", value, { base = true, factor = true, max = true, jitter = true })
    local factor, jitter = value.factor or 2, value.jitter or 0.1
    if type(factor) ~= "number" or not (factor >= 1 and factor < math.huge) then
      check.fail(where, "backoff.factor", "a number of 1 or more", factor)
    end
    if type(jitter) ~= "number" or not (jitter >= 0 and jitter <= 1) then
      check.fail(where, "backoff.jitter", "a number from 0 to 1", jitter)
    end
    config.backoff = {
      base = check.seconds(where, "backoff.base", value.base),
      factor = factor,
      max = value.max and check.seconds(where, "backoff.max", value.max, true) or 0,
      jitter = jitter,
    }
  elseif type(value) == "number" then
    config.backoff = { base = check.seconds(where, "backoff", value), factor = 1, max = 0, jitter = 0 }
  else
    check.fail(where, "backoff", "a number of seconds, a function or a table { base=, factor=, max=, jitter= }", value)
  end
end

function readers.global_limit(where, value, config)
  config.global_limit = check.integer(where, "global_limit", value, 1)
end

function readers.max_lost(where, value, config) config.max_lost = check.integer(where, "max_lost", value, 0) end

for _, name in ipairs { "schedule_interval", "container_timeout", "callback_timeout" } do
  readers[name] = function(where, value, config) config[name] = check.seconds(where, name, value, true) end
end

function readers.max_stall(where, value, config)
  config.max_stall = check.seconds(where, "max_stall", value, true)
end

function readers.shutdown_grace(where, value, config)
  config.shutdown_grace = check.seconds(where, "shutdown_grace", value)
end

function readers.on_shutdown(where, value, config)
  if value ~= "stop" and value ~= "leave" then check.fail(where, "on_shutdown", [["stop" or "leave"]], value) end
  config.leave = value == "leave"
end

-- Whether work goes on when its lease cannot be renewed. Not to be set later: what is under way was told otherwise.
local function read_lease_lost(where, value, config)
  if value == nil then return end
  if value ~= "stop" and value ~= "continue" then
    check.fail(where, "on_lease_lost", [["stop" or "continue"]], value)
  end
  if not core.is_shared(config.container) then
    error(where .. ": on_lease_lost: only containers that several hosts share have leases", 0)
  end
  config.go_on_without_lease = value == "continue"
end

local function read(where, options, config)
  for name, value in pairs(options) do
    if readers[name] then readers[name](where, value, config) end
  end
end

local known = {
  name = true, container = true, actuator = true, persister = true, poll_interval = true,
  callback = true, finished_size = true, keep = true, on_lease_lost = true,
}
for name in pairs(readers) do known[name] = true end

local function read_poll(where, value, config, can)
  if value == nil then
    if not can.builtin and can.status then config.poll_interval = can.attach and 10 or 1 end
  elseif value ~= false then
    config.poll_interval = check.seconds(where, "poll_interval", value, true)
    if not can.status then
      error(where .. ": poll_interval: the actuator has no method 'status' to be polled with", 0)
    end
  end
end

local function read_callback(where, value, config, can)
  if value == nil then value = can.attach end
  if value == true then
    if not can.attach then error(where .. ": callback = true: the actuator has no method 'attach'", 0) end
    config.attach = true
  elseif type(value) == "table" then
    require("ltsh.callback").check(where .. ": callback", value)
    config.receiver = core.receiver(value)
  elseif value ~= false then
    check.fail(where, "callback", "true, false or a receiver", value)
  end
  if not config.attach and not config.receiver and not config.poll_interval then
    error(where .. ": poll_interval and callback are both off: no end of a task would ever be noticed", 0)
  end
end

local function read_keep(where, value, config)
  if value == nil then return end
  check.table(where, "keep", value)
  check.names(where .. ": keep", value, { tasks = true, bytes = true })
  if value.tasks ~= nil then config.keep_tasks = check.integer(where, "keep.tasks", value.tasks, 0) end
  if value.bytes ~= nil then config.keep_bytes = check.size(where, "keep.bytes", value.bytes) end
end

-- What holds over all hosts needs a container that they share.
local function check_shared(where, config)
  if config.global_limit and not core.is_shared(config.container) then
    error(where .. ": global_limit: only containers that several hosts share have it; use limit", 0)
  end
end

local function make(options)
  if type(options) ~= "table" then check.fail(WHERE, "options", "a table", options) end
  check.names(WHERE, options, known)
  local config = {}
  if options.container == nil then error(WHERE .. ": container is required, e.g. ltsh.container.queue{}", 0) end
  if options.actuator == nil then error(WHERE .. ": actuator is required, e.g. ltsh.actuator.func(fn)", 0) end
  if options.name ~= nil and (type(options.name) ~= "string" or options.name == "") then
    check.fail(WHERE, "name", "a text", options.name)
  end
  read(WHERE, options, config)
  if options.finished_size ~= nil then
    config.finished_size = check.integer(WHERE, "finished_size", options.finished_size, 0)
  end
  read_keep(WHERE, options.keep, config)
  local make_actuator, can = require("ltsh.actuator").object(WHERE, options.actuator)
  read_poll(WHERE, options.poll_interval, config, can)
  read_callback(WHERE, options.callback, config, can)
  if options.persister ~= nil then
    config.persister = require("ltsh.persister").object(WHERE, options.persister)
  end
  local container, taken = require("ltsh.container").object(WHERE, options.container)
  config.container = container
  check_shared(WHERE, config)
  read_lease_lost(WHERE, options.on_lease_lost, config)
  config.actuator = make_actuator()
  config.name = options.name or ("scheduler-" .. core.number())
  local scheduler = core.scheduler(config)
  if taken then taken() end
  if can.progress then require("ltsh.lines").follow(scheduler, can.progress) end
  made.tell(scheduler)
  return scheduler
end

-- Methods that are written in Lua.
local methods = core.methods

--- Changes options while it runs. Those that cannot change raise.
function methods:set(options)
  local where = "scheduler:set"
  core.name(self, where)
  check.table(where, "options", options)
  check.names(where, options, known)
  for name in pairs(options) do
    if not readers[name] and name ~= "poll_interval" then
      error(string.format("%s: %s cannot change while the scheduler runs", where, name), 0)
    end
  end
  local config = {}
  for name, value in pairs(core.config(self)) do config[name] = value end
  read(where, options, config)
  check_shared(where, config)
  if options.poll_interval ~= nil then
    config.poll_interval = options.poll_interval and check.seconds(where, "poll_interval", options.poll_interval, true)
      or nil
    if not config.poll_interval and not config.attach and not config.receiver then
      error(where .. ": poll_interval: without callbacks it cannot be off", 0)
    end
  end
  return core.set(self, config, options)
end

local list_options = {
  status = true, key = true, text = true, limit = true, offset = true, after = true, order = true,
}
local statuses = {
  unstarted = true, waiting = true, running = true, exporting = true, success = true, failed = true, stopped = true,
  deleted = true,
}

local function check_status(where, status)
  if status ~= nil and not statuses[status] then
    local names = "one of unstarted, waiting, running, exporting, success, failed, stopped, deleted"
    check.fail(where, "status", names, status)
  end
  return status
end

--- Tasks that are known, in the order of adding; order = "newest": the other way round. Also a cursor: `after` it, the
--- next of them are listed. `text` is a part of the id.
function methods:list(options)
  local where = "scheduler:list"
  core.name(self, where)
  options = options == nil and {} or check.table(where, "options", options)
  check.names(where, options, list_options)
  if options.key ~= nil and type(options.key) ~= "string" then check.fail(where, "key", "a string", options.key) end
  if options.text ~= nil and type(options.text) ~= "string" then check.fail(where, "text", "a string", options.text) end
  local order = options.order or "oldest"
  if order ~= "oldest" and order ~= "newest" then check.fail(where, "order", [["oldest" or "newest"]], order) end
  local after = options.after
  if after ~= nil and (math.type(after) ~= "integer" or after < 0) then
    check.fail(where, "after", "the cursor that an earlier list gave", after)
  end
  return self:_list(check_status(where, options.status), options.key,
    options.limit ~= nil and check.integer(where, "limit", options.limit, 0) or nil,
    options.offset ~= nil and check.integer(where, "offset", options.offset, 0) or nil, order == "newest",
    options.text, after)
end

--- How many tasks are known; with a status, how many are in it.
function methods:count(options)
  local where = "scheduler:count"
  core.name(self, where)
  options = options == nil and {} or check.table(where, "options", options)
  check.names(where, options, { status = true })
  local status = check_status(where, options.status)
  local counts, message, code = self:_count()
  if not counts then return nil, message, code end
  if status then return counts[status] end
  local sum = 0
  for _, count in pairs(counts) do sum = sum + count end
  return sum
end

--- The figures, see the README.
function methods:stats()
  core.name(self, "scheduler:stats")
  local stats, message, code = self:_stats()
  if not stats then return nil, message, code end
  local counts, delayed = self:_count()
  if counts then
    stats.waiting, stats.delayed = counts.waiting - delayed, delayed
  end
  return stats
end

local function queue_option(where, options)
  if options == nil then return false end
  check.table(where, "options", options)
  check.names(where, options, { queue = true })
  if options.queue ~= nil and type(options.queue) ~= "boolean" then
    check.fail(where, "queue", "true or false", options.queue)
  end
  return options.queue
end

--- Nothing starts any more; with { queue = true } on no host of the queue.
function methods:pause(options)
  core.name(self, "scheduler:pause")
  return self:_pause(queue_option("scheduler:pause", options))
end

function methods:resume(options)
  core.name(self, "scheduler:resume")
  return self:_resume(queue_option("scheduler:resume", options))
end

--- Stops what runs, after `drain` seconds for it to end by itself, and closes the scheduler.
function methods:close(options)
  local where = "scheduler:close"
  core.name(self, where)
  if options == nil then return self:_close(0) end
  check.table(where, "options", options)
  check.names(where, options, { drain = true })
  local drain = options.drain
  if drain ~= nil and (type(drain) ~= "number" or drain ~= drain or drain < 0) then
    check.fail(where, "drain", "a number of seconds, 0 or more", drain)
  end
  return self:_close(drain or 0)
end

--- A progress bar on standard error, until everything has ended.
function methods:progress_bar(options)
  core.name(self, "scheduler:progress_bar")
  return require("ltsh.progress").show(self, options)
end

return make
