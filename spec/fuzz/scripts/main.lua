-- scripts/fuzz [--seconds N] [--jobs N] [--new 1] [SEED or FILE...]: runs odd scripts (grammar.lua), each in a process
-- of its own. None may end the host by a signal or a report of a sanitizer, or keep it from ending. What fails is
-- shrunk and kept.
local folder = arg[0]:match "^(.*)/" or "."
package.path = folder .. "/?.lua;" .. folder .. "/../../../?.lua;" .. package.path

local ltsh = require "ltsh"
local uv = require "luv"
local grammar = require "grammar"
local run = require "spec.support.run"

local options = { seconds = 10, jobs = uv.available_parallelism and uv.available_parallelism() or 2 }
local seeds = {}
do
  local i = 1
  while arg[i] do
    local name = arg[i]:match "^%-%-(%w+)$"
    if name then
      options[name] = assert(tonumber(arg[i + 1]), arg[i] .. " needs a number")
      i = i + 1
    else
      seeds[#seeds + 1] = math.tointeger(tonumber(arg[i])) or arg[i]
    end
    i = i + 1
  end
end

local LONGEST = 30 -- seconds for a script, which ends itself after one

-- What was wrong with how a script ended, or nil.
local function fault_of(text)
  local own = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/ltsh-fuzz-XXXXXX")) -- for its databases
  local child = run.start({ "-l", "error", "-" }, { stdin = text, limit = LONGEST, cwd = own })
  local ok, result = pcall(child.wait, child)
  for name in uv.fs_scandir_next, uv.fs_scandir(own) do os.remove(own .. "/" .. name) end
  uv.fs_rmdir(own)
  if not ok then return "it did not end", tostring(result) end
  local report = result.stderr:match "ERROR: [%w]+Sanitizer: [^\n]+" or result.stderr:match "runtime error: [^\n]+" or
    result.stderr:match "an error outside of any protection[^\n]*"
  if report then return report:gsub("0x%x+", "0x..."):sub(1, 100), result.stderr end
  if result.signal ~= 0 then return "signal " .. result.signal, result.stderr end
  if result.code == 99 then return "status 99, of a sanitizer", result.stderr end
end

-- The fewest chunks with which it still fails, by leaving out halves, quarters and so on.
local function shrink(seed, chunks)
  local size = math.max(1, #chunks // 2)
  while true do
    local smaller = false
    local from = 1
    while from <= #chunks do
      local rest = table.move(chunks, 1, from - 1, 1, {})
      table.move(chunks, from + size, #chunks, from, rest)
      if fault_of(grammar.script(seed, rest)) then
        chunks, smaller = rest, true
      else
        from = from + size
      end
    end
    if size == 1 and not smaller then return chunks end
    size = math.max(1, size // 2)
  end
end

local failed, count = 0, 0

-- A script that failed once.
local function try_file(path)
  local file <close> = assert(io.open(path))
  local fault, output = fault_of(file:read "a")
  count = count + 1
  if not fault then return end
  failed = failed + 1
  io.stderr:write(("%s: %s\n%s\nto see it again: scripts/fuzz %s\n"):format(path, fault, output:sub(1, 6000), path))
end

local function try(seed)
  if type(seed) == "string" then return try_file(seed) end
  local chunks = grammar.chunks(seed)
  local fault, output = fault_of(grammar.script(seed, chunks))
  count = count + 1
  if not fault then return end
  failed = failed + 1
  local least = shrink(seed, chunks)
  local path = ("%s/ltsh-fuzz-%d.lua"):format(os.getenv "TMPDIR" or "/tmp", seed)
  local file <close> = assert(io.open(path, "w"))
  file:write(grammar.script(seed, least))
  io.stderr:write(("seed %d: %s\n%s\nits least script: %s\nto see it again: scripts/fuzz %d\n")
    :format(seed, fault, output:sub(1, 6000), path, seed))
end

local start = seeds[1] and options.new ~= 1 and 0 or math.random(1 << 52)
local ends = uv.hrtime() + options.seconds * 1e9
local function next_seed()
  if seeds[1] then return table.remove(seeds, 1) end
  if start == 0 or uv.hrtime() > ends or failed > 0 then return nil end
  start = start + 1
  return start
end

local workers = {}
for i = 1, options.jobs do
  workers[i] = ltsh.spawn(function()
    for seed in next_seed do try(seed) end
  end)
end
for _, worker in ipairs(workers) do worker:wait() end
print(("%d scripts, %d failed"):format(count, failed))
os.exit(failed == 0 and 0 or 1)
