// What the painter looks like: its elements, and the tinted picture of the mask. All that takes the focus is an
// <input>, since ComfyUI leaves Ctrl-Z and the like to inputs and takes them for the graph everywhere else.

const ICONS = {
  brush: "M4 20c3 0 4-1 4-3a2 2 0 0 1 4 0c0 2-2 4-5 4zM11 14 19 4l2 2-9 9",
  eraser: "M5 16 14 6l6 6-8 8H8zM9 11l6 6M8 20h12",
  undo: "M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10h-4",
  redo: "m16 5 4 4-4 4M20 9H10a5 5 0 0 0 0 10h4",
  clear: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
  invert: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  fill: "M5 12 12 5l7 7-7 7zM12 5 9 2M19 15c1.500 2 2 3 2 4a2 2 0 0 1-4 0c0-1 .5-2 2-4",
  show: "M2 12c3-5 6-7 10-7s7 2 10 7c-3 5-6 7-10 7s-7-2-10-7zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  open: "M4 16v4h16v-4M12 4v11M8 8l4-4 4 4",
  large: "M9 4H4v5M15 4h5v5M9 20H4v-5M15 20h5v-5",
};
const TINT = [255, 45, 100];
const MOST_TINT = 0.62;
const LONGEST_VIEW = 1280; // the tinted picture's own size; the mask keeps every pixel
let groups = 0;

/** make("div", {class, text, children, ...attributes}): an element. */
function make(tag, { text, children = [], ...attributes } = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon. type: button, radio or checkbox. */
function tool(name, hint, type = "button", attributes = {}) {
  const input = make("input", { type, "aria-label": hint, "data-tool": name, ...attributes });
  if (type === "button") input.value = "";
  return make("label", { class: "editkit-tool", title: hint, children: [input, icon(name)] });
}

function slider(name, label, hint, value) {
  const input = make("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": label, "data-slider": name });
  input.value = value;
  const said = make("output");
  const children = [make("span", { text: label }), input, said];
  return make("label", { class: "editkit-slider", title: hint, children });
}

/** Builds the painter. Returns its root element; `parts(root)` finds what the painter works with. */
export function build() {
  const group = `editkit-tool-${++groups}`;
  const radio = (name, hint, more) => tool(name, hint, "radio", { name: group, ...more });
  const bar = make("div", { class: "editkit-bar", role: "toolbar", "aria-label": "Mask tools", children: [
    radio("brush", "Brush (B): paints the strength; the right button erases", { checked: "" }),
    radio("eraser", "Eraser (E)"),
    make("span", { class: "editkit-gap" }),
    tool("undo", "Undo (Ctrl-Z)"), tool("redo", "Redo (Ctrl-Shift-Z)"), make("span", { class: "editkit-gap" }),
    tool("fill", "Fill the whole mask with the strength (F)"), tool("invert", "Invert the mask (I)"),
    tool("clear", "Clear the mask"), make("span", { class: "editkit-gap" }),
    tool("open", "Take a picture file as the mask; or drop one here"),
    tool("show", "Show the mask itself, as grey values", "checkbox"), tool("large", "Enlarge, and back (L)"),
  ] });
  const sliders = make("div", { class: "editkit-sliders", children: [
    slider("size", "Size", "Width of the brush in pixels of the picture; [ and ]", 50),
    slider("strength", "Strength", "What is painted: 100 % is full, 0 % holds; Shift-[ and Shift-]", 100),
    slider("hardness", "Hardness", "How much of the brush is covered in full", 80),
  ] });
  const keys = make("input", { class: "editkit-keys", readonly: "", inputmode: "none", value: "", "aria-label":
    "Mask. Arrow keys move the brush, Space paints, B brush, E eraser, square brackets size, Ctrl-Z undoes." });
  const frame = make("div", { class: "editkit-frame", children: [
    make("img", { alt: "", draggable: "false" }), make("canvas"), keys,
    make("div", { class: "editkit-ring", hidden: "" }),
  ] });
  return make("div", { class: "editkit-painter", role: "group", "aria-label": "Mask painter", children: [
    make("div", { class: "editkit-head", children: [
      make("label", { class: "editkit-fold", title: "Fold or unfold the painter", children: [
        make("input", { type: "checkbox", "aria-label": "Paint a mask" }), make("span", { text: "Paint a mask" })] }),
      make("span", { class: "editkit-status", role: "status" }),
    ] }),
    make("div", { class: "editkit-body", children: [
      bar, sliders, make("div", { class: "editkit-stage", children: [frame] }),
      make("div", { class: "editkit-note", role: "alert", hidden: "" }),
    ] }),
    make("input", { type: "file", accept: "image/*", hidden: "", "aria-label": "Picture file for the mask" }),
  ] });
}

export function parts(root) {
  const find = (selector) => root.querySelector(selector);
  const all = (key) => Object.fromEntries([...root.querySelectorAll(`[data-${key}]`)].map((e) => [e.dataset[key], e]));
  return {
    tools: all("tool"), sliders: all("slider"), fold: find(".editkit-fold input"), status: find(".editkit-status"),
    note: find(".editkit-note"), stage: find(".editkit-stage"), frame: find(".editkit-frame"), image: find("img"),
    canvas: find("canvas"), keys: find(".editkit-keys"), ring: find(".editkit-ring"), file: find("input[type=file]"),
  };
}

/** The mask over the picture: tinted by its strength, or as grey values. */
export class Overlay {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.grey = false;
  }

  /** Draws a mask, or the part of it in box: [left, top, right, bottom) of its own pixels. */
  draw(mask, box = [0, 0, mask.width, mask.height]) {
    const scale = Math.min(1, LONGEST_VIEW / Math.max(mask.width, mask.height));
    const [width, height] = [mask.width, mask.height].map((side) => Math.max(1, Math.round(side * scale)));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height });
      box = [0, 0, mask.width, mask.height];
    }
    const [left, top] = [Math.floor((box[0] * width) / mask.width), Math.floor((box[1] * height) / mask.height)];
    const right = Math.min(width, Math.ceil((box[2] * width) / mask.width));
    const bottom = Math.min(height, Math.ceil((box[3] * height) / mask.height));
    if (right <= left || bottom <= top) return;
    this.context.putImageData(this.pixels(mask, left, top, right, bottom), left, top);
  }

  pixels(mask, left, top, right, bottom) {
    const image = new ImageData(right - left, bottom - top);
    const { width, height } = this.canvas;
    for (let y = top, at = 0; y < bottom; y++) {
      const row = Math.floor(((y + 0.5) * mask.height) / height) * mask.width;
      for (let x = left; x < right; x++, at += 4) {
        const value = mask.data[row + Math.floor(((x + 0.5) * mask.width) / width)];
        if (this.grey) image.data.fill(value, at, at + 3);
        else image.data.set(TINT, at);
        image.data[at + 3] = this.grey ? 255 : value * MOST_TINT;
      }
    }
    return image;
  }
}
