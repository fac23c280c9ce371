--- The operations of queue.lua as words, and the records of tasks, for what talks to the script without a host.
---
---     words.add("name", { { id = "t1", once =, key =, when = "+2", within = "3", rest =, large = }, ... })
---     words.change { id =, run =, token =, to = "4", again =, frees =, uncounted =, lost =, not_begun =,
---                    when =, reason =, version =, progress =, output = }
---     words.claim { number =, token =, room =, global_limit =, key_limit =, key_once =, fair =, full = { keys },
---                   choices = { { id =, run = }, ... }, look =, known = }
---     words.read(record).status, .flags, .lost, .attempts, .run, .token, .owner, .place, .order, .key
local pack, unpack = string.pack, string.unpack

local words = {}

local function bit_of(flag, bit) return flag and bit or 0 end

function words.add(name, tasks)
  local list = { "a", tostring(#tasks), name }
  local function put(word) list[#list + 1] = word end
  for _, task in ipairs(tasks) do
    local bits = bit_of(task.once, 1) + bit_of(task.when, 2) + bit_of(task.within, 4) + bit_of(task.large, 8)
    put(task.id)
    put(string.char(bits) .. (task.priority or "\64"))
    put(pack(">s2", task.key or "") .. (task.rest or "\0"))
    if task.when then put(task.when) end
    if task.within then put(task.within) end
    if task.large then put(task.large) end
  end
  return list
end

function words.change(op)
  local bits = bit_of(op.again, 1) + bit_of(op.frees, 2) + bit_of(op.uncounted, 4) + bit_of(op.lost, 8) +
    bit_of(op.not_begun, 16)
  local list, values = { "c", op.id }, 0
  for i, name in ipairs { "when", "reason", "version", "progress", "output" } do
    if op[name] then values = values | 1 << i - 1 end
  end
  list[3] = op.run .. op.token .. op.to .. string.char(bits, values)
  for _, name in ipairs { "when", "reason", "version", "progress", "output" } do
    if op[name] then list[#list + 1] = op[name] end
  end
  return list
end

function words.claim(op)
  local full = op.full or {}
  local list = { "q", op.number, op.token, "host", tostring(op.room), tostring(op.global_limit or 0),
                 tostring(op.key_limit or 0), op.key_once and "1" or "0", "0", "0", op.fair and "1" or "0",
                 tostring(#full) }
  for _, key in ipairs(full) do list[#list + 1] = key end
  list[#list + 1] = op.choices and "1" or "0"
  if not op.choices then return list end
  for _, number in ipairs { op.known or 0, op.look or 0, #op.choices } do list[#list + 1] = tostring(number) end
  for _, choice in ipairs(op.choices) do
    list[#list + 1] = choice.id
    list[#list + 1] = choice.run
  end
  return list
end

local function order_length(first)
  local kind = first % 128
  return kind == 32 and 7 or 7 + math.abs(kind - 64)
end

function words.read(record)
  local run_length = record:byte(9)
  local behind, began = 9 + run_length, run_length > 0
  local order_at = behind + 45
  local key_at = order_at + order_length(record:byte(order_at))
  return {
    status = record:sub(1, 1), flags = record:byte(2), lost = record:byte(3), attempts = unpack(">I4", record, 5),
    run = began and record:sub(10, 15) or ("\0"):rep(6), token = began and record:sub(16, 23) or ("\0"):rep(8),
    owner = began and record:sub(24, 31) or "", place = unpack(">I6", record, behind + 1),
    order = record:sub(order_at, key_at - 1), key = (unpack(">s2", record, key_at)),
  }
end

return words
