// Steps on ComfyUI's canvas for the Python tests: opening templates, dropping files, queueing, and what is then seen.

/** What the graph on the canvas holds, in a form that does not depend on the front end's version. */
export const inGraph = () => {
  const graph = window.app.graph;
  const links = [...graph.links.values()].map((l) => [+l.origin_id, +l.origin_slot, +l.target_id, +l.target_slot, String(l.type)]);
  const nodes = graph._nodes.map(({ id, type, title, widgets }) => ({
    id: +id,
    type,
    title,
    known: type in window.LiteGraph.registered_node_types,
    values: (widgets ?? []).filter((w) => w.serialize !== false).map((w) => w.value ?? null),
  }));
  nodes.sort((a, b) => a.id - b.id);
  return { nodes, links: links.sort((a, b) => a[2] - b[2] || a[3] - b[3]), groups: graph._groups.map((g) => g.title).sort() };
};

/** The graph, and the prompt that the front end would queue, with what it adds to a node's _meta left out. */
async function contents(page) {
  const graph = await page.evaluate(inGraph);
  const prompt = await page.evaluate(async () => (await window.app.graphToPrompt()).output);
  for (const node of Object.values(prompt)) node._meta = { title: node._meta?.title };
  return { ...graph, prompt };
}

/** The text of every dialog, message and error panel that lies over the canvas; what a painter says on its node is no such. */
export const said = (page) =>
  page.evaluate(() => {
    const places = "[role=dialog], [role=alert], .p-toast-message, [data-testid=error-overlay], [data-testid^=error-]";
    const opened = [...document.querySelectorAll('button[aria-controls][aria-expanded="true"]')];
    const details = opened.map((e) => document.getElementById(e.getAttribute("aria-controls"))).filter(Boolean);
    const over = [...document.querySelectorAll(places), ...details].filter((e) => !e.closest(".editkit-painter"));
    return over.map((e) => e.innerText.trim()).filter(Boolean);
  });

const settle = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));

/** Brings the whole graph into view. */
async function fit(page) {
  await page.evaluate(() => {
    const boxes = window.app.graph._groups.map((g) => [...(g._bounding ?? g.boundingRect)]);
    const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]));
    const width = Math.max(...boxes.map((b) => b[0] + b[2])) - left;
    const height = Math.max(...boxes.map((b) => b[1] + b[3])) - top;
    const view = window.app.canvas.ds, scale = Math.min(1300 / width, 780 / height, 1);
    view.scale = scale;
    view.offset[0] = 70 / scale - left;
    view.offset[1] = 90 / scale - top;
    window.app.canvas.setDirty(true, true);
  });
  await settle(page);
}

/** Nodes as drawn that overlap each other or leave their group, in words. */
const disorder = () => {
  const scale = window.app.canvas.ds.scale, title = 30, words = [];
  const boxes = window.app.graph._nodes.map((node) => {
    const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
    const height = Math.max(node.size[1], (drawn?.height ?? 0) / scale - title);
    const [x, y] = node.pos;
    return { name: `${node.id} ${node.type}`, x, y: y - title, right: x + node.size[0], bottom: y + height };
  });
  const groups = window.app.graph._groups.map((g) => [...(g._bounding ?? g.boundingRect)]);
  for (const [at, a] of boxes.entries()) {
    const holds = ([x, y, w, h]) => x <= a.x && y <= a.y && a.right <= x + w + 1 && a.bottom <= y + h + 1;
    if (!groups.some(holds)) words.push(`${a.name} leaves its group (its foot is at ${Math.round(a.bottom)})`);
    for (const b of boxes.slice(at + 1))
      if (a.x < b.right && b.x < a.right && a.y < b.bottom - 1 && b.y < a.bottom - 1) words.push(`${a.name} overlaps ${b.name}`);
  }
  return words;
};

