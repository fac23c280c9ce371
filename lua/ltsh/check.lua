-- ltsh --check: the module files that a script names are loaded and checked; the script itself does not run.
--
--     source -> tokens -> calls of load -> files -> faults
--
-- A call is `actuator.load "path"` and the like (container, persister, callback), or `func` with a table in which
-- `module = "path"`, by these names, whatever is before them, and under pcall. What is loaded by other names is not
-- seen, and one whose path is no literal is listed as unchecked.
local core = require "ltsh.core"
local ltsh = require "ltsh"
local raised = require("ltsh.check_args").raised
local plain = require("ltsh.source").plain

local check = {}

local kinds = {
  actuator = "an actuator",
  callback = "a receiver",
  container = "a container",
  persister = "a persister",
}
local TASKS = "tasks" -- the kind of what ltsh.actuator.func { module = } names

---- Tokens.

local operators = { "...", "..", "==" } -- those that must not be taken for "." and "="

-- Where the long bracket that opens at `at` ends, or nil if none opens there.
local function long_end(source, at)
  local level = source:match("^%[(=*)%[", at)
  if not level then return nil end
  local _, stop = source:find("]" .. level .. "]", at, true)
  return stop or #source
end

local function quoted_end(source, at)
  local quote, i = source:sub(at, at), at + 1
  while i < #source do
    local c = source:sub(i, i)
    if c == quote then break end
    i = i + (c == "\\" and 2 or 1)
  end
  return i
end

local function number_end(source, at)
  local digits, exponent = "^[%d%.]+", "^[eE][+-]?%d*"
  if source:find("^0[xX]", at) then digits, exponent = "^0[xX][%x%.]*", "^[pP][+-]?%d*" end
  local _, stop = source:find(digits, at)
  local _, further = source:find(exponent, stop + 1)
  return further or stop
end

