-- ltsh.container: where tasks live.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local calls_of = require "ltsh.container_calls"

local container = {}

local SIZE = 1000000

-- The size, and whether it is fair.
local function memory_options(where, options)
  if options == nil then return SIZE, false end
  check.table(where, "options", options)
  check.names(where, options, { size = true, fair = true })
  local size = options.size == nil and SIZE or check.integer(where, "size", options.size, 1)
  return size, check.boolean(where, "fair", options.fair, false)
end

--- First in, first out. `size`: tasks that have not ended; `fair`: keys that wait take turns, within a key in order.
function container.queue(options)
  return core.queue(memory_options("ltsh.container.queue", options))
end

--- Higher priority first, then first in, first out; with `fair` within a key, and keys take turns.
function container.priority(options)
  return core.priority(memory_options("ltsh.container.priority", options))
end

local SQLITE = "ltsh.container.sqlite"
local ENDED = { "success", "failed", "stopped" }

-- Seconds that tasks are kept after each end; negative: for ever.
local function keep_of(where, keep)
  if keep == nil then return { -1, -1, -1 } end
  check.table(where, "keep", keep)
  check.names(where .. ": keep", keep, { success = true, failed = true, stopped = true })
  local seconds = {}
  for i, status in ipairs(ENDED) do
    seconds[i] = keep[status] == nil and -1 or check.seconds(where, "keep." .. status, keep[status])
  end
  return seconds
end

--- In an SQLite database: tasks outlive the host, and are shared by all schedulers on its `queue`, in any process of
--- this machine. What add returned is on disk: with durability "full" (the default) it survives a loss of power, with
--- "normal" the end of the process. `keep`: seconds for which tasks are kept after an end, { success =, failed =,
--- stopped = }; `lease`: seconds after which the tasks of a host that lives and does not move are another's; `fair`:
--- keys that wait take turns, which all hosts with it share and which outlive them, and order is within a key.
function container.sqlite(options)
  check.table(SQLITE, "options", options)
  check.names(SQLITE, options, {
    path = true, queue = true, durability = true, keep = true, lease = true, fair = true,
  })
  local path = check.text(SQLITE, "path", options.path)
  if path == ":memory:" then
    check.fail(SQLITE, "path", "the path of a file (in memory: ltsh.container.queue)", path)
  end
  local durability = options.durability or "full"
  if durability ~= "full" and durability ~= "normal" then
    check.fail(SQLITE, "durability", [["full" or "normal"]], durability)
  end
  local lease = options.lease == nil and 15 or check.seconds(SQLITE, "lease", options.lease, true)
  local keep = keep_of(SQLITE, options.keep)
  local queue = options.queue == nil and "default" or check.text(SQLITE, "queue", options.queue)
  local fair = check.boolean(SQLITE, "fair", options.fair, false)
  local made, object = pcall(core.sqlite_container, path, queue, durability == "full", lease,
    keep[1], keep[2], keep[3], fair)
  if not made then error(SQLITE .. ": " .. tostring(object), 0) end
  return object
end

local REDIS = "ltsh.container.redis"

local REDIS_OPTIONS = {
  url = true, sentinels = true, tls = true, queue = true, keep = true, lease = true, fair = true,
  wait_replicas = true,
}
local TLS_OPTIONS = { "ca", "cert", "key", "name" }

-- A list of texts from one, or from a list that is not empty.
local function texts_of(where, name, given)
  if type(given) ~= "table" then return { check.text(where, name, given) } end
  if #given == 0 then check.fail(where, name, "a list of urls, with one at least", given) end
  local list = {}
  for i, text in ipairs(given) do list[i] = check.text(where, ("%s[%d]"):format(name, i), text) end
  return list
end

local function tls_of(where, tls, to)
  if tls == nil then return end
  check.table(where, "tls", tls)
  check.names(where .. ": tls", tls, { ca = true, cert = true, key = true, name = true })
  for _, name in ipairs(TLS_OPTIONS) do
    to[name] = tls[name] ~= nil and check.text(where, "tls." .. name, tls[name]) or nil
  end
  if (to.cert == nil) ~= (to.key == nil) then
    error(where .. ": tls: cert and key go together; give both, or neither", 0)
  end
end

