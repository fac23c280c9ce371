-- lua/ltsh/ltsh.d.lua against the real thing, in both directions: what there is, is annotated, and the other way round.

local ltsh = require "ltsh"
local core = require "ltsh.core"

local path = package.searchpath("ltsh", package.path):gsub("init%.lua$", "ltsh.d.lua")

-- Functions that modules of ltsh have for each other.
local internal = { check = true, object = true }

-- The annotations: { classes = { name = { parent =, fields =, methods = } }, aliases = { name = { literal = true } } }
-- with fields = { name = { optional =, text = } } and methods = { name = documentation }.
local function read_annotations()
  local found = { classes = {}, aliases = {} }
  local locals = {} -- variables that stand for a class
  local class, alias, doc
  for line in io.lines(path) do
    local name, rest = line:match "^%-%-%-@class ([%w_.]+)(.*)$"
    if name then
      class, alias = { parent = rest:match "^: ([%w_.]+)", fields = {}, methods = {} }, nil
      found.classes[name] = class
    end
    name, rest = line:match "^%-%-%-@alias ([%w_.]+)(.*)$"
    if name then
      alias = {}
      found.aliases[name] = alias
    end
    if alias then
      for literal in (rest or line:match "^%-%-%-| (.*)" or ""):gmatch '"(%w+)"' do alias[literal] = true end
    end
    name, rest = line:match "^%-%-%-@field (%S+) (.*)$"
    if name then class.fields[name:gsub("[%[%]?]", "")] = { optional = name:find "%?$" ~= nil, text = rest } end
    name = line:match "^local (%w+) = {}$"
    if name then locals[name] = class end
    local owner, method = line:match "^function (%w+):([%w_]+)%("
    local target = owner and locals[owner]
    if target then target.methods[method] = doc or "" end
    doc = line:match "^%-%-%-([^@|].*)" or (line:find "^%-%-%-" and doc) or nil
  end
  return found
end

local annotations = read_annotations()
local annotated = dofile(path)

-- The fields of a class, its parents' too.
local function fields_of(name)
  local fields = {}
  while name do
    local class = assert(annotations.classes[name], name)
    for field, what in pairs(class.fields) do fields[field] = what end
    name = class.parent
  end
  return fields
end

