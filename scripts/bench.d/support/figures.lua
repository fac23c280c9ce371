-- What the benchmarks measure and print with.
local uv = require "luv"

local figures = {}

--- Prints one figure: `name: value unit`.
function figures.out(name, value, unit)
  print(string.format("%s: %.6g %s", name, value, unit))
  io.stdout:flush()
end

--- The median of a list of numbers, which is sorted.
function figures.median(values)
  table.sort(values)
  return values[(#values + 1) // 2]
end

--- Seconds since some point, whatever is done to the wall clock.
function figures.seconds() return uv.hrtime() * 1e-9 end

return figures
