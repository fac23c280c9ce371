-- ltsh.sqlite: SQLite databases for scripts. Each has a connection with a thread of its own, so that a call waits and
-- the host goes on.
--
-- A transaction belongs to the coroutine that began it: until its end the calls of others on this database wait. A loop
-- over rows that is left lets go of its statement at once.
local core = require "ltsh.core"
local check = require "ltsh.check_args"

local sqlite = {}

local Database = {}
Database.__index = Database
Database.__name = "ltsh.sqlite database"

local ROWS_AT_ONCE = 256

-- A blob, as it crosses: a list of one text.
local Blob = {}

--- A text to be stored as a blob.
function sqlite.blob(text)
  if type(text) ~= "string" then check.fail("ltsh.sqlite.blob", "text", "a string", text) end
  return setmetatable({ text }, Blob)
end

-- Parameters: by position, or one table by name. Nil where there are none.
local function parameters_of(where, count, first, ...)
  if count == 0 then return nil end
  local by_name = count == 1 and type(first) == "table" and getmetatable(first) ~= Blob
  local given = by_name and first or table.pack(first, ...)
  local taken = by_name and {} or core.json.array {}
  for name, value in pairs(given) do
    if name ~= "n" or by_name then
      local kind = type(value)
      if kind == "table" and getmetatable(value) == Blob then
        value = { value[1] }
      elseif kind ~= "string" and kind ~= "number" and kind ~= "boolean" and value ~= core.json.null then
        check.fail(where, "parameter " .. tostring(name), "a string, number, boolean, nil or blob", value)
      end
      taken[name] = value
    end
  end
  if not by_name then
    for i = 1, count do
      if taken[i] == nil then taken[i] = core.json.null end
    end
  end
  return taken
end

-- One after the other.

-- What is looked at and changed in one go, by core.held: a strand may be cut anywhere else.

local function claim(self, lock, me)
  if self.owner and self.owner ~= me then return false end
  self.owner, self.depth, lock.taken = me, self.depth + 1, true
  return true
end

local function queue_up(self, done)
  if self.owner then table.insert(self.queue, done) else done() end
end

local Lock = {}

function Lock.__close(lock)
  local self = lock.database
  if not lock.taken then return end
  self.depth = self.depth - 1
  if self.depth > 0 then return end
  self.owner = nil
  local queue = self.queue
  self.queue = {}
  for _, done in ipairs(queue) do done() end
end

-- Waits until nobody else has the database, which is the caller's until the lock is closed.
local function take(lock)
  local self, me = lock.database, core.strand()
  while not core.held(claim, self, lock, me) do
    core.await(function(done)
      core.held(queue_up, self, done)
      return function() -- it waits no more
        for i, other in ipairs(self.queue) do
          if other == done then table.remove(self.queue, i) break end
        end
      end
    end)
  end
end

local function lock_of(self) return setmetatable({ database = self }, Lock) end

local CONTROL = { BEGIN = true, COMMIT = true, ROLLBACK = true, END = true }

local function check_sql(where, sql)
  if type(sql) ~= "string" then check.fail(where, "sql", "a statement", sql) end
  local word = sql:match "^[%s;]*(%a+)"
  if word and CONTROL[word:upper()] then
    error(string.format("%s: %s is not for statements: use database:transaction(function(database) ... end)", where,
      word:upper()), 0)
  end
end

-- The connection; raises if it is closed.
local function connection_of(self, where)
  local connection = self.connection
  if not connection then error(where .. ": the database is closed", 0) end
  return connection
end

