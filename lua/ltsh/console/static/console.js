// The console's page. What is shown is in the address (scheduler, filter, page, the task that is open); rows are kept by id and
// changed in place, so that what is selected, focused and scrolled to stays. Text from tasks is only ever text.
import { parse, show, Exact } from "./json.js";
import { Live } from "./live.js";
import { Output } from "./output.js";

const STATUSES = ["waiting", "running", "exporting", "success", "failed", "stopped"];
const PAGE = 50, TRAIL = 100, SHOWN = 65536;
const $ = (id) => document.getElementById(id);

const state = {
  settings: {}, schedulers: [], name: "", status: "", text: "", key: "", order: "newest", after: "", task: "",
  trail: [], refused: new Map(), // where the pages before this one begin; why nothing was done to a task
  selected: new Set(), rows: new Map(), next: null, total: null, asOf: 0, clock: 0, fresh: new Set(), stats: {}, speeds: {},
};

function element(name, properties, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties || {})) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Asking the host. Each answer's time sets our clock: ages are counted by the host's.

class Refused extends Error {
  constructor(status, answer) {
    super(answer && answer.error || "the host answered " + status);
    this.status = status;
    this.code = answer && answer.code;
  }
}

const OVER = { error: "the session has ended", code: "token" };

async function ask(method, path, body) {
  if (state.over) throw new Refused(401, OVER); // until there is another session
  const options = { method, headers: {}, credentials: "same-origin" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const date = Date.parse(answer.headers.get("Date"));
  if (date && Math.abs(date - Date.now() - state.clock) > 2000) state.clock = date - Date.now();
  if (answer.status === 401) {
    logged_out();
    throw new Refused(401, OVER);
  }
  const text = await answer.text();
  if (!answer.ok) {
    let why = null;
    try { why = JSON.parse(text); } catch (ignored) { /* a proxy's page */ }
    throw new Refused(answer.status, why);
  }
  return text;
}

const get = async (path) => JSON.parse(await ask("GET", path));
const base = () => "api/v1/schedulers/" + encodeURIComponent(state.name);
const task_path = (id) => base() + "/tasks/" + encodeURIComponent(id);

function say(message) {
  $("message").textContent = message || "";
  $("message").hidden = !message;
}

const failing = (work) => async (...given) => {
  try {
    say("");
    await work(...given);
  } catch (error) {
    if (error.status !== 401) say(error.message);
  }
};

// The address.

function read_address() {
  const given = new URLSearchParams(location.search);
  state.name = given.get("s") || "";
  state.status = given.get("status") || "";
  state.text = given.get("text") || "";
  state.key = given.get("key") || "";
  state.order = given.get("order") || "newest";
  state.after = given.get("after") || "";
  state.trail = history.state && history.state.trail || [];
  state.task = given.get("task") || "";
}

function write_address(replace) {
  const given = new URLSearchParams();
  const put = (name, value, usual) => { if (value && value !== usual) given.set(name, value); };
  put("s", state.name);
  put("status", state.status);
  put("text", state.text);
  put("key", state.key);
  put("order", state.order, "newest");
  put("after", state.after);
  put("task", state.task);
  const text = given.toString();
  const address = location.pathname + (text ? "?" + text : "");
  const kept = { trail: state.trail.slice(-TRAIL) };
  if (replace) history.replaceState(kept, "", address);
  else if (address !== location.pathname + location.search) history.pushState(kept, "", address);
}

// Times.

const now = () => (Date.now() + state.clock) / 1000;

function span(seconds) {
  seconds = Math.max(0, seconds);
  if (seconds < 0.001) return Math.round(seconds * 1e6) + " µs";
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min " + Math.floor(seconds % 60) + " s";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h " + Math.floor(seconds % 3600 / 60) + " min";
  return Math.floor(seconds / 86400) + " d " + Math.floor(seconds % 86400 / 3600) + " h";
}

function moment(time) {
  if (time === undefined) return element("span", {}, "–");
  const date = new Date(time * 1000);
  const ahead = time - now();
  const text = ahead > 1 ? "in " + span(ahead) : span(-ahead) + " ago";
  return element("time", { dateTime: date.toISOString(), title: date.toLocaleString(undefined, { timeZoneName: "short" }) }, text);
}

function took(task) {
  if (task.started_at === undefined) return "–";
  if (task.status === "running" || task.status === "exporting") return span(now() - task.started_at);
  return task.ended_at === undefined ? "–" : span(task.ended_at - task.started_at);
}

// Schedulers and their figures.

function draw_schedulers() {
  const nav = $("schedulers");
  nav.replaceChildren(...state.schedulers.map((one) => element("button", {
    type: "button", "aria-pressed": String(one.name === state.name),
    onclick: () => { Object.assign(state, { name: one.name, after: "", trail: [], task: "" }); write_address(); show_all(); },
  }, one.name)));
  const one = state.schedulers.find((each) => each.name === state.name);
  if (!one) return;
  $("pause").textContent = one.paused ? "Resume" : "Pause";
  if (document.activeElement !== $("limit")) $("limit").value = one.limit ?? "";
}

const FIGURES = [
  ["waiting", "waiting"], ["delayed", "delayed"], ["running", "running"], ["success", "succeeded"], ["failed", "failed"],
  ["stopped", "stopped"], ["retried", "retried"],
];

function chart(values) {
  const most = Math.max(1, ...values);
  const points = values.map((value, i) => i / Math.max(1, values.length - 1) * 100 + "," + (38 - value / most * 36));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "chart");
  svg.setAttribute("viewBox", "0 0 100 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "Ends a second, lately");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  return svg;
}

function draw_figures() {
  const stats = state.stats[state.name];
  if (!stats) return;
  const figure = (value, name, small) => element("div", { class: small ? "figure small" : "figure" }, element("b", {}, value), element("span", {}, name));
  const speeds = state.speeds[state.name] || [];
  const rate = figure((stats.rate || 0).toFixed(stats.rate < 10 ? 1 : 0) + "/s", "ended, lately");
  rate.append(chart(speeds));
  rate.classList.add("wide");
  $("figures").replaceChildren(
    ...FIGURES.filter(([name]) => stats[name] !== undefined).map(([name, label]) => figure(stats[name].toLocaleString(), label)),
    figure(span(stats.wait.p50), "median wait", true), figure(span(stats.wait.p99), "wait, 99 %", true),
    figure(span(stats.run.p50), "median run", true), figure(span(stats.run.p99), "run, 99 %", true), rate);
}

function note_stats(name, stats) {
  state.stats[name] = stats;
  const speeds = state.speeds[name] = state.speeds[name] || [];
  speeds.push(stats.rate || 0);
  if (speeds.length > 120) speeds.shift();
  if (name === state.name) draw_figures();
}

async function fetch_schedulers() {
  const answer = await get("api/v1/schedulers");
  state.schedulers = answer.schedulers;
  if (!state.schedulers.some((one) => one.name === state.name)) state.name = state.schedulers.length ? state.schedulers[0].name : "";
  for (const one of state.schedulers) note_stats(one.name, one.stats);
  draw_schedulers();
}

// The hosts on the queue, where there are others.

function draw_hosts() {
  const hosts = (state.hosts || []).filter((host) => host.scheduler === state.name);
  $("hosts").hidden = hosts.length < 2;
  $("hosts").querySelector("summary").textContent = hosts.length + " hosts";
  $("hosts").querySelector("tbody").replaceChildren(...hosts.map((host) => element("tr", {},
    element("td", {}, host.name + (host.self ? " (this one)" : "")), element("td", {}, host.pid ? String(host.pid) : "–"),
    element("td", {}, host.version || "–"), element("td", { class: "num" }, host.running.toLocaleString()),
    element("td", {}, moment(host.heartbeat), host.lease_end && host.lease_end < now() ? " (given up)" : ""))));
}

async function fetch_hosts() {
  state.hosts = (await get("api/v1/hosts")).hosts;
  draw_hosts();
}

// The list.

function list_path() {
  const query = new URLSearchParams({ limit: PAGE, order: state.order });
  if (state.status) query.set("status", state.status);
  if (state.text) query.set("text", state.text);
  if (state.key) query.set("key", state.key);
  if (state.after) query.set("after", state.after);
  return base() + "/tasks?" + query;
}

// Why the last action did nothing to this task.
function draw_refusal(id, note) {
  const why = state.refused.get(id) || "";
  if (note.textContent !== why) note.textContent = why; // it is said aloud when it changes
  note.hidden = !why;
  return note;
}

const refusal_note = (id) => draw_refusal(id, element("p", { class: "refused", role: "alert" }));

function draw_row(task, row) {
  if (!row) {
    row = element("tr", {});
    const box = element("input", { type: "checkbox", "aria-label": "Select " + task.id, onchange: () => select(task.id, box.checked) });
    row.append(element("td", { class: "changes" }, box), element("td", { class: "id" }, element("button", {
      type: "button", class: "link", onclick: () => open_task(task.id),
    }, task.id), refusal_note(task.id)), element("td", {}, element("span", {})), element("td", { class: "num" }), element("td", { class: "when" }),
    element("td", { class: "num" }), element("td", { class: "what" }));
    row.id = "row:" + task.id;
  }
  row.task = Object.assign({ preview: row.task && row.task.preview }, task);
  const cells = row.cells;
  cells[0].firstChild.checked = state.selected.has(task.id);
  row.setAttribute("aria-selected", String(state.selected.has(task.id)));
  draw_refusal(task.id, cells[1].lastChild);
  cells[2].firstChild.className = "status " + task.status;
  cells[2].firstChild.textContent = task.status;
  cells[3].textContent = task.attempts || "";
  cells[4].replaceChildren(moment(task.started_at));
  cells[5].textContent = took(task);
  const what = (task.status === "failed" || task.status === "stopped") && task.reason ? task.reason : row.task.preview || "";
  cells[6].textContent = what;
  cells[6].title = what;
  return row;
}

function matches(task) {
  return (!state.status || state.status === task.status) && (!state.text || task.id.includes(state.text)) &&
    (!state.key || task.key === state.key);
}

function draw_pages() {
  $("empty").hidden = state.rows.size > 0;
  $("first").disabled = !state.after;
  $("next").disabled = !state.next;
  const shown = state.rows.size;
  $("total").textContent = state.total === null ? (state.next ? "more than " : "") + shown.toLocaleString() :
    shown.toLocaleString() + " of " + state.total.toLocaleString();
  $("fresh").hidden = state.fresh.size === 0;
  $("show-fresh").textContent = state.fresh.size + " new";
  const count = state.selected.size;
  $("bulk").hidden = count === 0 || state.settings.read_only;
  $("selected").textContent = count + " selected";
  const all = shown > 0 && [...state.rows.keys()].every((id) => state.selected.has(id));
  $("all").checked = all;
  $("every").hidden = !(all && state.next && state.status);
  $("every").textContent = state.every ? "All that match are selected" : "Select all of this filter" +
    (state.total === null ? "" : " (" + state.total.toLocaleString() + ")");
}

function select(id, on) {
  state.every = false;
  if (on) state.selected.add(id);
  else state.selected.delete(id);
  const row = state.rows.get(id);
  if (row) draw_row(row.task, row);
  draw_pages();
}

async function fetch_list() {
  if (!state.name) return;
  const after = state.after;
  const answer = await get(list_path());
  if (after !== state.after) return; // another page is wanted by now
  if (answer.tasks.length === 0 && after) { // it has become empty: the page before it
    state.after = state.trail.pop() || "";
    write_address(true);
    return fetch_list();
  }
  const rows = new Map();
  for (const task of answer.tasks) rows.set(task.id, draw_row(task, state.rows.get(task.id)));
  const body = $("rows");
  for (const [id, row] of state.rows) if (!rows.has(id)) row.remove();
  let before = body.firstChild;
  for (const row of rows.values()) {
    if (row === before) before = before.nextSibling;
    else body.insertBefore(row, before);
  }
  state.rows = rows;
  for (const id of state.selected) if (!rows.has(id)) state.selected.delete(id);
  Object.assign(state, { next: answer.next, total: answer.total, asOf: answer.as_of, every: false });
  state.fresh.clear();
  draw_pages();
}

// Actions.

function ask_whether(question) {
  return new Promise((answer) => {
    $("question").textContent = question;
    $("ask").onclose = () => answer($("ask").returnValue === "yes");
    $("ask").returnValue = "no";
    $("ask").showModal();
  });
}

const ING = { retry: "Retried", stop: "Stopped", delete: "Deleted" };

const title_of = (action) => action[0].toUpperCase() + action.slice(1);

// One request after the other, until there is no more or it is halted. `next()`: what is asked for; `has_more(answer)`.
async function act_in_steps(action, next, has_more) {
  let done = 0, failed = [], more = true;
  state.halt = false;
  state.refused.clear();
  try {
    while (more && !state.halt) {
      const answer = JSON.parse(await ask("POST", base() + "/bulk", next()));
      done += answer.done;
      failed = failed.concat(answer.failed);
      for (const one of answer.failed) if (state.rows.has(one.id)) state.refused.set(one.id, one.error);
      more = has_more(answer);
      $("work-done").textContent = `${ING[action]} ${done.toLocaleString()} …`;
      $("work").hidden = false;
    }
  } finally {
    $("work").hidden = true;
    state.selected.clear();
    state.every = false;
    await fetch_list();
  }
  const halted = more ? "; halted" : "", first = failed[0];
  if (failed.length || halted) {
    say(`${ING[action]} ${done.toLocaleString()}${halted}` + (first ? `; ${failed.length} not: ${first.id}: ${first.error}` : ""));
  }
}

// All that match, as they are now.
async function act_on_filter(action, filter) {
  const seen = await get(base() + "/tasks?limit=1&" + new URLSearchParams(filter));
  if (!seen.tasks.length) { say("There are no such tasks."); return; }
  const count = seen.total === null ? "all that match" : seen.total.toLocaleString();
  if (!await ask_whether(`${title_of(action)} ${count} tasks?`)) return;
  let after;
  await act_in_steps(action, () => ({ action, filter, as_of: seen.as_of, after }), (answer) => {
    after = answer.next;
    return after !== null;
  });
}

async function act_on_many(action) {
  const ids = [...state.selected];
  if (state.every) {
    const filter = { status: state.status };
    if (state.key) filter.key = state.key;
    if (state.text) filter.text = state.text;
    await act_on_filter(action, filter);
    return;
  }
  if (action !== "retry" && !await ask_whether(`${title_of(action)} ${ids.length.toLocaleString()} tasks?`)) return;
  await act_in_steps(action, () => ({ action, ids: ids.splice(0, 500) }), () => ids.length > 0);
}

async function act_on_one(action, id) {
  if (action === "delete" && !await ask_whether(`Delete the task ${id}?`)) return;
  state.refused.clear();
  try {
    if (action === "delete") await ask("DELETE", task_path(id));
    else await ask("POST", task_path(id) + "/" + action, {});
  } catch (error) {
    if (error.status !== 409) throw error;
    state.refused.set(id, error.message);
  }
  const refused = state.refused.has(id);
  await fetch_list();
  if (action === "delete" && !refused) close_task();
  else await fetch_task();
}

// One task.

let live_output = null, output = null;

function close_task() {
  state.task = "";
  write_address();
  show_task();
}

const open_task = failing(async (id) => {
  state.task = id;
  write_address();
  await show_task();
});

// `size`: there is more of it than was fetched.
function data_block(id, name, task) {
  const value = task.get(name), size = task.has("larger") && task.get("larger").get(name);
  if (value === undefined) return null;
  const text = typeof value === "string" ? value : show(value);
  const block = element("pre", {}, text);
  const more = size ? element("button", { type: "button", onclick: failing(async () => {
    const all = parse(await ask("GET", task_path(id))).get("task").get(name);
    block.textContent = typeof all === "string" ? all : show(all);
    more.remove();
  }) }, "Show all " + size.toLocaleString() + " bytes") : null;
  return element("section", {}, element("h2", {}, name[0].toUpperCase() + name.slice(1)), block, more);
}

function field(list, name, value) {
  if (value === undefined || value === null || value === "") return;
  list.append(element("dt", {}, name), element("dd", {}, value instanceof Node ? value : String(value)));
}

const NEEDS = { stop: ["waiting", "running", "exporting"], retry: ["success", "failed", "stopped"],
  delete: ["waiting", "success", "failed", "stopped"] };

function action_buttons(task) {
  if (state.settings.read_only) return null;
  const buttons = ["retry", "stop", "delete"].filter((action) => NEEDS[action].includes(task.get("status")));
  return element("p", { class: "row" }, ...buttons.map((action) => element("button", {
    type: "button", class: action === "delete" ? "danger" : "", onclick: failing(() => act_on_one(action, task.get("id"))),
  }, action[0].toUpperCase() + action.slice(1))));
}

function runs_block(runs) {
  const rows = runs.slice().reverse().map((run) => element("tr", {},
    element("td", {}, String(run.run)), element("td", {}, run.status ? element("span", { class: "status " + run.status }, run.status) : "again"),
    element("td", {}, moment(run.start)), element("td", {}, run.end && run.start ? span(run.end - run.start) : "–"),
    element("td", {}, run.reason || ""), element("td", {}, [run.version, run.host].filter(Boolean).join(" · "))));
  if (!rows.length) return null;
  return element("section", {}, element("h2", {}, "Runs"), element("table", {}, element("thead", {}, element("tr", {},
    ...["Run", "", "Began", "Took", "Why", "Where"].map((name) => element("th", {}, name)))), element("tbody", {}, ...rows)));
}

async function fetch_task() {
  const id = state.task;
  if (!id) return;
  let task, runs;
  try {
    task = parse(await ask("GET", task_path(id) + "?most=" + SHOWN)).get("task");
    runs = (await get(task_path(id) + "/history")).runs;
  } catch (error) {
    if (error.status !== 404 || id !== state.task) throw error;
    $("task").replaceChildren(close_button(), element("p", {}, "This task is not known any more."));
    return;
  }
  if (id !== state.task) return;
  const list = element("dl", {});
  field(list, "Status", element("span", { class: "status " + task.get("status") }, task.get("status")));
  field(list, "Reason", task.get("reason"));
  field(list, "Progress", task.has("progress") ? show(task.get("progress")) : "");
  for (const [name, label] of [["attempts", "Attempts"], ["run", "Run"], ["priority", "Priority"], ["key", "Key"], ["host", "Host"],
    ["version", "Version"]]) field(list, label, task.get(name));
  for (const [name, label] of [["added_at", "Added"], ["run_at", "Not before"], ["expires_at", "Expires"], ["started_at", "Began"],
    ["ended_at", "Ended"]]) if (task.has(name)) field(list, label, moment(Number(task.get(name))));
  const log = element("section", { hidden: true }, element("h2", {}, "What it prints"), output.element);
  const download = task.has("output") ? element("p", {}, element("a", { href: task_path(id) + "/output", download: "" }, "Download the output")) : null;
  const scrolled = $("task").scrollTop;
  $("task").replaceChildren(close_button(), element("h2", { id: "task-id" }, id), action_buttons(task) || "", refusal_note(id), list, log,
    data_block(id, "item", task) || "", data_block(id, "output", task) || "", download || "",
    data_block(id, "handle", task) || "", runs_block(runs) || "");
  $("task").scrollTop = scrolled;
  log.hidden = output.size === 0;
}

function close_button() {
  return element("button", { type: "button", id: "close", onclick: close_task }, "Close");
}

// What a task prints: what there was before, and what comes, each byte once. `at`: up to where it is shown.
class Printed {
  constructor(id, shown) {
    Object.assign(this, { id, shown, at: 0, run: undefined, before: Promise.resolve() });
    this.fetch();
  }

  // One after the other.
  then(work) {
    this.before = this.before.then(failing(async () => { if (state.task === this.id) await work(); }));
  }

  fetch() { this.then(() => this.catch_up()); }

  hear(piece) {
    this.then(async () => {
      if (piece.run !== this.run || piece.offset > this.at) await this.catch_up();
      this.add(piece);
    });
  }

  async catch_up() {
    const kept = await get(task_path(this.id) + "/log?as=pieces&offset=" + this.at);
    if (kept.run !== undefined && kept.run !== this.run) {
      const again = this.run !== undefined && this.at > 0;
      this.run = kept.run;
      this.shown.clear();
      this.at = 0;
      if (again) return this.catch_up();
    }
    if (kept.pieces.length && kept.pieces[0].offset > this.at) this.at = kept.pieces[0].offset; // what was before is not kept
    for (const piece of kept.pieces) this.add(piece);
  }

  add(piece) {
    if (piece.offset < this.at || (piece.run !== undefined && piece.run !== this.run)) return;
    const text = piece.text !== undefined ? piece.text : "\uFFFD";
    this.at = piece.offset + (piece.text !== undefined ? new TextEncoder().encode(text).length : atob(piece.$bytes).length);
    this.shown.add(text, piece.stream);
    if (this.shown.element.parentNode) this.shown.element.parentNode.hidden = false;
  }
}

async function show_task() {
  if (live_output) live_output.close();
  live_output = null;
  $("task").hidden = !state.task;
  if (!state.task) return;
  const id = state.task;
  output = new Output(element("pre", { tabIndex: 0, "aria-label": "Output" }));
  await fetch_task();
  if (id !== state.task) return;
  const printed = new Printed(id, output);
  if ($("close")) $("close").focus();
  const query = new URLSearchParams({ scheduler: state.name, task: id });
  live_output = new Live("api/v1/events?" + query, (name, data) => {
    if (name === "output" && data.id === id) printed.hear(data);
    else if (name === "hello" || name === "resync") printed.fetch();
    if (name === "task" || name === "resync") refresh_task();
  }, () => {});
}

// What the host says.

function throttle(work, milliseconds) {
  let timer = null, again = false;
  const run = () => {
    timer = setTimeout(() => { timer = null; if (again) { again = false; run(); } }, milliseconds);
    work();
  };
  return () => { if (timer) again = true; else run(); };
}

const refresh_task = throttle(failing(fetch_task), 500);
const refresh_total = throttle(failing(async () => {
  if (!state.name || ((state.text || state.key) && !state.after)) return;
  const answer = await get(list_path() + "&limit=1");
  if (!answer.tasks.length && state.after) refresh_list();
  state.total = answer.total;
  draw_pages();
}), 3000);

function hear_task(task) {
  const row = state.rows.get(task.id);
  if (row) {
    draw_row(task, row);
    if (state.after && ![...state.rows.values()].some((each) => matches(each.task))) refresh_list();
  } else if (matches(task) && !state.after) {
    if (state.rows.size < 10 || document.hidden) { refresh_list(); return; }
    state.fresh.add(task.id);
  }
  draw_pages();
  refresh_total();
}

const refresh_hosts = throttle(failing(fetch_hosts), 5000);

const refresh_list = throttle(failing(fetch_list), 1000);

function told(name, data) {
  if (name === "stats") { note_stats(data.scheduler, data.stats); refresh_hosts(); }
  else if (name === "task" && data.scheduler === state.name) hear_task(data.task);
  else if (name === "resync" || name === "open") failing(fetch_all)();
}

// The stream says only that it ended; asking says why, as that the session is over.
const ask_why = throttle(failing(fetch_schedulers), 5000);

function say_live(on, since) {
  if (!on && live) ask_why();
  $("live").className = on ? "badge on" : "badge";
  $("live").textContent = on ? "live" : "not live" + (since ? " since " + new Date(since).toLocaleTimeString() : "");
}

let live = null, polling = null;

function listen() {
  if (live) live.close();
  live = new Live("api/v1/events", told, say_live);
  clearInterval(polling);
  polling = setInterval(() => { // where nothing comes through, as behind a proxy that holds it back
    if (live.works || document.hidden) return;
    $("live").textContent = "asks every 10 s";
    failing(fetch_all)();
  }, 10000);
}

setInterval(() => { // no event tells that the tasks of this page were deleted
  if (state.after && !document.hidden && !state.over && !$("main").hidden) refresh_total();
}, 5000);

setInterval(() => { // running tasks get older
  for (const row of state.rows.values()) if (row.task.status === "running") draw_row(row.task, row);
}, 1000);

// All of it.

async function fetch_all() {
  await fetch_schedulers();
  await fetch_list();
  refresh_hosts();
}

function show_filter() {
  $("status").value = state.status;
  $("text").value = state.text;
  $("key").value = state.key;
  $("order").value = state.order;
}

const show_all = failing(async () => {
  show_filter();
  state.selected.clear();
  state.refused.clear();
  draw_schedulers();
  draw_figures();
  draw_hosts();
  await fetch_all();
  await show_task();
});

function logged_out() {
  state.over = true;
  if (live) live.close();
  if (live_output) live_output.close();
  live = live_output = null;
  clearInterval(polling);
  say_live(false, Date.now());
  $("main").hidden = $("task").hidden = $("logout").hidden = true;
  $("login").hidden = false;
  $("token").focus();
}

async function log_in(token) {
  const answer = await fetch("login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }), redirect: "manual" });
  if (answer.type !== "opaqueredirect" && !answer.ok) {
    $("login-error").textContent = "That is not the token.";
    return;
  }
  state.over = false;
  $("login-error").textContent = "";
  $("token").value = "";
  $("login").hidden = true;
  await begin();
}

async function begin() {
  state.settings = await get("api/v1/settings");
  document.title = state.settings.title || "ltsh";
  $("title").textContent = state.settings.title || "ltsh";
  document.body.classList.toggle("read-only", state.settings.read_only);
  for (const each of document.querySelectorAll(".changes")) each.hidden = state.settings.read_only;
  try {
    await fetch_schedulers();
  } catch (error) {
    if (error.status === 401) return;
    say(error.message);
  }
  $("main").hidden = false;
  $("logout").hidden = !state.settings.token;
  await show_all();
  listen();
}

$("status").append(element("option", { value: "" }, "any"), ...STATUSES.map((name) => element("option", { value: name }, name)));
$("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  Object.assign(state, { status: $("status").value, text: $("text").value, key: $("key").value, order: $("order").value, after: "", trail: [] });
  write_address();
  show_all();
});
for (const id of ["status", "order"]) $(id).addEventListener("change", () => $("filter").requestSubmit());
$("first").addEventListener("click", () => { Object.assign(state, { after: "", trail: [] }); write_address(); show_all(); });
$("next").addEventListener("click", () => { state.trail.push(state.after); state.after = state.next; write_address(); show_all(); });
$("show-fresh").addEventListener("click", failing(fetch_list));
$("all").addEventListener("change", () => {
  const on = $("all").checked;
  for (const id of state.rows.keys()) select(id, on);
});
$("every").addEventListener("click", () => { state.every = true; draw_pages(); $("selected").textContent = (state.total === null ? "all" : state.total.toLocaleString()) + " selected"; });
for (const button of document.querySelectorAll("#bulk [data-action]")) {
  button.addEventListener("click", failing(() => act_on_many(button.dataset.action)));
}
$("halt").addEventListener("click", () => { state.halt = true; });
$("retry-failed").addEventListener("click", failing(() => act_on_filter("retry", { status: "failed" })));
$("pause").addEventListener("click", failing(async () => {
  const one = state.schedulers.find((each) => each.name === state.name);
  await ask("POST", base() + (one.paused ? "/resume" : "/pause"), {});
  await fetch_schedulers();
}));
$("limit").addEventListener("change", failing(async () => {
  await ask("PATCH", base(), { limit: Number($("limit").value) });
  await fetch_schedulers();
}));
$("add").addEventListener("click", () => {
  $("json").value = '{\n  "item": {}\n}';
  $("add-error").textContent = "";
  $("adding").showModal();
});
$("send").addEventListener("click", async () => {
  try {
    parse($("json").value);
    await ask("POST", base() + "/tasks", $("json").value); // as it was typed: all digits
    $("adding").close();
    await fetch_list();
  } catch (error) {
    $("add-error").textContent = error.message;
  }
});
$("logout").addEventListener("click", async () => {
  await fetch("logout", { method: "POST", redirect: "manual" });
  logged_out();
});
$("login").addEventListener("submit", (event) => { event.preventDefault(); log_in($("token").value); });
window.addEventListener("popstate", () => { read_address(); show_all(); });
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, dialog")) return;
  if (event.key === "/") { event.preventDefault(); $("text").focus(); }
  if (event.key === "Escape" && state.task) close_task();
});

read_address();
const given = /^#token=(.+)$/.exec(location.hash);
if (given) {
  history.replaceState(null, "", location.pathname + location.search);
  log_in(decodeURIComponent(given[1]));
} else {
  begin();
}
