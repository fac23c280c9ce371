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

if (process.env.LTSH_TOKEN) {
  for (const name of Object.keys(tries)) delete tries[name];
  tries["asks for the token, keeps it out of the address, and goes on where it was"] = async () => {
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
}

for (const [name, attempt] of Object.entries(tries)) {
  try {
    await attempt();
    console.log("ok " + name);
  } catch (error) {
    console.log("not ok " + name + ": " + error.message.split("\n").slice(0, 3).join(" | "));
  }
}
// A refused task and a wrong token are answers, which a browser tells of as errors.
const others = troubles.filter((text) => !/status of (400|401|404)/.test(text));
console.log(others.length ? "not ok says nothing in the browser's console: " + others[0] : "ok says nothing in the browser's console");
const origins = [...asked].filter((origin) => origin !== new URL(address).origin);
console.log(origins.length ? "not ok asks nobody else: " + origins[0] : "ok asks nobody else");
await browser.close();