/** Opens a template as the template browser does, from the server; tells what came of it. */
export async function open(page, { pack, name, picture }, kit) {
  await page.evaluate(
    async ([pack, name]) => {
      const reply = await window.app.api.fetchApi(`/workflow_templates/${pack}/${name}.json`);
      await window.app.loadGraphData(await reply.json(), true, true, name, { openSource: "template" });
    },
    [pack, name],
  );
  await fit(page);
  await page.waitForFunction(() => window.app.graph._nodes.every((n) => n.type !== "LoadImage" || n.imgs?.length || window.LiteGraph.vueNodesMode));
  const words = await said(page);
  if (picture) await kit.screenshot(picture);
  return { ...(await contents(page)), said: words, disorder: await page.evaluate(disorder) };
}

/** What a template's note leads to: the links as the browser resolves them, with the status of those to this server. */
export async function links(page) {
  await page.evaluate(() => {
    const { pos } = window.app.graph._nodes.find((n) => n.type === "MarkdownNote"), view = window.app.canvas.ds;
    Object.assign(view, { scale: 1 });
    [view.offset[0], view.offset[1]] = [400 - pos[0], 200 - pos[1]];
    window.app.canvas.setDirty(true, true);
  });
  await page.waitForSelector(".comfy-markdown a, .widget-markdown a");
  const found = await page.evaluate(() => [...document.querySelectorAll(".comfy-markdown a, .widget-markdown a")].map((a) => [a.href, a.target]));
  const own = new URL(page.url()).origin;
  return Promise.all(found.map(async ([href, target]) => [href, target, href.startsWith(own) ? (await page.request.get(href)).status() : null]));
}

/** Drops a file onto the canvas, or onto a node of it, and waits until the graph has so many nodes. */
export async function drop(page, { name, type, base64, at, nodes }) {
  const point = at === undefined ? { x: 700, y: 850 } : await middle(page, at);
  await page.evaluate(
    async ([name, type, base64, { x, y }]) => {
      const data = new DataTransfer();
      data.items.add(new File([await (await fetch(`data:${type};base64,${base64}`)).blob()], name, { type }));
      const target = document.elementFromPoint(x, y) ?? document.querySelector("canvas");
      for (const kind of ["dragenter", "dragover", "drop"])
        target.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true, clientX: x, clientY: y }));
    },
    [name, type, base64, point],
  );
  if (nodes !== undefined) await page.waitForFunction((n) => window.app.graph._nodes.length === n, nodes, { timeout: 15_000 });
  await settle(page);
  return contents(page);
}

/** The middle of a node on the screen. */
function middle(page, title) {
  return page.evaluate((title) => {
    const node = window.app.graph._nodes.find((n) => n.title === title);
    const { scale, offset } = window.app.canvas.ds, box = window.app.canvas.canvas.getBoundingClientRect();
    const place = (k) => (node.pos[k] + node.size[k] / 2 + offset[k]) * scale + [box.left, box.top][k];
    return { x: place(0), y: place(1) };
  }, title);
}

export async function clear(page) {
  for (let i = 0; i < 3; i++) await page.keyboard.press("Escape");
  await page.mouse.move(5, 500); // off what says something when it is hovered over
  await page.evaluate(() => window.app.graph.clear());
  const panel = page.getByText("Workflow Overview", { exact: true }); // 1.58's, where errors were listed
  if (await panel.isVisible()) await page.getByRole("button", { name: "Toggle properties panel" }).click();
}

/** Opens the template browser with the mouse, at the pack's templates; returns the name and thumbnail width of each. */
export async function browse(page, { pack, count }) {
  await page.getByRole("button", { name: "Templates", exact: true }).first().click();
  const dialog = page.getByRole("dialog").last();
  await dialog.getByText(pack, { exact: true }).first().click();
  const cards = dialog.locator('[data-testid^="template-workflow-"]');
  await page.waitForFunction((n) => {
    const found = [...document.querySelectorAll('[data-testid^="template-workflow-"]')];
    window.scrolledDown = !window.scrolledDown; // more are added as one scrolls, up and down again
    found.at(window.scrolledDown ? -1 : 0)?.scrollIntoView();
    return found.length === n;
  }, count, { polling: 250 });
  const seen = [];
  for (const card of await cards.all()) {
    await card.scrollIntoViewIfNeeded();
    const picture = await card.locator("img").first().elementHandle();
    await page.waitForFunction((img) => img.complete && img.naturalWidth > 0, picture);
    seen.push([(await card.getAttribute("data-testid")).replace("template-workflow-", ""), await picture.evaluate((img) => img.naturalWidth)]);
  }
  return seen;
}

