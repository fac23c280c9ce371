-- ltsh.container.combine: a store that has the tasks, and before it a container that says in which order they run.

local ltsh = require "ltsh"
local plain = require "spec.support.plain"
local redis = require "spec.support.redis"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local eventually, door = scene.eventually, scene.door
local EXAMPLE = "examples/lua_container.lua"

lazy_teardown(redis.stop)

-- A store at a place: a file, or a queue on a server.
local function store_at(path, options)
  options = options or {}
  if path and path:find "^queue" then
    options.url, options.queue = redis.url(), path
    return ltsh.container.redis(options)
  end
  options.path, options.durability = path or scene.temporary ".db", "normal"
  return ltsh.container.sqlite(options)
end

local function combine(memory, path, options)
  return ltsh.container.combine(memory or ltsh.container.priority {}, store_at(path, options))
end

local function open(run_task, container, options)
  options = options or {}
  options.container = container
  options.actuator = ltsh.actuator.func(run_task or function() end)
  return scene.keep(ltsh.scheduler(options))
end

-- Adds to the file without running anything.
local function fill(path, tasks)
  local scheduler = open(nil, store_at(path))
  scheduler:pause()
  assert(scheduler:add_all(tasks))
  scheduler:close()
end

local function ids_run(scheduler)
  local ids = {}
  for task in scheduler:finished() do ids[#ids + 1] = task.id end
  return ids
end

-- The last one first, of those that it has.
local function stack()
  local container = { durable = false, tasks = {}, top = {}, most = 0, told = {} }
  function container:add(task)
    self.tasks[task.id] = task
    table.insert(self.top, task.id)
    self.most = math.max(self.most, #self.top)
    return true
  end
  function container:claim(limit)
    local claimed = {}
    while #claimed < limit and self.top[1] do
      local task = self.tasks[table.remove(self.top)]
      if task and task.status == "waiting" then
        self.last = (self.last or 0) + 1
        task.status, task.run, task.attempts = "running", self.last, task.attempts + 1
        claimed[#claimed + 1] = task
      end
    end
    return claimed
  end
  function container:add_running(task)
    self.told[#self.told + 1] = "add_running " .. task.id
    self.tasks[task.id] = task
    return true
  end
  for _, status in ipairs { "exporting", "success", "failed", "stopped", "deleted", "waiting" } do
    container["to_" .. status] = function(self, task)
      self.told[#self.told + 1] = "to_" .. status .. " " .. task.id
      self.tasks[task.id] = nil
      if status == "waiting" then return self:add(task) end
      return true
    end
  end
  function container.running() return {} end
  function container.running_count() return 0 end
  return container
end

local places = { SQLite = function() return scene.temporary ".db" end, Redis = redis.queue }

describe("ltsh.container.combine", function()
  after_each(scene.close)

  for name, place in pairs(places) do
    describe("with " .. name, function()
      -- More than a window has; a server shows some hundreds of them at once.
      local function many(count) return name == "SQLite" and count or count // 8 end

      describe("has what waits", function()
        it("in the order of the store, however much of it there is", function()
          local path, tasks = place(), {}
          for i = 1, many(9000) do tasks[i] = { id = string.format("t%05d", i), priority = i % 3 } end
          fill(path, tasks)
          local ids = ids_run(open(nil, combine(nil, path), { finished_size = 30000 }))
          assert.equal(many(9000), #ids)
          local at = 0
          for _, rest in ipairs { 2, 1, 0 } do
            for i = 1, many(9000) do
              if i % 3 == rest then
                at = at + 1
                if ids[at] ~= tasks[i].id then error(string.format("%s is at %d, not %s", ids[at], at, tasks[i].id)) end
              end
            end
          end
        end)

        it("in the order of the memory part, as far as that has it", function()
          local path = place()
          fill(path, { { id = "a" }, { id = "b" }, { id = "c" } })
          assert.same({ "c", "b", "a" }, ids_run(open(nil, combine(stack(), path))))
        end)

        it("only so far as there is room for it in memory", function()
          local path, tasks = place(), {}
          for i = 1, many(10000) do tasks[i] = { id = "t" .. i } end
          fill(path, tasks)
          local memory = stack()
          local scheduler = open(nil, combine(memory, path), { limit = 100, finished_size = 50000 })
          for i = many(10000) + 1, many(12000) do assert(scheduler:add { id = "t" .. i }) end
          assert.equal(many(12000), #ids_run(scheduler))
          assert.is_true(memory.most < many(9000), memory.most .. " were in memory at once")
        end)

        it("also in a memory part for three tasks", function()
          local path, tasks = place(), {}
          for i = 1, 200 do tasks[i] = { id = string.format("t%03d", i) } end
          fill(path, tasks)
          local scheduler = open(nil, combine(ltsh.container.queue { size = 3 }, path), { limit = 10 })
          for i = 201, 400 do assert(scheduler:add { id = string.format("t%03d", i) }) end
          local ids = ids_run(scheduler)
          assert.equal(400, #ids)
        end)
      end)

      it("runs first what is more urgent, whoever added it", function()
        local path, gate, ran = place(), door(), {}
        local tasks = {}
        for i = 1, many(6000) do tasks[i] = { id = "low" .. i } end
        fill(path, tasks)
        local scheduler = open(function(task)
          ran[#ran + 1] = task.id
          gate.pass()
        end, combine(nil, path), { limit = 1, finished_size = 30000 })
        eventually("one runs", function() return gate.waiting == 1 end)
        local other = open(nil, store_at(path))
        other:pause()
        assert(scheduler:add { id = "here", priority = 1 })
        assert(other:add { id = "there", priority = 2 })
        assert(scheduler:add { id = "later", priority = 3, delay = 0.01 })
        ltsh.sleep(0.02)
        gate.is_open = true
        eventually("some have run", function() return #ran > 10 end)
        assert.same({ "low1", "later", "there", "here", "low2" }, table.move(ran, 1, 5, 1, {}))
      end)

      it("lets no long line of a full key hold up others", function()
        local path, gate, free = place(), door(), 0
        local tasks = {}
        for key = 1, 4 do
          for i = 1, many(1200) do tasks[#tasks + 1] = { id = string.format("k%d-%04d", key, i), key = "k" .. key } end
        end
        for i = 1, 50 do tasks[#tasks + 1] = { id = "free" .. i } end
        fill(path, tasks)
        local order = {}
        local scheduler = open(function(task)
          if not task.key then
            free = free + 1
          else
            order[task.key] = order[task.key] or {}
            table.insert(order[task.key], task.id)
            gate.pass()
          end
        end, combine(nil, path), { limit = 20, key_limit = 1, finished_size = 30000 })
        eventually("all others have run", function() return free == 50 end)
        assert.equal(4, gate.waiting)
        gate.is_open = true
        assert.equal(4 * many(1200) + 50, #ids_run(scheduler))
        for _, ids in pairs(order) do
          assert.equal(many(1200), #ids)
          for i = 2, #ids do assert.is_true(ids[i - 1] < ids[i]) end
        end
      end)

      it("keeps limits over all that share the store, and goes on when others leave room", function()
        local path, gate, inside, most = place(), door(), 0, 0
        local function work()
          inside = inside + 1
          most = math.max(most, inside)
          gate.pass()
          inside = inside - 1
        end
        local options = { limit = 5, global_limit = 3, key_limit = 2 }
        local one = open(work, combine(nil, path), options)
        local two = open(work, combine(ltsh.container.queue {}, path),
          { limit = 5, global_limit = 3, key_limit = 2 })
        for i = 1, 30 do assert(one:add { id = "t" .. i, key = "k" .. i % 2 }) end
        eventually("all places are used", function() return inside == 3 end)
        gate.is_open = true
        for i = 1, 30 do assert.equal("success", two:wait("t" .. i, 10).status) end
        assert.equal(3, most)
      end)
    end)
  end

  it("tells the memory part of each transition, after the store", function()
    local memory, path = stack(), scene.temporary ".db"
    local seen
    local function look(id)
      local db <close> = assert(ltsh.sqlite.open(path))
      return db:value("SELECT state FROM ltsh_tasks WHERE id = ?", id)
    end
    local own = memory.to_success
    function memory:to_success(task)
      seen = look(task.id)
      return own(self, task)
    end
    local failed = false
    local scheduler = open(function(task)
      if task.id == "again" and not failed then
        failed = true
        error "not yet"
      end
      if task.id == "never" then error "no" end
    end, combine(memory, path), { max_retries = 1 })
    for _, id in ipairs { "a", "again", "never" } do
      assert(scheduler:add { id = id })
      assert(scheduler:wait(id, 5))
    end
    assert.same({
      "to_success a", "to_waiting again", "to_success again", "to_waiting never", "to_failed never",
    }, memory.told)
    assert.equal(4, seen) -- it was stored as a success by then
  end)

  it("goes on when the memory part fails", function()
    local memory, calls = stack(), 0
    for _, name in ipairs { "add", "claim", "to_success" } do
      local own = memory[name]
      memory[name] = function(...)
        calls = calls + 1
        if calls % 3 == 0 then error "out of order" end
        return own(...)
      end
    end
    local path = scene.temporary ".db"
    local scheduler = open(nil, combine(memory, path), { limit = 2 })
    for i = 1, 10 do assert(scheduler:add { id = "t" .. i }) end
    for i = 1, 10 do assert.equal("success", assert(scheduler:wait("t" .. i, 30)).status) end
  end)

  it("loses nothing and does nothing twice when the store fails before or after what it does", function()
    local store, dice, ran = plain(), 7, {}
    for name, own in pairs(store) do
      if type(own) == "function" and name ~= "get" then
        store[name] = function(...)
          dice = dice * 16807 % 2147483647
          if dice % 10 == 0 then error "before" end
          local results = table.pack(own(...))
          if dice % 10 == 1 then error "after" end
          if dice % 10 == 2 then ltsh.sleep(0.001) end
          return table.unpack(results, 1, results.n)
        end
      end
    end
    local container = ltsh.container.combine(ltsh.container.load(EXAMPLE), store)
    local scheduler = open(function(task)
      ran[task.id .. "/" .. task.attempts] = (ran[task.id .. "/" .. task.attempts] or 0) + 1
      if task.attempts == 1 and task.item % 3 == 0 then error "again" end
    end, container, { limit = 4, max_retries = 1, schedule_interval = 0.02 })
    local added = {}
    for i = 1, 100 do
      local id = scheduler:add { id = "t" .. i, item = i, key = "k" .. i % 5 }
      if id then added[#added + 1] = id end
    end
    assert.is_true(#added > 50)
    for _, id in ipairs(added) do assert.equal("success", assert(scheduler:wait(id, 30)).status) end
    for _, id in ipairs(added) do
      assert.equal("success", store.tasks[id].status)
      assert.equal(1, ran[id .. "/1"])
    end
  end)

  it("shows the memory part what ran when a host died", function()
    local path = scene.temporary ".db"
    local host = run.start({ "-e", [[
      local ltsh = require "ltsh"
      local scheduler = ltsh.scheduler {
        container = ltsh.container.combine(ltsh.container.queue {},
          ltsh.container.sqlite { path = arg[1], durability = "normal" }),
        actuator = ltsh.actuator.func(function() print "runs" ltsh.sleep(60) end),
      }
      for i = 1, 3 do assert(scheduler:add { id = "t" .. i }) end
      scheduler:run()
    ]], path })
    host:expect "runs"
    host:kill "sigkill"
    host:wait()
    local memory = stack()
    local scheduler = open(nil, combine(memory, path))
    for i = 1, 3 do assert.equal("success", assert(scheduler:wait("t" .. i, 10)).status) end
    assert.matches("^add_running t%d$", memory.told[1])
  end)

  it("stores outputs in the same step, if the persister has the same file", function()
    local path = scene.temporary ".db"
    local scheduler = open(function(task) return { n = task.item } end, combine(nil, path),
      { persister = ltsh.persister.sqlite { path = path } })
    assert(scheduler:add { id = "a", item = 7 })
    assert(scheduler:wait("a", 5))
    assert.same({ n = 7 }, scheduler:output "a")
    local db <close> = assert(ltsh.sqlite.open(path))
    assert.equal(7, db:value "SELECT json_extract(output, '$.n') FROM ltsh_tasks")
  end)

  it("says what cannot be combined", function()
    local path = scene.temporary ".db"
    local function refuses(pattern, ...)
      local ok, message = pcall(ltsh.container.combine, ...)
      assert.is_false(ok)
      assert.matches(pattern, message)
    end
    local queue = ltsh.container.queue {}
    refuses("memory must be a container such as .*, got nil", nil, store_at(path))
    refuses("persistent must be a container such as .*, got nil", queue)
    refuses("a queue and a queue cannot be combined", queue, ltsh.container.queue {})
    refuses("a sqlite and a sqlite cannot be combined", store_at(path), store_at(path))
    refuses("a queue and a combination cannot be combined", queue, combine(nil, path))
    local memory = stack()
    memory.add_running = nil
    refuses("memory: the method 'add_running' is missing", memory, store_at(path))
    refuses("persistent: the method 'waiting' is missing", queue, stack())
    local used = store_at(path)
    assert(ltsh.container.combine(ltsh.container.queue {}, used))
    refuses("persistent: this container is part of a combination already", queue, used)
    local ok, message = pcall(ltsh.scheduler, { container = used, actuator = ltsh.actuator.func(print) })
    assert.is_false(ok)
    assert.matches("this container is part of a combination already", message)
    local scheduler = open(nil, combine(queue, path))
    local id, why, code = scheduler:add { id = "a", priority = 1 }
    assert.same({ nil, "refused" }, { id, code })
    assert.matches("has priority 1, and a queue has no priorities", why)
    assert.is_truthy(ltsh.container.load(EXAMPLE).add_running)
  end)
end)
