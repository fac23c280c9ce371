--- Exhaustive search: all states of a case that any order of steps can reach, breadth first, so that what is found is
--- told in the fewest steps.
---
---     local found = search(case, { states = 100000 })
---     found.fault      what is wrong, in words, or nil; found.trace: the steps to it, a list of lines
---     found.states, found.steps, found.complete: how much was looked at, and whether that is all
---
--- In every state what must hold is checked; when all are known, that from each of them all tasks can still end
--- without any further fault: from each state that fails this, nothing that a host does by itself leads out.
local World = require "spec.model.world"

local function trace_to(states, number)
  local lines = {}
  while number do
    local state = states[number]
    table.insert(lines, 1, state.words and ("%s   [%s]"):format(state.words, state.shown) or state.shown)
    number = state.from
  end
  for i = 1, #lines do lines[i] = ("%3d  %s"):format(i - 1, lines[i]) end
  return lines
end

-- The first state from which no end can be reached; `into` has, for each state, those that lead to it by no fault.
local function stuck(states, into, done)
  local fine, list = {}, {}
  for _, number in ipairs(done) do
    fine[number] = true
    list[#list + 1] = number
  end
  local at = 1
  while at <= #list do
    for _, from in ipairs(into[list[at]] or {}) do
      if not fine[from] then
        fine[from] = true
        list[#list + 1] = from
      end
    end
    at = at + 1
  end
  for number = 1, #states do
    if not fine[number] then return number end
  end
end

return function(case, bounds)
  local most = bounds and bounds.states or math.huge
  local states, known, worlds, into, done, steps = {}, {}, {}, {}, {}, 0
  local function result(fault, number, complete)
    return { fault = fault, trace = number and trace_to(states, number), states = #states, steps = steps,
             complete = complete }
  end
  local function note(world, from, words)
    local key = world:key()
    local number = known[key]
    if number then return number, false end
    number = #states + 1
    states[number] = { from = from, words = words, shown = world:shown() }
    known[key] = number
    worlds[number] = world
    if world:is_done() then done[#done + 1] = number end
    return number, true
  end
  local first = World.new(case)
  for _, words in ipairs(case.begin or {}) do first = first:take_named(words) end
  note(first, nil, nil)
  if first:check() then return result(first.fault, 1, false) end
  local at = 1
  while at <= #states do
    local world = worlds[at]
    worlds[at] = nil
    for _, step in ipairs(world:steps()) do
      for i, next_world in ipairs(world:take(step)) do
        local words = table.concat(next_world.story, "; ")
        local number, is_new = note(next_world, at, words)
        steps = steps + 1
        if i == 1 and not step.fault then
          into[number] = into[number] or {}
          table.insert(into[number], at)
        end
        if next_world.fault or (is_new and next_world:check()) then
          if not is_new then
            number = #states + 1
            states[number] = { from = at, words = words, shown = next_world:shown() }
          end
          return result(next_world.fault, number, false)
        end
      end
    end
    if #states >= most then return result(nil, nil, false) end
    at = at + 1
  end
  local number = stuck(states, into, done)
  if number then return result("nothing can end all tasks any more", number, false) end
  return result(nil, nil, true)
end
