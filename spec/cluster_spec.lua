-- Many hosts and a server that are killed while they work: examples/cluster as a reader would try it, and
-- scripts/torture.
local run = require "spec.support.run"
local scene = require "spec.support.scene"
local uv = require "luv"

local TASKS = 120 -- enough that there are some left when the server is killed

-- The latest pid that was told of a member, once it is another than `before`.
local function pid_of(child, member, before)
  local pid
  scene.eventually(member .. " runs", function()
    pid = child.stdout:match("^.*" .. member .. " pid (%d+)")
    return pid and pid ~= before
  end)
  return pid
end

local function kill(pid, signal)
  assert.equal(0, run.program_of_path("kill", { "-" .. (signal or "KILL"), pid }).code)
end

describe("examples/cluster", function()
  local folder

  before_each(function() folder = run.folder() end)
  after_each(run.clean)

  local function start(...)
    return run.start({ "examples/cluster/main.lua", ... }, { env = { TMPDIR = folder }, limit = 120 })
  end

  local function nothing_is_left()
    assert.is_false(run.lives(folder))
    assert.equal("", run.program_of_path("ls", { "-A", folder }).stdout)
  end

  it("loses nothing when a host and the server are killed", function()
    local child = start(tostring(TASKS))
    child:expect "host%-1 pid %d+ task"
    local host, server = pid_of(child, "host%-1"), pid_of(child, "redis")
    kill(host)
    child:expect "host%-1 has ended: signal 9 %(killed%)"
    pid_of(child, "host%-1", host)
    kill(server)
    child:expect "redis has ended: signal 9 %(killed%)"
    pid_of(child, "redis", server)
    local result = child:wait()
    assert.equal(0, result.code, result.stderr)
    local added, ended, most = result.stdout:match("\n(%d+) tasks added, (%d+) ended, each once; " ..
      "%d+ runs were lost with their host; at most (%d+) ran at once, of 7\n$")
    assert.same({ TASKS, TASKS }, { tonumber(added), tonumber(ended) }, result.stdout)
    assert.is_true(tonumber(most) <= 7)
    nothing_is_left()
  end)

  it("does what was added when it is told to end", function()
    local child = start()
    child:expect "host%-2 pid %d+ task"
    child:kill "sigint"
    local result = child:wait()
    assert.equal(130, result.code, result.stderr)
    local added, ended = result.stdout:match "\n(%d+) tasks added, (%d+) ended, each once; [^\n]*\n$"
    assert.is_true(added ~= nil and added == ended, result.stdout)
    nothing_is_left()
  end)

  it("says how it is called", function()
    local result = run.ltsh { "examples/cluster/main.lua", "many" }
    assert.equal(2, result.code)
    assert.matches("^usage:", result.stderr)
  end)
end)

describe("scripts/torture redis", function()
  it("finds nothing lost, nothing twice and no limit exceeded in some seconds", function()
    local args = { "--log-level", "error", "scripts/torture.d/redis.lua", "0.15", uv.fs_realpath ".", "4" }
    local result = run.ltsh(args, { limit = 300 })
    assert.equal(0, result.code, result.stderr)
    assert.matches("nothing lost, nothing twice, no limit exceeded, nothing left\n$", result.stderr)
    local accepted, ends = result.stderr:match "(%d+) tasks accepted, %d+ runs, (%d+) ends"
    assert.is_true(tonumber(accepted) > 0 and tonumber(ends) > 0, result.stderr)
  end)
end)
