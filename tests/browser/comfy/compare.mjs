// What tests/browser/comfy/test_compare.py does in the page with the Compare node.

const FRAME = ".editkit-compare .frame";

/** A red picture against a blue and a green one of half its size, with a white mask as the map. Returns the node's id. */
export function build(page, { zoom }) {
  return page.evaluate((scale) => {
    const { app, LiteGraph } = window;
    app.graph.clear();
    window.leaked = []; // what the view should have kept to itself: the canvas drags, zooms and has keys of its own
    for (const kind of ["pointerdown", "pointermove", "keydown"]) {
      document.addEventListener(kind, ({ target, buttons }) => {
        if (target.closest?.(".editkit-compare") && (buttons || kind === "keydown")) window.leaked.push(kind);
      });
    }
    const add = (type, x, y, values = {}) => {
      const node = LiteGraph.createNode(type);
      node.pos = [x, y];
      app.graph.add(node);
      for (const [name, value] of Object.entries(values)) node.widgets.find((w) => w.name === name).value = value;
      return node;
    };
    const plain = (y, width, color) => add("EmptyImage", 0, y, { width, height: (width * 2) / 3, batch_size: 1, color });
    const [red, blue, green] = [plain(0, 300, 0xff0000), plain(220, 150, 0x0000ff), plain(440, 150, 0x00ff00)];
    const batch = add("ImageBatch", 330, 220);
    const mask = add("SolidMask", 330, 440, { value: 1, width: 30, height: 20 });
    const compare = add("EditKitCompare", 600, 40);
    blue.connect(0, batch, 0);
    green.connect(0, batch, 1);
    red.connect(0, compare, compare.findInputSlot("image_a"));
    batch.connect(0, compare, compare.findInputSlot("image_b"));
    mask.connect(0, compare, compare.findInputSlot("map"));
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [-560, 20];
    app.graph.setDirtyCanvas(true, true);
    return String(compare.id);
  }, zoom);
}

export async function queue(page) {
  await page.evaluate(() => window.app.queuePrompt(0, 1));
  await page.waitForSelector(".editkit-compare:not(.empty)");
  await page.waitForFunction(() => [...document.querySelectorAll(".editkit-compare .a, .editkit-compare .b")]
    .every((image) => image.complete && image.naturalWidth));
}

/** Shows files that are not there, as after a restart of the server. */
export async function lose(page) {
  await page.evaluate(() => {
    const node = window.app.graph.nodes.find((n) => n.comfyClass === "EditKitCompare");
    const gone = [{ filename: "gone.png", subfolder: "", type: "temp" }];
    node.onExecuted({ a_images: gone, b_images: gone });
  });
  await page.waitForSelector(".editkit-compare.empty");
  return state(page);
}

/** What the view shows now, to a screen reader and to the eye. */
export function state(page) {
  return page.evaluate((selector) => {
    const frame = document.querySelector(selector);
    const root = frame.closest(".editkit-compare");
    const box = frame.getBoundingClientRect();
    const found = (name) => root.querySelector(name);
    const seen = (name) => found(name).checkVisibility({ visibilityProperty: true });
    const node = window.app.graph.nodes.find((n) => n.comfyClass === "EditKitCompare");
    return {
      box: [box.left, box.top, box.width, box.height], role: frame.getAttribute("role"), now: Number(frame.ariaValueNow),
      told: frame.ariaValueText, clip: [".a", ".b"].map((name) => getComputedStyle(found(name)).clipPath),
      place: found(".place").value, pager: seen(".pager"), layer: seen(".layer"), heat: seen(".heat"), pictures: seen(".a"),
 opacity: getComputedStyle(found(".heat")).opacity, hint: found(".hint").textContent,
      sizes: found(".sizes").textContent, leaked: window.leaked.splice(0), focused: document.activeElement === frame,
      node: [...node.pos], index: node.widgets.find((w) => w.name === "index").value, count: window.app.graph.nodes.length,
    };
  }, FRAME);
}

/** Drags from the slider's place to another share of the width. */
export async function drag(page, { from, to }) {
  const box = await page.locator(FRAME).boundingBox();
  const at = (share) => [box.x + share * box.width, box.y + box.height * 0.6];
  await page.mouse.move(...at(from));
  await page.mouse.down();
  await page.mouse.move(...at(to), { steps: 5 });
  await page.mouse.up();
  await page.mouse.move(...at(0.9)); // a slider that still followed would be here
  return state(page);
}

export async function press(page, { keys }) {
  await page.focus(FRAME);
  for (const key of keys) await page.keyboard.press(key);
  return state(page);
}

export async function click(page, { name }) {
  await page.click(`.editkit-compare button[aria-label="${name}"]`);
  await page.waitForFunction(() => document.querySelector(".editkit-compare .b").complete);
  return state(page);
}

/** Sets the node's own widget, as its field on the canvas does. */
export async function choose(page, { index }) {
  await page.evaluate((value) => {
    const node = window.app.graph.nodes.find((n) => n.comfyClass === "EditKitCompare");
    const widget = node.widgets.find((w) => w.name === "index");
    widget.value = value;
    widget.callback(value);
  }, index);
  return state(page);
}

export async function heat(page, { shown, opacity }) {
  await page.setChecked(".editkit-compare .layer input[type=checkbox]", shown);
  if (opacity !== undefined) await page.fill(".editkit-compare .layer input[type=range]", String(opacity));
  return state(page);
}

/** What would be saved and what would be sent. */
export function stored(page) {
  return page.evaluate(async () => {
    const { output, workflow } = await window.app.graphToPrompt();
    const id = Object.keys(output).find((key) => output[key].class_type === "EditKitCompare");
    return { inputs: Object.keys(output[id].inputs), values: workflow.nodes.find((n) => String(n.id) === id).widgets_values };
  });
}

export async function palette(page, { name }) {
  await page.evaluate((id) => window.app.extensionManager.setting.set("Comfy.ColorPalette", id), name);
}

/** The workflow is left for another and opened again. */
export async function reopen(page) {
  await page.evaluate(async () => window.app.loadGraphData((await window.app.graphToPrompt()).workflow));
  return state(page);
}