/** Clicks a template in the open template browser and waits until its nodes are on the canvas. */
export async function choose(page, { name, type }) {
  const card = page.getByTestId(`template-workflow-${name}`);
  await card.scrollIntoViewIfNeeded();
  await card.locator("img").first().click();
  await page.waitForFunction((type) => window.app.graph._nodes.some((n) => n.type === type), type);
  await page.waitForFunction(() => !document.querySelector('[data-testid^="template-workflow-"]'));
  await fit(page);
  return contents(page);
}

const press = (page) => page.locator('[data-testid=queue-button], button[aria-label="Run"]').first().click();

/** Presses Run and waits until the node of that title shows its result; returns the picture's size and file. */
export async function run(page, { title }) {
  const latest = (title) => {
    const node = window.app.graph._nodes.find((n) => n.title === title);
    return window.app.nodeOutputs[node.id]?.images?.[0];
  };
  const before = await page.evaluate(latest, title);
  await press(page);
  const stored = await page.waitForFunction(([title, before]) => {
    const node = window.app.graph._nodes.find((n) => n.title === title);
    const image = window.app.nodeOutputs[node.id]?.images?.[0];
    return image && image.filename !== before && image;
  }, [title, before?.filename], { timeout: 120_000 });
  const shown = await page.waitForFunction((title) => {
    const node = window.app.graph._nodes.find((n) => n.title === title);
    const drawn = document.querySelector(`[data-node-id="${node.id}"] img`) ?? node.imgs?.[0];
    return drawn?.complete && drawn.naturalWidth > 0 && [drawn.naturalWidth, drawn.naturalHeight];
  }, title);
  return { stored: await stored.jsonValue(), shown: await shown.jsonValue() };
}

/** Sets widgets of the node of that title: name -> value. */
export const set = (page, { title, values }) =>
  page.evaluate(([title, values]) => {
    const node = window.app.graph._nodes.find((n) => n.title === title);
    for (const [name, value] of Object.entries(values)) node.widgets.find((w) => w.name === name).value = value;
  }, [title, values]);

/** Takes the link from a node's input. */
export const unlink = (page, { title, input }) =>
  page.evaluate(([title, input]) => {
    const node = window.app.graph._nodes.find((n) => n.title === title);
    node.disconnectInput(node.inputs.findIndex((i) => i.name === input));
  }, [title, input]);

/** Presses Run and waits until something is said that holds these words; opens the error panel where there is one. */
export async function refused(page, { words }) {
  await press(page);
  return complaint(page, words);
}

/** Loads a graph, and waits for what is said of it where words are given. */
export async function loaded(page, { workflow, words }) {
  await page.evaluate((workflow) => window.app.loadGraphData(workflow, true, true, "broken"), workflow);
  return words ? complaint(page, words) : null;
}

async function complaint(page, words) {
  for (let tries = 0; tries < 120; tries++) {
    const texts = await said(page);
    const found = texts.find((text) => text.includes(words));
    if (found) return found;
    const closed = 'button[aria-controls][aria-expanded="false"][aria-label^="Info"]'; // a sentence of 1.58's error panel
    for (const more of [page.getByRole("button", { name: /View details/i }), page.locator(closed)])
      if (await more.first().isVisible()) await more.first().click();
    await page.waitForTimeout(250);
  }
  throw new Error(`nobody said ${words}; but: ${JSON.stringify(await said(page))}`);
}

/** Waits until the loader of that title names a file whose name holds these words. */
export const named = async (page, { title, words }) => {
  const found = await page.waitForFunction(([title, words]) => {
    const name = window.app.graph._nodes.find((n) => n.title === title).widgets[0].value;
    return String(name).includes(words) && name;
  }, [title, words]);
  return found.jsonValue();
};
