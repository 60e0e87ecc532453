// From pointer and keys to strokes: mouse, pen with its pressure, touch, and the keyboard.

const LEAST_PRESSURE = 0.1;
const STEP = 0.02; // of the longer side, by an arrow key; ten times less with Shift

/** Where an event is on the picture, in the mask's pixels, at any zoom of the canvas around it. */
export function place(event, frame, mask) {
  const box = frame.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * mask.width,
    y: ((event.clientY - box.top) / box.height) * mask.height,
  };
}

/** Listens on the stage. painter: mask, begin(point, erase), move(point), end(), hover(point or null). */
export function listen(stage, frame, painter, pan) {
  let pointer = null;
  const point = (event) => {
    const pressed = event.pointerType === "pen" && event.buttons !== 0; // hovering, it shows the full width
    const pressure = pressed ? Math.max(LEAST_PRESSURE, event.pressure) : 1;
    return { ...place(event, frame, painter.mask), pressure };
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button === 1) return pan(event, painter);
    event.stopPropagation();
    if (pointer !== null && stage.hasPointerCapture(pointer)) return; // a second finger
    event.preventDefault();
    pointer = event.pointerId;
    stage.setPointerCapture(pointer);
    painter.begin(point(event), event.button === 2 || event.button === 5);
  });
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons & 4) return pan(event, painter);
    event.stopPropagation();
    if (event.pointerId === pointer && !event.buttons) end(event); // let go where we did not hear of it
    else if (event.pointerId === pointer) {
      const passed = event.getCoalescedEvents?.() ?? [];
      for (const one of passed.length ? passed : [event]) painter.move(point(one));
    }
    painter.hover(point(event));
  });
  const end = (event) => {
    if (event.pointerId !== pointer) return;
    event.stopPropagation();
    pointer = null;
    painter.end();
  };
  stage.addEventListener("pointerup", (event) => (event.button === 1 ? pan(event, painter) : end(event)));
  stage.addEventListener("pointercancel", end);
  stage.addEventListener("lostpointercapture", end); // comes after each end, and alone when the stage is moved
  stage.addEventListener("pointerleave", () => pointer === null && painter.hover(null));
  stage.addEventListener("contextmenu", (event) => {
    event.preventDefault();
    event.stopPropagation();
  });
}

/** What a key does: {command, ...}, or null. onPicture: the focus is on the picture, not on a slider or a button. */
export function commandOf(event, onPicture) {
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (control && !event.altKey) {
    if (key === "z") return { command: event.shiftKey ? "redo" : "undo" };
    return key === "y" ? { command: "redo" } : null;
  }
  if (control || event.altKey) return null;
  const plain = { "[": ["size", -1], "]": ["size", 1], "{": ["strength", -1], "}": ["strength", 1] }[key];
  if (plain) return { command: "nudge", slider: plain[0], by: plain[1] };
  const letter = { b: "brush", e: "eraser", i: "invert", f: "fill", l: "large" }[key];
  if (letter) return { command: letter };
  return onPicture ? onPictureCommand(event) : null;
}

function onPictureCommand(event) {
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (by) return { command: "walk", by: by.map((step) => step * STEP * (event.shiftKey ? 0.1 : 1)) };
  if (event.key === " " || event.key === "Enter") return { command: "dab" };
  return event.key === "Delete" || event.key === "Backspace" ? { command: "nothing" } : null; // not the node's end
}
