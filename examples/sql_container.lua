-- A container in a database of your own: tasks are rows of a table with your own columns, here in SQLite.
--
--   local scheduler = ltsh.scheduler {
--     container = ltsh.container.load("examples/sql_container.lua", { path = "orders.db" }),
--     actuator = ltsh.actuator.func(function(task) return "sent to " .. task.item.customer end),
--   }
--   scheduler:add { id = "order 1", item = { customer = "Ada", amount = 3 } }
--
--   sqlite3 orders.db "select id, status, customer from orders"
--
-- Where a table of ours will do, ltsh.container.sqlite does all of this faster, and for many hosts at once. This one is
-- for tables that others read too, and a model for other databases: every method is one statement, or one transaction.
local ltsh = require "ltsh"
local core = require "ltsh.core" -- for encode and decode: values as bytes that come back as they went in

local Container = {}
Container.__index = Container

local SCHEMA = [[
  create table if not exists orders (
    id text primary key, customer text, status text not null, priority integer not null, place integer not null,
    key text, run integer, run_at real not null, added_at real, ended_at real, reason text,
    task blob not null -- all of it
  );
  create index if not exists orders_waiting on orders (priority desc, place) where status = 'waiting';
  create table if not exists numbers (name text primary key, last integer not null);
  insert or ignore into numbers values ('place', 0), ('run', 0);
]]

local UNFINISHED = "('waiting', 'running', 'exporting')"

-- A number that is never given out again.
local function next_number(db, name)
  return db:value("update numbers set last = last + 1 where name = ? returning last", name)
end

local function encode(task)
  local fields = {}
  for name, value in pairs(task) do fields[name] = value end
  return ltsh.sqlite.blob(assert(core.encode(fields)))
end

-- The values of a row's columns.
local function columns_of(task)
  local item = task.item
  return {
    id = task.id, customer = type(item) == "table" and type(item.customer) == "string" and item.customer or nil,
    status = task.status, priority = task.priority or 0, key = task.key, run = task.run, run_at = task.run_at or 0,
    added_at = task.added_at, ended_at = task.ended_at, reason = task.reason, task = encode(task),
  }
end

local function tasks_of(db, sql, ...)
  local tasks = {}
  for row in db:rows(sql, ...) do tasks[#tasks + 1] = core.decode(row.task) end
  return tasks
end

-- Makes the row what the task is, if it still is where the transition begins; `place`: at the end of the line.
local function move(db, task, from, place)
  local values = columns_of(task)
  values.place = place and next_number(db, "place") or nil
  local changed = db:exec([[
    update orders set customer = :customer, status = :status, priority = :priority, place = coalesce(:place, place),
      key = :key, run = :run, run_at = :run_at, ended_at = :ended_at, reason = :reason, task = :task
    where id = :id and run is :run and status in ]] .. from, values)
  if changed == 1 then return true end
  local status = db:value("select status from orders where id = ?", task.id)
  return nil, string.format("task '%s' is %s here, maybe at another run", task.id, status or "not known")
end

function Container:add(task)
  return self.db:transaction(function(db)
    local status = db:value("select status from orders where id = ?", task.id)
    if status and UNFINISHED:find(status, 1, true) then
      return nil, string.format("task '%s' is here already", task.id), "exists"
    end
    if self.size and db:value("select count(*) from orders where status in " .. UNFINISHED) >= self.size then
      return nil, string.format("there is room for %d tasks", self.size), "full"
    end
    local values = columns_of(task)
    values.place = next_number(db, "place")
    db:exec([[insert or replace into orders
      values (:id, :customer, :status, :priority, :place, :key, :run, :run_at, :added_at, :ended_at, :reason, :task)]],
      values)
    return true
  end)
end

-- One transaction: what it raises has marked nothing.
function Container:claim(limit, full_keys, admit)
  local now, is_full = ltsh.now(), {}
  for _, key in ipairs(full_keys) do is_full[key] = true end
  return self.db:transaction(function(db)
    local tasks = {}
    for row in db:rows([[select task, key from orders where status = 'waiting' and run_at <= ?
        order by priority desc, place]], now) do
      if #tasks == limit then break end
      if not row.key or not is_full[row.key] then
        if not admit or admit(row.key) then
          tasks[#tasks + 1] = core.decode(row.task)
        elseif row.key then
          is_full[row.key] = true
        else
          break
        end
      end
    end
    for _, task in ipairs(tasks) do
      task.status, task.run, task.attempts = "running", next_number(db, "run"), (task.attempts or 0) + 1
      task.started_at = now
      db:exec("update orders set status = 'running', run = ?, task = ? where id = ?", task.run, encode(task), task.id)
    end
    return tasks, db:value("select min(run_at) from orders where status = 'waiting' and run_at > ?", now)
  end)
end

-- A task that used an attempt, or had ended, goes to the end of the line; one that did not begin keeps its place.
function Container:to_waiting(task)
  return self.db:transaction(function(db)
    local known = db:row("select status, task from orders where id = ?", task.id)
    local ended = known and not UNFINISHED:find(known.status, 1, true)
    local used = known and core.decode(known.task).attempts == task.attempts
    return move(db, task, "('running', 'exporting', 'success', 'failed', 'stopped')", ended or used)
  end)
end

local function transition(from)
  return function(self, task) return move(self.db, task, from) end
end

Container.to_exporting = transition "('running')"
Container.update_running = transition "('running', 'exporting')"
Container.to_success = transition "('running', 'exporting')"
Container.to_failed = transition(UNFINISHED)
Container.to_stopped = transition(UNFINISHED)

function Container:to_deleted(task)
  if self.db:exec("delete from orders where id = ? and status not in ('running', 'exporting')", task.id) == 1 then
    return true
  end
  if not self:get(task.id) then return true end
  return nil, string.format("task '%s' runs", task.id)
end

function Container:running()
  return tasks_of(self.db, "select task from orders where status in ('running', 'exporting')")
end

function Container:running_count()
  return self.db:value "select count(*) from orders where status in ('running', 'exporting')"
end

function Container:get(id)
  local bytes = self.db:value("select task from orders where id = ?", id)
  return bytes and core.decode(bytes)
end

function Container:list(options)
  return tasks_of(self.db, [[
    select task from orders
    where (:status is null or status = :status) and (:key is null or key = :key) and (:text is null or instr(id, :text))
    order by added_at ]] .. (options.order == "newest" and "desc" or "asc") .. " limit :limit offset :offset", {
      status = options.status, key = options.key, text = options.text,
      limit = options.limit or -1, offset = options.offset or 0,
    })
end

function Container:count(options)
  return self.db:value("select count(*) from orders where ?1 is null or status = ?1", options and options.status)
end

-- Nobody but its scheduler puts tasks in here, so there is never anything to announce.
function Container:attach(announce) self.announce = announce end

function Container:close() self.db:close() end

return function(options)
  local db = assert(ltsh.sqlite.open(options.path))
  db:exec "pragma journal_mode = wal"
  db:exec(SCHEMA)
  return setmetatable({ db = db, size = options.size }, Container)
end
