-- Who holds a port that is taken: a message that names the process spares the search for it.
--
--     /proc/net/tcp, tcp6: a socket that listens there -> its inode -> /proc/PID/fd: who has it open
--
-- Other users' descriptors cannot be read, and other systems have no such files: then nobody is named.
local uv = require "luv"

local LISTENS = "0A"
local ANY4, ANY6 = ("0"):rep(8), ("0"):rep(32)

local function read(path)
  local file = io.open(path, "rb")
  if not file then return "" end
  local text = file:read "a" or ""
  file:close()
  return text
end

-- An address as these files have it: words of 32 bits in hex, as they lie in memory; nil: it is not known here.
local function hex_of(host)
  if host == "::" then return ANY6 end
  local a, b, c, d = host:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
  if host == "::1" then a, b, c, d = 0, 0, 0, 1 elseif not a then return nil end
  local word = ("%08X"):format(string.unpack("=I4", string.char(a, b, c, d)))
  return host == "::1" and ("0"):rep(24) .. word or word
end

-- Whether a socket on `theirs` is in the way of one on `ours`.
local function is_in_the_way(ours, theirs)
  return ours == nil or theirs == ours or ours == ANY4 or ours == ANY6 or theirs == ANY4 or theirs == ANY6
end

-- The names of the links in /proc/PID/fd: a set.
local function sockets_at(host, port)
  local ours, found = hex_of(host), {}
  for _, file in ipairs { "/proc/net/tcp", "/proc/net/tcp6" } do
    for line in read(file):gmatch "[^\n]+" do
      local address, at, state, inode =
        line:match "^%s*%d+: (%x+):(%x+) %x+:%x+ (%x%x) %x+:%x+ %x+:%x+ %x+%s+%d+%s+%d+ (%d+)"
      if state == LISTENS and tonumber(at, 16) == port and is_in_the_way(ours, address) then
        found["socket:[" .. inode .. "]"] = true
      end
    end
  end
  return found
end

local function names_in(folder)
  local names, entries = {}, uv.fs_scandir(folder)
  for name in function() return entries and uv.fs_scandir_next(entries) end do
    if name:find "^%d+$" then names[#names + 1] = math.tointeger(name) end
  end
  table.sort(names) -- who opened it comes before those that it started
  return names
end

local function has_one_of(pid, sockets)
  local folder = ("/proc/%d/fd"):format(pid)
  for _, fd in ipairs(names_in(folder)) do
    if sockets[uv.fs_readlink(folder .. "/" .. fd) or ""] then return true end
  end
  return false
end

--- The holder of a port of this machine, as "redis-server (pid 1234)"; nil: it cannot be known.
local function port_holder(host, port)
  local sockets = sockets_at(host, port)
  if next(sockets) == nil then return nil end
  for _, pid in ipairs(names_in "/proc") do
    if has_one_of(pid, sockets) then
      local name = read(("/proc/%d/comm"):format(pid)):gsub("\n$", ""):gsub("[%c\x7f-\xff]", "?")
      return ("%s (pid %d)"):format(name ~= "" and name or "a process", pid)
    end
  end
end

return port_holder
