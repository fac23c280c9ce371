-- The text of Lua files as `lua` takes it: a byte order mark is passed over, and a first line that begins with `#`.
local source = {}

--- The same text without these, its lines where they were.
function source.plain(text)
  text = text:gsub("^\xEF\xBB\xBF", "")
  return (text:gsub("^#[^\n]*", ""))
end

--- Why a file that begins so cannot be loaded, or nil: the code of a precompiled one is not verified by Lua, and may
-- crash whoever runs it.
function source.refusal(text, path)
  if text:sub(1, 1) ~= "\27" then return nil end
  return path .. ": a precompiled (binary) file; give the source that it was made from"
end

--- The chunk of a module file's text, or nil and a message with file and line.
function source.load(text, path)
  local refusal = source.refusal(text, path)
  if refusal then return nil, refusal end
  return load(source.plain(text), "@" .. path, "t")
end

return source
