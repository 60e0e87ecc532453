// Holds one headless Chromium for the Python tests, with a page for each front end that they open.
//
// node drive.mjs JOB.json: {modules: where playwright-core is, chromium, artefacts: folder for screenshots}. Then one JSON
// object a line on stdin, answered by one line, {result} or {error}:
//   {open: name, url, nodeType}                opens ComfyUI with an empty graph that knows that node type
//   {page: name, scenario: file.mjs, step, arguments}   awaits the module's step(page, arguments, kit) and returns its JSON
//   {page: name, screenshot: file name}        writes it into the artefacts; returns its path
//   {page: name, problems: true}               what the page logged as errors since it was last asked
//   {close: name}

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { chromium } = createRequire(join(job.modules, "x.js"))("playwright-core");
const PATIENCE = 60_000;
const browser = await chromium.launch({ executablePath: job.chromium, args: ["--no-sandbox"] });
const pages = new Map();

async function open({ open: name, url, nodeType }) {
  const made = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  const page = await made.newPage();
  page.setDefaultTimeout(PATIENCE);
  const problems = [];
  page.on("pageerror", (error) => problems.push(`uncaught: ${error.stack ?? error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") problems.push(`${message.text()} (${message.location().url})`);
  });
  pages.set(name, { page, problems });
  await page.goto(url);
  await page.waitForFunction(
    (type) => window.app?.extensionManager && window.app?.graph && type in window.LiteGraph.registered_node_types,
    nodeType,
  );
  await page.waitForFunction(() => window.app.extensionManager.workflow?.activeWorkflow?.changeTracker);
  await page.evaluate(() => window.app.graph.clear()); // the front end's own default workflow
  problems.length = 0; // of the start: routes newer than this server, and that workflow's missing models
  return true;
}

async function screenshot(page, file) {
  const path = join(job.artefacts, file);
  await page.screenshot({ path });
  return path;
}

async function answer(line) {
  if (line.open) return open(line);
  const { page, problems } = pages.get(line.close ?? line.page);
  if (line.close) return page.context().close();
  if (line.screenshot) return screenshot(page, line.screenshot);
  if (line.problems) return problems.splice(0);
  const scenario = await import(pathToFileURL(line.scenario));
  return scenario[line.step](page, line.arguments, { screenshot: (file) => screenshot(page, file) });
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply;
  try {
    reply = { result: (await answer(JSON.parse(line))) ?? null };
  } catch (error) {
    reply = { error: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
await browser.close();
