-- The console's figures in Prometheus's text format. Labels are of bounded sets: schedulers, statuses, classes of
-- reasons.
local ltsh = require "ltsh"
local core = require "ltsh.core"
local uv = require "luv"
local feed = require "ltsh.console_feed"

local metrics = {}

metrics.TYPE = "text/plain; version=0.0.4; charset=utf-8"

local function label_text(value)
  return (tostring(value):gsub('[\\"\n]', { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }))
end

local function number_text(value)
  if value == math.huge then return "+Inf" end
  if math.type(value) == "float" and value == value // 1 and math.abs(value) < 1e15 then value = value // 1 | 0 end
  return math.type(value) == "integer" and ("%d"):format(value) or ("%.9g"):format(value)
end

local Page = {}
Page.__index = Page

function Page:family(name, kind, help)
  self[#self + 1] = ("# HELP %s %s\n# TYPE %s %s\n"):format(name, help, name, kind)
end

function Page:sample(name, labels, value)
  local parts = {}
  for i = 1, #labels, 2 do parts[#parts + 1] = ('%s="%s"'):format(labels[i], label_text(labels[i + 1])) end
  local text = parts[1] and "{" .. table.concat(parts, ",") .. "}" or ""
  self[#self + 1] = ("%s%s %s\n"):format(name, text, number_text(value))
end

function Page:histogram(name, labels, histogram)
  local count = 0
  for i = 1, #feed.BUCKETS + 1 do
    count = count + histogram.counts[i]
    local with = table.move(labels, 1, #labels, 1, {})
    with[#with + 1], with[#with + 2] = "le", number_text(feed.BUCKETS[i] or math.huge)
    self:sample(name .. "_bucket", with, count)
  end
  self:sample(name .. "_sum", labels, histogram.sum)
  self:sample(name .. "_count", labels, count)
end

local function each_figure(rows, page, name, kind, help, write)
  page:family(name, kind, help)
  for _, row in ipairs(rows) do write(row, { "scheduler", row.record.name }) end
end

local function with(labels, name, value)
  local more = table.move(labels, 1, #labels, 1, {})
  more[#more + 1], more[#more + 2] = name, value
  return more
end

-- Of the process.

local function count_files()
  local count = 0
  local found = uv.fs_scandir "/proc/self/fd"
  if not found then return nil end
  for _ in uv.fs_scandir_next, found do count = count + 1 end
  return count
end

local function add_process(page, console)
  page:family("ltsh_build_info", "gauge", "The version of the host.")
  page:sample("ltsh_build_info", { "version", ltsh.version }, 1)
  page:family("ltsh_http_requests_total", "counter", "Requests to the console.")
  for code, count in pairs(console.requests) do
    local method, status = code:match "^(%S+) (%d+)$"
    page:sample("ltsh_http_requests_total", { "method", method, "code", status }, count)
  end
  page:family("ltsh_event_streams", "gauge", "Browsers that listen.")
  page:sample("ltsh_event_streams", {}, console.feed.channels:count())
  page:family("ltsh_loop_turn_seconds", "histogram", "How late a timer of the loop is.")
  page:histogram("ltsh_loop_turn_seconds", {}, console.turns)
  page:family("process_start_time_seconds", "gauge", "When the console began, Unix time.")
  page:sample("process_start_time_seconds", {}, console.began)
  local usage = uv.getrusage()
  page:family("process_cpu_seconds_total", "counter", "Processor time of the process.")
  page:sample("process_cpu_seconds_total", {}, usage.utime.sec + usage.stime.sec +
    (usage.utime.usec + usage.stime.usec) * 1e-6)
  page:family("process_resident_memory_bytes", "gauge", "Memory of the process.")
  page:sample("process_resident_memory_bytes", {}, uv.resident_set_memory())
  page:family("process_open_fds", "gauge", "Open descriptors of the process.")
  page:sample("process_open_fds", {}, count_files() or 0)
end

local STATUSES = { "waiting", "delayed", "running", "exporting" }

--- All of it.
function metrics.page(console)
  local page, rows = setmetatable({}, Page), {}
  for _, one in ipairs(console.feed:live()) do
    one.stats = one.scheduler:stats()
    if one.stats then rows[#rows + 1] = one end
  end
  each_figure(rows, page, "ltsh_tasks", "gauge", "Tasks by what they do.", function(row, labels)
    for _, status in ipairs(STATUSES) do
      if row.stats[status] then page:sample("ltsh_tasks", with(labels, "status", status), row.stats[status]) end
    end
  end)
  each_figure(rows, page, "ltsh_limit", "gauge", "How many tasks may run at once.", function(row, labels)
    page:sample("ltsh_limit", labels, core.config(row.scheduler).limit or 1)
  end)
  each_figure(rows, page, "ltsh_paused", "gauge", "Whether nothing starts.", function(row, labels)
    page:sample("ltsh_paused", labels, core.paused(row.scheduler) and 1 or 0)
  end)
  each_figure(rows, page, "ltsh_oldest_waiting_seconds", "gauge", "How long the oldest waiting task waits.",
    function(row, labels) page:sample("ltsh_oldest_waiting_seconds", labels, row.stats.oldest_waiting or 0) end)
  each_figure(rows, page, "ltsh_tasks_added_total", "counter", "Tasks added.", function(row, labels)
    page:sample("ltsh_tasks_added_total", labels, row.record.added)
  end)
  each_figure(rows, page, "ltsh_tasks_finished_total", "counter", "Tasks that ended.", function(row, labels)
    for _, status in ipairs { "success", "failed", "stopped" } do
      page:sample("ltsh_tasks_finished_total", with(labels, "status", status), row.record.finished[status] or 0)
    end
  end)
  each_figure(rows, page, "ltsh_tasks_failed_total", "counter", "Tasks that failed, by why.", function(row, labels)
    for _, class in ipairs { "timeout", "expired", "lost", "exit", "memory", "error" } do
      page:sample("ltsh_tasks_failed_total", with(labels, "reason", class), row.record.failed[class] or 0)
    end
  end)
  each_figure(rows, page, "ltsh_retries_total", "counter", "Attempts that were followed by another.",
    function(row, labels) page:sample("ltsh_retries_total", labels, row.record.retries) end)
  each_figure(rows, page, "ltsh_finished_dropped_total", "counter", "Ends that fell out of the finished list.",
    function(row, labels) page:sample("ltsh_finished_dropped_total", labels, row.stats.finished_dropped or 0) end)
  each_figure(rows, page, "ltsh_stale_total", "counter", "Changes of runs that were over already.",
    function(row, labels) page:sample("ltsh_stale_total", labels, row.stats.stale or 0) end)
  each_figure(rows, page, "ltsh_task_wait_seconds", "histogram", "From due to start.",
    function(row, labels) page:histogram("ltsh_task_wait_seconds", labels, row.record.wait) end)
  each_figure(rows, page, "ltsh_task_run_seconds", "histogram", "From start to end.",
    function(row, labels) page:histogram("ltsh_task_run_seconds", labels, row.record.run) end)
  add_process(page, console)
  return table.concat(page)
end

return metrics
