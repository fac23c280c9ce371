--- scripts/model: searches all cases of the model, and says what it found.
local cases = require "spec.model.cases"
local search = require "spec.model.search"

local options = { deep = false, mutations = false, states = math.huge, text = nil }
local names = { ["--deep"] = "deep", ["--mutations"] = "mutations" }

for i, argument in ipairs(arg) do
  if argument == "--states" then
    options.states = assert(tonumber(arg[i + 1]), "--states N")
  elseif names[argument] then
    options[names[argument]] = true
  elseif arg[i - 1] ~= "--states" then
    options.text = argument
  end
end

local failed = false

local function try(case)
  if options.text and not case.name:find(options.text, 1, true) then return end
  local began = os.clock()
  local found = search(case, { states = options.states })
  local is_as_wanted = not (case.finds or found.fault)
  if case.finds and found.fault then is_as_wanted = found.fault:find(case.finds, 1, true) ~= nil end
  local extent = found.fault and "found" or found.complete and "all" or "not all"
  failed = failed or not is_as_wanted
  print(("%-5s %-52s %7d states %8d steps, %s; %.1f s"):format(is_as_wanted and "ok" or "FAIL", case.name, found.states,
    found.steps, extent, os.clock() - began))
  if found.fault and (not is_as_wanted or options.text) then
    print("      " .. found.fault)
    for _, line in ipairs(found.trace) do print("      " .. line) end
  end
end

for _, case in ipairs(cases.cases) do try(case) end
if options.deep then
  for _, case in ipairs(cases.deep) do try(case) end
end
if options.mutations or options.text then
  for _, case in ipairs(cases.mutations) do try(case) end
end
os.exit(failed and 1 or 0)