local function names_of(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function with(...)
  local union = {}
  for _, set in ipairs { ... } do
    for name in pairs(set) do union[name] = true end
  end
  return union
end

local function words(text)
  local found = {}
  for word in text:gmatch "%w+" do found[word] = true end
  return found
end

local function upvalue(fn, wanted)
  for i = 1, 255 do
    local name, value = debug.getupvalue(fn, i)
    if not name then return nil end
    if name == wanted then return value end
  end
end

local function new_scheduler(fn)
  return ltsh.scheduler { container = ltsh.container.queue {}, actuator = ltsh.actuator.func(fn or function() end) }
end

-- Everything that ltsh has, also what is loaded only when it is used. What is announced there and has no file yet is
-- left out.
local function members_of_ltsh()
  local members = with(ltsh)
  for name, module in pairs(upvalue(getmetatable(ltsh).__index, "lazy")) do
    if package.searchpath(module, package.path) then members[name] = true end
  end
  return members
end

describe("the annotations", function()
  it("are a Lua file that returns what require returns", function()
    assert.equal("table", type(annotated))
  end)

  it("have the functions and tables of ltsh", function()
    for name in pairs(members_of_ltsh()) do
      if type(ltsh[name]) == "function" or type(ltsh[name]) == "table" then
        assert.equal(name .. " " .. type(ltsh[name]), name .. " " .. type(annotated[name]))
      else
        assert.is_not_nil(fields_of "ltsh"[name], name)
      end
    end
    for name, value in pairs(annotated) do assert.equal(name .. " " .. type(value), name .. " " .. type(ltsh[name])) end
    for name in pairs(fields_of "ltsh") do assert.is_not_nil(ltsh[name], name) end
  end)

  it("have what is in the tables of ltsh", function()
    for table_name, functions in pairs(annotated) do
      if type(functions) == "table" then
        local real, fields = {}, fields_of("ltsh." .. table_name)
        for name, value in pairs(ltsh[table_name]) do
          if not internal[name] then real[name] = type(value) end
          if type(value) ~= "function" then assert.is_not_nil(fields[name], name) end
        end
        assert.same(names_of(real), names_of(with(functions, fields)))
      end
    end
  end)

  it("have as many parameters as the functions that are written in Lua", function()
    local function parameters(fn) return debug.getinfo(fn, "u").nparams end
    for table_name, functions in pairs(annotated) do
      for name, fn in pairs(type(functions) == "table" and functions or {}) do
        local real = ltsh[table_name][name]
        if debug.getinfo(real, "S").what == "Lua" then
          assert.equal(parameters(real), parameters(fn), table_name .. "." .. name)
        end
      end
    end
  end)

  it("have the methods of a scheduler", function()
    require "ltsh.scheduler"
    local real = {}
    for name in pairs(core.methods) do
      if not name:find "^_" then real[name] = true end
    end
    assert.same(names_of(real), names_of(annotations.classes["ltsh.Scheduler"].methods))
  end)

  it("have the methods of a job", function()
    local job = ltsh.spawn(function() end)
    local real = debug.getmetatable(job).__index
    assert.same(names_of(real), names_of(annotations.classes["ltsh.Job"].methods))
  end)

  it("have the options of a scheduler, and those of them that can change", function()
    local known = assert(upvalue(ltsh.scheduler, "known"))
    assert.same(names_of(known), names_of(fields_of "ltsh.SchedulerOptions"))
    local scheduler, changeable = new_scheduler(), {}
    local nonsense = coroutine.create(print) -- no option takes this
    for name in pairs(known) do
      local ok, message = pcall(scheduler.set, scheduler, { [name] = nonsense })
      assert.is_false(ok, name)
      if not message:find "cannot change" then changeable[name] = true end
    end
    assert.same(names_of(changeable), names_of(fields_of "ltsh.ChangeableOptions"))
    scheduler:close()
  end)

  it("know which options of a scheduler are required", function()
    local required = {}
    for name, field in pairs(fields_of "ltsh.SchedulerOptions") do
      if not field.optional then required[name] = true end
    end
    assert.same({ "actuator", "container" }, names_of(required))
  end)

  it("have options that are taken, in all other tables of options", function()
    local scheduler = new_scheduler()
    local nonsense = coroutine.create(print)
    local takers = {
      ["ltsh.Rate"] = function(options) scheduler:set { rate = options } end,
      ["ltsh.Backoff"] = function(options) scheduler:set { backoff = options } end,
      ["ltsh.Keep"] = function(options)
        ltsh.scheduler { container = ltsh.container.queue {}, actuator = ltsh.actuator.func(print), keep = options }
      end,
      ["ltsh.ListOptions"] = function(options) scheduler:list(options) end,
      ["ltsh.CountOptions"] = function(options) scheduler:count(options) end,
      ["ltsh.CloseOptions"] = function(options) scheduler:close(options) end,
      ["ltsh.MemoryOptions"] = ltsh.container.queue,
      ["ltsh.FuncOptions"] = ltsh.actuator.func,
      ["ltsh.JsonOptions"] = function(options) ltsh.json.encode(1, options) end,
    }
    local function is_unknown(class, name)
      local ok, message = pcall(takers[class], { [tonumber(name) or name] = nonsense })
      assert.is_false(ok, class .. ": " .. name)
      return message:find "unknown option" ~= nil or message:find "only option" ~= nil
    end
    for class in pairs(takers) do
      assert.is_true(next(fields_of(class)) ~= nil, class)
      for name in pairs(fields_of(class)) do assert.is_false(is_unknown(class, name), class .. ": " .. name) end
      assert.is_true(is_unknown(class, "no such option"), class)
    end
    scheduler:close()
  end)

  it("have the fields and methods of a task", function()
    local scheduler = new_scheduler()
    local task = scheduler:get(scheduler:add {})
    local _, known = debug.getupvalue(debug.getmetatable(task).__index, 1)
    local read, given = {}, {}
    for _, name in ipairs(known) do
      local ok, message = pcall(scheduler.add, scheduler, { [name] = print })
      if ok or not message:find "unknown field" then given[name] = true end
      read[name] = true
    end
    read.delay, read.expires = nil, nil -- they are read as run_at and expires_at
    assert.same(names_of(given), names_of(fields_of "ltsh.NewTask"))
    local class = annotations.classes["ltsh.Task"]
    assert.same(names_of(read), names_of(with(class.fields, class.methods)))
    for name, field in pairs(class.fields) do
      if not field.optional then assert.is_not_nil(task[name], name) end
    end
    scheduler:close()
  end)

  it("have the events, statuses, figures and runs", function()
    local scheduler = new_scheduler()
    local _, message = pcall(scheduler.on, scheduler, "no such event", print)
    assert.same(names_of(words(message:match "one of (.-), got")), names_of(annotations.aliases["ltsh.Event"]))
    _, message = pcall(scheduler.count, scheduler, { status = "no such status" })
    assert.same(names_of(words(message:match "one of (.-), got")), names_of(annotations.aliases["ltsh.Status"]))
    local stats = scheduler:stats()
    assert.same(names_of(stats), names_of(fields_of "ltsh.Stats"))
    assert.same(names_of(stats.wait), names_of(fields_of "ltsh.Quantiles"))
    assert.same(names_of(stats.run), names_of(fields_of "ltsh.Quantiles"))
    local id = scheduler:add { id = "a" }
    scheduler:wait(id)
    local run = scheduler:history(id)[1]
    for name in pairs(run) do assert.is_not_nil(fields_of "ltsh.Run"[name], name) end
    scheduler:close()
  end)

  -- The methods that a check asks for, and which of them it can do without.
  local function methods_asked_for(check)
    local asked, needed = {}, {}
    local function probe(without)
      return pcall(check, "spec", setmetatable({}, {
        __index = function(_, name)
          asked[name] = true
          if name ~= without then return print end
        end,
      }))
    end
    assert(probe())
    local first = with(asked)
    for name in pairs(first) do
      if not probe(name) then needed[name] = true end
    end
    return asked, needed
  end

  it("have the methods of what is written in Lua", function()
    local classes = {
      ["ltsh.LuaContainer"] = ltsh.container.check,
      ["ltsh.LuaActuator"] = ltsh.actuator.check,
      ["ltsh.LuaPersister"] = ltsh.persister.check,
      ["ltsh.LuaReceiver"] = ltsh.callback.check,
    }
    for class, check in pairs(classes) do
      local asked, needed = methods_asked_for(check)
      local required = {}
      for name, field in pairs(fields_of(class)) do
        if not field.optional then required[name] = true end
        assert.matches("^fun%(self: " .. class:gsub("%.", "%%."), field.text)
      end
      assert.same(names_of(asked), names_of(fields_of(class)))
      assert.same(names_of(needed), names_of(required))
    end
  end)

  it("say of everything what it is", function()
    for name, class in pairs(annotations.classes) do
      for field, what in pairs(class.fields) do
        assert.is_not_nil(what.text:find "^%S.* .*%w.*[.)]$", name .. "." .. field .. " has no description")
      end
      for method, doc in pairs(class.methods) do
        assert.is_true(#doc > 0, name .. ":" .. method .. " has no description")
      end
    end
    local before = ""
    for line in io.lines(path) do
      if line:find "^function" then assert.is_not_nil(before:find "\n?%-%-%-%u", line .. " has no description") end
      before = line == "" and "" or before .. "\n" .. line
    end
  end)

  it("name only classes that there are", function()
    for line in io.lines(path) do
      for name in line:gmatch "ltsh%.%u%w+" do
        assert.is_true(annotations.classes[name] ~= nil or annotations.aliases[name] ~= nil, name .. " in: " .. line)
      end
    end
  end)
end)
