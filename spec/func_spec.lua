-- The actuator of functions does what all do.
local ltsh = require "ltsh"
local uv = require "luv"

local actuator_contract = assert(loadfile("spec/contract/actuator_contract.lua", "t", _ENV))()

local function perform(task)
  local item = task.item
  if item.sleep then ltsh.sleep(item.sleep) end
  if item.folder and uv.fs_mkdir(item.folder .. "/x", 493) then error("it was not there", 0) end
  if item.code ~= 0 then error(("exit code %d: %s"):format(item.code, item.err:match "[^\n]*"), 0) end
  return { code = item.code, stdout = item.out, stderr = item.err }
end

actuator_contract("functions", {
  actuator = function() return ltsh.actuator.func(perform) end,
  saying = function(out, err, code) return { out = out, err = err, code = code } end,
  sleep = function() return { sleep = 60, code = 0 } end,
  flaky = function(folder) return { folder = folder, code = 0 } end,
  no_streams = true,
})
