-- ltsh --check: the module files that a script names are loaded and checked; the script itself does not run.
--
--     source -> tokens -> calls of load -> files -> faults
--
-- A call is `ltsh.actuator.load "path"` and the like (container, persister, callback), or `ltsh.actuator.func` with a
-- table in which `module = "path"`, also where the script has given ltsh, the part or the function another name, and
-- under pcall. One whose path is no literal is listed as unchecked.
local ltsh = require "ltsh"

local check = {}

local kinds = {
  actuator = "an actuator",
  callback = "a receiver",
  container = "a container",
  persister = "a persister",
}
local TASKS = "tasks" -- the kind of what ltsh.actuator.func { module = } names

---- Tokens.

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true until
  while]]):gmatch "%a+" do
  keywords[word] = true
end

local operators = { "...", "..", "==", "~=", "<=", ">=", "//", "::", "<<", ">>" } -- the long ones, longest first

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
  if stop then return keywords[source:sub(at, stop)] and "keyword" or "name", stop end
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
  source = source:gsub("^\xEF\xBB\xBF", ""):gsub("^#[^\n]*", "")
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

---- The scan: what each name stands for, as far as it matters here, and which calls of load there are.

-- What a name or an expression stands for is a text, "ltsh", "ltsh.actuator" or "ltsh.actuator.load", with "?" for a
-- part that is chosen at run time; or nil.
local NOTHING = {} -- in a scope: a name that hides an outer one and is of no interest itself

local function member(value, name)
  if value == "ltsh" then return (kinds[name] or name == "?") and "ltsh." .. name or nil end
  if value == "ltsh.actuator" and name == "func" then return "ltsh.actuator.func" end
  if value and name == "load" and value:find "^ltsh%.[%a?]+$" then return value .. ".load" end
  return nil
end

local function module_of(name)
  local part = name:match "^ltsh%.(%a+)$"
  return (name == "ltsh" or (part and kinds[part])) and name or nil
end

local function unquote(text)
  return load("return " .. text)()
end

local function set(words)
  local result = {}
  for word in words:gmatch "%S+" do result[word] = true end
  return result
end

local unary = set "- not # ~"
local binary = set "+ - * / // % ^ .. == ~= < <= > >= and or & | ~ << >>"
local opening, closing = set "( [ {", set ") ] }"
local block_opening, block_closing = set "function do if repeat", set "end until"

local Scan = {}
Scan.__index = Scan

local function new_scan(source)
  return setmetatable({
    tokens = tokens_of(source),
    scopes = { { names = {} } }, -- of them, those with `fields` are table constructors
    due = {},                    -- by index: what is to be done before the token there
    aliases = {},                -- by index: an expression that is only given a name
    past = 0,                    -- paths before this index have been looked at
    found = {},                  -- the calls: { kind =, path = (nil: it is computed), line = }
  }, Scan)
end

-- The text of a token that is not a string.
function Scan:text(i)
  local token = self.tokens[i]
  return token and token.kind ~= "string" and token.text or nil
end

function Scan:is(i, text) return self:text(i) == text end
function Scan:is_kind(i, kind) return self.tokens[i] ~= nil and self.tokens[i].kind == kind end

-- Skipping: each returns the index after what is at `i`.

function Scan:skip_nested(i, openers, closers)
  local depth = 0
  repeat
    local text = self:text(i)
    if openers[text] then depth = depth + 1 end
    if closers[text] then depth = depth - 1 end
    i = i + 1
  until depth == 0 or not self.tokens[i]
  return i
end

-- Members, indices and calls.
function Scan:skip_suffixes(i)
  while true do
    if self:is_kind(i, "string") then
      i = i + 1
    elseif opening[self:text(i)] then
      i = self:skip_nested(i, opening, closing)
    elseif self:is(i, ".") or self:is(i, ":") then
      i = i + 2
    else
      return i
    end
  end
end

function Scan:skip_operand(i)
  while unary[self:text(i)] do i = i + 1 end
  if self:is(i, "function") then return self:skip_nested(i, block_opening, block_closing) end
  if self:is(i, "{") then return self:skip_nested(i, opening, closing) end
  if self:is(i, "(") then return self:skip_suffixes(self:skip_nested(i, opening, closing)) end
  if self:is_kind(i, "name") then return self:skip_suffixes(i + 1) end
  return i + 1
end

function Scan:skip_expression(i)
  i = self:skip_operand(i)
  while binary[self:text(i)] do i = self:skip_operand(i + 1) end
  return i