-- The kind of the token at `at`, and where it ends.
local function token_at(source, at)
  local _, stop = source:find("^[%a_][%w_]*", at)
  if stop then return "name", stop end
  if source:find("^%.?%d", at) then return "number", number_end(source, at) end
  if source:find("^[\"']", at) then return "string", quoted_end(source, at) end
  stop = long_end(source, at)
  if stop then return "string", stop end
  for _, operator in ipairs(operators) do
    if source:sub(at, at + #operator - 1) == operator then return "operator", at + #operator - 1 end
  end
  return "operator", at
end

-- Where the blanks or the comment at `at` end, or nil.
local function blank_end(source, at)
  local _, stop = source:find("^%s+", at)
  if stop then return stop end
  if source:sub(at, at + 1) ~= "--" then return nil end
  return long_end(source, at + 2) or (source:find("\n", at, true) or #source + 1) - 1
end

-- A list of { kind =, text =, line = }. The source has been compiled already, so it is well formed.
local function tokens_of(source)
  local tokens, line, at = {}, 1, 1
  source = plain(source)
  while at <= #source do
    local stop = blank_end(source, at)
    if not stop then
      local kind
      kind, stop = token_at(source, at)
      tokens[#tokens + 1] = { kind = kind, text = source:sub(at, stop), line = line }
    end
    local _, newlines = source:sub(at, stop):gsub("\n", "")
    line, at = line + newlines, stop + 1
  end
  return tokens
end

---- The scan: which calls of load, and of func with a module, there are.

-- Of the tokens, the text of one that is no string.
local function text_at(tokens, i)
  local token = tokens[i]
  return token and token.kind ~= "string" and token.text or nil
end

-- The value of a literal string, or nil.
local function string_at(tokens, i)
  local token = tokens[i]
  return token and token.kind == "string" and load("return " .. token.text)() or nil
end

local function set(words)
  local result = {}
  for word in words:gmatch "%S+" do result[word] = true end
  return result
end

local opening, closing = set "( [ {", set ") ] }"
local argument_end, field_start, field_end = set ") ,", set "{ , ;", set "} , ;"

-- The part whose `load` is at `i`; "?" if it is chosen at run time; nil if it is another's.
local function kind_at(tokens, i)
  if text_at(tokens, i) ~= "load" or text_at(tokens, i - 1) ~= "." then return nil end
  local before, inside = text_at(tokens, i - 2), string_at(tokens, i - 3)
  if kinds[before] then return before end
  local kind = inside and (before == "]" and inside or before == ")" and inside:match "^ltsh%.(%a+)$")
  if kind then return kinds[kind] and kind end
  return before == "]" and text_at(tokens, i - 4) == "[" and text_at(tokens, i - 5) == "ltsh" and "?" or nil
end

-- The literal with which the function that is named up to `i` is called, by itself or by pcall; or nil.
local function argument_after(tokens, i)
  local text = text_at(tokens, i + 1)
  if not text then return string_at(tokens, i + 1) end
  local whole = (text == "(" or text == ",") and argument_end[text_at(tokens, i + 3)]
  return whole and string_at(tokens, i + 2) or nil
end

-- The literal of the field `module` of the table with which the function is called, and whether there is such a field.
local function module_after(tokens, i)
  local text, depth = text_at(tokens, i + 1), 0
  local at = (text == "(" or text == ",") and i + 2 or i + 1
  if text_at(tokens, at) ~= "{" then return nil, false end
  repeat
    text = text_at(tokens, at)
    depth = depth + (opening[text] and 1 or closing[text] and -1 or 0)
    local is_field = text == "module" and depth == 1 and field_start[text_at(tokens, at - 1)]
    if is_field and text_at(tokens, at + 1) == "=" then
      return field_end[text_at(tokens, at + 3)] and string_at(tokens, at + 2) or nil, true
    end
    at = at + 1
  until depth == 0 or not tokens[at]
  return nil, false
end

-- The calls: a list of { kind =, path = (nil: it is computed), line = }.
local function calls_in(tokens)
  local found = {}
  for i, token in ipairs(tokens) do
    local kind, path = kind_at(tokens, i), nil
    if kind then
      path = kinds[kind] and argument_after(tokens, i)
    elseif text_at(tokens, i) == "func" then
      local has
      path, has = module_after(tokens, i)
      kind = has and TASKS
    end
    if kind then found[#found + 1] = { kind = kind, path = path, line = token.line } end
  end
  return found
end

---- Checking a file.

-- Calls fn, where nothing can wait. Returns true and its results; false and what it raised; nil and why if it waits or
-- does not end.
local function attempt(fn, ...)
  local results
  ltsh.spawn(function(...)
    core.guest(true)
    results = table.pack(pcall(core.held, fn, ...))
  end, ...)
  if results == nil or results[2] == "held the host" then return nil, "it computes for too long while it is loaded" end
  if results[1] then return table.unpack(results, 1, results.n) end
  local message = raised(results[2])
  if message:find("cannot wait here", 1, true) then return nil, "it waits while it is loaded" end
  return false, message
end

-- All faults that the check of load finds. It raises the first one: what that names is put right, and it is repeated.
local function faults_of(kind, path, methods)
  local faults, mended = {}, {}
  local view = setmetatable({}, {
    __index = function(_, name)
      if mended[name] then return print end
      return methods[name]
    end,
  })
  while true do
    local ok, message = pcall(require("ltsh." .. kind).check, path, view)
    if ok then return faults end
    table.insert(faults, raised(message))
    local name = faults[#faults]:sub(#path + 1):match "'([%w_]+)'"
    if not name or mended[name] then return faults end
    mended[name] = true
  end
end

-- The table of methods that the file returns; or nil and a list of faults; or nil, nil and why it cannot be told.
local function load_methods(path)
  local chunk, message = loadfile(path)
  if not chunk then return nil, { message } end
  local ok, made = attempt(chunk)
  if ok == nil then return nil, nil, made end
  if not ok then return nil, { made } end
  if require("ltsh.check_args").is_callable(made) then
    local why
    ok, made, why = attempt(made, {})
    if not ok then return nil, nil, made end
    if made == nil and why ~= nil then return nil, nil, raised(why) end
  end
  if type(made) ~= "table" then
    local what = "must return a table of methods or a function that returns one, got "
    return nil, { path .. " " .. what .. require("ltsh.check_args").show(made) }
  end
  return made
end

-- The same of a module of tasks.
local function check_tasks(path)
  local module = require "ltsh.module"
  local ok, text = pcall(module.read, path, path)
  if not ok then return { text } end
  local message
  ok, message = attempt(module.task_function, path, text)
  if ok == nil then return nil, message end
  return ok == false and { message } or {}
end

-- A list of faults, or nil and why it could not be checked.
local function check_file(kind, path)
  if kind == TASKS then return check_tasks(path) end
  local methods, faults, why = load_methods(path)
  if methods then return faults_of(kind, path, methods) end
  return faults, why
end

---- The command.

local function read_source(script, code)
  if code then return code end
  if script == "-" then return io.read "a" end
  local file <close>, message = io.open(script, "rb")
  if not file then return nil, "cannot open " .. message end
  return file:read "a"
end

local function count_of(number, what)
  return string.format("%d %s%s", number, what, number == 1 and "" or "s")
end

-- What is found goes to standard error, what is only told to standard output.
local function report(format, ...) io.stderr:write(format:format(...), "\n") end
local function tell(format, ...) io.stdout:write(format:format(...), "\n") end

local function summary(name, tally)
  local verdict = tally.faults == 0 and "ok" or count_of(tally.faults, "fault")
  if tally.checked + tally.unchecked == 0 then
    tell("%s: %s (it names no module files)", name, verdict)
    return
  end
  local unchecked = tally.unchecked > 0 and string.format(", %d unchecked", tally.unchecked) or ""
  tell("%s: %s (%s checked%s)", name, verdict, count_of(tally.checked, "module"), unchecked)
end

-- What a call loads, in words.
local function describe(call)
  return call.kind == TASKS and "a module of tasks" or kinds[call.kind] or "a module"
end

-- One call of load.
local function check_call(name, call, tally)
  local place = string.format("%s:%d", name, call.line)
  if not call.path then
    tally.unchecked = tally.unchecked + 1
    tell("%s: unchecked: the name of %s is computed", place, describe(call))
    return
  end
  local faults, why = check_file(call.kind, call.path)
  if not faults then
    tally.unchecked = tally.unchecked + 1
    report("%s: could not be checked: %s (%s, loaded in %s)", call.path, why, describe(call), place)
    return
  end
  tally.checked = tally.checked + 1
  tally.faults = tally.faults + #faults
  for _, fault in ipairs(faults) do report("%s (%s, loaded in %s)", fault, describe(call), place) end
end

--- Compiles a script and checks the module files that it names. Returns whether there is no fault.
-- @param script the file's name; "-" for standard input; nil for code of the command line
-- @param code (string, optional) the source, where it is no file
function check.run(script, code)
  local name = script == "-" and "stdin" or script or "-e"
  local source, message = read_source(script, code)
  local compiled = source and (code or plain(source))
  if compiled then compiled, message = load(compiled, (script and script ~= "-" and "@" or "=") .. name) end
  if not compiled then
    report("ltsh: %s", message)
    return false
  end
  local tally = { checked = 0, unchecked = 0, faults = 0 }
  if source:find "^\27Lua" then
    tally.unchecked = 1
    tell("%s: unchecked: which modules it names cannot be seen", name)
    source = ""
  end
  local known = {}
  for _, call in ipairs(calls_in(tokens_of(source))) do
    local file = call.path and call.kind .. " " .. call.path
    if not known[file or call] then check_call(name, call, tally) end
    known[file or call] = true
  end
  summary(name, tally)
  return tally.faults == 0
end

return check
