-- The store: a table of our own, which is the container behind the queue, the persister, and what the page shows.
local ltsh = require "ltsh"

-- As the database has them.
local STATUS = { unstarted = 1, waiting = 2, running = 3, success = 4, failed = 5, stopped = 6, exporting = 8 }
local NAME = {}
for name, number in pairs(STATUS) do NAME[number] = name end

local SCHEMA = [[
  create table if not exists task (
    task_id text primary key, input_video text not null, output_video text not null default '',
    cut_start_time real not null, cut_end_time real not null, status integer not null, work_task_id text,
    failed_reason text not null default '', create_time real, update_time real, delete_time real, start_time real,
    end_time real, attempts_time integer not null default 0, run integer not null default 0, run_at real, place integer
  );
  create index if not exists task_waiting on task(place) where status = 2;
  create table if not exists number (last integer not null);
  insert into number select 0 where not exists (select 1 from number);
]]

local Store = {}
Store.__index = Store

local function next_number(db) return db:value "update number set last = last + 1 returning last" end

local function task_of(row)
  return {
    id = row.task_id, item = { input = row.input_video, from = row.cut_start_time, to = row.cut_end_time },
    status = NAME[row.status], handle = row.work_task_id, run = row.run, attempts = row.attempts_time,
    reason = row.failed_reason ~= "" and row.failed_reason or nil, added_at = row.create_time, run_at = row.run_at,
    started_at = row.start_time, ended_at = row.end_time,
    output = row.output_video ~= "" and row.output_video or nil,
  }
end

local function tasks_of(db, where, ...)
  local tasks = {}
  for row in db:rows("select * from task where " .. where, ...) do tasks[#tasks + 1] = task_of(row) end
  return tasks
end

-- The container.

function Store:add(task)
  return self.db:transaction(function(db)
    local status = db:value("select status from task where task_id = ?", task.id)
    if status == STATUS.waiting or status == STATUS.running or status == STATUS.exporting then
      return nil, task.id .. " is here already", "exists"
    end
    db:exec([[
      insert into task (task_id, input_video, cut_start_time, cut_end_time, status, create_time, update_time, place)
      values (:id, :input, :from, :to, 2, :now, :now, :place)
      on conflict (task_id) do update set status = 2, update_time = :now, place = :place, failed_reason = '',
        output_video = '', work_task_id = null, attempts_time = 0, start_time = null, end_time = null, run_at = null
    ]], {
      id = task.id, input = task.item.input, from = task.item.from, to = task.item.to, now = ltsh.now(),
      place = next_number(db),
    })
    return true
  end)
end

function Store:waiting(limit)
  return tasks_of(self.db, "status = 2 and coalesce(run_at, 0) <= ? order by place limit ?", ltsh.now(), limit)
end

function Store:to_running(task)
  return self.db:exec([[update task set status = 3, run = ?, attempts_time = ?, start_time = ?, end_time = null,
    work_task_id = null, failed_reason = '', update_time = ? where task_id = ? and status = 2]],
    task.run, task.attempts, task.started_at, ltsh.now(), task.id) == 1
    or nil, "it does not wait here"
end

-- To another status, from one of these, if it is at that run.
local function becomes(status, from)
  local sql = ([[update task set status = %d, failed_reason = :reason, work_task_id = coalesce(:handle, work_task_id),
    end_time = :ended, run_at = :run_at, attempts_time = :attempts, update_time = :now
    where task_id = :id and run = :run and status in (%s)]]):format(STATUS[status], from)
  return function(self, task)
    local changed = self.db:exec(sql, {
      reason = status ~= "success" and task.reason or "", handle = task.handle, ended = task.ended_at,
      run_at = task.run_at, attempts = task.attempts, now = ltsh.now(), id = task.id, run = task.run or 0,
    })
    if changed == 1 then return true end
    return nil, "it is elsewhere by now"
  end
end

Store.to_waiting = becomes("waiting", "3, 8, 4, 5, 6")
Store.to_exporting = becomes("exporting", "3")
Store.to_success = becomes("success", "3, 8")
Store.to_failed = becomes("failed", "2, 3, 8")
Store.to_stopped = becomes("stopped", "2, 3, 8")

function Store:to_deleted(task)
  if self.db:exec("delete from task where task_id = ? and status not in (3, 8)", task.id) == 1 then return true end
  return nil, "it is not here, or runs"
end

function Store:update_running(task)
  return self.db:exec("update task set work_task_id = ? where task_id = ? and run = ? and status in (3, 8)",
    task.handle, task.id, task.run) == 1 or nil, "it is elsewhere by now"
end

function Store:running() return tasks_of(self.db, "status in (3, 8)") end
function Store:running_count() return self.db:value "select count(*) from task where status in (3, 8)" end
function Store:get(id) return tasks_of(self.db, "task_id = ? and status <> 1", id)[1] end

-- The persister: where the cut video is.

local Persister = {}
Persister.__index = Persister

function Persister:save(task, path)
  return self.db:exec("update task set output_video = ? where task_id = ?", path, task.id) == 1
    or nil, "the task is not here any more"
end

function Persister:load(task)
  local path = self.db:value("select output_video from task where task_id = ?", task.id)
  return path ~= "" and path or nil
end

function Persister:delete(task)
  self.db:exec("update task set output_video = '' where task_id = ?", task.id)
  return true
end

-- What the page does with it.

function Store:create(id, input, from, to)
  self.db:exec([[insert into task (task_id, input_video, cut_start_time, cut_end_time, status, create_time, update_time)
    values (?, ?, ?, ?, 1, ?, ?)]], id, input, from, to, ltsh.now(), ltsh.now())
end

function Store:row(id) return self.db:row("select * from task where task_id = ?", id) end

function Store:remove(id)
  return self.db:exec("delete from task where task_id = ? and status not in (2, 3, 8)", id) == 1
end

function Store:page(size, number)
  local rows = {}
  for row in self.db:rows("select * from task order by create_time desc, task_id limit ? offset ?", size,
      (number - 1) * size) do
    rows[#rows + 1] = row
  end
  return rows, self.db:value "select count(*) from task"
end

--- Whether this path is a video of a task.
function Store:has_video(path)
  return self.db:value("select 1 from task where input_video = ?1 or output_video = ?1 limit 1", path) ~= nil
end

function Store:persister() return setmetatable({ db = self.db }, Persister) end
function Store:status_name(row) return NAME[row.status] end

return function(options)
  local db = assert(ltsh.sqlite.open(options.path))
  assert(db:exec(SCHEMA))
  return setmetatable({ db = db }, Store)
end
