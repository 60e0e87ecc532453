// The widget EDITKIT_MASK: a mask painter on the nodes that take a region. Its value is the name of a picture file.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { Painter } from "./painter/painter.js";

const LOOK_EVERY = 500; // ms
const FOLDED = 34; // px high
const UNFOLDED = 380;
const living = new Set(); // painters of nodes that are on a graph
const old = new WeakSet(); // those that have been looked at since
const tall = new WeakMap(); // how high their nodes were when they were folded

/** Calls `more` after whatever a node's own callback does. */
function also(node, callback, more) {
  const before = node[callback];
  node[callback] = function (...args) {
    const result = before?.apply(this, args);
    more(...args);
    return result;
  };
}

function createWidget(node, name, [, options = {}]) {
  const painter = new Painter(node, { app, api, noted }, options);
  const widget = node.addDOMWidget(name, "EDITKIT_MASK", painter.root, {
    hideOnZoom: false,
    socketless: true,
    getValue: () => painter.value,
    setValue: (value) => painter.setValue(value),
    getMinHeight: () => (painter.open ? UNFOLDED : FOLDED),
    getMaxHeight: () => (painter.open ? undefined : FOLDED),
  });
  widget.options.socketless = true;
  widget.serializeValue = () => painter.save();
  also(node, "onAdded", () => living.add(painter));
  also(node, "onRemoved", () => {
    living.delete(painter);
    painter.dialog?.close();
  });
  also(node, "onConnectionsChange", () => painter.refresh());
  painter.onFold = () => resize(node, painter);
  node.editkitPainter = painter;
  return { widget, minWidth: 340 };
}

/** Lets ComfyUI see that the workflow has changed, as it sees it by itself after a click on the canvas. */
function noted() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  if (tracker?.captureCanvasState) tracker.captureCanvasState();
  else tracker?.checkState?.();
}

/** Gives a node the height that its painter asks for now. One that is being loaded keeps its stored size. */
function resize(node, painter) {
  if (!old.has(painter)) return;
  if (!painter.open) tall.set(painter, node.size[1]);
  const least = node.computeSize()[1];
  node.setSize([node.size[0], painter.open ? Math.max(least, tall.get(painter) ?? 0) : least]);
  node.graph.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "EditKit.MaskPainter",
  getCustomWidgets: () => ({ EDITKIT_MASK: createWidget }),
  setup() {
    setInterval(() => {
      for (const painter of living) {
        painter.refresh();
        old.add(painter);
      }
    }, LOOK_EVERY);
  },
});
