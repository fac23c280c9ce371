// Uses the video cutting example's page in a real browser. Arguments: the address; a folder for pictures, or "". Prints as console.mjs.
import { createRequire } from "node:module";
const { chromium } = createRequire(process.env.LTSH_BROWSER_MODULES + "/")("playwright-core");

const [, , address, pictures] = process.argv;
const browser = await chromium.launch({ executablePath: process.env.LTSH_CHROMIUM, args: ["--no-sandbox"] });
const troubles = [], asked = new Set();

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 700 }, locale: "en-US", ...options });
  const page = await context.newPage();
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) troubles.push(message.text()); });
  page.on("pageerror", (error) => troubles.push(error.message));
  page.on("request", (request) => asked.add(new URL(request.url()).origin));
  page.on("dialog", (dialog) => dialog.accept());
  await page.goto(address);
  await page.waitForFunction(() => document.querySelectorAll("#video option").length > 0);
  return page;
}

async function create(page, from, to) {
  const before = await page.locator("#tasks tr").count();
  await page.fill("#from", String(from));
  await page.fill("#to", String(to));
  await page.locator("#create button").click();
  await page.waitForFunction((count) => document.querySelectorAll("#tasks tr").length > count, before);
  return page.locator("#tasks tr", { hasText: `${from} – ${to} s` }).first();
}

const check = (is, why) => { if (!is) throw new Error(why); };

const tries = {
  async "creates, runs, watches, plays and deletes"() {
    const page = await open();
    const row = await create(page, 1, 3);
    await row.getByText("not started").waitFor();
    await row.getByRole("button", { name: "Run" }).click();
    await row.getByText("done").waitFor({ timeout: 60000 });
    await row.getByRole("button", { name: "Show" }).click();
    await page.waitForFunction(() => document.getElementById("out").readyState > 0, null, { timeout: 20000 });
    const length = await page.evaluate(() => document.getElementById("out").duration);
    check(Math.abs(length - 2) < 0.5, "the result is " + length + " s long");
    await page.evaluate(() => Promise.all(["in", "out"].map((id) => new Promise((seen) => {
      const video = document.getElementById(id);
      video.onseeked = seen;
      video.currentTime = 1;
    }))));
    if (pictures) await page.screenshot({ path: pictures + "/videocut.png" });
    await page.locator("#close").click();
    const count = await page.locator("#tasks tr").count();
    await row.getByRole("button", { name: "Delete" }).click();
    await page.waitForFunction((before) => document.querySelectorAll("#tasks tr").length < before, count);
    await page.context().close();
  },
  async "says what is wrong"() {
    const page = await open();
    await page.fill("#from", "5");
    await page.fill("#to", "5");
    await page.locator("#create button").click();
    await page.locator("#message", { hasText: "before the end" }).waitFor();
    await page.context().close();
  },
  async "speaks Chinese"() {
    const page = await open({ locale: "zh-CN" });
    await page.getByRole("button", { name: "创建任务" }).waitFor();
    const row = await create(page, 0, 1);
    await row.getByText("未开始").waitFor();
    await row.getByRole("button", { name: "执行" }).click();
    await row.getByText("执行成功").waitFor({ timeout: 60000 });
    await page.context().close();
  },
};

for (const [name, attempt] of Object.entries(tries)) {
  try {
    await attempt();
    console.log("ok " + name);
  } catch (error) {
    console.log("not ok " + name + ": " + error.message.split("\n").slice(0, 3).join(" | "));
  }
}
console.log(troubles.length ? "not ok says nothing in the browser's console: " + troubles[0] : "ok says nothing in the browser's console");
const origins = [...asked].filter((origin) => origin !== new URL(address).origin);
console.log(origins.length ? "not ok asks nobody else: " + origins[0] : "ok asks nobody else");
await browser.close();
