// Steps of the mask painter's tests: what a user does on the canvas, with a real mouse and real keys.

import { readFileSync } from "node:fs";

const FRAME = ".editkit-frame";

/** An empty canvas with Load Image wired into a node; `scale` is the canvas's zoom. Returns the node's id. */
export async function wire(page, { photo, type, scale = 1, mask = null, inputs = {} }) {
  const id = await page.evaluate(
    async ({ photo, type, scale, mask, inputs }) => {
      const { app, LiteGraph } = window;
      if (app.canvas.graph !== app.graph) app.canvas.setGraph(app.graph); // out of a subgraph
      for (const node of app.graph.nodes) node.subgraph?.clear(); // or its widgets outlive it
      app.graph.clear();
      const add = (kind, x, values) => {
        const node = LiteGraph.createNode(kind);
        node.pos = [x, 80];
        app.graph.add(node);
        for (const [name, value] of Object.entries(values)) node.widgets.find((w) => w.name === name).value = value;
        return node;
      };
      const image = add("LoadImage", -340, { image: photo });
      const edit = add(type, 60, inputs);
      const slot = (name) => edit.inputs.findIndex((input) => input.name === name);
      if (slot("image") >= 0) image.connect(0, edit, slot("image"));
      if (mask) add("LoadImageMask", -700, { image: mask, channel: "red" }).connect(0, edit, slot("mask"));
      edit.marked = true; // the graph's own undo makes every node anew
      edit.setSize([420, Math.max(edit.size[1], 640)]);
      app.canvas.ds.scale = scale;
      app.canvas.ds.offset = [60, -40];
      app.canvas.setDirty(true, true);
      return edit.id;
    },
    { photo, type, scale, mask, inputs },
  );
  await page.waitForSelector(".editkit-painter");
  await page.mouse.move(5, 500);
  await settled(page);
  return id;
}

/** Waits until the painter shows its picture, or that there is none, and stands still. */
export async function settled(page) {
  await page.evaluate(async () => {
    const painters = window.app.graph.nodes.map((node) => node.editkitPainter).filter(Boolean);
    for (const painter of painters) {
      painter.refresh(); // else it looks at the graph every half second
      await painter.loading;
      await painter.seeking;
    }
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
  });
}

const box = async (page) => page.locator(FRAME).boundingBox();

/** Drags along points, given as shares of the picture. */
export async function drag(page, { points, button = "left" }) {
  const { x, y, width, height } = await box(page);
  const at = points.map(([u, v]) => [x + u * width, y + v * height]);
  await page.mouse.move(...at[0]);
  await page.mouse.down({ button });
  for (const point of at.slice(1)) await page.mouse.move(...point, { steps: 8 });
  await page.mouse.up({ button });
  return { width, height };
}

/** A stroke with something between its two halves: keys, and a pause in milliseconds. */
export async function interrupted(page, { points, keys = [], pause = 0 }) {
  const { x, y, width, height } = await box(page);
  const [from, middle, to] = points.map(([u, v]) => [x + u * width, y + v * height]);
  await page.mouse.move(...from);
  await page.mouse.down();
  await page.mouse.move(...middle, { steps: 8 });
  for (const key of keys) await page.keyboard.press(key);
  await page.waitForTimeout(pause);
  await page.mouse.move(...to, { steps: 8 });
  await page.mouse.up();
}

/** Moves over the picture without a button. */
export async function hover(page, { points }) {
  const { x, y, width, height } = await box(page);
  for (const [u, v] of points) await page.mouse.move(x + u * width, y + v * height, { steps: 8 });
}

/** Puts the node of that id into a subgraph and opens it; returns the size of the painter's picture and the node's id. */
export async function subgraph(page, { id }) {
  await page.evaluate((wanted) => {
    const { app } = window;
    const edit = app.graph.nodes.find((node) => String(node.id) === String(wanted));
    app.graph.convertToSubgraph(new Set([edit]));
  }, id);
  await page.waitForFunction(() => !document.querySelector(".editkit-painter")?.checkVisibility());
  const made = await page.evaluate(() => {
    const { app } = window;
    const outer = app.graph.nodes.find((node) => node.subgraph);
    app.canvas.setGraph(outer.subgraph);
    const inner = outer.subgraph.nodes.find((node) => node.editkitPainter);
    [app.canvas.ds.offset[0], app.canvas.ds.offset[1]] = [60, -40];
    app.canvas.setDirty(true, true);
    return `${outer.id}:${inner.id}`;
  });
  await page.waitForSelector(".editkit-painter");
  const picture = await page.evaluate(async () => {
    const painter = window.app.canvas.graph.nodes.map((node) => node.editkitPainter).find(Boolean);
    painter.refresh();
    await painter.seeking;
    return painter.picture && [painter.picture.width, painter.picture.height];
  });
  return { picture, id: made };
}

/** Sets a slider as its own thumb would. */
export async function slide(page, { name, value }) {
  await page.locator(`[data-slider=${name}]`).evaluate((input, to) => {
    input.value = to;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }, value);
  return page.locator(`[data-slider=${name}] + output`).textContent();
}

export const tool = (page, { name }) => page.locator(`[data-tool=${name}]`).click({ force: true });

