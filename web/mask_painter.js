// The widget EDITKIT_MASK: a mask painter on the nodes that take a region. Its value is the name of a picture file.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { Painter } from "./painter/painter.js";

const LOOK_EVERY = 500; // ms
const FOLDED = 34; // px high
const UNFOLDED = 380;
const living = new Set(); // painters of nodes that are on a graph

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
  const painter = new Painter(node, { app, api }, options);
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
  also(node, "onRemoved", () => living.delete(painter));
  also(node, "onConnectionsChange", () => painter.refresh());
  painter.onFold = () => resize(node);
  node.editkitPainter = painter;
  return { widget, minWidth: 340 };
}

/** Gives a node the height that its painter asks for now, once it stands in the graph. */
function resize(node) {
  if (!node.graph || app.configuringGraph) return;
  node.setSize([node.size[0], node.computeSize()[1]]);
  node.graph.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "EditKit.MaskPainter",
  getCustomWidgets: () => ({ EDITKIT_MASK: createWidget }),
  setup() {
    setInterval(() => living.forEach((painter) => painter.refresh()), LOOK_EVERY);
  },
});
