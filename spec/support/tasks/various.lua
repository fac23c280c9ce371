-- The module of tasks of spec/workers_spec.lua: does what the item says.

local ltsh = require "ltsh"

local endless, unyielding = table.unpack((require "spec.support.endless"))

local runs = 0
local does = {}

function does.echo(item) return item.value end

-- Leaves a byte for each time that it ran.
function does.mark(item)
  local file <close> = assert(io.open(item.path, "a"))
  file:write "x"
  return item.value
end

function does.endless(item) return (endless[item.case] or unyielding[item.case])() end

function does.count()
  runs = runs + 1
  return runs
end

function does.sleep(item) return ltsh.sleep(item.seconds) end

function does.sleep_and_clean(item)
  local ok, message = pcall(ltsh.sleep, 100)
  local file = assert(io.open(item.path, "w"))
  file:write(tostring(ok), " ", message)
  file:close()
end

function does.report(_, task)
  for i = 1, 3 do
    task:report { step = i }
    ltsh.sleep(0.005)
  end
  return task:cancelled()
end

function does.fields(_, task)
  return { id = task.id, run = task.run, attempts = task.attempts, status = task.status, key = task.key,
    priority = task.priority, version = task.version, item = task.item }
end

function does.fail(item) return nil, item.failure end

function does.raise(item) error(item.failure) end

function does.bug() return nil + 1 end

function does.unstorable() return print end

function does.fill(item)
  local list = {}
  local function fill()
    for i = #list + 1, math.huge do list[i] = { i } end
  end
  if item.catch then while true do pcall(fill) end end
  fill()
end

function does.fill_at_once() return #("x"):rep(1 << 28) end

function does.fill_in_a_job()
  ltsh.spawn(does.fill, {})
  ltsh.sleep(100)
end

-- What a job gives back is packed into a table when there is no memory left for that.
function does.fill_by_results()
  local text = ("x"):rep(200000)
  local job = ltsh.spawn(function()
    for _, count in ipairs { 50000, 100000, 150000, 190000 } do
      pcall(function() return select("#", text:byte(1, count)) end)
    end
    return text:byte(1, 180000)
  end)
  return tostring(job)
end

-- Writes to the descriptor on which a process talks to its host, and goes on as if nothing had happened.
function does.write_to_host(item)
  require("luv").fs_write(3, item.bytes)
  ltsh.sleep(item.seconds or 0)
  return "done"
end

function does.close_descriptor(item)
  require("luv").fs_close(item.descriptor)
  ltsh.sleep(item.seconds)
  return "done"
end

function does.garbage()
  for i = 1, 20 do
    local text = ("x"):rep(1 << 20) .. i
    if #text == 0 then return end
  end
  return "done"
end

function does.block(item) return os.execute("sleep " .. item.seconds) end

-- Blocks while the file is there.
function does.hold(item) return os.execute(("while [ -e %s ]; do sleep 0.02; done"):format(item.path)) end

function does.find() return (("a"):rep(40)):find(("a-"):rep(40) .. "b") end

function does.execute(item) return { os.execute(item.command) } end

function does.popen(item)
  local pipe <close> = assert(io.popen(item.command))
  return pipe:read "a"
end

function does.exit(item) os.exit(item.code) end

function does.crash() require("luv").kill(require("luv").os_getpid(), "sigkill") end

function does.missing(item) return require("ltsh")[item.name] end

function does.luv(item)
  local uv = require "luv"
  return ltsh.await(function(done)
    local timer = uv.new_timer()
    timer:start(1, 0, function()
      timer:close()
      done(item.value)
    end)
  end)
end

function does.global()
  local before = shared -- luacheck: ignore
  shared = true -- luacheck: ignore
  return before
end

return function(task)
  return does[task.item["do"]](task.item, task)
end
