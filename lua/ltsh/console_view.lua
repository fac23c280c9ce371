-- What the console shows of tasks and takes as tasks: values as JSON that holds them exactly.
--
--     bytes that are no UTF-8     { "$bytes": base64 }
--     inf, -inf, nan              { "$number": "inf" }
--     a map whose only key begins with $    { "$map": { ... } }
local core = require "ltsh.core"
local json = core.json

local view = {}

-- Base64.

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local VALUES = {}
for i = 1, #ALPHABET do VALUES[ALPHABET:byte(i)] = i - 1 end

local function base64(bytes)
  local parts = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local n = (a << 16) | ((b or 0) << 8) | (c or 0)
    for shift = 18, 0, -6 do
      local at = ((n >> shift) & 63) + 1
      parts[#parts + 1] = ALPHABET:sub(at, at)
    end
    if not b then
      parts[#parts - 1], parts[#parts] = "=", "="
    elseif not c then
      parts[#parts] = "="
    end
  end
  return table.concat(parts)
end

local function from_base64(text)
  text = text:gsub("[=%s]", "")
  if text:find "[^%w+/]" then return nil end
  local bytes, bits, count = {}, 0, 0
  for i = 1, #text do
    bits, count = (bits << 6) | VALUES[text:byte(i)], count + 6
    if count >= 8 then
      count = count - 8
      bytes[#bytes + 1] = string.char((bits >> count) & 255)
      bits = bits & ((1 << count) - 1)
    end
  end
  return table.concat(bytes)
end

--- Text for people: bytes that are no UTF-8 become U+FFFD.
function view.text(value)
  if value == nil then return nil end
  value = tostring(value)
  if utf8.len(value) then return value end
  local parts, at = {}, 1
  while at <= #value do
    local len, bad = utf8.len(value, at)
    if len then
      parts[#parts + 1] = value:sub(at)
      break
    end
    parts[#parts + 1] = value:sub(at, bad - 1) .. "\u{FFFD}"
    at = bad + 1
  end
  return table.concat(parts)
end

-- Values to JSON, and back.

local ARRAY = getmetatable(json.array {})

local function only_key(map)
  local key = next(map)
  return type(key) == "string" and key:find "^%$" and next(map, key) == nil
end

-- Whether JSON holds it as it is: no table is made then.
local function is_exact(value)
  if value[1] == nil and (only_key(value) or getmetatable(value) == ARRAY) then return false end
  local length, count = #value, 0
  for key, field in next, value do
    local kind = type(field)
    count = count + 1
    if length == 0 and not (type(key) == "string" and utf8.len(key)) or length > 0 and math.type(key) ~= "integer" then
      return false
    end
    if kind == "string" and not utf8.len(field) or kind == "table" and not is_exact(field) then return false end
    if kind == "number" and (field ~= field or field == math.huge or field == -math.huge) then return false end
  end
  return length == 0 or count == length
end

local function out_of_table(value)
  if is_exact(value) then return value end
  local made = {}
  if #value > 0 or getmetatable(value) == ARRAY then
    local count = 0
    for _ in pairs(value) do count = count + 1 end
    if count == #value then
      for i = 1, #value do made[i] = view.data(value[i]) end
      return json.array(made)
    end
  end
  for key, field in pairs(value) do made[view.text(key)] = view.data(field) end
  if only_key(made) then return { ["$map"] = made } end
  return made
end

--- A value of a task as JSON can hold it.
function view.data(value)
  local kind = type(value)
  if value == json.null then return value end
  if kind == "table" then return out_of_table(value) end
  if kind == "string" and not utf8.len(value) then return { ["$bytes"] = base64(value) } end
  if kind == "number" and (value ~= value or value == math.huge or value == -math.huge) then
    return { ["$number"] = value ~= value and "nan" or value > 0 and "inf" or "-inf" }
  end
  return value
end

local NUMBERS = { inf = math.huge, ["-inf"] = -math.huge, nan = 0 / 0 }

--- The value that such JSON means; raises if it means none.
function view.value(data)
  if type(data) ~= "table" or data == json.null then return data end
  if only_key(data) then
    local key, inner = next(data)
    if key == "$bytes" then
      local bytes = type(inner) == "string" and from_base64(inner)
      if not bytes then error("$bytes: no base64", 0) end
      return bytes
    elseif key == "$number" then
      if NUMBERS[inner] == nil then error("$number: inf, -inf or nan", 0) end
      return NUMBERS[inner]
    elseif key == "$map" and type(inner) == "table" then
      data = inner
    end
  end
  for key, field in pairs(data) do data[key] = view.value(field) end
  return data
end

-- Tasks.

local DATA = { "item", "output", "handle" }
local PREVIEW, BRIEF = 200, 1000 -- characters

local function begin_of(text, most)
  if not text or #text <= most then return text end
  local ends = utf8.offset(text, most + 1)
  return ends and text:sub(1, ends - 1) .. "…" or text
end

local function preview_of(item)
  if item == nil then return nil end
  local ok, text = pcall(json.encode, view.data(item))
  return ok and begin_of(text, PREVIEW) or nil
end

-- As it is, if its JSON has no more than so many bytes; else the beginning of that as a text, and how long it is.
local function data_up_to(most, value)
  local data = view.data(value)
  if most == math.huge then return data end
  local ok, text = pcall(json.encode, data)
  if not ok or #text <= most then return data end
  return begin_of(text, most), #text
end

-- In a list, or an event: no more than a few kilobytes, whatever tasks say.
local function make_brief(shown, task)
  shown.reason = begin_of(shown.reason, BRIEF)
  if task.progress ~= nil then shown.progress = data_up_to(BRIEF, task.progress) end
end

--- Seconds to the microsecond, which is all that clocks say. nil: there are none.
function view.time(seconds)
  if seconds and seconds > -9e9 and seconds < 9e9 then return math.floor(seconds * 1e6 + 0.5) / 1e6 end
  return seconds
end

--- A task for the console. `fields`: a set of item, output, handle; nil: a preview instead of these; false: neither.
--- With `most`, data of more bytes is only begun, as a text, and `larger` says how long each is.
function view.task(task, fields, most)
  local text, time = view.text, view.time
  local shown = {
    id = text(task.id), status = text(task.status), key = text(task.key), reason = text(task.reason),
    host = text(task.host), version = text(task.version),
    attempts = task.attempts, run = task.run, priority = task.priority,
    added_at = time(task.added_at), started_at = time(task.started_at), ended_at = time(task.ended_at),
    run_at = time(task.run_at), expires_at = time(task.expires_at),
  }
  if not fields then
    make_brief(shown, task)
    if fields == nil then shown.preview = preview_of(task.item) end
    return shown
  end
  if task.progress ~= nil then shown.progress = view.data(task.progress) end
  for _, name in ipairs(DATA) do
    if fields[name] and task[name] ~= nil then
      local size
      shown[name], size = data_up_to(most or math.huge, task[name])
      if size then
        shown.larger = shown.larger or {}
        shown.larger[name] = size
      end
    end
  end
  return shown
end

--- A run of a task's history.
function view.run(run)
  local shown = {
    run = run.run, start = run.start, status = view.text(run.status), reason = view.text(run.reason),
    version = view.text(run.version), host = view.text(run.host),
  }
  shown["end"] = run["end"]
  return shown
end

return view