end

-- Reading: each returns what is at `i`, and the index after it.

function Scan:look_up(name)
  for i = #self.scopes, 1, -1 do
    local value = self.scopes[i].names[name]
    if value then return value ~= NOTHING and value or nil end
  end
  return name == "ltsh" and "ltsh" or nil -- a global that is set elsewhere
end

function Scan:read_require(i)
  local open = self:is(i + 1, "(")
  local name = open and i + 2 or i + 1
  if not self:is_kind(name, "string") or (open and not self:is(name + 1, ")")) then return nil, i + 1 end
  return module_of(unquote(self.tokens[name].text)), open and name + 2 or name + 1
end

-- What a path begins with: a name, a require, or a path in parentheses.
function Scan:read_root(i)
  if self:is(i, "require") then return self:read_require(i) end
  if self:is_kind(i, "name") then return self:look_up(self:text(i)), i + 1 end
  if self:is(i, "(") then
    local value, at = self:read_path(i + 1)
    if self:is(at, ")") then return value, at + 1 end
  end
  return nil, i + 1
end

function Scan:read_path(i)
  local value, at = self:read_root(i)
  while value do
    if self:is(at, ".") then
      value, at = member(value, self:text(at + 1)), at + 2
    elseif self:is(at, "[") then
      local literal = self:is_kind(at + 1, "string") and self:is(at + 2, "]")
      value = member(value, literal and unquote(self.tokens[at + 1].text) or "?")
      at = self:skip_nested(at, opening, closing)
    else
      break
    end
  end
  return value, at
end

-- A list of expressions, of which those that are nothing but a path have a value.
function Scan:read_expressions(i)
  local values, count = {}, 0
  while true do
    local value, at = self:read_path(i)
    local stop = self:skip_expression(i)
    count = count + 1
    if value and at == stop then
      values[count] = value
      self.aliases[i] = true
    end
    if not self:is(stop, ",") then return values, stop end
    i = stop + 1
  end
end

