-- Compresses the files of a folder, as many at once as there are processors, each by a process of its own.
--
--   ltsh examples/process.lua FOLDER [OUT]      OUT: where the compressed ones go (default: FOLDER.gz)
--
-- On a terminal one line shows how far it is; else each file is a line.
local ltsh = require "ltsh"
local uv = require "luv"

local folder, out = arg[1], arg[2] or (arg[1] and arg[1] .. ".gz")
if not folder or arg[3] then
  io.stderr:write "usage: ltsh examples/process.lua FOLDER [OUT]\n"
  os.exit(2)
end
assert(uv.fs_stat(out) or uv.fs_mkdir(out, 493))

local scheduler = ltsh.scheduler {
  name = "compress",
  container = ltsh.container.queue {},
  actuator = ltsh.actuator.process { nice = 10, success_codes = { 0, 2 } }, -- gzip's 2 is a warning
  limit = #uv.cpu_info(),
  timeout = 600,
  max_retries = 1,
}

local total, sizes = 0, {}
for name, kind in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
  if kind == "file" then
    total = total + 1
    local from, to = folder .. "/" .. name, out .. "/" .. name .. ".gz"
    sizes[name] = { from, to }
    assert(scheduler:add { id = name, item = { "gzip", "-c", from, stdout = to } })
  end
end

local terminal = uv.guess_handle(1) == "tty"
local done, failed, before, after = 0, 0, 0, 0
for task in scheduler:finished() do
  done = done + 1
  if task.status == "success" then
    local from, to = uv.fs_stat(sizes[task.id][1]).size, uv.fs_stat(sizes[task.id][2]).size
    before, after = before + from, after + to
    if not terminal then print(string.format("%s: %d -> %d bytes", task.id, from, to)) end
  else
    failed = failed + 1
    print(string.format("%s%s: %s", terminal and "\r\27[K" or "", task.id, task.reason))
  end
  if terminal then
    io.write(string.format("\r\27[K%d of %d files, %.1f MB saved", done, total, (before - after) / 1e6))
  end
end
if terminal then print() end
print(string.format("%d files compressed, %d failed: %d -> %d bytes", done - failed, failed, before, after))
