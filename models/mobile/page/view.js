/** The stage: fits the picture, zooms and pans it, and compares before and after. */

const MOST = 8; // times the size that fits
const ENLARGED = 2; // a small picture is shown no larger than so many times its size

export class View {
  /** stage scrolls, frame holds the picture; gesture() is called when two fingers take over from a stroke. */
  constructor(stage, frame, gesture) {
    Object.assign(this, { stage, frame, gesture, width: 1, height: 1, zoom: 1 });
    this.fingers = new Map();
    new ResizeObserver(() => this.layout()).observe(stage);
    stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    for (const kind of ["pointerdown", "pointermove"]) stage.addEventListener(kind, (event) => this.finger(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      stage.addEventListener(kind, (event) => this.fingers.delete(event.pointerId));
    }
  }

  /** Shows a picture of width x height px, fitted. */
  show(width, height) {
    Object.assign(this, { width, height, zoom: 1 });
    this.layout();
  }

  layout() {
    const style = getComputedStyle(this.stage);
    const [across, down] = [parseFloat(style.paddingLeft) * 2, parseFloat(style.paddingTop) * 2];
    const room = [this.stage.clientWidth - across, this.stage.clientHeight - down];
    const fitting = Math.min(room[0] / this.width, room[1] / this.height, ENLARGED);
    const scale = Math.max(0.01, fitting) * this.zoom;
    this.frame.style.width = `${this.width * scale}px`;
    this.frame.style.height = `${this.height * scale}px`;
  }

  /** Zooms to a factor, keeping the point (x, y) of the window where it is. */
  zoomTo(factor, x = null, y = null) {
    const box = this.frame.getBoundingClientRect();
    const around = this.stage.getBoundingClientRect();
    const [cx, cy] = [x ?? around.left + around.width / 2, y ?? around.top + around.height / 2];
    const [u, v] = [(cx - box.left) / box.width, (cy - box.top) / box.height];
    this.zoom = Math.min(MOST, Math.max(1, factor));
    this.layout();
    const now = this.frame.getBoundingClientRect();
    this.stage.scrollBy(now.left + u * now.width - cx, now.top + v * now.height - cy);
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls
    event.preventDefault();
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / 200), event.clientX, event.clientY);
  }

  /** Two fingers move and pinch the picture. */
  finger(event) {
    if (event.pointerType !== "touch") return;
    const before = this.pinch();
    if (event.type === "pointermove" && !this.fingers.has(event.pointerId)) return;
    this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const after = this.pinch();
    if (!after) return;
    this.gesture();
    if (!before) return;
    this.stage.scrollBy(before.x - after.x, before.y - after.y);
    this.zoomTo((this.zoom * after.spread) / before.spread, after.x, after.y);
  }

  pinch() {
    const [a, b] = this.fingers.values();
    if (!b) return null;
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, spread: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  }
}

/** Uncovers the edited picture to the right of a slider's position (0..100). */
export function compare(slider, after, handle) {
  const show = () => {
    after.style.clipPath = `inset(0 0 0 ${slider.value}%)`;
    handle.style.left = `${slider.value}%`;
  };
  slider.addEventListener("input", show);
  return (value) => {
    slider.value = value;
    show();
  };
}
