--- The table of a run's machine: complete, without dead ends, and as the document shows it.
local ltsh = require "ltsh"
local machine = require "spec.support.machine"
local run = require "spec.support.run"

describe("the machine of a run", function()
  local tables = machine.read()
  local GONE = "gone"

  -- All steps out of each state: { next, ... }.
  local function ways_out()
    local out = {}
    for _, state in ipairs(tables.states) do
      local wishes = tables.wishes[state]
      out[state] = { wishes.report.next, wishes.stop.next, wishes.lost.next }
    end
    for _, step in ipairs(tables.steps) do table.insert(out[step.state], step.next) end
    return out
  end

  local function reachable(from, out)
    local seen, list = { [from] = true }, { from }
    while #list > 0 do
      for _, next in ipairs(out[table.remove(list)]) do
        if not seen[next] then
          seen[next] = true
          list[#list + 1] = next
        end
      end
    end
    return seen
  end

  it("knows its states and events", function()
    assert.is_true(#tables.states >= 20)
    assert.is_true(#tables.events >= 20)
    assert.are.equal(GONE, tables.states[#tables.states])
  end)

  it("answers a report, a stop and a lost lease in every state", function()
    for _, state in ipairs(tables.states) do assert.is_table(tables.wishes[state], state) end
  end)

  it("names only states and events that there are, and each pair once", function()
    local states, events, pairs_seen = {}, {}, {}
    for _, state in ipairs(tables.states) do states[state] = true end
    for _, event in ipairs(tables.events) do events[event] = true end
    for _, step in ipairs(tables.steps) do
      local pair = step.state .. " x " .. step.event
      assert.is_true(states[step.state] and states[step.next] and events[step.event], pair)
      assert.is_nil(pairs_seen[pair], pair)
      pairs_seen[pair] = true
    end
  end)

  it("has a use for every event", function()
    local used = { report = true, stop = true, ["lease lost"] = true }
    for _, step in ipairs(tables.steps) do used[step.event] = true end
    for _, event in ipairs(tables.events) do assert.is_true(used[event], event) end
  end)

  it("comes to its end from every state, and is in none for nothing", function()
    local out = ways_out()
    local from_claim, from_recovery = reachable("claimed", out), reachable("recovering", out)
    for _, state in ipairs(tables.states) do
      assert.is_true(reachable(state, out)[GONE], state)
      assert.is_true(from_claim[state] or from_recovery[state], state)
    end
  end)

  it("never leaves its end", function()
    local wishes = tables.wishes[GONE]
    assert.are.same({ GONE, GONE, GONE }, { wishes.report.next, wishes.stop.next, wishes.lost.next })
    for _, step in ipairs(tables.steps) do assert.are_not.equal(GONE, step.state) end
  end)

  it("frees the slot of work that may live only by waiting for its death", function()
    -- From where its work may be alive, no single step leads to the end, but by leaving it to another host's recovery.
    local alive = { "starting", "starting ended", "running", "looking", "stopping", "stop pause", "starting ending" }
    local is_alive = {}
    for _, state in ipairs(alive) do is_alive[state] = true end
    for _, state in ipairs(alive) do
      local wishes = tables.wishes[state]
      for _, wish in pairs(wishes) do assert.are_not.equal(GONE, wish.next, state) end
    end
    for _, step in ipairs(tables.steps) do
      if is_alive[step.state] then assert.are_not.equal(GONE, step.next, step.state .. " x " .. step.event) end
    end
  end)

  it("is shown as it is in docs/design.md", function()
    local file = assert(io.open "docs/design.md")
    local text = file:read "a"
    file:close()
    local shown = text:match "<!%-%- the machine %-%->\n(.-)\n<!%-%- end %-%->"
    assert.are.equal(machine.render(tables), shown)
  end)

  it("tells each step in a line at log level debug", function()
    local result = run.ltsh { "--log-level", "debug", "--log-format", "json", "-e", [[
      local ltsh = require "ltsh"
      local s = ltsh.scheduler { container = ltsh.container.queue {},
        actuator = ltsh.actuator.func(function() ltsh.sleep(0.001) end) }
      s:add { id = "x" }
      s:wait "x"
    ]] }
    local states = {}
    for line in result.stderr:gmatch "[^\n]+" do
      local entry = ltsh.json.decode(line)
      if entry.message == "step" then
        assert.same({ "x", 1 }, { entry.task, entry.run })
        assert.is_string(entry.event)
        states[#states + 1] = entry.state .. " -> " .. entry.next
      end
    end
    assert.same({ "claimed -> starting", "starting -> running", "running -> ended", "ended -> settling",
      "settling -> gone" }, states)
  end)
end)