-- Names between commas, of local variables (with their attributes), of parameters, or to be assigned to.
function Scan:read_names(i)
  local names = {}
  while self:is_kind(i, "name") do
    names[#names + 1] = self:text(i)
    i = i + 1
    if self:is(i, "<") then i = i + 3 end
    if not self:is(i, ",") then break end
    i = i + 1
  end
  return names, i
end

-- Scopes.

function Scan:push(fields) self.scopes[#self.scopes + 1] = { names = {}, fields = fields == true } end
function Scan:pop() self.scopes[#self.scopes] = nil end

function Scan:declare(names, values)
  local scope = self.scopes[#self.scopes]
  for n, name in ipairs(names) do scope.names[name] = values and values[n] or NOTHING end
end

function Scan:assign(names, values)
  for n, name in ipairs(names) do
    local i = #self.scopes
    while i > 1 and self.scopes[i].names[name] == nil do i = i - 1 end
    self.scopes[i].names[name] = values[n] or NOTHING
  end
end

-- Calls fn when the scan has come to the token at `i`.
function Scan:at(i, fn)
  self.due[i] = self.due[i] or {}
  table.insert(self.due[i], fn)
end

-- Statements and blocks, each at its first token.

local on = {}

on["local"] = function(self, i)
  if self:is(i + 1, "function") then
    self:declare { self:text(i + 2) }
    return
  end
  local names, at = self:read_names(i + 1)
  local values
  if self:is(at, "=") then values, at = self:read_expressions(at + 1) end
  self:at(at, function() self:declare(names, values) end) -- the expressions mean the names of before
end

on["function"] = function(self, i)
  while not self:is(i, "(") do i = i + 1 end
  self:push()
  self:declare((self:read_names(i + 1)))
end

on["for"] = function(self, i)
  local names, at = self:read_names(i + 1)
  local _, body = self:read_expressions(at + 1)
  self:at(body + 1, function() self:declare(names) end) -- after `do` has made the scope
end

on["until"] = function(self, i)
  self:at(self:skip_expression(i + 1), function() self:pop() end)
end

on["else"] = function(self)
  self:pop()
  self:push()
end

on["do"], on["then"], on["repeat"] = Scan.push, Scan.push, Scan.push
on["end"], on["elseif"], on["}"] = Scan.pop, Scan.pop, Scan.pop
on["{"] = function(self) self:push(true) end

-- `a, b = x, y`, but not a field of a table constructor, nor what `local` and `for` have read.
function Scan:on_assignment(i)
  local before = self:text(i - 1)
  if before == "local" or before == "for" or before == "," or self.scopes[#self.scopes].fields then return end
  local names, at = self:read_names(i)
  if not self:is(at, "=") then return end
  local values, stop = self:read_expressions(at + 1)
  self:at(stop, function() self:assign(names, values) end)
end

-- The literal that is the whole argument at `i`, or nil.
function Scan:literal(i)
  local whole = self:is_kind(i, "string") and (self:is(i + 1, ",") or self:is(i + 1, ")"))
  return whole and unquote(self.tokens[i].text) or nil
end

-- The literal with which the function, named from `from` up to `at`, is called; or nil.
function Scan:argument(from, at)
  if self:is_kind(at, "string") then return unquote(self.tokens[at].text) end
  if self:is(at, "(") then return self:literal(at + 1) end
  local protected = self:is(from - 1, "(") and self:is(at, ",") and self:text(from - 2)
  if protected == "pcall" then return self:literal(at + 1) end
  if protected == "xpcall" then return self:literal(self:skip_expression(at + 1) + 1) end
  return nil
end

-- The literal that the field `module` of the table in the call is given, or nil; and whether there is such a field.
function Scan:module_field(from, at)
  if self:is(at, "(") then at = at + 1 end
  if self:is(at, ",") and self:is(from - 1, "(") and self:text(from - 2) == "pcall" then at = at + 1 end
  if not self:is(at, "{") then return nil, false end
  local stop = self:skip_nested(at, opening, closing)
  at = at + 1
  while at < stop do
    if self:is(at, "module") and self:is(at + 1, "=") then
      local after = self:text(at + 3)
      local whole = self:is_kind(at + 2, "string") and (after == "," or after == ";" or after == "}")
      return whole and unquote(self.tokens[at + 2].text) or nil, true
    end
    local skips = self:is(at, "function") and block_opening or opening[self:text(at)] and opening
    at = skips and self:skip_nested(at, skips, skips == opening and closing or block_closing) or at + 1
  end
  return nil, false
end

function Scan:on_path(i)
  local before = self:text(i - 1)
  if i < self.past or before == "." or before == ":" or before == "::" or before == "goto" then return end
  local value, at = self:read_path(i)
  if value == "ltsh.actuator.func" then
    self.past = at
    local path, has = self:module_field(i, at)
    if has and not self.aliases[i] then
      table.insert(self.found, { kind = TASKS, path = path, line = self.tokens[i].line })
    end
    return
  end
  local kind = value and value:match "^ltsh%.([%a?]+)%.load$"
  if not kind then return end
  self.past = at
  if self.aliases[i] then return end
  local path = kinds[kind] and self:argument(i, at) or nil
  table.insert(self.found, { kind = kind, path = path, line = self.tokens[i].line })
end

function Scan:run()
  for i = 1, #self.tokens do
    for _, fn in ipairs(self.due[i] or {}) do fn() end
    local text = self:text(i)
    if on[text] then on[text](self, i) end
    if self:is_kind(i, "name") then self:on_assignment(i) end
    if self:is_kind(i, "name") or text == "(" then self:on_path(i) end
  end
  return self.found
end

---- Checking a file.

-- What was raised, as text.
local function text_of(raised)
  if type(raised) == "table" and not (getmetatable(raised) or {}).__tostring then
    return type(raised.reason) == "string" and raised.reason or "it raised a table"
  end
  return tostring(raised)
end

-- Runs fn as far as it goes without waiting. Returns true and its results; false and what it raised; nil if it waits.
local function attempt(fn, ...)
  local results
  local job = ltsh.spawn(function(...) results = table.pack(pcall(fn, ...)) end, ...)
  if not results then
    job:cancel()
    return nil, "it waits while it is loaded"
  end
  if not results[1] then return false, text_of(results[2]) end
  return table.unpack(results, 1, results.n)
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
    table.insert(faults, text_of(message))
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
    if made == nil and why ~= nil then return nil, nil, text_of(why) end
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
  local compiled = source and source:gsub("^#[^\n]*", "")
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
  for _, call in ipairs(new_scan(source):run()) do
    local file = call.path and call.kind .. " " .. call.path
    if not known[file or call] then check_call(name, call, tally) end
    known[file or call] = true
  end
  summary(name, tally)
  return tally.faults == 0
end

return check
