// The view of Compare: picture A over picture B under one slider, with a heat map over both and a pager for batches.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "EditKitCompare";
const STEP = 1;
const LEAP = 10;
const HINT = "Queue to compare the two pictures.";
const GONE = "The pictures are no longer there; queue again.";

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function address({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder: subfolder ?? "", type: type ?? "temp" })}`);
}

class View {
  /** onPage(index): hears which pair of a batch the user turned to. */
  constructor(onPage) {
    this.onPage = onPage;
    this.pairs = [];
    this.index = 0;
    this.build();
    this.listen();
    this.move(50);
    this.empty(HINT);
  }

  build() {
    const picture = (layer) => element("img", { class: layer, alt: "", draggable: "false" });
    [this.a, this.b, this.heat] = ["a", "b", "heat"].map(picture);
    const line = element("div", { class: "line" }, element("div", { class: "grip" }));
    const labels = ["A", "B"].map((name) => element("span", { class: `label label-${name.toLowerCase()}` }, name));
    const slider = { class: "frame", role: "slider", tabindex: "0", "aria-label": "Compare A with B", "aria-valuemin": "0" };
    this.frame = element("div", { ...slider, "aria-valuemax": "100" }, this.b, this.a, this.heat, ...labels, line);
    this.hint = element("p", { class: "hint", role: "status" });
    this.previous = element("button", { type: "button", "aria-label": "Previous pair" }, "‹");
    this.next = element("button", { type: "button", "aria-label": "Next pair" }, "›");
    this.place = element("output", { class: "place" });
    this.pager = element("div", { class: "pager", role: "group", "aria-label": "Pair of the batch" });
    this.pager.append(this.previous, this.place, this.next);
    this.shown = element("input", { type: "checkbox" });
    this.opacity = element("input", { type: "range", min: "0", max: "100", value: "60", "aria-label": "Opacity of the heat map" });
    this.layer = element("div", { class: "layer" }, element("label", {}, this.shown, "Heat map"), this.opacity);
    this.sizes = element("span", { class: "sizes" });
    this.bar = element("div", { class: "bar" }, this.pager, this.layer, this.sizes);
    this.root = element("div", { class: "editkit-compare" }, element("div", { class: "stage" }, this.frame, this.hint), this.bar);
  }

  listen() {
    for (const kind of ["pointerdown", "pointermove", "pointerup"]) {
      this.root.addEventListener(kind, (event) => event.stopPropagation()); // the canvas has the mouse too
    }
    this.frame.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.frame.setPointerCapture(event.pointerId);
      this.frame.focus({ preventScroll: true });
      this.follow(event);
      event.preventDefault();
    });
    this.frame.addEventListener("pointermove", (event) => {
      if (this.frame.hasPointerCapture(event.pointerId)) this.follow(event);
    });
    this.root.addEventListener("keydown", (event) => this.press(event));
    this.previous.addEventListener("click", () => this.turn(this.index - 1));
    this.next.addEventListener("click", () => this.turn(this.index + 1));
    this.shown.addEventListener("change", () => this.lay());
    this.opacity.addEventListener("input", () => this.lay());
    for (const image of [this.a, this.b]) image.addEventListener("load", () => this.measure());
    for (const image of [this.a, this.b, this.heat]) image.addEventListener("error", () => this.empty(GONE));
  }

  /** What the node gave: `a_images`, `b_images` and perhaps `h_images`, one of each for every pair. */
  show(output, index) {
    const { a_images: a = [], b_images: b = [], h_images: h = [] } = output ?? {};
    this.pairs = a.map((file, place) => ({ a: file, b: b[place], heat: h[place] })).filter((pair) => pair.b);
    if (this.pairs.length) this.turn(index ?? 0, false);
    else this.empty(HINT);
  }

  /** Shows a pair; the index is kept within the batch. */
  turn(index, tell = true) {
    if (!this.pairs.length) return;
    this.index = Math.min(Math.max(index, 0), this.pairs.length - 1);
    const pair = this.pairs[this.index];
    this.root.classList.remove("empty");
    this.hint.textContent = "";
    this.a.src = address(pair.a);
    this.b.src = address(pair.b);
    if (pair.heat) this.heat.src = address(pair.heat);
    else this.heat.removeAttribute("src");
    this.layer.hidden = !pair.heat;
    this.pager.hidden = this.pairs.length < 2;
    this.place.value = `${this.index + 1} / ${this.pairs.length}`;
    this.previous.disabled = this.index === 0;
    this.next.disabled = this.index === this.pairs.length - 1;
    this.lay();
    if (tell) this.onPage(this.index);
  }

  empty(words) {
    this.root.classList.add("empty");
    this.hint.textContent = words;
    this.layer.hidden = this.pager.hidden = true;
    this.sizes.textContent = "";
  }

  /** A's shape is the frame's; B is stretched to it. */
  measure() {
    const [a, b] = [this.a, this.b].map((image) => [image.naturalWidth, image.naturalHeight]);
    if (!a[0] || !b[0]) return;
    this.frame.style.setProperty("--ratio", a[0] / a[1]);
    const same = a[0] === b[0] && a[1] === b[1];
    this.sizes.textContent = same ? a.join("×") : `A ${a.join("×")}, B ${b.join("×")} shown at A's size`;
  }

  lay() {
    this.heat.hidden = !this.shown.checked || !this.heat.hasAttribute("src");
    this.heat.style.opacity = this.opacity.value / 100;
    this.opacity.disabled = !this.shown.checked;
  }

  follow(event) {
    const box = this.frame.getBoundingClientRect();
    this.move((100 * (event.clientX - box.left)) / box.width);
  }

  /** Moves the slider. share: how much of the width shows A, in percent. */
  move(share) {
    this.share = Math.min(Math.max(share, 0), 100);
    this.frame.style.setProperty("--x", `${this.share}%`);
    const rounded = String(Math.round(this.share));
    this.frame.setAttribute("aria-valuenow", rounded);
    this.frame.setAttribute("aria-valuetext", `${rounded} % A`);
  }

  press(event) {
    if (event.target === this.frame) {
      const step = event.shiftKey ? LEAP : STEP;
      const target = {
        ArrowLeft: this.share - step, ArrowDown: this.share - step, ArrowRight: this.share + step, ArrowUp: this.share + step,
        PageDown: this.share - LEAP, PageUp: this.share + LEAP, Home: 0, End: 100,
      }[event.key];
      if (target === undefined) return;
      this.move(target);
      event.preventDefault();
    } else if (!/^(Arrow|Page|Home|End| |Enter)/.test(event.key)) return;
    event.stopPropagation(); // the canvas has these keys too
  }
}

function attach(node) {
  const index = node.widgets?.find((widget) => widget.name === "index");
  const view = new View((page) => {
    if (index) index.value = page;
    app.graph?.setDirtyCanvas(true);
  });
  if (index) {
    const { callback } = index;
    index.callback = function (value, ...rest) {
      view.turn(Number(value), false);
      return callback?.call(this, value, ...rest);
    };
  }
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => 280, getValue: () => "", setValue: () => {} };
  const widget = node.addDOMWidget("view", "EDITKIT_COMPARE", view.root, options);
  widget.serialize = false;
  const { onExecuted } = node;
  node.onExecuted = function (output) {
    onExecuted?.apply(this, arguments);
    view.show(output, Number(index?.value ?? 0));
  };
  node.setSize([Math.max(node.size[0], 400), Math.max(node.size[1], 520)]);
}

app.registerExtension({
  name: "EditKit.Compare",
  init() {
    document.head.append(element("link", { rel: "stylesheet", href: new URL("./compare.css", import.meta.url).href }));
  },
  nodeCreated(node) {
    if (node.comfyClass === NODE) attach(node);
  },
});
