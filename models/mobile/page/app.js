/** The page: opens photos, takes the mask and the task, asks the worker, shows what comes back. */

import { Client } from "./client.js";
import { outpaintMargins } from "./edit.js";
import { EditError } from "./errors.js";
import { Painter } from "./painter.js";
import { LARGEST_RESULT, canvasFrom, download, openMask, openPhoto } from "./photo.js";
import { TASKS, showTasks, showTimes } from "./tasks.js";
import { View, compare } from "./view.js";

const base = new URL("./", location.href).href;
const part = (id) => document.getElementById(id);
const { body } = document;
const painter = new Painter(part("overlay"), part("cursor"), refresh);
const view = new View(part("stage"), part("frame"), () => painter.cancel());
const slide = compare(part("slider"), part("after"), part("handle"));
const state = { task: "remove", photo: null, result: null, manifest: null, busy: false };
let client = null;

/** Runs what a user started; its one sentence is shown when it fails. */
async function attempt(work) {
  part("error").hidden = true;
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof EditError)) console.error(error);
    part("error").textContent =
      error instanceof EditError ? error.message : `Something unexpected went wrong (${error.message}); reload the page.`;
    part("error").hidden = false;
    return undefined;
  }
}

async function start() {
  if (typeof WebAssembly !== "object" || typeof Worker === "undefined") {
    throw new EditError("This browser has no WebAssembly; use a current Chrome, Edge, Firefox or Safari.");
  }
  const wishes = new URLSearchParams(location.search);
  client = new Client(base, wishes.get("accelerator"));
  state.manifest = await client.ask("open");
  const names = Object.keys(TASKS).filter((name) => name in state.manifest.tasks);
  showTasks(part("tasks"), names, choose);
  choose(names[0]);
  if (state.manifest.quantisation === "fp16") {
    warn("This bundle is stored as fp16, which runs about five times slower in a browser; export it as fp32 or int8.");
  }
  const golden = wishes.get("golden");
  if (golden) await testGolden(golden === "all" ? Object.keys(state.manifest.golden) : golden.split(","));
  else prepare();
}

/** Gets the engine ready while the user still looks for a photo, then keeps everything for use without a network. */
async function prepare() {
  const { accelerator } = await client.ask("start");
  showAccelerator(accelerator);
  if (!("serviceWorker" in navigator) || navigator.connection?.saveData) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    part("offline").hidden = !(await client.ask("keep"));
  } catch (error) {
    console.warn(`The page is not kept for use without a network: ${error.message}`);
  }
}

function showAccelerator(accelerator) {
  const places = { webgpu: "Runs on the GPU", wasm: "Runs on the CPU", "wasm+webgpu": "Runs on GPU and CPU" };
  part("accelerator").textContent = places[accelerator];
  part("accelerator").hidden = false;
}

function warn(sentence) {
  part("warning").textContent = sentence;
  part("warning").hidden = false;
}

/** Writes the golden tests' numbers as JSON into #golden. */
async function testGolden(tasks) {
  const unknown = tasks.find((name) => !(name in state.manifest.golden));
  if (unknown) throw new EditError(`The bundle has no golden edit "${unknown}".`);
  const result = await working(() => client.ask("golden", { tasks }, [], showStage));
  showAccelerator(result.accelerator);
  part("golden").textContent = JSON.stringify(result, null, 1);
  part("golden").hidden = false;
}

/** Shows progress, and keeps the controls still, while something runs. */
async function working(work) {
  state.busy = true;
  showStage("Starting");
  part("progress").hidden = false;
  refresh();
  try {
    return await work();
  } finally {
    state.busy = false;
    part("progress").hidden = true;
    refresh();
  }
}

function showStage(stage) {
  part("status").textContent = `${stage}…`;
}

function choose(name) {
  state.task = name;
  body.dataset.task = name;
  part("hint").textContent = TASKS[name].hint;
  part("run").textContent = TASKS[name].verb;
  for (const one of document.querySelectorAll("[data-for]")) one.classList.toggle("unused", one.dataset.for !== name);
  arrange();
  refresh();
}

/** Enables what makes sense right now. */
function refresh() {
  const needed = state.manifest?.tasks[state.task]?.mask === "required";
  part("run").disabled = !state.photo || !state.manifest || state.busy || (needed && painter.empty);
  part("undo").disabled = !painter.operations.length;
  part("redo").disabled = !painter.undone.length;
  part("clear").disabled = painter.empty;
  if (document.activeElement?.disabled) part("overlay").focus({ preventScroll: true }); // else keys would be lost
  part("panel").toggleAttribute("aria-busy", state.busy);
  body.classList.toggle("busy", state.busy);
}

function show(mode) {
  body.dataset.mode = mode;
  arrange();
  refresh();
}

/** Lays the photo out on the frame: as it is, with new margins, or under its result. */
function arrange() {
  const { photo, result } = state;
  if (!photo) return;
  const margins = state.task === "outpaint" ? marginsOf(photo) : { left: 0, top: 0, right: 0, bottom: 0 };
  const shown = body.dataset.mode === "result" ? result.margins : margins;
  const [width, height] = [photo.width + shown.left + shown.right, photo.height + shown.top + shown.bottom];
  const { style } = part("sheet");
  style.left = `${(100 * shown.left) / width}%`;
  style.top = `${(100 * shown.top) / height}%`;
  style.width = `${(100 * photo.width) / width}%`;
  style.height = `${(100 * photo.height) / height}%`;
  if (result?.task === "sticker" && body.dataset.mode === "result") view.show(result.width, result.height);
  else view.show(width, height);
}

