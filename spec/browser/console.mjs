// Uses the console's page in a real browser, as people do. Arguments: the address; a folder for pictures, or "". Prints a line for
// each thing that was tried: "ok NAME" or "not ok NAME: WHY".
import { createRequire } from "node:module";
const { chromium } = createRequire(process.env.LTSH_BROWSER_MODULES + "/")("playwright-core");

const [, , address, pictures] = process.argv;
const browser = await chromium.launch({ executablePath: process.env.LTSH_CHROMIUM, args: ["--no-sandbox"] });
const troubles = [], asked = new Set();

async function open(path = "", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) troubles.push(message.text()); });
  page.on("pageerror", (error) => troubles.push(error.message));
  page.on("request", (request) => asked.add(new URL(request.url()).origin));
  await page.goto(address + path);
  return page;
}

const check = (is, why) => { if (!is) throw new Error(why); };
const row = (page, id) => page.locator("#rows tr", { has: page.getByRole("button", { name: id, exact: true }) });
const eventually = async (what, is) => {
  for (let i = 0; i < 200; i++) {
    if (await is()) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error("did not happen in time: " + what);
};

const tries = {
  async "shows tasks and figures, and is live"() {
    const page = await open();
    await row(page, "good").waitFor();
    await eventually("live", async () => await page.textContent("#live") === "live");
    check((await page.textContent("#figures")).includes("succeeded"), "no figures");
    check((await page.textContent("#total")).includes(" of "), "no total");
    if (pictures) await page.screenshot({ path: pictures + "/desktop.png" });
    await page.context().close();
  },
  async "adds a task and watches it to its end, its digits as they were typed"() {
    const page = await open();
    await page.click("#add");
    await page.fill("#json", '{"id": "typed", "item": {"n": 12345678901234567890123, "big": 9007199254740993}}');
    await page.click("#send");
    await eventually("refused or added", async () => (await page.textContent("#add-error")) !== "" || await row(page, "typed").count() > 0);
    if (await row(page, "typed").count() === 0) {
      await page.fill("#json", '{"id": "typed", "item": {"big": 9007199254740993}}');
      await page.click("#send");
    }
    await row(page, "typed").locator(".status.success").waitFor();
    await row(page, "typed").getByRole("button").click();
    await page.locator("#task").getByText("9007199254740993").first().waitFor();
    await page.context().close();
  },
  async "shows a failure with its reason, and retries it"() {
    const page = await open("?status=failed");
    await row(page, "bad").getByRole("button").click();
    await page.locator("#task dd", { hasText: "the mail server said no" }).waitFor();
    await page.locator("#task").getByRole("button", { name: "Retry" }).click();
    await eventually("another run", async () => await page.locator("#task tbody tr").count() === 2);
    check(page.url().includes("task=bad"), "the open task is not in the address");
    await page.goBack();
    await page.locator("#task").waitFor({ state: "hidden" });
    await page.context().close();
  },
  async "stops and deletes, after a question"() {
    const page = await open();
    await row(page, "long").getByRole("button").click();
    await page.locator("#task").getByRole("button", { name: "Stop" }).click();
    await page.locator("#task .status.stopped").first().waitFor();
    await page.locator("#task").getByRole("button", { name: "Delete" }).click();
    await page.locator("#ask").getByRole("button", { name: "No" }).click();
    await page.locator("#task").getByRole("button", { name: "Delete" }).click();
    await page.locator("#yes").click();
    await row(page, "long").waitFor({ state: "detached" });
    await page.context().close();
  },
  async "runs nothing that a task says"() {
    const page = await open("?text=%3Cimg");
    const id = "<img src=x onerror=window.hacked=1>";
    await row(page, id).getByRole("button").click();
    await page.locator("#task h2", { hasText: id }).waitFor();
    await page.locator("#task pre:visible").first().waitFor();
    check(await page.evaluate(() => window.hacked === undefined), "it ran");
    check(await page.locator("#task img, #task script, #rows img").count() === 0, "there are elements of it");
    await page.context().close();
  },
  async "opens any id"() {
    const page = await open("?text=" + encodeURIComponent("a b/c?d=e#f"));
    await row(page, "a b/c?d=e#f").getByRole("button").click();
    await page.locator("#task h2", { hasText: "a b/c?d=e#f" }).waitFor();
    await page.locator("#task pre:visible").first().waitFor();
    await page.context().close();
  },
  async "keeps what is selected, focused and scrolled to while it is live"() {
    const page = await open();
    await row(page, "good").waitFor();
    await eventually("the list is fetched anew as the stream opens", () => page.evaluate(() =>
      performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/tasks?")).length >= 2));
    const box = row(page, "good").locator("input");
    await box.check();
    await page.evaluate(() => { document.querySelector("#text").focus(); window.scrollTo(0, 120); });
    const first = await page.textContent("#rows tr:first-child .id");
    await page.evaluate(async () => {
      for (let i = 0; i < 15; i++) await fetch("api/v1/schedulers/orders/tasks", { method: "POST",
        headers: { "Content-Type": "application/json" }, body: JSON.stringify({ id: "new-" + i }) });
    });
    await page.locator("#show-fresh", { hasText: "15 new" }).waitFor();
    check(await page.textContent("#rows tr:first-child .id") === first, "rows moved");
    check(await box.isChecked(), "it is not selected any more");
    check(await page.evaluate(() => document.activeElement.id === "text" && window.scrollY === 120), "focus or scroll moved");
    await page.locator("#show-fresh").click();
    await row(page, "new-14").waitFor();
    await page.context().close();
  },
  async "acts on all that match"() {
    const page = await open("?text=many&status=failed");
    await eventually("rows", async () => await page.locator("#rows tr").count() === 50);
    await page.check("#all");
    await page.click("#every");
    await page.locator("#bulk").getByRole("button", { name: "Delete" }).click();
    await page.locator("#yes").click();
    await page.locator("#empty").waitFor();
    await page.context().close();
  },
  async "shows what a program prints, from before too, without its colours"() {
    const page = await open("?s=builds&task=build");
    await page.locator("#task pre", { hasText: "step 1" }).first().waitFor();
    await page.locator("#task pre", { hasText: "step 5" }).first().waitFor();
    const text = await page.locator("#task pre").first().textContent();
    check(!text.includes("\x1b") && !text.includes("[32m"), "there are colours");
    await page.context().close();
  },
  async "fits a phone, and the dark"() {
    const page = await open("", { viewport: { width: 390, height: 800 }, colorScheme: "dark" });
    await row(page, "good").waitFor();
    check(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), "it is wider than the phone");
    if (pictures) await page.screenshot({ path: pictures + "/phone.png" });
    await page.context().close();
  },
  async "is used by keyboard"() {
    const page = await open();
    await row(page, "good").waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("good");
    await page.keyboard.press("Enter");
    await eventually("one row", async () => await page.locator("#rows tr").count() === 1);
    await row(page, "good").getByRole("button").focus();
    await page.keyboard.press("Enter");
    await page.locator("#close").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("#task").waitFor({ state: "hidden" });
    await page.context().close();
  },
};

Object.assign(tries, {
  async "shows the same after a reload, back, and in a link that was sent"() {
    const page = await open();
    await row(page, "good").waitFor();
    await page.selectOption("#status", "success");
    await eventually("filtered", async () => page.url().includes("status=success") && await row(page, "many-1").count() === 0);
    await page.selectOption("#order", "oldest");
    await row(page, "good").getByRole("button").click();
    await page.locator("#task h2", { hasText: "good" }).waitFor();
    const sent = page.url().slice(address.length);
    await page.reload();
    for (const each of [page, await open(sent)]) {
      await each.locator("#task h2", { hasText: "good" }).waitFor();
      check(await each.inputValue("#status") === "success" && await each.inputValue("#order") === "oldest", "the filter is lost");
      check(await each.locator("#rows .status:not(.success)").count() === 0, "others are shown");
    }
    await page.context().close();
  },
  async "says what cannot be done, and shows how it is"() {
    const page = await open("?text=gone");
    await page.request.post(address + "api/v1/schedulers/orders/tasks", { data: { id: "gone", item: {} } });
    await page.reload();
    await row(page, "gone").locator(".status.success").waitFor();
    await row(page, "gone").locator("input").check();
    await page.request.delete(address + "api/v1/schedulers/orders/tasks/gone"); // by another
    await page.locator("#bulk").getByRole("button", { name: "Retry" }).click();
    await page.locator("#message", { hasText: "no such task" }).waitFor();
    await page.locator("#empty").waitFor();
    await page.context().close();
  },
  async "goes by the host's clock"() {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.clock.install({ time: new Date(Date.now() - 2 * 3600 * 1000) });
    await page.goto(address + "?text=good");
    await row(page, "good").waitFor();
    await page.clock.runFor(2000);
    const when = await row(page, "good").locator(".when").textContent();
    check(/ ago$/.test(when) && !/ h /.test(when) && !when.includes("-"), "it began " + when);
    check(/\d:\d\d/.test(await row(page, "good").locator("time").getAttribute("title")), "the exact time is not in its title");
    await context.close();
  },
  async "opens the stream anew when a proxy has refused it"() {
    const context = await browser.newContext();
    const page = await context.newPage();
    let refused = 0;
    await page.route("**/api/v1/events", (route) => {
      if (refused++ < 2) route.fulfill({ status: 502, contentType: "text/html", body: "bad gateway" });
      else route.continue();
    });
    await page.goto(address);
    await eventually("it says so", async () => (await page.textContent("#live")).startsWith("not live"));
    await eventually("live", async () => await page.textContent("#live") === "live");
    check(refused === 3, "it was asked " + refused + " times");
    await context.close();
  },
  async "writes a line over as a program does, and tells its streams apart"() {
    const page = await open("?s=builds&task=build");
    await page.locator("#task pre .stderr", { hasText: "careful" }).waitFor();
    const text = await page.locator("#task pre").first().textContent();
    check(text.includes("90 %") && !text.includes("10 %"), "the line is not written over");
    await page.context().close();
  },
  async "shows the beginning of what is large, and all of it when asked"() {
    const page = await open("?text=large");
    await row(page, "large").getByRole("button").click();
    const button = page.locator("#task").getByRole("button", { name: /Show all 3,000,0/ });
    await button.waitFor();
    check((await page.locator("#task pre:visible").first().textContent()).length < 70000, "all of it is shown");
    await button.click();
    await eventually("all of it", async () => (await page.locator("#task pre:visible").first().textContent()).length > 2999999);
    await page.context().close();
  },
  async "retries all that failed, after a question that says how many, and may be halted"() {
    const page = await open();
    const failed = async () => (await (await page.request.get(address + "api/v1/schedulers/orders/tasks?status=failed&limit=1")).json()).total;
    const count = await failed();
    check(count > 0, "nothing has failed");
    await page.click("#retry-failed");
    await page.locator("#question", { hasText: `Retry ${count.toLocaleString()} tasks?` }).waitFor();
    await page.click("#yes");
    await eventually("retried", async () => (await page.request.get(address + "api/v1/schedulers/orders").then((answer) => answer.json())).stats.failed >= 2 * count);
    let asked = 0;
    await page.route("**/bulk", async (route) => { // as if there were no end to it
      asked++;
      await new Promise((done) => setTimeout(done, 100));
      route.fulfill({ status: 200, contentType: "application/json", body: '{"done": 500, "failed": [], "left": 1, "next": "1"}' });
    });
    await page.click("#retry-failed");
    await page.click("#yes");
    await page.locator("#work", { hasText: "Retried 1,000" }).waitFor();
    await page.click("#halt");
    await page.locator("#message", { hasText: "halted" }).waitFor();
    check(asked < 20, "it went on");
    await page.context().close();
  },
});

const other_tries = { watch: {}, token: {}, million: {}, proxy: {}, hosts: {}, pages: {} };

other_tries.token["asks for the token, keeps it out of the address, and goes on where it was"] = async () => {
    const page = await open("?status=success");
    await page.fill("#token", "wrong");
    await page.click("#login button");
    await page.locator("#login-error", { hasText: "not the token" }).waitFor();
    await page.fill("#token", process.env.LTSH_TOKEN);
    await page.click("#login button");
    await row(page, "good").waitFor();
    check(page.url().includes("status=success"), "the filter is lost");
    check(!page.url().includes(process.env.LTSH_TOKEN), "the token is in the address");
    await page.click("#logout");
    await page.locator("#login").waitFor();
    await page.fill("#token", process.env.LTSH_TOKEN);
    await page.click("#login button");
    await eventually("live", async () => await page.textContent("#live") === "live");
    await page.context().clearCookies(); // the session ends while the page is open
    await page.reload();
    await page.locator("#login").waitFor();
    const linked = await open("#token=" + process.env.LTSH_TOKEN);
    await row(linked, "good").waitFor();
    check(!linked.url().includes(process.env.LTSH_TOKEN), "the token stays in the address");
  };

other_tries.token["stops asking when the session ends while it is open, and goes on where it was"] = async () => {
  const page = await open("?status=success&text=good");
  const log_in = async () => {
    await page.fill("#token", process.env.LTSH_TOKEN);
    await page.click("#login button");
    await row(page, "good").waitFor();
  };
  await log_in();
  await eventually("live", async () => await page.textContent("#live") === "live");
  let refused = 0;
  page.on("response", (response) => { if (response.status() === 401) refused++; });
  await page.request.post(address + "logout"); // in another tab, say
  await page.locator("#login").waitFor();
  check((await page.textContent("#live")).startsWith("not live since"), "it does not say since when it is not live");
  check(await page.locator("#main").isHidden(), "it shows what is old");
  const then = refused;
  await new Promise((done) => setTimeout(done, 12000)); // longer than it polls
  check(refused === then, "it goes on asking");
  await page.fill("#token", process.env.LTSH_TOKEN);
  await page.click("#login button");
  await row(page, "good").waitFor();
  check(page.url().includes("status=success") && page.url().includes("text=good"), "it is not where it was");
  await eventually("live", async () => await page.textContent("#live") === "live");
};

// Behind a proxy that holds back what does not end, below a path.
other_tries.proxy["is used below a path, and asks where nothing comes by itself"] = async () => {
  const page = await open();
  await page.fill("#token", process.env.LTSH_TOKEN);
  await page.click("#login button");
  await row(page, "good").waitFor();
  check(new URL(page.url()).pathname === "/jobs/", "it is elsewhere: " + page.url());
  await page.click("#add");
  await page.fill("#json", '{"id": "added", "item": {}}');
  await page.click("#send");
  await row(page, "added").waitFor();
  const answer = await page.request.post(address + "api/v1/schedulers/orders/tasks", { data: { id: "elsewhere", item: {} } });
  check(answer.status() === 201, "it was not added: " + answer.status());
  await eventually("it polls", async () => await page.textContent("#live") === "asks every 10 s");
  await row(page, "elsewhere").locator(".status.success").waitFor();
  await page.click("#logout");
  await page.locator("#login").waitFor();
};

other_tries.watch["has nothing to press that would change something"] = async () => {
  const page = await open();
  await row(page, "good").waitFor();
  await row(page, "good").getByRole("button").click();
  await page.locator("#task h2", { hasText: "good" }).waitFor();
  for (const name of ["Pause", "Retry", "Stop", "Delete", "Add a task", "Retry all failed"]) {
    check(await page.getByRole("button", { name, exact: true }).filter({ visible: true }).count() === 0, "there is " + name);
  }
  check(await page.locator("input[type=checkbox]:visible").count() === 0, "rows can be selected");
};

other_tries.hosts["shows the hosts on a queue"] = async () => {
  const page = await open("?s=shared");
  await page.locator("#hosts summary", { hasText: "2 hosts" }).click();
  check(await page.locator("#hosts tbody tr").count() === 2, "not two rows");
  check((await page.textContent("#hosts tbody")).includes("(this one)"), "it does not say which it is");
  if (pictures) await page.screenshot({ path: pictures + "/hosts.png" });
  await page.goto(address + "?s=orders");
  await row(page, "good").waitFor();
  check(await page.locator("#hosts").isHidden(), "there are hosts of a queue in memory");
};

other_tries.pages["steps back when what it shows has gone"] = async () => {
  const post = (path, data) => page.request.post(address + "api/v1/schedulers/orders/" + path, { data });
  const ids = (letter, from, to) => Array.from({ length: to - from + 1 }, (_, i) => letter + "-" + (from + i));
  const begins_with = (id) => page.locator("#rows tr:first-child .id button", { hasText: new RegExp("^" + id + "$") }).waitFor();
  const page = await open("?order=oldest&status=success");
  await begins_with("t-1");
  await page.click("#next");
  await begins_with("t-51");
  const second = page.url();
  await page.click("#next");
  await begins_with("t-101");
  await page.reload();
  await begins_with("t-101");
  await page.check("#all");
  await page.locator("#bulk").getByRole("button", { name: "Delete" }).click();
  await page.click("#yes");
  await begins_with("t-51");
  check(page.url() === second, "it is at " + page.url());
  check(await page.locator("#rows tr").count() === 50, "it does not show all of that page");
  await post("bulk", { action: "delete", ids: ids("t", 51, 100) }); // by another, of which no event tells
  await begins_with("t-1");
  check(!page.url().includes("after="), "it is at " + page.url());
  await page.selectOption("#status", "waiting");
  await begins_with("w-1");
  await page.click("#next");
  await begins_with("w-51");
  await post("bulk", { action: "stop", ids: ids("w", 51, 60) });
  await begins_with("w-1");
  check(!page.url().includes("after=") && page.url().includes("status=waiting"), "it is at " + page.url());
};

other_tries.pages["shows beside a row why nothing was done to it"] = async () => {
  const why = (id) => row(page, id).locator(".refused:visible", { hasText: "the task has ended" });
  const page = await open("?text=t-1&order=oldest");
  await row(page, "t-1").locator("input").check();
  await row(page, "t-10").locator("input").check();
  await page.locator("#bulk").getByRole("button", { name: "Stop" }).click();
  await page.click("#yes");
  await why("t-1").waitFor();
  await why("t-10").waitFor();
  check(await page.locator("#rows .refused:visible").count() === 2, "it is beside others too");
  await row(page, "t-10").locator("input").check();
  await page.locator("#bulk").getByRole("button", { name: "Delete" }).click();
  await page.click("#yes");
  await row(page, "t-10").waitFor({ state: "detached" });
  check(await page.locator("#rows .refused:visible").count() === 0, "it stays after the next action");

  await page.route("**/api/v1/events*", () => {}); // so that it does not hear what others do
  await page.goto(address + "?text=w-2&order=oldest");
  await row(page, "w-2").getByRole("button").click();
  await page.locator("#task").getByRole("button", { name: "Stop" }).waitFor();
  await page.request.post(address + "api/v1/schedulers/orders/tasks/w-2/stop", { data: {} });
  await page.locator("#task").getByRole("button", { name: "Stop" }).click();
  await why("w-2").waitFor();
  await row(page, "w-2").locator(".status.stopped").waitFor();
  await page.locator("#task .refused", { hasText: "the task has ended" }).waitFor();
  await page.locator("#task").getByRole("button", { name: "Retry" }).waitFor();
};

// Milliseconds of what people wait for, and the longest time for which the page does not react.
other_tries.million["stays quick with a million tasks while others come"] = async () => {
  const times = {};
  const timed = async (name, most, work) => {
    const began = performance.now();
    await work();
    times[name] = Math.round(performance.now() - began);
    check(times[name] < most, name + " took " + times[name] + " ms");
  };
  const page = await open("?status=bogus");
  await timed("the first page", 5000, async () => {
    await page.goto(address);
    await page.locator("#rows tr").nth(49).waitFor();
  });
  check((await page.textContent("#total")).includes("1,000,000"), "the total is " + await page.textContent("#total"));
  const first = await page.textContent("#rows tr:first-child .id");
  await timed("the next page", 5000, async () => {
    await page.click("#next");
    await page.locator("#rows tr:first-child .id", { hasNotText: first }).waitFor();
  });
  await timed("a part of an id", 5000, async () => {
    await page.fill("#text", "t-77777");
    await page.keyboard.press("Enter");
    await eventually("ten and one", async () => await page.locator("#rows tr").count() === 11);
  });
  await page.fill("#text", "");
  await page.keyboard.press("Enter");
  await page.locator("#rows tr").nth(49).waitFor();
  await page.evaluate(() => {
    window.longest = 0;
    let last = performance.now();
    const look = () => { const now = performance.now(); window.longest = Math.max(window.longest, now - last); last = now; requestAnimationFrame(look); };
    requestAnimationFrame(look);
  });
  await page.request.post(address + "api/v1/schedulers/orders/tasks", { data: { id: "burst", item: {} } });
  await page.locator("#show-fresh").waitFor();
  await new Promise((done) => setTimeout(done, 3000));
  times["longest frame while tasks come"] = Math.round(await page.evaluate(() => window.longest));
  check(times["longest frame while tasks come"] < 1000, "the page stood for " + times["longest frame while tasks come"] + " ms");
  times["heap, MB"] = Math.round(await page.evaluate(() => performance.memory.usedJSHeapSize / 1e6));
  check(times["heap, MB"] < 100, "the page needs " + times["heap, MB"] + " MB");
  console.error(JSON.stringify(times));
};

for (const [name, attempt] of Object.entries(other_tries[process.env.LTSH_TRIES] || tries)) {
  try {
    await attempt();
    console.log("ok " + name);
  } catch (error) {
    console.log("not ok " + name + ": " + error.message.split("\n").slice(0, 3).join(" | "));
  }
}
// A refused task and a wrong token are answers, which a browser tells of as errors.
const others = troubles.filter((text) => !/status of (400|401|404|409)/.test(text));
console.log(others.length ? "not ok says nothing in the browser's console: " + others[0] : "ok says nothing in the browser's console");
const origins = [...asked].filter((origin) => origin !== new URL(address).origin);
console.log(origins.length ? "not ok asks nobody else: " + origins[0] : "ok asks nobody else");
await browser.close();
