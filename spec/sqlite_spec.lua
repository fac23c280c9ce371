-- ltsh.sqlite: values, statements, rows that are left, and transactions of several coroutines.
local ltsh = require "ltsh"
local run = require "spec.support.run"
local scene = require "spec.support.scene"

local eventually = scene.eventually

describe("a database", function()
  local path, db

  before_each(function()
    path = run.folder() .. "/test #1?x%20.db"
    db = assert(ltsh.sqlite.open(path))
    assert(db:exec "PRAGMA journal_mode=WAL")
    assert(db:exec "CREATE TABLE t (a, b); CREATE INDEX by_a ON t (a)")
  end)

  after_each(function()
    db:close()
    run.clean()
  end)

  it("is exactly the file of its path", function()
    assert.is_truthy(io.open(path))
    local other = assert(ltsh.sqlite.open(path))
    assert.equal(0, other:value "SELECT count(*) FROM t")
    other:close()
  end)

  it("that cannot be opened says why", function()
    local opened, message, code = ltsh.sqlite.open "/no/such/folder/x.db"
    assert.same({ nil, "/no/such/folder/x.db: unable to open database file", 14 }, { opened, message, code })
    local text = run.folder { ["a.txt"] = ("no database"):rep(100) } .. "/a.txt"
    assert.matches("file is not a database", select(2, ltsh.sqlite.open(text)))
    for message_of, arguments in pairs {
      ["path must be the path of a file"] = { "" }, ["unknown option \"timout\""] = { "x", { timout = 1 } },
    } do
      local ok, raised = pcall(ltsh.sqlite.open, table.unpack(arguments))
      assert.is_false(ok)
      assert.matches(message_of, raised, 1, true)
    end
  end)

  it("gives back what it was given", function()
    local values = { 1, -1, math.maxinteger, math.mininteger, 0.5, 1e300, "", "text", "a\0b", "\255\254", "ü" }
    for _, value in ipairs(values) do
      local got = db:value("SELECT ?", value)
      assert.equal(value, got)
      assert.equal(math.type(value), math.type(got))
    end
    assert.is_nil(db:value("SELECT ?", nil))
    assert.same({ 1, 0 }, { db:value("SELECT ?", true), db:value("SELECT ?", false) })
    for kind, value in pairs { text = "x", blob = ltsh.sqlite.blob "x", real = 1.0, integer = 1 } do
      assert.equal(kind, db:value("SELECT typeof(?)", value))
    end
    assert.equal("null", db:value("SELECT typeof(?)", nil))
    assert.same({ a = 1, c = 3 }, db:row "SELECT 1 AS a, NULL AS b, 3 AS c")
    assert.same({ x = "y", n = 2 }, db:row("SELECT :x AS x, :n AS n, :none AS none", { x = "y", n = 2 }))
  end)

  it("counts what changes, and says what is wrong", function()
    assert.equal(2, db:exec("INSERT INTO t VALUES (1, 2), (3, 4)"))
    assert.equal(1, db:exec("UPDATE t SET b = ? WHERE a = ?", "x", 3))
    assert.equal(0, db:exec "SELECT * FROM t")
    assert.equal(3, db:exec "INSERT INTO t VALUES (5, 6); DELETE FROM t WHERE a < 4; -- and a comment")
    assert.same({ nil, 'near "nonsense": syntax error', 1 }, { db:exec "nonsense" })
    assert.same({ nil, "there are more parameters than places for them", 21 }, { db:exec("DELETE FROM t", 1) })
    assert.same({ nil, "several statements take no parameters", 21 }, {
      db:exec("DELETE FROM t WHERE a = ?; DELETE FROM t", 1),
    })
    assert.has_error(function() db:rows "SELECT * FROM missing" end,
      "database:rows: no such table: missing, in: SELECT * FROM missing")
    assert.has_error(function() db:exec "  begin immediate" end,
      "database:exec: BEGIN is not for statements: use database:transaction(function(database) ... end)")
    assert.matches("parameter 1 must be a string, number", select(2, pcall(db.exec, db, "SELECT ?", {}, 2)), 1, true)
    db:close()
    assert.has_error(function() db:exec "SELECT 1" end, "database:exec: the database is closed")
  end)

  it("has rows that are brought in parts, and left at any time", function()
    assert(db:exec [[WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
      INSERT INTO t SELECT i, 'x' || i FROM n]])
    local count, sum = 0, 0
    for row in db:rows "SELECT a, b FROM t ORDER BY a" do
      count, sum = count + 1, sum + row.a
      assert.equal("x" .. row.a, row.b)
    end
    assert.same({ 3000, 3000 * 3001 // 2 }, { count, sum })
    for row in db:rows "SELECT a FROM t ORDER BY a" do
      if row.a == 300 then break end
    end
    assert.is_false(pcall(function()
      for _ in db:rows "SELECT a FROM t ORDER BY a" do error "left" end
    end))
    -- Nothing of these loops holds the database: its log can be put into the file.
    assert.equal(0, db:row("PRAGMA wal_checkpoint(TRUNCATE)").busy)
    -- The same statement within itself, with other values.
    local pairs_seen = 0
    for outer in db:rows("SELECT a FROM t WHERE a <= ? ORDER BY a", 3) do
      for inner in db:rows("SELECT a FROM t WHERE a <= ? ORDER BY a", outer.a) do
        pairs_seen = pairs_seen + 1
        assert.is_true(inner.a <= outer.a)
      end
    end
    assert.equal(6, pairs_seen)
  end)

  it("runs prepared statements", function()
    local insert, get = db:prepare "INSERT INTO t VALUES (?, ?)", db:prepare "SELECT b FROM t WHERE a = :a"
    for i = 1, 10 do assert.equal(1, insert:exec(i, i * i)) end
    assert.equal(49, get:value { a = 7 })
    local sum = 0
    for row in db:prepare("SELECT b FROM t"):rows() do sum = sum + row.b end
    assert.equal(385, sum)
  end)

  it("does not hold up the host", function()
    local ticks = 0
    local ticking = ltsh.spawn(function()
      while true do
        ltsh.sleep(0.002)
        ticks = ticks + 1
      end
    end)
    repeat
      db:value "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) SELECT count(*) FROM n"
    until ticks >= 3
    ticking:cancel()
  end)

  it("may be switched to a write-ahead log by many at once", function()
    local children = {}
    for i = 1, 5 do
      children[i] = run.start { "-e", [[
        local ltsh = require "ltsh"
        for k = 1, 10 do
          local db <close> = ltsh.sqlite.open(arg[1] .. k)
          db:exec "pragma journal_mode = wal"
          db:exec "create table if not exists t(a)"
          db:exec "insert into t values(1)"
        end
      ]], path .. "." }
    end
    for _, child in ipairs(children) do
      local result = child:wait()
      assert.equal("", result.stderr)
    end
  end)

  describe("in a transaction", function()
    local function count() return db:value "SELECT count(*) FROM t" end

    it("keeps all or nothing", function()
      assert.same({ "done", 2 }, { db:transaction(function(given)
        assert.equal(db, given)
        db:exec "INSERT INTO t VALUES (1, 1)"
        return "done", 2
      end) })
      assert.is_false(pcall(db.transaction, db, function()
        db:exec "INSERT INTO t VALUES (2, 2)"
        error "no"
      end))
      assert.equal(1, count())
      assert.has_error(function() db:transaction(function() db:transaction(function() end) end) end,
        "database:transaction: one is open here already")
    end)

    it("is its coroutine's alone", function()
      local inside, seen = false, nil
      local other = ltsh.spawn(function()
        eventually("it is open", function() return inside end)
        seen = count()
        db:exec "INSERT INTO t VALUES ('other', 1)"
      end)
      assert.is_false(pcall(db.transaction, db, function()
        db:exec "INSERT INTO t VALUES (1, 1)"
        inside = true
        ltsh.sleep(0.05)
        error "rolled back"
      end))
      other:wait()
      assert.same({ 0, 1, "other" }, { seen, count(), db:value "SELECT a FROM t" })
    end)

    it("comes one after the other, also where many coroutines are cut at any moment", function()
      db:exec "INSERT INTO t VALUES ('sum', 0)"
      local jobs = {}
      for i = 1, 20 do
        jobs[i] = ltsh.spawn(function()
          for _ = 1, 10 do
            local done, message = db:transaction(function()
              local sum = db:value "SELECT b FROM t WHERE a = 'sum'"
              for _ = 1, 20000 do end
              return db:exec("UPDATE t SET b = ? WHERE a = 'sum'", sum + 1)
            end)
            assert(done, message)
            assert(db:exec "INSERT INTO t VALUES ('beside', 1)")
          end
        end)
      end
      for _, job in ipairs(jobs) do job:wait() end
      assert.equal(200, db:value "SELECT b FROM t WHERE a = 'sum'")
      assert.equal(201, count())
    end)

    it("is rolled back when its task ends in the middle", function()
      local begun = false
      local job = ltsh.spawn(function()
        db:transaction(function()
          db:exec "INSERT INTO t VALUES (1, 1)"
          begun = true
          ltsh.sleep(60)
        end)
      end)
      eventually("it has begun", function() return begun end)
      local waiting = ltsh.spawn(count)
      job:cancel()
      assert.equal(0, waiting:wait())
      assert.equal("ok", db:transaction(function() return "ok" end))
    end)

    it("waits for that of another connection, as long as it may", function()
      local other, brief = assert(ltsh.sqlite.open(path)), assert(ltsh.sqlite.open(path, { timeout = 0.05 }))
      local begun, order = false, {}
      local holder = ltsh.spawn(function()
        other:transaction(function()
          begun = true
          ltsh.sleep(0.2)
          order[#order + 1] = "first"
        end)
      end)
      eventually("it has begun", function() return begun end)
      assert.same({ nil, "the database is locked by another connection", 5 }, {
        brief:transaction(function() error "not called" end),
      })
      db:transaction(function() order[#order + 1] = "second" end)
      holder:wait()
      assert.same({ "first", "second" }, order)
      other:close()
      brief:close()
    end)
  end)

  it("may be closed and collected at any time", function()
    local result = run.ltsh { "-e", [[
      local ltsh = require "ltsh"
      for i = 1, 20 do
        local db = assert(ltsh.sqlite.open ":memory:")
        local job = ltsh.spawn(function()
          for row in db:rows "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n" do
            if row.i > 2000 then ltsh.sleep(0) end
          end
        end)
        for _ = 1, i do ltsh.sleep(0) end
        if i % 3 == 0 then db:close() end
        job:cancel()
        db = nil
        collectgarbage()
      end
      print "over"
    ]] }
    assert.same({ 0, "over\n" }, { result.code, result.stdout })
  end)
end)
