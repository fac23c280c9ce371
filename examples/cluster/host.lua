-- One of the hosts that main.lua starts; by hand, as many more as you like:
--
--   scripts/ltsh examples/cluster/host.lua URL NAME
local queue = require "queue"

queue.open(arg[1], arg[2]):run()
