-- What every container with `fair = true` must do, beside its contract (container_contract.lua):
--
--   fair_contract("the queue", function() return ltsh.container.queue { fair = true } end, { priorities = true })
--
-- make() returns a new container; combined = true: it is a combination. To be loaded with the environment of the spec
-- that applies it, where `describe` is.

local ltsh = require "ltsh"
local scene = require "spec.support.scene"

local eventually = scene.eventually

return function(name, make, supports)
  supports = supports or {}

  describe(name, function()
    local seen -- the ids, in the order in which they started

    before_each(function() seen = {} end)
    after_each(scene.close)

    -- A scheduler that notes what starts; `run` is what tasks do then.
    local function open(options, run)
      options = options or {}
      options.container = options.container or make()
      options.limit = options.limit or 1
      return scene.open(function(task)
        table.insert(seen, task.id)
        if run then return run(task) end
      end, options)
    end

    -- Tasks for add_all: "a1 a2 b1", the letter is the key; "-" stands for none.
    local function tasks(text)
      local list = {}
      for id in text:gmatch "%S+" do
        local key = id:match "^%a+"
        list[#list + 1] = { id = id, key = key }
      end
      return list
    end

    local function add(scheduler, text) assert(scheduler:add_all(tasks(text))) end

    -- Everything is added before anything starts.
    local function run_all(scheduler, text)
      scheduler:pause()
      add(scheduler, text)
      scheduler:resume()
      scene.ends_of(scheduler)
      return table.concat(seen, " ")
    end

    -- Tasks wait until they are let go, by their ids.
    local function doors()
      local self = { open = {} }
      function self.pass(task)
        while not self.open[task.id] do ltsh.sleep(0.001) end
      end
      function self.let(id) self.open[id] = true end
      return self
    end

    local function starts(count)
      eventually(count .. " have started", function() return #seen == count end)
      return table.concat(seen, " ")
    end

    it("gives each key its turn, and those without a key one together", function()
      assert.equal("a1 b1 c1 -1 a2 b2 -2 a3 b3 a4 a5", run_all(open(), "a1 a2 a3 a4 a5 b1 b2 b3 c1 -1 -2"))
    end)

    it("does so among those that start together", function()
      assert.equal("a1 b1 a2 b2 a3 a4 a5 a6", run_all(open { limit = 100 }, "a1 a2 a3 a4 a5 a6 b1 b2"))
    end)

    it("lets nobody wait behind a key with very many", function()
      local held = doors()
      local scheduler = open({ finished_size = 0 }, function(task)
        if task.id:find "^b" or task.id == "a7000" then held.pass(task) end
      end)
      scheduler:pause()
      local many = {}
      for i = 1, 7000 do many[i] = { id = "a" .. i, key = "a" } end
      assert(scheduler:add_all(many))
      scheduler:resume()
      eventually("some have run", function() return #seen > 200 end)
      add(scheduler, "b1 b2 b3")
      for i = 1, 3 do
        eventually("it runs", function() return seen[#seen] == "b" .. i end)
        if i > 1 then assert.equal("b" .. i - 1, seen[#seen - 2]) end -- one of a's between them
        held.let("b" .. i)
      end
      assert.is_true(#seen < 7000)
    end)

    it("gives a key that is new a turn behind those that wait, and before those that have had theirs", function()
      local held = doors()
      local scheduler = open(nil, held.pass)
      scheduler:pause()
      add(scheduler, "a1 a2 b1 b2")
      scheduler:resume()
      starts(1)
      add(scheduler, "c1 c2")
      for _, id in ipairs { "a1", "b1", "a2", "c1", "b2", "c2" } do held.let(id) end
      assert.equal("a1 b1 a2 c1 b2 c2", starts(6))
    end)

    it("does not remember the turn of a key of which nothing waits", function()
      local held = doors()
      local scheduler = open(nil, held.pass)
      scheduler:pause()
      add(scheduler, "a1 b1 c1")
      scheduler:resume()
      starts(1)
      add(scheduler, "a2") -- behind b and c
      scheduler:stop "b1"
      add(scheduler, "b2") -- behind a
      for _, id in ipairs { "a1", "c1", "a2", "b2" } do held.let(id) end
      assert.equal("a1 c1 a2 b2", starts(4))
    end)

    it("keeps key_limit, and a key that is full keeps its turn", function()
      local held = doors()
      local scheduler = open({ limit = 2, key_limit = 1 }, held.pass)
      scheduler:pause()
      add(scheduler, "a1 a2 b1 b2 b3 c1 c2")
      scheduler:resume()
      assert.equal("a1 b1", starts(2)) -- in line: c a b
      held.let "b1"
      assert.equal("a1 b1 c1", starts(3)) -- a, which is full, b c
      held.let "c1"
      assert.equal("a1 b1 c1 b2", starts(4)) -- a c b
      held.let "a1"
      if supports.combined then -- an end makes room for its key when it is stored, and for others with the claim
        assert.equal("a1 b1 c1 b2 c2", starts(5))
        held.let "c2"
      else
        assert.equal("a1 b1 c1 b2 a2", starts(5)) -- c b
        held.let "a2"
      end
      assert.matches(supports.combined and "c2 a2$" or "a2 c2$", starts(6))
      for _, id in ipairs { "a2", "b2", "c2", "b3" } do held.let(id) end
      assert.matches("b3$", starts(7))
    end)

    it("lets others pass when very many wait of a key that is full", function()
      local held = doors()
      local scheduler = open({ limit = 3, key_limit = 1 }, held.pass)
      local many = {}
      for i = 1, 3000 do many[i] = { id = "a" .. i, key = "a" } end
      assert(scheduler:add_all(many))
      starts(1)
      add(scheduler, "b1 c1 d1 -1")
      assert.equal("a1 b1 c1", starts(3))
      held.let "b1"
      assert.equal("a1 b1 c1 d1", starts(4))
      held.let "c1"
      assert.equal("a1 b1 c1 d1 -1", starts(5))
    end)

    it("keeps a limit that is a function", function()
      local running, most = {}, {}
      local scheduler = open({
        limit = 10, key_limit = function(key) return key == "a" and 2 or 1 end,
      }, function(task)
        local key = task.key
        running[key] = (running[key] or 0) + 1
        most[key] = math.max(most[key] or 0, running[key])
        ltsh.sleep(0.002)
        running[key] = running[key] - 1
      end)
      run_all(scheduler, "a1 a2 a3 a4 b1 b2 b3 c1 c2")
      assert.equal(9, #seen)
      assert.is_true(most.a <= 2 and most.b == 1 and most.c == 1)
    end)

    it("keeps the rate of a key, and others take their turns meanwhile", function()
      local scheduler = open { limit = 10, rate = { 1, per = 0.05, key = true } }
      scheduler:pause()
      add(scheduler, "a1 a2 a3 b1 b2")
      scheduler:resume()
      local began = ltsh.now()
      scene.ends_of(scheduler)
      assert.is_true(ltsh.now() - began > 0.09)
      assert.equal("a1 b1", table.concat(seen, " ", 1, 2))
      local of_key = { a = {}, b = {} }
      for _, id in ipairs(seen) do table.insert(of_key[id:sub(1, 1)], id) end
      assert.same({ a = { "a1", "a2", "a3" }, b = { "b1", "b2" } }, of_key)
    end)

    it("keeps the rate of all", function()
      local scheduler = open { limit = 1, rate = { 2, per = 0.05 } }
      assert.equal("a1 b1 a2 b2 a3 a4", run_all(scheduler, "a1 a2 a3 a4 b1 b2"))
    end)

    it("puts what is tried again behind its own key's, and its key loses no turn", function()
      local scheduler = open({ max_retries = 1 }, function(task)
        if task.id == "a1" and task.attempts == 1 then return nil, "again" end
      end)
      assert.equal("a1 b1 a2 b2 a3 b3 a1", run_all(scheduler, "a1 a2 a3 b1 b2 b3"))
    end)

    it("gives what becomes due later a turn then", function()
      local scheduler = open()
      scheduler:pause()
      add(scheduler, "b1 b2")
      assert(scheduler:add { id = "a1", key = "a", delay = 0.01 })
      assert(scheduler:add { id = "c1", key = "c", delay = 100 })
      ltsh.sleep(0.02)
      scheduler:resume()
      starts(3)
      assert.equal("b1 a1 b2", table.concat(seen, " "))
      assert.equal("waiting", scheduler:get("c1").status)
    end)

    it("gives what is retried by hand a turn", function()
      local scheduler = open()
      run_all(scheduler, "a1")
      scheduler:pause()
      add(scheduler, "b1 b2")
      assert(scheduler:retry "a1")
      scheduler:resume()
      scene.ends_of(scheduler)
      assert.equal("a1 b1 a1 b2", table.concat(seen, " "))
    end)

    if supports.priorities then
      it("has priorities within a key only", function()
        local scheduler = open()
        scheduler:pause()
        for id, priority in pairs { a0 = 0, a5 = 5, b1 = 1, b9 = 9, ["-0"] = 0, ["-7"] = 7 } do
          assert(scheduler:add { id = id, priority = priority, key = id:match "^%a" })
        end
        scheduler:resume()
        scene.ends_of(scheduler)
        local of_key, first = { a = "", b = "", ["-"] = "" }, {}
        for i, id in ipairs(seen) do
          local key = id:sub(1, 1)
          of_key[key] = of_key[key] .. id:sub(2)
          first[key] = first[key] or i
        end
        assert.same({ a = "50", b = "91", ["-"] = "70" }, of_key)
        assert.is_true(math.max(first.a, first.b, first["-"]) == 3) -- each has had one before any has a second
      end)
    end

    it("gives each of many keys its turn", function()
      local scheduler, list = open({ limit = 7, finished_size = 0 }), {}
      scheduler:pause()
      for round = 1, 3 do
        for key = 1, 2000 do list[#list + 1] = { id = key .. " " .. round, key = "key" .. key } end
      end
      assert(scheduler:add_all(list))
      scheduler:resume()
      starts(6000)
      for i, id in ipairs(seen) do
        local expected = string.format("%d %d", (i - 1) % 2000 + 1, (i - 1) // 2000 + 1)
        if id ~= expected then error(string.format("%s is at %d, not %s", id, i, expected)) end
      end
    end)
  end)
end
