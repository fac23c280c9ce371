--- A disk that fails, for a process: disk.env(path) is the environment of one for which the files that begin with this
--- path are on it. In that process, disk_fails("no space" | "writes" | "syncs" | nil) says what fails from then on, and
--- disk_syncs() how many syncs there were; disk.HEAD defines both. The rest: see shim.lua.
local scene = require "spec.support.scene"

local disk = require "spec.support.shim"("disk_shim.c", "the disk cannot fail for this build")

function disk.env(path)
  local control = scene.temporary ".control"
  local file = assert(io.open(control, "wb"))
  file:write(("i4i4"):pack(0, 0))
  file:close()
  return disk.preload { DISK_CONTROL = control, DISK_FILE = path }
end

disk.HEAD = [[
  local control = assert(io.open(os.getenv "DISK_CONTROL", "r+b"))
  control:setvbuf "no"
  local modes = { ["no space"] = 1, writes = 2, syncs = 4 }
  function disk_fails(what)
    control:seek "set"
    control:write(("i4"):pack(modes[what] or 0))
    control:flush()
  end
  function disk_syncs()
    control:seek("set", 4)
    return (("i4"):unpack(control:read(4)))
  end
]]

return disk
