-- What is looked at when a host connects, before it joins the queue: whether it may do what queue.lua does, and whether the
-- queue is one that it knows. Nothing is written where something is wrong.
--
-- KEYS, ARGV: those that all operations of queue.lua have; behind them the layout that this host knows, the type of each key
-- ("h" or "z"), the commands of queue.lua, the channel of all hosts.
local layout, types, commands, channel = tonumber(ARGV[#ARGV - 3]), ARGV[#ARGV - 2], ARGV[#ARGV - 1], ARGV[#ARGV]

if redis.acl_check_cmd then -- servers from 7.0 on
  local missing = {}
  for name in commands:gmatch "%u+" do
    local on = name == "PUBLISH" and channel or KEYS[1]
    if not redis.acl_check_cmd(name, on, "0", "0", "0") then missing[#missing + 1] = name end
  end
  if not redis.acl_check_cmd("SUBSCRIBE", channel) then missing[#missing + 1] = "SUBSCRIBE" end
  if #missing > 0 then
    return redis.error_reply("NOPERM this user may not use " .. table.concat(missing, ", ") .. " on " .. KEYS[1] .. "*")
  end
end

for i, key in ipairs(KEYS) do
  local is, wanted = redis.call("TYPE", key).ok, types:sub(i, i) == "h" and "hash" or "zset"
  if is ~= "none" and is ~= wanted then
    return redis.error_reply("WRONGTYPE the key " .. key .. " is a " .. is .. " and not a " .. wanted ..
      ": somebody else uses it (name another queue, or remove it)")
  end
end

local has = tonumber(redis.call("HGET", KEYS[1], "layout") or 0)
if has > layout then
  return redis.error_reply("LAYOUT the queue is of a newer ltsh (its layout is " .. has .. ", this one knows " .. layout ..
    "): update ltsh on this host")
end
if has > 0 and has < layout then
  return redis.error_reply("LAYOUT the queue is of an older ltsh (its layout is " .. has .. ", this one writes " .. layout ..
    "): let hosts with that one end its tasks, or name another queue")
end
if has == 0 then redis.call("HSET", KEYS[1], "layout", layout) end
return redis.status_reply("OK")
