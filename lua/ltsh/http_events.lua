-- ltsh.http_events: a server-sent event as text.
local core = require "ltsh.core"
local check = require "ltsh.check_args"
local json = core.json

--- The lines of { event =, data =, id =, retry =, comment = }, or of a text; raises if it cannot be one.
local function event_text(event)
  if type(event) == "string" then event = { data = event } end
  check.table("send", "its argument", event)
  local lines = {}
  for _, name in ipairs { "event", "id" } do
    local value = event[name]
    if value ~= nil then
      value = tostring(value)
      if value:find "[%z\r\n]" then error(("send: %s must be a text of one line"):format(name), 0) end
      lines[#lines + 1] = name .. ": " .. value
    end
  end
  if event.retry ~= nil then lines[#lines + 1] = ("retry: %d"):format(event.retry) end
  if event.comment ~= nil then lines[#lines + 1] = ": " .. tostring(event.comment):gsub("[\r\n]+", " ") end
  if event.data ~= nil then
    local data = type(event.data) == "string" and event.data or json.encode(event.data)
    for line in (data:gsub("\r\n?", "\n") .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = "data: " .. line end
  end
  return table.concat(lines, "\n") .. "\n\n"
end

return event_text
