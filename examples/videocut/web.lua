-- The web page and its endpoints, as light-task-scheduler's example has them: POST with JSON, an error code in each
-- answer.
local ltsh = require "ltsh"
local uv = require "luv"
local fields = require "fields"

local SUCCESS, STORE, WRONG_STATUS, NOT_DELETED, WRONG_TIMES = 0, 1001, 1002, 1003, 1004

local TEXTS = {
  unstarted = "未开始", waiting = "等待执行", running = "执行中", exporting = "执行中", success = "执行成功",
  failed = "执行失败", stopped = "已暂停",
}

local function random_text()
  return (uv.random(4):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

local function time_text(time) return time and os.date("%Y-%m-%d %H:%M:%S", time // 1 | 0) or "" end

local function answer(code, message, more)
  more = more or {}
  more.ErrorCode, more.ErrorMessage = code, message or ""
  return { json = more }
end

-- A page of another site can make a browser post, but not without saying where it comes from.
local function same_site(handler)
  return function(request)
    local origin, site = request.headers.origin, request.headers["sec-fetch-site"]
    local own = not origin or origin:lower():match "^%a+://(.*)$" == (request.headers.host or ""):lower()
    if not own or (site and site ~= "same-origin" and site ~= "none") then
      return { status = 403, json = { error = "the request comes from another site", code = "cross_site" } }
    end
    local ok, result = pcall(handler, request)
    if ok then return result end
    if type(result) == "table" then error(result, 0) end -- a body that is no JSON: the server answers 400
    ltsh.log.error("videocut: a request could not be answered", { path = request.path, error = tostring(result) })
    return answer(STORE, "the store cannot be used now")
  end
end

return function(options)
  local store, scheduler, folder = options.store, options.scheduler, options.folder

  -- The row may be older than what the scheduler says: its task has ended meanwhile.
  local function progress_of(row, name)
    if name ~= "running" then return (name == "exporting" or name == "success") and 1 or 0 end
    local task = scheduler:get(row.task_id)
    if not task or task.status ~= "running" then return 1 end
    return task.progress or 0
  end

  local function show(row)
    local name = store:status_name(row)
    return {
      TaskId = row.task_id, InputVideo = row.input_video, OutputVideo = row.output_video,
      CutStartTime = row.cut_start_time, CutEndTime = row.cut_end_time, Status = TEXTS[name] or "未知状态",
      FailedReason = name == "success" and "" or row.failed_reason, StartTime = time_text(row.start_time),
      EndTime = time_text(row.end_time), Progress = progress_of(row, name),
    }
  end

  local function list(request)
    local given = fields.of(request)
    local size = math.max(1, math.min(math.tointeger(tonumber(given.pagesize)) or 10, 100))
    local rows, total = store:page(size, math.max(1, math.tointeger(tonumber(given.pagenumber)) or 1))
    local tasks = ltsh.json.array {}
    for i, row in ipairs(rows) do tasks[i] = show(row) end
    return answer(SUCCESS, nil, { Tasks = tasks, TotalCount = total })
  end

  local function create(request)
    local given = fields.of(request)
    local from, to = tonumber(given.cutstarttime), tonumber(given.cutendtime)
    if not from or not to or from < 0 or from >= to then
      return answer(WRONG_TIMES, "the start must be 0 or more, and before the end")
    end
    local path = type(given.inputvideo) == "string" and given.inputvideo or ""
    local real = uv.fs_realpath(path:sub(1, 1) == "/" and path or folder .. "/" .. path)
    if not real or real:sub(1, #folder + 1) ~= folder .. "/" then return answer(STORE, "there is no such video") end
    local id = "task-" .. random_text()
    store:create(id, real, from, to)
    return answer(SUCCESS, nil, { TaskId = id })
  end

  local function of_task(act)
    return function(request)
      local id = fields.of(request).taskid
      local row = type(id) == "string" and store:row(id)
      if not row then return answer(STORE, "there is no such task") end
      return act(id, row, store:status_name(row))
    end
  end

  local function start(id, row, status)
    if status == "waiting" or status == "running" or status == "exporting" then
      return answer(WRONG_STATUS, "the task waits or runs already")
    end
    local item = { input = row.input_video, from = row.cut_start_time, to = row.cut_end_time }
    local added, message, code = scheduler:add { id = id, item = item }
    if not added then return answer(code == "exists" and WRONG_STATUS or STORE, message) end
    return answer(SUCCESS)
  end

  local function stop(id, _, status)
    if status ~= "waiting" and status ~= "running" and status ~= "exporting" then
      return answer(WRONG_STATUS, "the task does not run")
    end
    local stopped, message = scheduler:stop(id, "stopped")
    if not stopped then return answer(WRONG_STATUS, message) end
    return answer(SUCCESS)
  end

  local function delete(id, row)
    if not store:remove(id) then return answer(NOT_DELETED, "a task that waits or runs cannot be deleted") end
    scheduler:delete(id) -- what the scheduler remembers of it
    if row.output_video ~= "" and row.output_video ~= row.input_video then uv.fs_unlink(row.output_video) end
    return answer(SUCCESS)
  end

  local function download(request)
    local path = request.query.path or ""
    local real = uv.fs_realpath(path)
    if not real or real:sub(1, #folder + 1) ~= folder .. "/" or not store:has_video(path) then
      return { status = 404, json = { error = "there is no such video", code = "unknown" } }
    end
    return { file = real:sub(#folder + 2), folder = folder }
  end

  local function videos()
    local names = ltsh.json.array {}
    for name in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
      if name:find "%.%w+$" and not name:find "^%." then names[#names + 1] = name end
    end
    table.sort(names)
    return { json = { Videos = names } }
  end

  return ltsh.http.server {
    host = options.host, port = options.port or 8000, allowed_hosts = options.allowed_hosts,
    files = { ["/html/"] = options.page }, routes = {
      ["GET /"] = function() return { status = 302, headers = { Location = "/html/" } } end,
      ["GET /html/"] = function() return { file = "index.html", folder = options.page, headers = {
        ["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'" } } end,
      ["GET /favicon.ico"] = function() return {} end,
      ["GET /Download"] = download, ["GET /Videos"] = videos,
      ["POST /TaskList"] = same_site(list), ["POST /CreateTask"] = same_site(create),
      ["POST /StartTask"] = same_site(of_task(start)), ["POST /StopTask"] = same_site(of_task(stop)),
      ["POST /DeleteTask"] = same_site(of_task(delete)),
    },
  }
end
