-- Output as lines: `progress` of processes and containers.

-- Splits what comes into lines. \r, \n and \r\n each end one, so that a bar which overwrites itself is seen as it is
-- written; a line that a read cuts is put together. Returns feed(bytes) and finish(), which call take(line).
local function splitter(take)
  local rest, after_cr = "", false
  local function feed(bytes)
    if after_cr and bytes:byte() == 10 then bytes = bytes:sub(2) end
    if bytes == "" then
      after_cr = false
      return
    end
    after_cr = bytes:byte(-1) == 13
    local text, from = rest .. bytes, 1
    while true do
      local at = text:find("[\r\n]", from)
      if not at then break end
      local line = text:sub(from, at - 1)
      from = text:sub(at, at + 1) == "\r\n" and at + 2 or at + 1
      take(line)
    end
    rest = text:sub(from)
  end
  local function finish()
    if rest ~= "" then take(rest) end
    rest = ""
  end
  return feed, finish
end

-- Has progress(line, stream) called for each line that a task of the scheduler puts out; what it returns is how far the
-- task is.
local function follow(scheduler, progress)
  local open = {} -- by task and run: the splitters of its streams
  scheduler:on("output", function(task, stream, bytes)
    local id, run = task.id, task.run
    local key = run .. "/" .. id
    open[key] = open[key] or {}
    local streams = open[key]
    if not streams[stream] then
      local feed, finish = splitter(function(line)
        local value = progress(line, stream)
        if value ~= nil then scheduler:_progress(id, run, value) end
      end)
      streams[stream] = { feed = feed, finish = finish }
    end
    streams[stream].feed(bytes)
  end)
  local function ended(task)
    local key = task.run .. "/" .. task.id
    local streams = open[key]
    open[key] = nil
    for _, each in pairs(streams or {}) do each.finish() end
  end
  scheduler:on("retried", ended)
  scheduler:on("finished", ended)
end

return { splitter = splitter, follow = follow }