--- On a Redis server: tasks outlive the host as the server keeps them, and are shared by all schedulers on its
--- `queue`, on any machine. `url`: redis[s]://[user:password@]host[:port][/database] or unix:///path[?db=N], or a list
--- of these: they are tried in turn; `sentinels`: a list of urls of those, then the host in `url` is the name of the
--- master. `tls`: files in PEM for rediss://, { ca =, cert =, key = }, and `name`, whom the server's certificate is
--- for if that is not the host. `keep` as for sqlite; `lease`: seconds after which the tasks of a host that does not
--- renew it are another's; `fair`: keys that wait take turns, on the whole queue from then on; `wait_replicas`: so
--- many have what add returned. Waits until the server has answered, or for 5 seconds: raises when it refuses this
--- host, else goes on trying.
function container.redis(options)
  check.table(REDIS, "options", options)
  check.names(REDIS, options, REDIS_OPTIONS)
  local given = {
    urls = texts_of(REDIS, "url", options.url),
    sentinels = options.sentinels ~= nil and texts_of(REDIS, "sentinels", options.sentinels) or nil,
    queue = options.queue == nil and "default" or check.text(REDIS, "queue", options.queue),
    lease = options.lease == nil and 15 or check.seconds(REDIS, "lease", options.lease, true),
    keep = keep_of(REDIS, options.keep),
    fair = check.boolean(REDIS, "fair", options.fair, false),
    wait_replicas = check.integer(REDIS, "wait_replicas", options.wait_replicas or 0, 0),
  }
  tls_of(REDIS, options.tls, given)
  local object, message = core.redis_container(given)
  if not object then error(REDIS .. ": " .. message, 0) end
  return object
end

local COMBINE = "ltsh.container.combine"

--- Tasks are in `persistent`, and `memory` says in which order they run: queue, priority, or a table of methods with
--- add_running. Every transition is stored first. Of what waits, `memory` has the first few thousand. Two that are
--- built in are both fair or both not: turns among the first thousands would be none, if those were all of one key.
function container.combine(memory, persistent)
  if type(memory) == "table" then
    check.methods(COMBINE .. ": memory", memory, { "add_running" })
  end
  local first, mark_first = container.object(COMBINE, memory, "memory")
  local second, mark_second = container.object(COMBINE, persistent, "persistent")
  if type(persistent) == "table" then
    check.methods(COMBINE .. ": persistent", persistent, { "waiting", "to_running" })
  end
  if core.is_container(memory) and core.is_container(persistent) and core.is_fair(first) ~= core.is_fair(second) then
    error(string.format("%s: only the %s one takes turns: give fair = true to both, or to neither", COMBINE,
      core.is_fair(first) and "first" or "second"), 0)
  end
  local made, object = pcall(core.combine, first, second)
  if not made then error(COMBINE .. ": " .. tostring(object), 0) end
  if mark_first then mark_first() end
  if mark_second then mark_second() end
  core.hold(object, { memory, persistent })
  return object
end

local TRANSITIONS = {
  "add", "to_waiting", "to_exporting", "to_success", "to_failed", "to_stopped", "to_deleted", "running",
  "running_count",
}

-- Checks that a table can be a container.
function container.check(where, methods)
  check.methods(where, methods, TRANSITIONS)
  if methods.claim == nil then
    if methods.waiting == nil then
      error(string.format("%s: the method 'claim' is missing (or 'waiting' and 'to_running')", where), 0)
    end
    check.methods(where, methods, { "waiting", "to_running" })
  end
  for _, name in ipairs { "claim", "update_running", "attach", "get", "list", "count", "close", "add_running" } do
    if methods[name] ~= nil then check.methods(where, methods, { name }) end
  end
end

--- Loads a container from a Lua file.
function container.load(path, options)
  return require("ltsh.module").load("container", path, options, container.check)
end

-- Lua tables that are a scheduler's container, so that no other takes them.
local used = setmetatable({}, { __mode = "k" })

-- The container object for ltsh.scheduler from what the script gave.
function container.object(where, given, name)
  name = name or "container"
  if core.is_container(given) then
    if core.alive(given) then return given end
    error(string.format("%s: %s: this container is part of a combination already; make one for each", where, name), 0)
  end
  if type(given) ~= "table" then
    check.fail(where, name, "a container such as ltsh.container.queue{}, or a table of methods", given)
  end
  container.check(where .. ": " .. name, given)
  if used[given] then
    error(where .. ": this container is used by another scheduler already; make one for each", 0)
  end
  return core.container(given, calls_of(given)), function() used[given] = true end
end

return container
