/**
 * The mask: strokes in photo pixels, drawn on a small canvas over the photo and at full size when an edit needs them.
 *
 * Pointer (mouse, pen, finger) and keyboard: arrows move the brush, Space paints, E erases, [ and ] change its size.
 */

import { canvasOf, contextOf } from "./photo.js";

const LARGEST = 1600; // px of the canvas that is shown; the mask itself is drawn anew at the photo's size
const INK = "#ff3568"; // of the mask as it is shown, seen on skies, skin and grass alike
const STEP = 0.02; // of the longer side per press of an arrow key

export class Painter {
  /** overlay: the canvas over the photo, cursor: the element that shows the brush, changed(): after every stroke. */
  constructor(overlay, cursor, changed) {
    Object.assign(this, { overlay, cursor, changed, radius: 20, erasing: false, operations: [], undone: [] });
    this.spot = null; // of the brush, in photo pixels
    this.stroke = null;
    overlay.addEventListener("pointerdown", (event) => this.press(event));
    overlay.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) overlay.addEventListener(end, () => this.lift());
    overlay.addEventListener("pointerleave", () => this.hideCursor());
    overlay.addEventListener("keydown", (event) => this.key(event));
    overlay.addEventListener("blur", () => this.hideCursor());
  }

  /** Starts an empty mask for a photo. */
  reset(width, height) {
    const scale = Math.min(1, LARGEST / Math.max(width, height));
    Object.assign(this, { width, height, operations: [], undone: [], spot: { x: width / 2, y: height / 2 } });
    this.overlay.width = Math.round(width * scale);
    this.overlay.height = Math.round(height * scale);
    this.changed();
  }

  get empty() {
    const last = this.operations.findLastIndex((one) => one.clear);
    return !this.operations.slice(last + 1).some((one) => !one.erase);
  }

  place(event) {
    const box = this.overlay.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.width;
    return { x, y: ((event.clientY - box.top) / box.height) * this.height };
  }

  press(event) {
    if (event.button || !event.isPrimary) return;
    this.overlay.setPointerCapture(event.pointerId);
    this.begin(this.place(event));
  }

  begin(spot) {
    this.spot = spot;
    this.stroke = { points: [spot], radius: this.radius, erase: this.erasing };
    drawStroke(this.context(), this.stroke);
  }

  move(event) {
    this.spot = this.place(event);
    this.showCursor(event.pointerType === "mouse" || event.pointerType === "pen");
    if (!this.stroke || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) this.stroke.points.push(this.place(one));
    drawStroke(this.context(), { ...this.stroke, points: this.stroke.points.slice(-events.length - 2) });
  }

  lift() {
    if (this.stroke) this.add(this.stroke);
    this.stroke = null;
  }

  /** Forgets a stroke that turned out to be the first finger of a gesture. */
  cancel() {
    if (!this.stroke) return;
    this.stroke = null;
    this.redraw();
  }

  /** Adds an operation: a stroke, {image} of a mask file, or {clear: true}. */
  add(operation) {
    this.operations.push(operation);
    this.undone = [];
    this.redraw();
  }

  undo() {
    if (this.operations.length) this.undone.push(this.operations.pop());
    this.redraw();
  }

  redo() {
    if (this.undone.length) this.operations.push(this.undone.pop());
    this.redraw();
  }

  context() {
    const context = this.overlay.getContext("2d");
    const scale = this.overlay.width / this.width;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    return context;
  }

  redraw() {
    drawAll(this.context(), this.operations, this.width, this.height);
    this.changed();
  }

  /** The mask at the photo's size, one byte a pixel; its antialiased edge is kept if `soft`, else cut at a half. */
  bytes(soft) {
    const canvas = canvasOf(this.width, this.height);
    const context = contextOf(canvas);
    drawAll(context, this.operations, this.width, this.height);
    const { data } = context.getImageData(0, 0, this.width, this.height);
    const out = new Uint8Array(this.width * this.height);
    for (let i = 0, at = 3; i < out.length; i++, at += 4) out[i] = soft ? data[at] : data[at] > 127 ? 255 : 0;
    return out;
  }

  key(event) {
    const step = STEP * Math.max(this.width, this.height) * (event.shiftKey ? 4 : 1);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) this.shift(...moves[event.key]);
    else if (event.key === " ") {
      this.begin({ ...this.spot });
      this.lift();
    } else return;
    event.preventDefault();
    this.showCursor(true);
  }

  shift(dx, dy) {
    const within = (value, most) => Math.min(most, Math.max(0, value));
    this.spot = { x: within(this.spot.x + dx, this.width), y: within(this.spot.y + dy, this.height) };
  }

  /** Shows the brush as a circle where it is. */
  showCursor(visible) {
    if (!visible || !this.spot) return;
    const { style } = this.cursor;
    const diameter = (200 * this.radius) / this.width;
    style.width = `${diameter}%`;
    style.left = `${(100 * this.spot.x) / this.width}%`;
    style.top = `${(100 * this.spot.y) / this.height}%`;
    this.cursor.hidden = false;
  }

  hideCursor() {
    this.cursor.hidden = true;
  }
}

function drawAll(context, operations, width, height) {
  context.clearRect(0, 0, width, height);
  for (const one of operations) {
    if (one.clear) context.clearRect(0, 0, width, height);
    else if (one.image) context.drawImage(one.image, 0, 0, width, height);
    else drawStroke(context, one);
  }
  context.save();
  context.globalCompositeOperation = "source-atop";
  context.fillStyle = INK;
  context.fillRect(0, 0, width, height);
  context.restore();
}

function drawStroke(context, { points, radius, erase }) {
  context.save();
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  Object.assign(context, { lineWidth: 2 * radius, lineCap: "round", lineJoin: "round", strokeStyle: INK, fillStyle: INK });
  context.beginPath();
  context.arc(points[0].x, points[0].y, radius, 0, 2 * Math.PI); // a line of no length draws nothing
  context.fill();
  context.beginPath();
  for (const { x, y } of points) context.lineTo(x, y);
  context.stroke();
  context.restore();
}
