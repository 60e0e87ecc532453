// The mask painter of one node: its mask, its brush, its elements, and the file that its widget names.

import { pictureOf } from "./backdrop.js";
import { connect, enlarge } from "./controls.js";
import { decoded, download, isDraft, keep, pathOf, resized, upload } from "./files.js";
import { fingerprint } from "./png.js";
import { Strength } from "./strength.js";
import { build, Overlay, parts } from "./view.js";

const DEFAULT_SIDE = 1024; // of a mask whose picture is not known
const UPLOAD_AFTER = 1500; // ms
const SMALLEST = 1; // px across

export class Painter {
  /** host: {app, api, noted}, the last to be called after a change.
   *  over: the MASK input that goes before the paint; opens: unfolded where nothing is linked. */
  constructor(node, host, { over = "mask", opens = false } = {}) {
    Object.assign(this, { node, host, over, opens, value: "", picture: null, sought: null, dirty: false, problem: "" });
    this.mask = new Strength(DEFAULT_SIDE, DEFAULT_SIDE);
    this.root = build();
    this.parts = parts(this.root);
    this.overlay = new Overlay(this.parts.canvas);
    this.cursor = { x: 0.5, y: 0.5 }; // of the keyboard, as shares
    this.loading = this.seeking = Promise.resolve();
    connect(this);
    this.refresh();
    this.show();
  }

  // --- the widget's value

  /** Takes what a workflow stores: the name of a file, which is drawn, or nothing. */
  setValue(value) {
    value = typeof value === "string" ? value : "";
    if (value === this.value) return;
    Object.assign(this, { value, dirty: isDraft(value), problem: "" });
    clearTimeout(this.timer);
    this.loading = value ? this.restore(value) : Promise.resolve(this.blank());
    this.refresh();
  }

  async restore(value) {
    try {
      const { bytes, width, height } = await download(this.host.api, value);
      if (value !== this.value) return; // another came in the meantime
      this.mask.load(bytes, width, height);
    } catch (problem) {
      if (value !== this.value) return;
      this.problem = problem.message;
      this.mask.reset(this.mask.width, this.mask.height);
    }
    this.show();
  }

  blank() {
    this.mask.reset(this.picture?.width ?? DEFAULT_SIDE, this.picture?.height ?? DEFAULT_SIDE);
    this.show();
  }

  /** After every change: the value is the name that these bytes have, and they are uploaded soon, or when queued. */
  changed() {
    this.problem = "";
    this.value = this.mask.empty ? "" : pathOf(`${this.stem()}_${fingerprint(this.mask.data, this.mask.width)}.png`);
    this.dirty = this.value !== "";
    clearTimeout(this.timer);
    if (this.dirty) {
      keep(this.value, this.mask.data, this.mask.width, this.mask.height);
      this.saveLater();
    }
    this.show();
    this.host.noted();
  }

  /** Uploads after a while, but not in the middle of a stroke, which saving would end. */
  saveLater() {
    const save = () => (this.mask.stroke ? this.saveLater() : this.save().catch(() => {})); // queueing tries again, aloud
    this.timer = setTimeout(save, UPLOAD_AFTER);
  }

  stem() {
    return `${(this.picture?.name ?? "").replace(/[^\w-]+/g, "_").slice(0, 40) || "painted"}_mask`;
  }

  /** Uploads what is not on the server yet; returns the value for the prompt. Throws one sentence. */
  async save() {
    clearTimeout(this.timer);
    this.finish();
    await this.loading;
    if (!this.dirty) return this.value;
    const [value, { data, width, height }] = [this.value, this.mask];
    try {
      const stored = await upload(this.host.api, value, await keep(value, data, width, height));
      if (value === this.value) Object.assign(this, { value: stored, dirty: false, problem: "" });
      return this.dirty ? this.save() : this.value;
    } catch (problem) {
      this.problem = problem.message;
      throw problem;
    } finally {
      this.show();
    }
  }

  // --- the picture behind, and whether a mask is linked

  get linked() {
    return this.node.inputs?.some((input) => input.name === this.over && input.link != null) ?? false;
  }

  get open() {
    const chosen = this.node.properties?.editkit_painter;
    if (chosen) return chosen === "open";
    return !this.linked && (this.opens || this.value !== "");
  }