function marginsOf({ height, width }) {
  const shape = part("shape").value;
  part("margins").hidden = shape !== "margins";
  part("anchored").hidden = shape === "margins";
  if (shape !== "margins") return outpaintMargins(height, width, shape.split(":").map(Number), part("anchor").value);
  const share = (id, side) => Math.round((Math.min(100, Math.max(0, Number(part(id).value) || 0)) / 100) * side);
  return { left: share("left", width), top: share("top", height), right: share("right", width), bottom: share("bottom", height) };
}

/** Opens a photo, or takes a result as the next photo. */
function usePhoto(photo) {
  state.photo = photo;
  state.result = null;
  part("sheet").querySelector(".photo")?.remove();
  photo.canvas.className = "photo";
  part("sheet").prepend(photo.canvas);
  painter.reset(photo.width, photo.height);
  setSize();
  show("edit");
}

function open(file) {
  if (!file || state.busy) return;
  attempt(async () => usePhoto(await openPhoto(file)));
}

/** The brush's radius: from 0.4 % to 13 % of the longer side, evenly in steps of equal ratio. */
function setSize() {
  if (!state.photo) return;
  const longest = Math.max(state.photo.width, state.photo.height);
  painter.radius = longest * 0.004 * Math.exp((part("size").value / 100) * Math.log(32));
}

function optionsOf(task) {
  if (task === "remove") return { shadow: part("lift").checked };
  if (task === "sticker") return { shadow: part("cast").checked };
  return task === "outpaint" ? { margins: marginsOf(state.photo) } : {};
}

async function run() {
  const { task, photo } = state;
  const options = optionsOf(task);
  const margins = options.margins ?? { left: 0, top: 0, right: 0, bottom: 0 };
  const pixels = (photo.width + margins.left + margins.right) * (photo.height + margins.top + margins.bottom);
  if (pixels > LARGEST_RESULT) {
    const size = (pixels / 1e6).toFixed(1);
    throw new EditError(`The result would have ${size} megapixels and the page makes up to 16; choose smaller margins.`);
  }
  const mask = painter.empty || task === "outpaint" ? null : painter.bytes(task === "sticker");
  const data = photo.data.slice();
  const transferred = mask ? [data.buffer, mask.buffer] : [data.buffer];
  const request = { name: task, photo: { height: photo.height, width: photo.width, data }, mask, options };
  const result = await working(() => client.ask("edit", request, transferred, showStage));
  showResult({ ...result, task, margins });
}

function showResult(result) {
  state.result = result;
  result.canvas = canvasFrom(result);
  part("after").replaceChildren(result.canvas);
  showAccelerator(result.accelerator);
  showTimes(part("times"), result.times, result.total);
  part("done").textContent = `${TASKS[result.task].done} in ${(result.total / 1000).toFixed(1)} s`;
  part("continue").hidden = result.task === "sticker";
  body.dataset.result = result.task;
  show("result");
  slide(result.task === "sticker" ? 0 : 50);
  part("done").focus({ preventScroll: true });
}

function keepEditing() {
  const { canvas, width, height, data } = state.result;
  usePhoto({ canvas, width, height, data, name: state.photo.name });
}

function listen() {
  const on = (id, kind, work) => part(id).addEventListener(kind, work);
  for (const [id, take] of [["file", open], ["mask", loadMask]]) {
    on(id, "change", ({ target }) => {
      take(target.files[0]);
      target.value = "";
    });
  }
  on("another", "click", () => part("file").click());
  on("load", "click", () => part("mask").click());
  on("run", "click", () => attempt(run));
  on("save", "click", () => attempt(() => download(state.result.canvas, `${state.photo.name}-${state.result.task}`)));
  on("continue", "click", keepEditing);
  on("back", "click", () => show("edit"));
  on("undo", "click", () => painter.undo());
  on("redo", "click", () => painter.redo());
  on("clear", "click", () => painter.add({ clear: true }));
  on("size", "input", setSize);
  on("in", "click", () => view.zoomTo(view.zoom * 1.5));
  on("out", "click", () => view.zoomTo(view.zoom / 1.5));
  on("fit", "click", () => view.zoomTo(1));
  for (const tool of document.querySelectorAll("[name=tool]")) {
    tool.addEventListener("change", () => (painter.erasing = tool.value === "eraser"));
  }
  for (const id of ["shape", "anchor", "left", "top", "right", "bottom"]) on(id, "input", arrange);
}

function loadMask(file) {
  if (!file || !state.photo) return;
  attempt(async () => painter.add({ image: await openMask(file, state.photo.width, state.photo.height) }));
}

function listenEverywhere() {
  addEventListener("dragover", (event) => {
    event.preventDefault();
    body.classList.add("dragging");
  });
  addEventListener("dragleave", (event) => body.classList.toggle("dragging", event.relatedTarget !== null));
  addEventListener("drop", (event) => {
    event.preventDefault();
    body.classList.remove("dragging");
    open(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => open(event.clipboardData.files[0]));
  addEventListener("keydown", (event) => shortcut(event));
}

function shortcut(event) {
  if (body.dataset.mode !== "edit" || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && key === "z") event.shiftKey ? painter.redo() : painter.undo();
  else if (key === "e") document.querySelector(`[name=tool][value=${painter.erasing ? "brush" : "eraser"}]`).click();
  else if (key === "[" || key === "]") {
    part("size").value = Number(part("size").value) + (key === "[" ? -5 : 5);
    setSize();
  } else return;
  event.preventDefault();
}

listen();
listenEverywhere();
attempt(start);
