--- The small cases that are searched, and what is broken on purpose to see that it is found.
---
--- `cases`: what a world is made of (world.lua); `deep`: those that take minutes, for scripts/model --deep.
--- `mutations`: each a case, with changes of the script (pairs of texts) or rules of hosts that are not kept, and the
--- words with which that is found; `begin`: the first steps, so that it is found sooner; `is_long`: more than a second.
local cases = {}

local function case(name, fields)
  fields.name = name
  for field, value in pairs { hosts = 2, tasks = 1, limit = 1, global_limit = 1, max_lost = 1 } do
    fields[field] = fields[field] or value
  end
  return fields
end

cases.cases = {
  case("two hosts, two tasks, no fault", { tasks = 2, fail = 1 }),
  case("two tasks of one key", { tasks = 2, limit = 2, global_limit = 2, key = "k", key_limit = 1, fail = 1 }),
  case("stopped, deleted and paused by the other host", { stop = 1, delete = 1, pause = 1 }),
  case("a connection is cut", { cut = 1 }),
  case("a host is stopped for a while", { freeze = 1 }),
  case("a host is killed", { kill = 1, max_lost = 0 }),
}

cases.deep = {
  case("stopped, deleted and paused, and a run fails", { stop = 1, delete = 1, pause = 1, fail = 1 }),
  case("a connection is cut, and a run fails", { cut = 1, fail = 1 }),
  case("a host is killed, and started again", { kill = 1, restart = 1 }),
  case("a host is killed, with a key", { tasks = 2, limit = 2, global_limit = 2, key = "k", key_limit = 1, kill = 1 }),
  case("the server is out of reach", { outage = 1 }),
  case("the server is out of reach, and work goes on", { outage = 1, prompt = true, on_lease_lost = "continue" }),
  case("a connection is cut, two tasks", { tasks = 2, cut = 1, fail = 1 }),
  case("connections are cut twice", { cut = 2 }),
  case("a cut and a stop by the other host", { cut = 1, stop = 1 }),
  case("a cut and a deletion by the other host", { cut = 1, delete = 1 }),
  case("a cut while work goes on", { cut = 1, on_lease_lost = "continue" }),
  case("a cut, with a key", { tasks = 2, limit = 2, global_limit = 2, key = "k", key_limit = 1, cut = 1 }),
  case("a host is killed and a connection cut", { kill = 1, cut = 1 }),
  case("a host is stopped and a connection cut", { freeze = 1, cut = 1 }),
  case("a replica takes over that is behind", { failover = 1 }),
  case("a replica takes over that is behind, two tasks", { tasks = 2, limit = 2, global_limit = 2, failover = 1 }),
}

local function mutation(name, finds, fields)
  fields.finds = finds
  return case(name, fields)
end

cases.mutations = {
  mutation("ends are not compared with the token of the run", "is not from who has its token",
    { freeze = 1, kill = 1, begin = { "A adds t1", "a second passes", "B asks for 1 tasks", "FAULT: B is stopped" },
      changes = { [[if under_way and at_token ~= token then return "stale" end]], "" } }),
  mutation("an end counts for a task that does not run", "had ended and does not stay so",
    { cut = 1, changes = {
      [[if token ~= NOTHING8 and not under_way then return "stale" end]], "",
    } }),
  mutation("no grace after an outage", "which lives",
    { is_long = true, outage = 1, prompt = true, on_lease_lost = "continue",
      changes = { "not is_there_for(lease_of(dead))", "false" } }),
  mutation("slots are a counter", "more run than global_limit says",
    { is_long = true, tasks = 2, limit = 2, freeze = 1, changes = {
      "local function claim_task(id, record, begun, host)\n", [[
local function count(by) call("HSET", meta, "slots", tonumber(call("HGET", meta, "slots") or 0) + by) end
local function claim_task(id, record, begun, host)
  count(1)
]],
      "record = sub(record, 1, 15) .. token .. me .. sub(record, 32)",
      "count(-1) record = sub(record, 1, 15) .. token .. me .. sub(record, 32)",
      "record = leave_run(id, record)\n",
      [[record = leave_run(id, record) call("HSET", meta, "slots", tonumber(call("HGET", meta, "slots") or 0) - 1)
]],
      "limits.global - count_status(RUNNING, SUCCESS)", [[limits.global - tonumber(call("HGET", meta, "slots") or 0)]],
    } }),
  mutation("what an earlier connection carries counts", "was added twice",
    { cut = 1, delete = 1, changes = {
      "if joined and tonumber(connection) < tonumber(joined) then return {} end", "",
    } }),
  mutation("an end that is asked again does not say so", "does not count, and it does",
    { cut = 1, without = { "ends_again" } }),
  mutation("a claim that is asked again takes more", "has more runs than its limit",
    { tasks = 2, global_limit = 2, cut = 1, begin = { "A adds t1", "A adds t2" }, changes = {
      [[or "", 1, 8) == number then]], [[or "", 1, 8) == "never" then]],
    } }),
  mutation("a lease that could not be renewed ends no work", "two work at",
    { cut = 1, begin = { "A adds t1", "A asks for 1 tasks" }, without = { "late" } }),
  mutation("hosts do not compare what they run", "nothing can end all tasks any more",
    { hosts = 1, cut = 1, without = { "compares", "claims_again" } }),
  mutation("hosts do not compare when they were late", "nothing can end all tasks any more",
    { hosts = 1, freeze = 1, without = { "compares_late" } }),
  mutation("hosts compare only what the queue names", "works at t1, which is not its own",
    { failover = 1, without = { "compares_all" } }),
  mutation("hosts give nothing back", "nothing can end all tasks any more",
    { hosts = 1, freeze = 1, without = { "gives_back" } }),
  mutation("a claim that is asked again tells of no stop", "was to stop t1",
    { cut = 1, stop = 1, begin = { "A adds t1" }, changes = { "if has(record, STOP) then tell_stop(id) end", "" } }),
  mutation("what the dead ran is nobody's", "nothing can end all tasks any more",
    { kill = 1, changes = { "if room > 0 and take_over(room", "if false and take_over(room" } }),
  mutation("a key whose task has ended stays full", "is counted wrongly",
    { hosts = 1, tasks = 2, key = "k", key_limit = 1,
      changes = { "take(busy, prefix_of(key) .. id)", "" } }),
}

return cases