export async function press(page, { keys }) {
  for (const key of keys) await page.keyboard.press(key);
  await page.waitForTimeout(50); // ComfyUI answers keys a frame later
}

/** Ctrl-Z on the canvas itself, which undoes the graph's last change. */
export async function undoGraph(page) {
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("Control+z");
  await page.waitForFunction(() => !window.app.graph.nodes.some((node) => node.marked));
  await page.waitForSelector(".editkit-painter");
  await settled(page);
}

/** What the prompt says of a node, and how many nodes the graph has. Queues nothing. */
export function prompt(page, { id }) {
  return page.evaluate(async (node) => {
    const { output, workflow } = await window.app.graphToPrompt();
    const { nodes } = window.app.graph;
    const same = nodes.some((one) => String(one.id) === String(node) && one.marked);
    return { inputs: output[node]?.inputs, nodes: nodes.length, same, workflow };
  }, id);
}

export async function refused(page, { id }) {
  await page.route("**/upload/image", (route) => route.fulfill({ status: 500 }));
  const said = await page.evaluate(() => window.app.graphToPrompt().then(() => null, (problem) => problem.message));
  const note = await page.locator(".editkit-note").textContent();
  await page.unroute("**/upload/image");
  return { said, note, later: (await prompt(page, { id })).inputs.mask_paint };
}

/** Drops a file on the painter. */
export async function drop(page, { file, name }) {
  const content = readFileSync(file).toString("base64");
  await page.locator(".editkit-stage").evaluate(
    (stage, [data, called]) => {
      const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], called, { type: called.endsWith("png") ? "image/png" : "image/jpeg" }));
      for (const kind of ["dragover", "drop"]) {
        stage.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
      }
    },
    [content, name],
  );
  await page.waitForTimeout(400);
}

/** Opens a workflow as from a file, and tells what the painter then shows at shares of the picture: the tint's alpha. */
export async function load(page, { workflow, points = [] }) {
  await page.evaluate((json) => window.app.loadGraphData(json), workflow);
  await page.waitForSelector(".editkit-painter");
  await settled(page);
  return shown(page, { points });
}

export async function shown(page, { points }) {
  const alphas = await page.locator(`${FRAME} canvas`).evaluate((canvas, at) => {
    const context = canvas.getContext("2d");
    return at.map(([u, v]) => context.getImageData(u * canvas.width, v * canvas.height, 1, 1).data[3]);
  }, points);
  const [note, status] = await Promise.all([".editkit-note", ".editkit-status"].map((s) => page.locator(s).textContent()));
  const open = await page.locator(".editkit-painter").evaluate((root) => root.classList.contains("editkit-open"));
  const height = await page.locator(".editkit-painter").evaluate((root) => root.offsetHeight); // at any zoom
  return { alphas, note, status, open, height };
}

/** Links and values of a node, as the canvas has them. */
export function node(page, { id }) {
  return page.evaluate((wanted) => {
    const found = window.app.graph.nodes.find((one) => String(one.id) === String(wanted));
    const links = Object.fromEntries(found.inputs.filter((i) => i.link != null).map((i) => [i.name, String(i.link)]));
    const values = Object.fromEntries(found.widgets.map((widget) => [widget.name, widget.value]));
    return { links, values, inputs: found.inputs.map((input) => input.name), properties: found.properties };
  }, id);
}

/** A stroke of a pen at a pressure, or of a finger: events as the browser gets them from the device. */
export async function device(page, { kind, points, force = 0 }) {
  const { x, y, width, height } = await box(page);
  const at = points.map(([u, v]) => ({ x: x + u * width, y: y + v * height, force }));
  const session = await page.context().newCDPSession(page);
  const send = (type, point) =>
    kind === "pen"
      ? session.send("Input.dispatchMouseEvent", { type: `mouse${type}`, pointerType: "pen", button: "left",
          buttons: 1, clickCount: 1, ...point })
      : session.send("Input.dispatchTouchEvent", {
          type: { Pressed: "touchStart", Moved: "touchMove", Released: "touchEnd" }[type],
          touchPoints: type === "Released" ? [] : [point] });
  await send("Pressed", at[0]);
  for (const point of at.slice(1)) await send("Moved", point);
  await send("Released", at.at(-1));
  await session.detach();
}

/** Queues as the Run button does and waits for the picture; returns what the server says of it. */
export async function queue(page, { id, seconds = 90 }) {
  return page.evaluate(
    async ([node, patience]) => {
      const save = window.LiteGraph.createNode("SaveImage");
      window.app.graph.add(save);
      window.app.graph.nodes.find((one) => String(one.id) === String(node)).connect(0, save, 0);
      const { api } = window.comfyAPI.api;
      const done = new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error("nothing came of the prompt")), patience * 1000);
        const over = (how) => (event) => (clearTimeout(timer), resolve({ how, ...event.detail }));
        api.addEventListener("execution_success", over("success"));
        api.addEventListener("execution_error", over("error"));
      });
      await window.app.queuePrompt(0, 1);
      const { how, prompt_id: prompt, exception_message: said } = await done;
      let history = {};
      while (!history[prompt]) history = await (await api.fetchApi(`/history/${prompt}`)).json(); // it follows the news
      return { how, said, outputs: history[prompt]?.outputs?.[save.id]?.images ?? [] };
    },
    [id, seconds],
  );
}
