-- ltsh --console[=[HOST:]PORT]: the console of all schedulers of a script, for as long as the process lives anyway.
local console = require "ltsh.console"

local flag = {}

local FIRST, LAST = 8000, 8019

-- The address that was given: host, port; either may be nil.
local function read(text)
  if text == "" then return nil, nil end
  local host, port = text:match "^%[([%x:.]+)%]:(%d+)$"
  if not host then host, port = text:match "^([^:]+):(%d+)$" end
  if not host then port = text:match "^(%d+)$" end
  port = math.tointeger(tonumber(port))
  if not port or port > 65535 then
    error(("--console=%s: [HOST:]PORT is expected, as 8000, 0.0.0.0:8000 or [::1]:8000"):format(text), 0)
  end
  return host, port
end

local function open(host, port)
  return console { host = host, port = port, token = os.getenv "LTSH_CONSOLE_TOKEN", hold = false }
end

--- Opens it, and says where it is. Raises if it cannot be had.
function flag.start(text)
  local host, port = read(text)
  local opened
  if port then
    local ok, made = pcall(open, host, port)
    if not ok then error((tostring(made):gsub("^ltsh.console", "--console")), 0) end
    opened = made
  else
    for try = FIRST, LAST do
      local ok, made = pcall(open, host, try)
      if ok then opened = made break end
      if try == LAST then error(("--console: no port from %d to %d is free"):format(FIRST, LAST), 0) end
    end
  end
  io.stderr:write("console: ", opened.url, opened.token and "#token=" .. opened.token or "", "\n")
end

return flag
