-- Checks the marks of functions that may raise an error of Lua's and of those that may run Lua (values/marks.h),
-- as scripts/lint calls it: lua5.4 marks.lua FILES...
--
-- A function that calls one that may raise does so itself, and is marked, unless Lua calls it (a lua_CFunction, its
-- continuation, a hook), for then it may always. What the core calls knows no lua_State, and must not raise: so an
-- unprotected call is found where it is written. What is handed to lua_pcall is not called here; who takes another
-- function that raises, to call it protected, marks that parameter. The same goes for running Lua. Whether there is
-- memory is another question: what only raises when there is none is not counted (base/alloc.h).
--
-- It reads sources as clang-format leaves them; calls through a field count where the field is marked. A name of
-- several static functions is that of the same file.

local function set(names)
  local of = {}
  for name in names:gmatch "%S+" do of[name] = true end
  return of
end

-- What Lua's manual says may raise otherwise than for want of memory; without what sets a field, since that is done to
-- tables of our own alone, and what drops values, since no variable that is to be closed is among them.
local METAMETHODS = [[lua_arith lua_compare lua_concat lua_getfield lua_geti lua_gettable lua_getglobal lua_len
  lua_settable lua_setglobal luaL_len luaL_tolstring luaL_getsubtable luaL_requiref luaL_callmeta]]
local CALLS = "lua_call lua_callk lua_yield lua_yieldk"

local MARKS = {
  {
    name = "LT_RAISES", does = "may raise",
    base = set(METAMETHODS .. " " .. CALLS .. [[ lua_error luaL_error luaL_argerror luaL_typeerror luaL_argcheck
      luaL_argexpected luaL_checkinteger luaL_checklstring luaL_checkstring luaL_checknumber luaL_checkoption
      luaL_checkstack luaL_checktype luaL_checkany luaL_checkudata luaL_optinteger luaL_optlstring luaL_optstring
      luaL_optnumber]]),
  },
  {
    name = "LT_RUNS_LUA", does = "may run Lua",
    base = set(METAMETHODS .. " " .. CALLS .. " lua_pcall lua_pcallk lua_resume lua_resetthread lua_close lua_gc"),
  },
}

local findings, functions, fields = {}, {}, {}
local by_name = {} -- of those that are not static

