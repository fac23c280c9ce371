-- The video cutting example, with ffmpeg: the service, the page's endpoints, restarts, and the demo. Skipped without
-- ffmpeg.
local ltsh = require "ltsh"
local uv = require "luv"
local free_port = require "spec.support.free_port"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local eventually = scene.eventually

local ffmpeg = ltsh.exec { "ffmpeg", "-version" } and ltsh.exec { "ffprobe", "-version" }
if not ffmpeg and os.getenv "LTSH_TEST_BROWSER" == "required" then
  error "ffmpeg is missing: scripts/setup --test installs it"
end

describe("the video cutting example", function()
  local video

  lazy_setup(function()
    if not ffmpeg then return end
    video = os.tmpname() .. ".mp4"
    local made = ltsh.exec {
      "ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10", "-t", "30",
      "-c:v", "libx264", "-preset", "ultrafast", "-y", video,
    }
    assert.equal(0, made.code, made.stderr)
  end)
  lazy_teardown(function() if video then os.remove(video) end end)
  local hosts = {}
  after_each(function()
    for _, host in ipairs(hosts) do
      if not host.exited then host:kill "sigkill" end
    end
    hosts = {}
    run.clean()
    scene.close()
  end)

  local function it_with_ffmpeg(name, check)
    it(name, function()
      if not ffmpeg then return pending "there is no ffmpeg" end
      check()
    end)
  end

  -- The whole of it, in a process: ask(path, body) -> the answer.
  local function start(data, programs)
    local web, service = free_port(), free_port()
    local self = { data = data or scene.temporary ".d", url = ("http://127.0.0.1:%d/"):format(web) }
    self.host = run.start({ "-l", "error", "examples/videocut/main.lua", video }, { limit = 120, env = {
      VIDEOCUT_DATA = self.data, VIDEOCUT_PORT = tostring(web), VIDEOCUT_SERVICE_PORT = tostring(service),
      PATH = programs or os.getenv "PATH",
    } })
    table.insert(hosts, self.host)
    self.host:expect "open http"
    self.service = ("http://127.0.0.1:%d/"):format(service)
    function self.ask(path, body) return assert(ltsh.http.post { url = self.url .. path, json = body }):json() end
    function self.task(id)
      for _, task in ipairs(self.ask("TaskList", { PageSize = 100, PageNumber = 1 }).Tasks) do
        if task.TaskId == id then return task end
      end
    end
    function self.create(from, to)
      local answer = self.ask("CreateTask", { InputVideo = video:match "[^/]+$", CutStartTime = from, CutEndTime = to })
      assert.equal(0, answer.ErrorCode, answer.ErrorMessage)
      return answer.TaskId
    end
    function self.wait(id, status)
      eventually(status, function() return self.task(id).Status == status end)
      return self.task(id)
    end
    return self
  end

  local function length_of(path)
    local looked = ltsh.exec { "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path }
    return tonumber(looked.stdout)
  end

  it_with_ffmpeg("cuts what is created and started, and gives it", function()
    local it_all = start()
    local id = it_all.create(2, 5)
    assert.equal("未开始", it_all.task(id).Status)
    assert.equal(0, it_all.ask("StartTask", { TaskID = id }).ErrorCode)
    local task = it_all.wait(id, "执行成功")
    assert.is_true(math.abs(length_of(task.OutputVideo) - 3) < 0.5)
    assert.matches("_cut_2_5%.mp4$", task.OutputVideo)
    assert.matches("^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d$", task.EndTime)
    assert.equal("", task.FailedReason)
    local url = it_all.url .. "Download?path=" .. task.OutputVideo
    assert.equal(uv.fs_stat(task.OutputVideo).size, #ltsh.http.get(url).body)
    local part = assert(ltsh.http.get { url = url, headers = { Range = "bytes=0-9" } })
    assert.same({ 206, 10, "video/mp4" }, { part.status, #part.body, part.headers["content-type"] })
    local again = it_all.create(2, 5) -- the same part: another file
    it_all.ask("StartTask", { TaskId = again })
    assert.not_equal(task.OutputVideo, it_all.wait(again, "执行成功").OutputVideo)
    assert.equal(0, it_all.ask("DeleteTask", { TaskId = id }).ErrorCode)
    assert.is_nil((uv.fs_stat(task.OutputVideo)))
    assert.is_nil(it_all.task(id))
  end)

  it_with_ffmpeg("answers with the codes for what cannot be", function()
    local it_all = start()
    local id = it_all.create(0, 1)
    local function code(path, body) return it_all.ask(path, body).ErrorCode end
    assert.equal(1001, code("StartTask", { TaskId = "none" }))
    assert.equal(1001, code("CreateTask", { InputVideo = "/etc/passwd", CutStartTime = 0, CutEndTime = 1 }))
    assert.equal(1001, code("CreateTask", { InputVideo = "../videocut.db", CutStartTime = 0, CutEndTime = 1 }))
    for _, times in ipairs { { -1, 5 }, { 5, 5 }, { 6, 5 }, { "x", 5 } } do
      local name = video:match "[^/]+$"
      assert.equal(1004, code("CreateTask", { InputVideo = name, CutStartTime = times[1], CutEndTime = times[2] }))
    end
    assert.equal(1002, code("StopTask", { TaskId = id }))
    assert.equal(400, ltsh.http.post { url = it_all.url .. "CreateTask", body = "{" }.status)
    assert.equal(403, ltsh.http.post { url = it_all.url .. "DeleteTask", json = { TaskId = id }, headers = {
      Origin = "http://evil.example" } }.status)
    for _, path in ipairs { "/etc/passwd", it_all.data .. "/videocut.db", "../videocut.db", "" } do
      assert.equal(404, ltsh.http.get(it_all.url .. "Download?path=" .. path).status)
    end
    local page = it_all.ask("TaskList", { PageSize = 1, PageNumber = 1 })
    assert.same({ 1, 1, 0 }, { #page.Tasks, page.TotalCount, page.ErrorCode })
  end)

  it_with_ffmpeg("stops what runs, leaves nothing of it, and starts it again", function()
    local it_all = start()
    local id = it_all.create(0, 29)
    it_all.ask("StartTask", { TaskId = id })
    eventually("it has run or ended", function() return it_all.task(id).Status ~= "等待执行" end)
    local stopped = it_all.ask("StopTask", { TaskId = id })
    if stopped.ErrorCode == 0 then assert.equal("已暂停", it_all.task(id).Status) end
    eventually("no part is left", function()
      for name in uv.fs_scandir_next, uv.fs_scandir(it_all.data .. "/videos") do
        if name:find "%.part$" then return false end
      end
      return true
    end)
    if stopped.ErrorCode == 0 then it_all.ask("StartTask", { TaskId = id }) end
    it_all.wait(id, "执行成功")
  end)

  it_with_ffmpeg("goes on after it was killed", function()
    local first = start()
    local ids = {}
    for i = 1, 4 do
      ids[i] = first.create(i, i + 20)
      first.ask("StartTask", { TaskId = ids[i] })
    end
    eventually("one runs", function() return first.task(ids[1]).Status ~= "等待执行" end)
    first.host:kill "sigkill"
    first.host:wait()
    local second = start(first.data)
    for _, id in ipairs(ids) do
      local task = second.wait(id, "执行成功")
      assert.is_true(math.abs(length_of(task.OutputVideo) - 20) < 1)
    end
    for name in uv.fs_scandir_next, uv.fs_scandir(first.data .. "/videos") do assert.not_matches("%.part$", name) end
  end)

  it_with_ffmpeg("shows progress between 0 and 1 that never falls, whatever ffmpeg says", function()
    local bin = scene.temporary ".bin"
    assert(uv.fs_mkdir(bin, 493))
    local file <close> = assert(io.open(bin .. "/ffmpeg", "w"))
    file:write([[#!/bin/sh
case "$*" in *-progress*) ;; *) exec ]] .. run.find "ffmpeg" .. [[ "$@" ;; esac
head -c 100000 /dev/zero | tr '\0' e >&2
for us in N/A -577014132220000 1000000 500000 2000000 99000000; do
  echo "out_time_us=$us"; echo "progress=continue"; sleep 0.3
done
exec ]] .. run.find "ffmpeg" .. [[ "$@"
]])
    file:close()
    assert(uv.fs_chmod(bin .. "/ffmpeg", 493))
    local it_all = start(nil, bin .. ":" .. os.getenv "PATH")
    local id = it_all.create(0, 4)
    it_all.ask("StartTask", { TaskId = id })
    local seen, last = {}, 0
    eventually("it is cut", function()
      local task = it_all.task(id)
      if task.Status == "执行中" then
        local progress = task.Progress
        assert.is_true(progress >= last and progress <= 1, progress)
        last, seen[progress] = progress, true
      end
      return task.Status == "执行成功"
    end)
    assert.is_true(seen[0.25] and seen[0.5])
  end)

  it_with_ffmpeg("fails a cut that was killed, as for its memory, and leaves nothing of it", function()
    local bin = scene.temporary ".bin"
    assert(uv.fs_mkdir(bin, 493))
    local file <close> = assert(io.open(bin .. "/ffmpeg", "w"))
    file:write([[#!/bin/sh
]] .. run.find "ffmpeg" .. [[ "$@"
case "$*" in *-progress*) kill -9 $$ ;; esac
]])
    file:close()
    assert(uv.fs_chmod(bin .. "/ffmpeg", 493))
    local it_all = start(nil, bin .. ":" .. os.getenv "PATH")
    local before = {}
    for name in uv.fs_scandir_next, uv.fs_scandir(it_all.data .. "/videos") do before[name] = true end
    local id = it_all.create(0, 4)
    it_all.ask("StartTask", { TaskId = id })
    assert.matches("%w", it_all.wait(id, "执行失败").FailedReason)
    for name in uv.fs_scandir_next, uv.fs_scandir(it_all.data .. "/videos") do assert.is_true(before[name], name) end
  end)

  it_with_ffmpeg("says why a video cannot be cut", function()
    local it_all = start()
    local file <close> = assert(io.open(it_all.data .. "/videos/broken.mp4", "w"))
    file:write "no video"
    file:flush()
    local id = it_all.ask("CreateTask", { InputVideo = "broken.mp4", CutStartTime = 0, CutEndTime = 1 }).TaskId
    it_all.ask("StartTask", { TaskId = id })
    assert.matches("%w", it_all.wait(id, "执行失败").FailedReason)
    assert.equal(0, it_all.ask("DeleteTask", { TaskId = id }).ErrorCode)
  end)

  it_with_ffmpeg("has a service that takes both spellings, and knows ended work", function()
    local it_all = start()
    local function ask(path, body)
      local answer = assert(ltsh.http.post { url = it_all.service .. path, json = body })
      return answer:json(), answer.status
    end
    local name = video:match "[^/]+$"
    local id = ask("VideoCut", { InputVideo = name, StartTime = 0, EndTIme = 1 }).TaskId
    assert.matches("^work%-%x%x%x%x%x%x%x%x$", id)
    eventually("it is done", function() return ask("Status", { TaskId = id }).Status == "分析成功" end)
    for _ = 1, 2 do assert.matches("%.mp4$", ask("GetOutputVideo", { TaskId = id }).OutputVideo) end
    assert.equal("", ask("Stop", { TaskId = id }).Reason)
    assert.equal(404, select(2, ask("Status", { TaskId = "none" })))
    assert.equal(400, select(2, ask("VideoCut", { InputVideo = "/etc/passwd", StartTime = 0, EndTime = 1 })))
  end)

  it_with_ffmpeg("has a demo that cuts tens, in memory and in SQLite", function()
    for _, kind in ipairs { "queue", "sqlite" } do
      local result = run.start({ "-l", "error", "examples/videocut/demo.lua", video, kind }, { limit = 110, env = {
        VIDEOCUT_DATA = scene.temporary ".d", PATH = os.getenv "PATH",
      } }):wait()
      assert.equal(0, result.code, result.stderr)
      assert.equal(3, select(2, result.stdout:gsub("\tsuccess\t[^\n]+_cut_%d+_%d+%.mp4\n", "")), result.stdout)
      assert.equal(7, select(2, result.stdout:gsub("\tfailed\t", ""))) -- the video has thirty seconds
    end
  end)

  it("says how to get ffmpeg where it is missing", function()
    local result = run.ltsh({ "examples/videocut/main.lua" }, { env = { PATH = "/nonexistent" } })
    assert.equal(1, result.code)
    assert.matches("apt%-get install ffmpeg", result.stderr)
  end)

  it("takes the next port where one is taken, as by the console", function()
    if not ffmpeg then return pending "there is no ffmpeg" end
    local holder = uv.new_tcp()
    holder:bind("127.0.0.1", 8000) -- or somebody else has it
    holder:listen(1, function() end)
    local host = run.start({ "-l", "error", "examples/videocut/main.lua", video }, { env = {
      VIDEOCUT_DATA = scene.temporary ".d", PATH = os.getenv "PATH",
    } })
    local port = tonumber(host:expect "open http://127%.0%.0%.1:(%d+)/")
    holder:close()
    assert.is_true(port > 8000 and port < 8020)
    assert.equal(200, ltsh.http.get("http://127.0.0.1:" .. port .. "/").status)
    host:kill "sigkill"
    host:wait()
  end)
end)