  /** Looks again at the links and the picture; cheap, and called again and again, as no event tells of either. */
  refresh() {
    const state = [this.linked, this.open].join();
    if (state !== this.state) {
      this.state = state;
      this.fold();
    }
    const found = this.node.graph ? pictureOf(this.node, this.host) : null;
    if ((found?.url ?? null) === this.sought) return;
    this.sought = found?.url ?? null;
    this.seeking = this.loadPicture(found);
  }

  /** Measures a picture and puts it behind the mask; one that cannot be loaded is as if it were not there. */
  async loadPicture(found) {
    const image = new Image();
    if (found) image.src = found.url;
    const there = found && (await image.decode().then(() => true, () => false));
    if (this.sought !== (found?.url ?? null)) return; // another came in the meantime
    await this.setPicture(there ? { ...found, width: image.naturalWidth, height: image.naturalHeight } : null);
  }

  async setPicture(picture) {
    this.picture = picture;
    await this.loading;
    if (this.picture !== picture) return;
    this.parts.image.hidden = !picture;
    if (picture) this.parts.image.src = picture.url;
    if (picture && this.mask.empty && !this.fits) this.mask.reset(picture.width, picture.height);
    this.show();
  }

  get fits() {
    return !this.picture || (this.picture.width === this.mask.width && this.picture.height === this.mask.height);
  }

  /** Brings the mask to the picture's size before it is changed, as one step of the history. */
  fit() {
    if (this.fits) return;
    const { width, height } = this.picture;
    this.mask.replace(resized(this.mask, width, height), width, height);
    this.show();
  }

  // --- strokes

  /** The brush's radius in the mask's pixels; the slider is quadratic, so that small brushes are easy to choose. */
  radius(pressure = 1) {
    const most = Math.max(this.mask.width, this.mask.height) / 2;
    return (Math.max(SMALLEST, Math.round((this.parts.sliders.size.value / 100) ** 2 * most)) / 2) * pressure;
  }

  get strength() {
    return Math.round((this.parts.sliders.strength.value * 255) / 100);
  }

  begin(point, erase) {
    this.parts.keys.focus({ preventScroll: true });
    this.finish(); // a stroke whose end was never told, or by other means
    const { width, height } = this.mask;
    this.fit();
    point = { ...point, x: (point.x * this.mask.width) / width, y: (point.y * this.mask.height) / height };
    const value = erase || this.parts.tools.eraser.checked ? 0 : this.strength;
    this.mask.begin(value, this.parts.sliders.hardness.value / 100);
    this.last = { ...point, r: this.radius(point.pressure) };
    this.paint(this.mask.line(this.last, this.last));
  }

  move(point) {
    if (!this.mask.stroke) return;
    const next = { ...point, r: this.radius(point.pressure) };
    this.paint(this.mask.line(this.last, next));
    this.last = next;
  }

  /** Joins the boxes of a frame, and draws them once. */
  paint(box) {
    if (!box) return;
    this.stale = this.stale ? this.stale.map((side, at) => (at < 2 ? Math.min : Math.max)(side, box[at])) : box;
    this.awaited ??= requestAnimationFrame(() => this.drawStale());
  }

  drawStale() {
    if (this.stale) this.overlay.draw(this.mask, this.stale);
    this.awaited = this.stale = null;
  }

  end() {
    this.finish();
    this.host.app.graph?.setDirtyCanvas?.(true);
  }

  finish() {
    if (this.mask.stroke && this.mask.end()) this.changed();
  }

  // --- commands

  /** Runs a command of the toolbar or the keyboard. */
  do({ command, slider, by }) {
    const { tools, sliders } = this.parts;
    const act = {
      undo: () => this.travel("undo"),
      redo: () => this.travel("redo"),
      invert: () => this.whole((value) => 255 - value),
      fill: () => this.whole(() => this.strength),
      clear: () => this.mask.empty || this.whole(() => 0),
      brush: () => (tools.brush.checked = true),
      eraser: () => (tools.eraser.checked = true),
      show: () => this.toggleGrey(),
      open: () => this.parts.file.click(),
      large: () => (this.finish(), enlarge(this)),
      nudge: () => (sliders[slider].value = Number(sliders[slider].value) + 5 * by),
      walk: () => this.walk(by),
      dab: () => this.dab(),
      nothing: () => {},
    };
    act[command]();
    this.label();
  }

