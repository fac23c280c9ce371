-- The persisters that are built in.

local ltsh = require "ltsh"
local uv = require "luv"
local scene = require "spec.support.scene"

local VALUES = {
  { a = 1, list = { 1, 2.5, "x" } }, "text", 12, 1.0, true, ("x"):rep(100000), "\xff\xfe", math.huge,
  { [1] = "a", x = "b" }, ltsh.json.array {}, ltsh.json.null, "",
}

local function same(a, b)
  assert.same(a, b)
  assert.equal(math.type(a), math.type(b))
end

local function open(persister, options)
  options = options or {}
  options.persister = persister
  return scene.open(function(task) return task.item end, options)
end

local persisters = {
  ["ltsh.persister.sqlite"] = function()
    return ltsh.persister.sqlite { path = scene.temporary ".db" }
  end,
  ["ltsh.persister.sqlite in the container's file"] = function()
    local path = scene.temporary ".db"
    return ltsh.persister.sqlite { path = path }, ltsh.container.sqlite { path = path, durability = "normal" }
  end,
  ["ltsh.persister.sqlite beside another database"] = function()
    return ltsh.persister.sqlite { path = scene.temporary ".out.db" },
      ltsh.container.sqlite { path = scene.temporary ".db", durability = "normal" }
  end,
  ["ltsh.persister.files"] = function()
    return ltsh.persister.files { dir = scene.temporary ".d" }
  end,
}

for name, make in pairs(persisters) do
  describe(name, function()
    after_each(scene.close)

    it("gives back what was saved", function()
      local persister, container = make()
      local scheduler = open(persister, { container = container })
      local ids = {}
      for i, value in ipairs(VALUES) do
        ids[i] = i % 2 == 0 and ("long/../ü" .. ("y"):rep(230) .. i) or "v" .. i
        assert(scheduler:add { id = ids[i], item = value })
      end
      for i, value in ipairs(VALUES) do
        local task = assert(scheduler:wait(ids[i], 20))
        assert.equal("success", task.status, task.reason)
        local output, message = scheduler:output(ids[i])
        assert.is_nil(message)
        same(value, output)
      end
    end)

    it("gives the output of the latest success, and nothing of a deleted task", function()
      local persister, container = make()
      local scheduler = open(persister, { container = container })
      for _, value in ipairs { 1, "\xff", 3 } do
        assert(scheduler:add { id = "a", item = value })
        assert(scheduler:wait("a", 10))
        same(value, scheduler:output "a")
      end
      assert(scheduler:delete "a")
      assert(scheduler:add { id = "a", delay = 100 })
      assert.is_nil(scheduler:output "a")
    end)
  end)
end

describe("ltsh.persister.files", function()
  after_each(scene.close)

  it("writes JSON that others can read, and leaves nothing else", function()
    local dir = scene.temporary ".d"
    local scheduler = open(ltsh.persister.files { dir = dir })
    assert(scheduler:add { id = "a/b", item = { x = 1 } })
    assert(scheduler:wait("a/b", 10))
    local names = {}
    for _, entry in ipairs(uv.fs_readdir(assert(uv.fs_opendir(dir, nil, 100)))) do names[#names + 1] = entry.name end
    assert.same({ "a%2Fb.json" }, names)
    assert.same({ x = 1 }, ltsh.json.decode(io.open(dir .. "/a%2Fb.json"):read "a"))
  end)

  it("fails the task when it cannot write, and says why", function()
    local dir = scene.temporary ".d"
    local scheduler = open(ltsh.persister.files { dir = dir })
    os.execute("rm -rf " .. dir)
    assert(scheduler:add { id = "a", item = 1 })
    local task = assert(scheduler:wait("a", 10))
    assert.equal("failed", task.status)
    assert.matches("ENOENT", task.reason)
  end)
end)

describe("a persister whose container forgets", function()
  after_each(scene.close)

  it("forgets too", function()
    local dir = scene.temporary ".d"
    local scheduler = open(ltsh.persister.files { dir = dir }, {
      container = ltsh.container.sqlite {
        path = scene.temporary ".db", durability = "normal", keep = { success = 0.05 },
      },
    })
    assert(scheduler:add { id = "a", item = 1 })
    assert(scheduler:wait("a", 10))
    scene.eventually("the file is gone", function() return not uv.fs_stat(dir .. "/a.json") end)
    assert.is_nil(scheduler:get "a")
  end)
end)
