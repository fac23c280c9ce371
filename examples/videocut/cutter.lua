-- The cutting service: parts of videos, by ffmpeg. An HTTP server of its own, as it would be on another machine.
--
--   POST /VideoCut        { InputVideo, StartTime, EndTime }  -> { TaskId }
--   POST /Status          { TaskId }  -> { TaskId, Status = 分析中 | 分析失败 | 分析成功, Reason, Progress }
--   POST /GetOutputVideo  { TaskId }  -> { TaskId, OutputVideo, Reason }
--   POST /Stop            { TaskId }  -> { Reason }
--
-- Videos come only from the folder that it was given. A cut is written beside its target under a name of its own,
-- looked at with ffprobe, and renamed: what is there under a final name is whole.
local ltsh = require "ltsh"
local uv = require "luv"
local fields = require "fields"

local KEPT = 1000 -- jobs that are over

local RUNNING, FAILED, DONE = "分析中", "分析失败", "分析成功"

local function random_text()
  return (uv.random(4):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

-- The video of this path, if it is a file in the folder; nil and why not.
local function find_video(folder, path)
  if type(path) ~= "string" or path == "" then return nil, "InputVideo is missing" end
  local real = uv.fs_realpath(path:sub(1, 1) == "/" and path or folder .. "/" .. path)
  local stat = real and uv.fs_stat(real)
  if not stat or stat.type ~= "file" or real:sub(1, #folder + 1) ~= folder .. "/" then
    return nil, "there is no such video: " .. path
  end
  return real
end

local function command(input, job, output)
  return {
    "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-progress", "pipe:1", "-protocol_whitelist", "file",
    "-ss", tostring(job.from), "-to", tostring(job.to), "-i", "file:" .. input, "-c:v", "libx264",
    "-preset", "veryfast", "-crf", "30", "-c:a", "aac", "-movflags", "+faststart", "-f", "mp4", "-y", "file:" .. output,
  }
end

-- Between 0 and 1, and never falling, of what ffmpeg says about the part that it writes.
local function note_progress(job, text)
  for microseconds in text:gmatch "out_time_us=(%d+)" do
    local share = math.min(tonumber(microseconds) / 1e6 / (job.to - job.from), 1)
    job.progress = math.max(job.progress, share)
  end
end

local function is_whole(path)
  local looked = ltsh.exec { "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path }
  return looked and looked.code == 0 and (tonumber((looked.stdout:gsub("%s", ""))) or 0) > 0
end

-- A final name that nobody has: never another's result, and never the input.
local function give_name(part, input, job)
  local base = input:gsub("%.[^./]*$", "")
  for n = 1, 1000 do
    local name = ("%s_cut_%g_%g%s.mp4"):format(base, job.from, job.to, n > 1 and "_" .. n or "")
    if uv.fs_link(part, name) then
      uv.fs_unlink(part)
      return name
    end
  end
  return nil
end

local function cut(job, input)
  local part = ("%s/.cut-%s.part"):format(input:match "^(.*)/", job.id)
  local said = ""
  local arguments = command(input, job, part)
  arguments.stream = function(name, bytes)
    if name == "stdout" then note_progress(job, bytes) else said = (said .. bytes):sub(-2000) end
  end
  local _ <close> = setmetatable({}, { __close = function() uv.fs_unlink(part) end })
  local result, message = ltsh.exec(arguments)
  if not result then return nil, message end
  if result.code ~= 0 then
    return nil, said:match "([^\n]+)%s*$" or "ffmpeg ended with code " .. tostring(result.code)
  end
  if not is_whole(part) then return nil, "ffmpeg wrote nothing that can be played" end
  local name = give_name(part, input, job)
  if not name then return nil, "there is no name left for the result" end
  return name
end

-- What an earlier service was at when it ended.
local function remove_parts(folder)
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
    if name:find "^%.cut%-.*%.part$" then uv.fs_unlink(folder .. "/" .. name) end
  end
end

return function(options)
  local folder = assert(uv.fs_realpath(options.folder))
  local jobs, over = {}, {}
  remove_parts(folder)

  local function job_over(job, output, reason)
    job.status, job.output, job.reason = output and DONE or FAILED, output, reason
    over[#over + 1] = job.id
    if #over > KEPT then jobs[table.remove(over, 1)] = nil end
  end

  local function start(request)
    local given = fields.of(request)
    local input, why = find_video(folder, given.inputvideo)
    local from, to = tonumber(given.starttime), tonumber(given.endtime)
    if not input then return { status = 400, json = { Reason = why } } end
    if not from or not to or from < 0 or from >= to then
      return { status = 400, json = { Reason = "StartTime must be 0 or more, and less than EndTime" } }
    end
    local job = { id = "work-" .. random_text(), from = from, to = to, status = RUNNING, progress = 0 }
    jobs[job.id] = job
    job.work = ltsh.spawn(function()
      local ok, output, reason = pcall(cut, job, input)
      job_over(job, ok and output or nil, ok and reason or "stopped")
    end)
    return { json = { TaskId = job.id } }
  end

  local function with_job(answer)
    return function(request)
      local id = fields.of(request).taskid
      local job = jobs[id]
      if not job then return { status = 404, json = { TaskId = id, Reason = "there is no such task" } } end
      return { json = answer(job) }
    end
  end

  return ltsh.http.server {
    host = options.host, port = options.port or 8001, allowed_hosts = options.allowed_hosts, routes = {
      ["POST /VideoCut"] = start,
      ["POST /Status"] = with_job(function(job)
        return { TaskId = job.id, Status = job.status, Reason = job.reason or "", Progress = job.progress }
      end),
      ["POST /GetOutputVideo"] = with_job(function(job)
        return { TaskId = job.id, OutputVideo = job.output or "", Reason = job.reason or "" }
      end),
      ["POST /Stop"] = with_job(function(job)
        if job.status == RUNNING then
          job.work:cancel()
          pcall(job.work.wait, job.work)
        end
        return { Reason = "" }
      end),
    },
  }
end
