--- The table of src/scheduler/machine.c as data, and as docs/design.md shows it:
---
---     ltsh spec/support/machine.lua       prints the tables for the document
local machine = {}

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

local function words(name)
  return (name:lower():gsub("_", " "))
end

--- The states in the order of the header, their wishes and their steps:
---     { states = { "claimed", ... }, wishes = { [state] = { report=, stop=, lost= } },
---       steps = { { state=, event= }, ... } }
--- where each cell, and each step, also has next= and action=.
function machine.read(root)
  root = root or "."
  local header = read(root .. "/src/scheduler/machine.h")
  local source = read(root .. "/src/scheduler/machine.c")
  local result = { states = {}, events = {}, wishes = {}, steps = {} }
  for name in header:match("enum lt_run_state (%b{})"):gmatch "LT_RUN_([A-Z_]+)" do
    if name ~= "STATES" then result.states[#result.states + 1] = words(name) end
  end
  for name in header:match("enum lt_run_event (%b{})"):gmatch "LT_EV_([A-Z_]+)" do
    if name ~= "NONE" then result.events[#result.events + 1] = words(name) end
  end
  local id = "([A-Z_]+)%s*"
  local function row(name, cells) return name .. "%(" .. id .. (",%s*" .. id):rep(cells - 1) .. "%)" end
  for state, a, b, c, d, e, f in source:gmatch(row("W", 7)) do
    result.wishes[words(state)] = {
      report = { next = words(a), action = words(b) },
      stop = { next = words(c), action = words(d) },
      lost = { next = words(e), action = words(f) },
    }
  end
  for state, event, next, action in source:gmatch(row("S", 4)) do
    result.steps[#result.steps + 1] =
      { state = words(state), event = words(event), next = words(next), action = words(action) }
  end
  return result
end

local function cell(state, step)
  if step.action == "none" then return step.next == state and "" or step.next end
  return string.format("%s: *%s*", step.next == state and "stays" or step.next, step.action)
end

--- The two tables in Markdown.
function machine.render(tables)
  local lines = { "| state | its work has ended (report) | stop, shutdown | its lease is lost |", "|---|---|---|---|" }
  for _, state in ipairs(tables.states) do
    local wishes = tables.wishes[state]
    local cells = { cell(state, wishes.report), cell(state, wishes.stop), cell(state, wishes.lost) }
    lines[#lines + 1] = string.format("| %s | %s |", state, table.concat(cells, " | "))
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = "| state | event | next: *action* |"
  lines[#lines + 1] = "|---|---|---|"
  for _, step in ipairs(tables.steps) do
    lines[#lines + 1] = string.format("| %s | %s | %s |", step.state, step.event, cell(step.state, step))
  end
  return table.concat(lines, "\n")
end

if arg and arg[0] and arg[0]:find "machine%.lua$" then print(machine.render(machine.read())) end

return machine
