-- The output handler of busted that scripts/test uses.
--
-- For people: a line for each spec file with a mark for each test, and at the end what failed, with message and trace,
-- and what was skipped. For scripts/test: the totals, in the file that LTSH_TEST_TOTALS names, one line of
--
--     PASSED FAILED SKIPPED STATE [NAME OF THE TEST]
--
-- written anew at the start and the end of each test, so that they are known, with the test that was running, when the
-- host dies. STATE is `running` until the suite has ended, then `done`. What failed is named, a line each, in a file
-- beside it, whose name ends with `.failed`.

-- Taken before a spec can replace them.
local open, write, flush = io.open, io.write, io.flush
local totals_file = os.getenv "LTSH_TEST_TOTALS"

local function is_terminal()
  local ok, term = pcall(require, "term")
  return ok and io.type(io.stdout) == "file" and term.isatty(io.stdout)
end

local colours = is_terminal() and not os.getenv "NO_COLOR"

local function paint(code, text)
  return colours and "\27[" .. code .. "m" .. text .. "\27[0m" or text
end

local function red(text) return paint("31", text) end
local function green(text) return paint("32", text) end
local function yellow(text) return paint("33", text) end
local function dim(text) return paint("2", text) end

local function indent(text)
  return "    " .. (text:gsub("\n+$", ""):gsub("\n", "\n    "))
end

-- The lines of a traceback that are the spec's or the project's own, not busted's.
local function own_lines(traceback)
  local kept = {}
  for line in traceback:gmatch "[^\n]+" do
    local foreign = line:find("/busted/", 1, true) or line:find("/luassert/", 1, true) or line:find "^%s*%[C%]"
      or line:find "^stack traceback"
    if not foreign then kept[#kept + 1] = (line:gsub("^%s+", "")) end
  end
  return table.concat(kept, "\n")
end

local function text_of(message)
  if message == nil then return "" end
  if type(message) == "string" then return message end
  return require "pl.pretty".write(message)
end

return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()

  local passed, failed, skipped = 0, 0, 0
  local at_line_start = true
  local current_file = "?"

  local function save_totals(state, name)
    if not totals_file then return end
    local file = open(totals_file, "w")
    if not file then return end
    name = (name or ""):gsub("%s+", " ")
    file:write(("%d %d %d %s %s\n"):format(passed, failed, skipped, state, name))
    file:close()
  end

  local function print_mark(mark)
    write(mark)
    flush()
    at_line_start = false
  end

  local function end_line()
    if not at_line_start then write "\n" end
    at_line_start = true
  end

  local function note_failure(text)
    local file = totals_file and open(totals_file .. ".failed", "a")
    if not file then return end
    file:write("FAILED ", text, "\n")
    file:close()
  end

  local function print_problem(problem)
    local name = problem.name
    if problem.isError and problem.element.descriptor ~= "it" then
      name = name .. " (" .. (problem.element.descriptor or "busted itself") .. ")"
    end
    local message = text_of(problem.message)
    write("\n", red "FAILED ", name, "\n", indent(message), "\n")
    note_failure(name .. ": " .. (message:match "^[^\n]*"))
    local trace = problem.trace and problem.trace.traceback and own_lines(problem.trace.traceback) or ""
    local place = trace:match "^[^\n]-:%d+:"
    local nothing_new = not trace:find "\n" and message:find(place or "", 1, true)
    if trace ~= "" and not nothing_new then write(dim(indent(trace)), "\n") end
  end

  local function print_pending(pending)
    local trace = pending.trace or pending.element.trace or {}
    local message = text_of(pending.message)
    write(("\n%s %s%s\n"):format(yellow "SKIPPED", pending.name, message ~= "" and ": " .. message or ""))
    if trace.short_src then write(dim(indent(trace.short_src .. ":" .. trace.currentline)), "\n") end
  end

  function handler.fileStart(file)
    current_file = file.name or "?"
    end_line()
    print_mark(current_file .. " ")
    save_totals("running", "loading " .. current_file)
    return nil, true
  end

  function handler.fileEnd(file)
    if file.duration then write(dim((" %.2f s"):format(file.duration))) end
    end_line()
    flush()
    return nil, true
  end

  function handler.testStart(element)
    save_totals("running", current_file .. ": " .. handler.getFullName(element))
    return nil, true
  end

  function handler.testEnd(element, _, status)
    local mark
    if status == "success" then
      passed = passed + 1
      mark = green "."
    elseif status == "pending" then
      skipped = skipped + 1
      mark = yellow "s"
    else
      failed = failed + 1
      mark = red(status == "failure" and "F" or "E")
    end
    if options.verbose then
      end_line()
      mark = ("  %s %s %s"):format(mark, handler.getFullName(element), dim(("%.3f s"):format(element.duration or 0)))
    end
    print_mark(mark)
    save_totals("running", "after " .. current_file .. ": " .. handler.getFullName(element))
    return nil, true
  end

  -- Outside a test: a file that does not load, a failing before_each, teardown and so on. In one, testEnd counts it.
  function handler.problem(element)
    if element.descriptor ~= "it" then
      failed = failed + 1
      print_mark(red "E")
      save_totals("running", "after a failure in " .. current_file)
    end
    return nil, true
  end

  function handler.suiteEnd()
    end_line()
    for _, pending in ipairs(handler.pendings) do print_pending(pending) end
    for _, failure in ipairs(handler.failures) do print_problem(failure) end
    for _, err in ipairs(handler.errors) do print_problem(err) end
    local count = passed + failed + skipped
    if totals_file then return nil, true end -- they are added up there
    local verdict = failed == 0 and green "none failed" or red(failed .. " failed")
    local rest = skipped > 0 and ", " .. yellow(skipped .. " skipped") or ""
    local tests = count == 1 and "test" or "tests"
    write(("\n%d %s in %.1f s, %s%s\n"):format(count, tests, handler.getDuration(), verdict, rest))
    flush()
    return nil, true
  end

  -- Published last, after every repetition of the suite.
  function handler.exit()
    save_totals "done"
    return nil, true
  end

  busted.subscribe({ "file", "start" }, handler.fileStart)
  busted.subscribe({ "file", "end" }, handler.fileEnd)
  busted.subscribe({ "test", "start" }, handler.testStart, { predicate = handler.cancelOnPending })
  busted.subscribe({ "test", "end" }, handler.testEnd, { predicate = handler.cancelOnPending })
  busted.subscribe({ "failure" }, handler.problem)
  busted.subscribe({ "error" }, handler.problem)
  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  busted.subscribe({ "exit" }, handler.exit)

  save_totals("running", "loading the specs")
  return handler
end
