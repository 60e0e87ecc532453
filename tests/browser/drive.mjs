// Drives the page in headless Chromium for the Python tests.
//
// node drive.mjs JOB.json: {modules: where playwright-core is, chromium, url, scenario, ...}. Prints what was seen as JSON.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { chromium } = createRequire(join(job.modules, "x.js"))("playwright-core");
const PATIENCE = 180_000;

async function opened(browser, query = "") {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...job.context });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const seen = { requests: [], problems: [] };
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("pageerror", (error) => seen.problems.push(error.message));
  page.on("console", (message) => {
    if (/Content Security Policy|Refused/.test(message.text())) seen.problems.push(message.text());
  });
  await page.goto(job.url + query);
  return { page, seen };
}

async function ready(page) {
  await page.waitForSelector("#tasks input");
  await page.setInputFiles("#file", job.photo);
  await page.waitForSelector("#sheet .photo", { state: "attached" });
}

/** Runs a task and saves what the user would download. */
async function edited(page, task, target) {
  await page.check(`#tasks input[value=${task}]`, { force: true });
  await page.click("#run");
  await page.waitForSelector("body[data-mode=result], #error:not([hidden])");
  if (await page.isVisible("#error")) return { error: await page.textContent("#error") };
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  await download.saveAs(target);
  const times = await page.$$eval("#times tr", (rows) => rows.map((row) => row.textContent));
  return { name: download.suggestedFilename(), times, done: await page.textContent("#done") };
}

const scenarios = {
  async golden(browser) {
    const { page, seen } = await opened(browser, `?golden=${job.golden}&accelerator=wasm`);
    await page.waitForSelector("#golden:not([hidden]), #error:not([hidden])");
    if (await page.isVisible("#error")) return { ...seen, error: await page.textContent("#error") };
    return { ...seen, golden: JSON.parse(await page.textContent("#golden")) };
  },

  async edits(browser) {
    const { page, seen } = await opened(browser, "?accelerator=wasm");
    await ready(page);
    if (job.mask) await page.setInputFiles("#mask", job.mask);
    const results = {};
    for (const [task, target] of Object.entries(job.tasks)) {
      results[task] = await edited(page, task, target);
      await page.click("#back");
    }
    return { ...seen, results };
  },

  // Paints with the mouse, takes it back, erases, paints with the keyboard; tells after each what the mask covers.
  async painting(browser) {
    const { page, seen } = await opened(browser, "?accelerator=wasm");
    await ready(page);
    const covered = () =>
      page.$eval("#overlay", (canvas) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let at = 3; at < data.length; at += 4) count += data[at] > 127;
        return count / (canvas.width * canvas.height);
      });
    const box = await page.locator("#overlay").boundingBox();
    const drag = async (x, y, u, v) => {
      await page.mouse.move(box.x + x * box.width, box.y + y * box.height);
      await page.mouse.down();
      await page.mouse.move(box.x + u * box.width, box.y + v * box.height, { steps: 6 });
      await page.mouse.up();
    };
    const shares = { start: await covered(), allowed: [await page.isEnabled("#run")] };
    await drag(0.2, 0.3, 0.7, 0.3);
    shares.stroke = await covered();
    shares.allowed.push(await page.isEnabled("#run"));
    await page.keyboard.press("Control+z");
    shares.undone = await covered();
    await page.keyboard.press("Control+Shift+z");
    shares.redone = await covered();
    await page.keyboard.press("e");
    await drag(0.4, 0.3, 0.9, 0.3);
    shares.erased = await covered();
    await page.click("#clear");
    shares.cleared = await covered();
    await page.keyboard.press("e");
    await page.focus("#overlay");
    for (const key of ["ArrowRight", "ArrowDown", " "]) await page.keyboard.press(key);
    shares.keyboard = await covered();
    return { ...seen, shares };
  },

  // What the page says of a bundle that it cannot, or should not, run.
  async complaint(browser) {
    const { page, seen } = await opened(browser, "?accelerator=wasm");
    if (job.task) {
      await ready(page);
      await page.setInputFiles("#mask", job.mask);
      await page.check(`#tasks input[value=${job.task}]`, { force: true });
      await page.click("#run");
    }
    await page.waitForSelector("#error:not([hidden]), #warning:not([hidden])");
    const text = async (id) => ((await page.isVisible(id)) ? page.textContent(id) : null);
    return { ...seen, error: await text("#error"), warning: await text("#warning") };
  },

  // Loads the page, lets the test stop the server, and edits after a reload.
  async offline(browser) {
    const { page, seen } = await opened(browser, "?accelerator=wasm");
    await page.waitForSelector("#offline:not([hidden])", { state: "attached" });
    await fetch(`${job.stop}`).catch(() => {});
    await page.waitForTimeout(500);
    await page.reload();
    await ready(page);
    await page.setInputFiles("#mask", job.mask);
    return { ...seen, result: await edited(page, "remove", job.target) };
  },
};

const browser = await chromium.launch({ executablePath: job.chromium, args: ["--no-sandbox"] });
try {
  console.log(JSON.stringify(await scenarios[job.scenario](browser)));
} finally {
  await browser.close();
}