local function find(file, line, text, ...)
  findings[#findings + 1] = ("%s:%d: " .. text):format(file, line, ...)
end

-- The source without comments and texts, of the same lines.
local function bare(source)
  local function blank(text) return (text:gsub("[^\n]", " ")) end
  source = source:gsub("/%*.-%*/", blank)
  return (source:gsub('"[^"\n]*"', '""'))
end

-- Those before the name that is declared.
local function marks_in(head)
  local marks = {}
  head = head:match "^(.-)%(" or head
  for _, mark in ipairs(MARKS) do marks[mark.name] = head:find("%f[%w_]" .. mark.name .. "%f[^%w_]") ~= nil end
  return marks
end

-- The name that a head declares, and its parameters.
local function name_in(head)
  head = head:gsub("__attribute__%b()", ""):gsub("%s+", " ")
  local name, parameters = head:match "([%a_][%w_]*) ?(%b())"
  return name, parameters and parameters:sub(2, -2)
end

local function is_for_lua(head, parameters)
  if parameters:find "^lua_State %*[%w_]+, lua_Debug %*[%w_]+$" then return true end
  local continues = parameters:find "^lua_State %*[%w_]+, int [%w_]+, lua_KContext [%w_]+$"
  return head:find "%f[%w_]int%s+[%w_]+%(" and (continues or parameters:find "^lua_State %*[%w_]+$") ~= nil
end

local function read_function(file, line, head, body)
  local name, parameters = name_in(head)
  if not name then return end
  local calls = {}
  for called in body:gmatch "([%a_][%w_]*)%s*%(" do calls[called] = true end
  local own = {
    file = file, line = line, name = name, static = head:find "%f[%w_]static%f[^%w_]" ~= nil, calls = calls,
    marks = marks_in(head), for_lua = is_for_lua(head, parameters), body = body,
    has_state = parameters:find("lua_State *", 1, true) ~= nil,
  }
  functions[#functions + 1] = own
  functions[file .. ":" .. name] = own
  if not own.static then by_name[name] = own end
end

local declarations = {}
local protectors = set "lua_pushcfunction lua_pushcclosure lua_pcall" -- what takes a function that may raise

-- A declaration at the left margin, or a field that is a pointer to a function.
local function read_declaration(file, line, text)
  local field = text:match "^%s+.*%(%*([%w_]+)%)%("
  if text:find "^[^(]*%(.*LT_RAISES" and not field then protectors[name_in(text)] = true end
  if field then
    for name, marked in pairs(marks_in(text)) do
      if marked then fields[field] = fields[field] or {} fields[field][name] = true end
    end
  elseif text:find "^[%a_]" and text:find "%);%s*$" and not text:find "^typedef" then
    local name = name_in(text)
    declarations[#declarations + 1] = { file = file, line = line, name = name, marks = marks_in(text) }
  end
end

local function read_file(file)
  local source = assert(io.open(file)):read "a"
  local head, first, body = {}, nil, nil
  local number = 0
  for line in (bare(source) .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    if body then
      if line == "}" then
        read_function(file, first, table.concat(head, "\n"), table.concat(body, "\n"))
        head, body = {}, nil
      else
        body[#body + 1] = line
      end
    elseif line == "{" then
      body = {}
    elseif line:find "^%s*$" or line:find "^#" then
      head = {}
    else
      if #head == 0 then first = number end
      head[#head + 1] = line
      if line:find "[;{}]%s*$" then
        read_declaration(file, first, table.concat(head, "\n"))
        head = {}
      end
    end
  end
end

-- Why a function has the property of a mark: the name of what it calls.
local function reason_of(own, mark)
  local names = {}
  for called in pairs(own.calls) do
    local target = functions[own.file .. ":" .. called] or by_name[called]
    local does
    if target then does = target.does[mark.name]
    else does = mark.base[called] or fields[called] and fields[called][mark.name] end
    if does then names[#names + 1] = called end
  end
  table.sort(names)
  return names[1]
end

local function work_out(mark)
  local changed
  repeat
    changed = false
    for _, own in ipairs(functions) do
      if not own.does[mark.name] then
        local reason = reason_of(own, mark)
        if reason then own.does[mark.name], changed = reason, true end
      end
    end
  until not changed
end

local function check_function(own, mark)
  local why, marked = own.does[mark.name], own.marks[mark.name]
  if why and mark.name == "LT_RAISES" and not own.for_lua and not own.has_state then
    find(own.file, own.line, "%s has no lua_State and calls %s, which may raise: protect that call", own.name, why)
  elseif why and not marked and not own.for_lua then
    find(own.file, own.line, "%s calls %s, which %s: mark it %s, or protect the call", own.name, why, mark.does,
      mark.name)
  elseif marked and own.for_lua then
    find(own.file, own.line, "%s is called by Lua, and needs no %s", own.name, mark.name)
  elseif marked and not why then
    find(own.file, own.line, "%s is marked %s, but nothing that it calls %s", own.name, mark.name, mark.does)
  end
end

-- A function that may raise is handed only to who protects its call.
local function check_uses(own)
  local outer, at = {}, 1 -- whose arguments are being read
  while true do
    local from, to, name = own.body:find("([%a_]?[%w_]*)%s*[()]?", at)
    if not from or from > #own.body then break end
    at = math.max(to, from) + 1
    local bracket = own.body:sub(to, to)
    if bracket == "(" then
      outer[#outer + 1] = name
    else
      local target = name ~= "" and (functions[own.file .. ":" .. name] or by_name[name])
      local is_field = own.body:sub(from - 1, from - 1):find "[.>]"
      local is_type = own.body:sub(from - 8, from - 1):find "struct $"
      local raises = target and target.does.LT_RAISES and not target.for_lua and not is_field and not is_type
      if raises and not protectors[outer[#outer] or ""] then
        find(own.file, own.line, "%s hands %s on, which may raise: to whom? mark that parameter LT_RAISES", own.name,
          name)
      end
      if bracket == ")" then outer[#outer] = nil end
    end
  end
end

local function check_declaration(declared, mark)
  local own = by_name[declared.name]
  if own and not own.for_lua and own.marks[mark.name] ~= declared.marks[mark.name] then
    find(declared.file, declared.line, "%s is %s %s, unlike in %s", declared.name,
      declared.marks[mark.name] and "marked" or "not marked", mark.name, own.file)
  end
end

for _, file in ipairs(arg) do read_file(file) end
for _, own in ipairs(functions) do own.does = {} end
for _, mark in ipairs(MARKS) do
  work_out(mark)
  for _, own in ipairs(functions) do
    check_function(own, mark)
    if mark.name == "LT_RAISES" then check_uses(own) end
  end
  for _, declared in ipairs(declarations) do check_declaration(declared, mark) end
end
table.sort(findings)
for _, finding in ipairs(findings) do print(finding) end
