-- Child processes for the specs: ltsh itself, or any program.
--
--     local result = run.ltsh({ "-e", "print(1)" })           to its end: { code =, signal =, stdout =, stderr = }
--
--     local child = run.start({ "script.lua" }, { cwd = folder })          or step by step:
--     child:expect "ready"           until this pattern was printed
--     child:kill "sigterm"
--     local result = child:wait()
--
-- Nothing here waits by the clock. A child that takes too long (options.limit, 120 s) is killed, and the wait raises
-- with what it had printed.
local ltsh = require "ltsh"
local uv = require "luv"

local run = {}

--- The program under test.
run.program = os.getenv "LTSH" or uv.exepath()

local Child = {}
Child.__index = Child

-- What the child has printed so far, for messages.
local function describe(child)
  return string.format("%s\n--- stdout\n%s\n--- stderr\n%s", table.concat(child.args, " "), child.stdout, child.stderr)
end

-- Lets those who wait look again.
local function changed(child)
  local waiting = child.waiting
  child.waiting = {}
  for _, done in ipairs(waiting) do done() end
end

-- Waits until it holds. Looked at again when everything is ready to be woken: who waits may be cut anywhere.
local function wait_for(child, holds)
  while not holds() do
    ltsh.await(function(done)
      table.insert(child.waiting, done)
      if holds() then done() end
    end)
  end
end

local function wait_until(child, what, holds)
  wait_for(child, function() return child.late or child.ended or holds() end)
  if holds() then return end
  error((child.late and "this took too long: " or "it ended before this: ") .. what .. ": " .. describe(child), 3)
end

local function read(child, pipe, name)
  child.open = child.open + 1
  pipe:read_start(function(err, data)
    if data then
      child[name] = child[name] .. data
    else
      assert(not err or err:find "^ECONNRESET", err)
      pipe:close()
      child.open = child.open - 1
    end
    child.ended = child.exited and child.open == 0
    changed(child)
  end)
end

-- The environment with the changes of `env`; false removes a variable.
local function environment(env)
  local all, list = uv.os_environ(), {}
  for name, value in pairs(env or {}) do all[name] = value or nil end
  for name, value in pairs(all) do list[#list + 1] = name .. "=" .. value end
  return list
end

--- Starts a program. options: cwd, env = { NAME = value or false }, stdin = text (given at once, then the end of it),
--- program (else ltsh), limit in seconds.
function run.start(args, options)
  options = options or {}
  local stdin, stdout, stderr = uv.new_pipe(), uv.new_pipe(), uv.new_pipe()
  local child = setmetatable({ args = args, stdout = "", stderr = "", open = 0, waiting = {} }, Child)
  local handle, pid = uv.spawn(options.program or run.program, {
    args = args,
    stdio = { stdin, stdout, stderr },
    cwd = options.cwd,
    env = environment(options.env),
  }, function(code, signal)
    child.code, child.signal, child.exited = code, signal, true
    child.ended = child.open == 0
    child.handle:close()
    child.timer:close()
    changed(child)
  end)
  assert(handle, pid)
  child.handle, child.pid, child.timer = handle, pid, uv.new_timer()
  read(child, stdout, "stdout")
  read(child, stderr, "stderr")
  child.timer:start((options.limit or 120) * 1000, 0, function()
    child.late = true
    child.handle:kill "sigkill"
    changed(child)
  end)
  if options.stdin then stdin:write(options.stdin) end
  stdin:shutdown(function() stdin:close() end)
  return child
end

--- Waits until the pattern is found in what the child prints, and returns its captures.
function Child:expect(pattern, stream)
  stream = stream or "stdout"
  wait_until(self, stream .. " has " .. pattern, function() return self[stream]:find(pattern) end)
  return self[stream]:match(pattern)
end

--- Sends a signal, e.g. "sigint".
function Child:kill(signal)
  assert(self.handle:kill(signal))
end

--- Waits for the end: { code =, signal =, stdout =, stderr = }. The signal is 0 unless one killed it.
function Child:wait()
  wait_for(self, function() return self.ended end)
  if self.late then error("this took too long: " .. describe(self), 2) end
  return { code = self.code, signal = self.signal, stdout = self.stdout, stderr = self.stderr }
end

--- Runs ltsh to its end.
function run.ltsh(args, options)
  return run.start(args, options):wait()
end

--- The path of a program in PATH, or in the folders of root's; nil if there is none.
function run.find(name)
  for folder in ((os.getenv "PATH" or "") .. ":/usr/sbin:/sbin"):gmatch "[^:]+" do
    local program = folder .. "/" .. name
    if uv.fs_access(program, "X") then return program end
  end
  return nil
end

--- Runs a program that is found in PATH to its end; nil if there is none.
function run.program_of_path(name, args, options)
  options = options or {}
  options.program = run.find(name)
  return options.program and run.start(args, options):wait()
end

--- Whether a process with this text in its command line lives.
function run.lives(text)
  return run.program_of_path("pgrep", { "-f", text }).stdout ~= ""
end

--- Makes a folder with files { name = text }, and returns its path. run.clean() removes all of them.
local folders = {}

function run.folder(files)
  local folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/ltsh-spec-XXXXXX"))
  table.insert(folders, folder)
  for name, text in pairs(files or {}) do
    local file = assert(io.open(folder .. "/" .. name, "wb"))
    file:write(text)
    file:close()
  end
  return folder
end

local function remove(path)
  local entries = uv.fs_scandir(path)
  if entries then
    for name, kind in uv.fs_scandir_next, entries do
      if kind == "directory" then remove(path .. "/" .. name) else uv.fs_unlink(path .. "/" .. name) end
    end
  end
  uv.fs_rmdir(path)
end

function run.clean()
  for _, folder in ipairs(folders) do remove(folder) end
  folders = {}
end

return run
