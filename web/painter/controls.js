// Connects a painter's elements to what they do: tools, sliders, keys, dropped files, the wheel, and the large view.

import { commandOf, listen } from "./strokes.js";

export function connect(painter) {
  const { root, parts } = painter;
  listen(parts.stage, parts.frame, painter, pan);
  for (const [name, input] of Object.entries(parts.tools)) {
    input.addEventListener(input.type === "button" ? "click" : "change", () => painter.do({ command: name }));
  }
  for (const input of Object.values(parts.sliders)) input.addEventListener("input", () => painter.label());
  parts.fold.addEventListener("change", () => painter.choose(parts.fold.checked));
  parts.file.addEventListener("change", () => {
    if (parts.file.files[0]) painter.take(parts.file.files[0]);
    parts.file.value = "";
  });
  root.addEventListener("keydown", (event) => key(event, painter));
  for (const type of ["pointerdown", "pointermove", "pointerup"]) {
    root.addEventListener(type, (event) => event.buttons & 4 || event.button === 1 || event.stopPropagation());
  }
  root.addEventListener("wheel", (event) => wheel(event, painter), { passive: false });
  root.addEventListener("dragover", (event) => {
    event.preventDefault();
    event.stopPropagation();
  });
  root.addEventListener("drop", (event) => drop(event, painter));
}

/** A key that the painter knows goes no further: the graph has an undo and a Delete of its own. */
function key(event, painter) {
  const found = commandOf(event, event.target === painter.parts.keys);
  if (!found) return;
  event.preventDefault();
  event.stopPropagation();
  painter.do(found);
}

/** A dropped picture is a mask here, not a workflow. */
function drop(event, painter) {
  const file = [...(event.dataTransfer?.files ?? [])].find((one) => one.type.startsWith("image/"));
  event.preventDefault();
  event.stopPropagation();
  if (file) painter.take(file);
}

/** With Alt, or enlarged, the wheel changes the brush; else it zooms the canvas, as over any other part of a node. */
function wheel(event, painter) {
  if (event.altKey || painter.dialog) {
    painter.do({ command: "nudge", slider: "size", by: event.deltaY < 0 ? 1 : -1 });
    event.preventDefault();
    event.stopPropagation();
  } else if (painter.root.closest(".dom-widget")) {
    event.preventDefault();
    painter.host.app.canvas.processMouseWheel(event);
  }
}

/** The middle button moves the canvas: down, move, up. */
function pan(event, painter) {
  const { canvas } = painter.host.app;
  const handlers = { pointerdown: "processMouseDown", pointermove: "processMouseMove", pointerup: "processMouseUp" };
  if (!painter.dialog) canvas[handlers[event.type]](event);
}

/** The whole window for the painter, and back. */
export function enlarge(painter) {
  if (painter.dialog) return painter.dialog.close();
  const home = document.createComment("mask painter");
  painter.root.replaceWith(home);
  const dialog = document.body.appendChild(document.createElement("dialog"));
  dialog.className = "editkit-dialog";
  dialog.setAttribute("aria-label", "Mask painter");
  dialog.append(painter.root);
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  dialog.addEventListener("close", () => {
    home.replaceWith(painter.root);
    dialog.remove();
    painter.dialog = null;
  });
  painter.dialog = dialog;
  dialog.showModal();
  painter.parts.keys.focus();
}