  travel(way) {
    this.finish();
    if (this.mask[way]()) this.changed();
  }

  whole(next) {
    this.finish();
    this.fit();
    this.mask.replace(next);
    this.changed();
  }

  toggleGrey() {
    this.overlay.grey = this.parts.tools.show.checked;
    this.overlay.draw(this.mask);
  }

  walk([x, y]) {
    const { width, height } = this.mask;
    const longer = Math.max(width, height); // the same step in pixels both ways
    this.cursor.x = Math.min(1, Math.max(0, this.cursor.x + (x * longer) / width));
    this.cursor.y = Math.min(1, Math.max(0, this.cursor.y + (y * longer) / height));
    this.hover(this.cursorPoint());
  }

  cursorPoint() {
    return { x: this.cursor.x * this.mask.width, y: this.cursor.y * this.mask.height, pressure: 1 };
  }

  dab() {
    this.begin(this.cursorPoint(), false);
    this.finish();
  }

  /** A picture file becomes the mask, at the picture's size. */
  async take(file) {
    try {
      const { width, height } = this.picture ?? {};
      const { bytes, ...size } = await decoded(file, width, height);
      this.finish();
      this.mask.replace(bytes, size.width, size.height);
      this.changed();
    } catch (problem) {
      this.problem = problem.message;
      this.show();
    }
  }

  // --- elements

  hover(point) {
    const { ring } = this.parts;
    ring.hidden = !point;
    if (!point) return;
    const wide = 2 * this.radius(point.pressure);
    ring.style.left = `${(100 * point.x) / this.mask.width}%`;
    ring.style.top = `${(100 * point.y) / this.mask.height}%`;
    ring.style.width = `${(100 * wide) / this.mask.width}%`;
    ring.style.height = `${(100 * wide) / this.mask.height}%`;
    Object.assign(this.cursor, { x: point.x / this.mask.width, y: point.y / this.mask.height });
    this.pointed = point;
  }

  choose(open) {
    this.node.properties ??= {};
    this.node.properties.editkit_painter = open ? "open" : "closed";
    this.refresh();
    this.host.noted();
  }

  /** Shows or hides the painter under its head, and gives the node the room. */
  fold() {
    const open = this.open;
    this.parts.fold.checked = open;
    this.root.classList.toggle("editkit-open", open);
    this.root.classList.toggle("editkit-overruled", this.linked);
    this.onFold?.(open);
    this.label();
  }

  /** Draws the mask and says how things are. */
  show() {
    const { width, height } = this.picture ?? this.mask;
    this.parts.frame.style.setProperty("--ratio", width / height);
    this.overlay.draw(this.mask);
    this.share = this.mask.share;
    this.label();
  }

  label() {
    const { sliders, note, status, tools } = this.parts;
    sliders.size.nextSibling.textContent = `${Math.round(2 * this.radius())} px`;
    for (const name of ["strength", "hardness"]) sliders[name].nextSibling.textContent = `${sliders[name].value} %`;
    tools.undo.disabled = !this.mask.past.length;
    tools.redo.disabled = !this.mask.future.length;
    const said = this.said();
    note.hidden = !said;
    note.textContent = said;
    note.classList.toggle("editkit-problem", this.problem !== "");
    status.textContent = this.linked ? `the linked ${this.over} is used` : this.summary();
    if (!this.parts.ring.hidden && this.pointed) this.hover(this.pointed);
  }

  summary() {
    if (!this.share) return "nothing painted";
    const percent = 100 * this.share;
    return `${this.mask.width} × ${this.mask.height}, ${percent < 1 ? "under 1" : Math.round(percent)} %`;
  }

  said() {
    if (this.problem) return this.problem;
    if (this.linked) return `A mask is linked to ${this.over}: it is used, and what is painted here is kept aside.`;
    if (!this.picture) return "No picture is in sight: wire Load Image, or preview what comes in and run once.";
    return this.fits ? "" : "The mask is of another size than the picture, and stretched to it.";
  }
}