local function raise(where, sql, message)
  error(string.format("%s: %s, in: %s", where, message, #sql > 200 and sql:sub(1, 200) .. "..." or sql), 0)
end

--- Runs all statements of a text.
-- @return how many rows they inserted, updated or deleted; nil, a message and a code of SQLite
function Database:exec(sql, ...)
  local where = "database:exec"
  check_sql(where, sql)
  local parameters = parameters_of(where, select("#", ...), ...)
  local lock <close> = lock_of(self)
  take(lock)
  return connection_of(self, where):run(sql, parameters)
end

local function query(self, where, limit, sql, ...)
  check_sql(where, sql)
  local parameters = parameters_of(where, select("#", ...), ...)
  local lock <close> = lock_of(self)
  take(lock)
  return connection_of(self, where):query(sql, parameters, limit)
end

--- An iterator over the rows of a query, as tables by column name. Errors are raised.
function Database:rows(sql, ...)
  local where = "database:rows"
  local rows, message = query(self, where, ROWS_AT_ONCE, sql, ...)
  if not rows then raise(where, sql, message) end
  return function()
    local lock <close> = lock_of(self) -- a transaction that others began meanwhile is not looked into
    take(lock)
    local row, failure = rows:next()
    if not row and failure then raise(where, sql, failure) end
    return row
  end, nil, nil, rows
end

--- The first row of a query; nil if there is none; nil, a message and a code if it failed.
function Database:row(sql, ...)
  local rows <close>, message, code = query(self, "database:row", 1, sql, ...)
  if not rows then return nil, message, code end
  return rows:next()
end

--- The only value of the first row of a query.
function Database:value(sql, ...)
  local row, message, code = Database.row(self, sql, ...)
  if not row then return nil, message, code end
  local _, value = next(row)
  return value
end

local Statement = {}
Statement.__index = Statement

for name in pairs { exec = true, rows = true, row = true, value = true } do
  Statement[name] = function(self, ...) return Database[name](self.database, self.sql, ...) end
end

--- A statement with the same methods, without the text. That it makes sense is seen when it is first used; all
--- statements are kept prepared.
function Database:prepare(sql)
  check_sql("database:prepare", sql)
  return setmetatable({ database = self, sql = sql }, Statement)
end

--- Calls fn(database) in a transaction: committed when it returns, rolled back when it raises, or when the task ends.
-- @return what fn returns; nil, a message and a code if it could not begin or be committed
function Database:transaction(fn)
  local where = "database:transaction"
  if not check.is_callable(fn) then check.fail(where, "fn", "a function", fn) end
  if self.owner and self.owner == core.strand() then error(where .. ": one is open here already", 0) end
  local lock <close> = lock_of(self)
  take(lock)
  local connection = connection_of(self, where)
  local open = true
  local _ <close> = setmetatable({}, { __close = function()
    if open and self.connection then connection:send "ROLLBACK" end -- before whatever comes next
  end })
  local done, message, code = connection:run "BEGIN IMMEDIATE"
  if not done then
    open = false
    return nil, message, code
  end
  local results = table.pack(fn(self))
  done, message, code = connection:run "COMMIT"
  if not done then return nil, message, code end
  open = false
  return table.unpack(results, 1, results.n)
end

--- Closes it, when what was begun is done.
function Database:close()
  local connection = self.connection
  self.connection = nil
  if connection then connection:close() end
end

Database.__close = Database.close
Database.__gc = Database.close

--- Opens a database; the file is made if there is none.
-- @param path of the file, or ":memory:"
-- @param options timeout = seconds that a call waits while another process holds the database (default: as long as it
-- takes)
-- @return a database; nil, a message and a code of SQLite
function sqlite.open(path, options)
  local where = "ltsh.sqlite.open"
  if type(path) ~= "string" or path == "" or path:find "\0" then
    check.fail(where, "path", "the path of a file", path)
  end
  options = options == nil and {} or options
  check.table(where, "options", options)
  check.names(where, options, { timeout = true })
  local timeout = options.timeout
  if timeout ~= nil then timeout = check.seconds(where, "timeout", timeout) end
  local connection, message, code = core.sqlite(path, timeout)
  if not connection then return nil, string.format("%s: %s", path, message), code end
  return setmetatable({ connection = connection, queue = {}, depth = 0 }, Database)
end

return sqlite
