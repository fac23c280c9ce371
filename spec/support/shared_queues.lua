--- Each container whose queue several hosts can share, for specs that hold all of them to the same.
---
---     for _, kind in ipairs(require "spec.support.shared_queues") do
---       describe(kind.name, function()
---         local at = kind.place()                           a queue of one, and the file of another
---         local scheduler = kind.open(at, run, options)     on it; options.container: options of the container
---         local child = kind.host(at, text)                 another process; `container(options)` is made for its text
local ltsh = require "ltsh"
local redis = require "spec.support.redis"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

-- How each is made, as text that both sides run.
local MAKERS = {
  ["ltsh.container.sqlite"] = "options.path, options.durability = place, 'normal'"
    .. " return ltsh.container.sqlite(options)",
  ["queue and sqlite combined"] = "options.path, options.durability = place, 'normal'"
    .. " return ltsh.container.combine(ltsh.container.queue {}, ltsh.container.sqlite(options))",
  ["ltsh.container.redis"] = "options.url, options.queue = url, place; return ltsh.container.redis(options)",
  ["queue and redis combined"] = "options.url, options.queue = url, place"
    .. " return ltsh.container.combine(ltsh.container.queue {}, ltsh.container.redis(options))",
}

local kinds = {}

for name, maker in pairs(MAKERS) do
  local is_redis = name:find "redis" ~= nil
  local kind = { name = name, is_redis = is_redis }

  function kind.place() return is_redis and redis.queue() or scene.temporary ".db" end

  function kind.open(at, run_task, options)
    local make = assert(load("local ltsh, url, place, options = ...; " .. maker))
    options.container = make(ltsh, is_redis and redis.url(), at, options.container or {})
    return scene.open(run_task, options)
  end

  function kind.host(at, text)
    local before = "local ltsh = require 'ltsh'; local url, place = arg[1], arg[2]; local function container(options) "
      .. maker .. " end; "
    return run.start { "-e", before .. text, is_redis and redis.url() or "", at }
  end

  table.insert(kinds, kind)
end

return kinds
