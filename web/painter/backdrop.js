// Finds the picture that a node edits: back along its links to the file, or to what a node before it showed.

import { viewUrl } from "./files.js";

const PICTURE = /\.(png|jpe?g|webp|gif|bmp|avif|tiff?)(\s*\[(input|output|temp)\])?$/i;
const CARRIES = new Set(["IMAGE", "LATENT"]);
// Nodes behind which everything lies where it lay before them.
const IN_PLACE = new Set([
  "Reroute", "PreviewImage", "VAEEncode", "VAEDecode", "ImageScale", "ImageScaleBy", "ImageScaleToTotalPixels",
  "ImageUpscaleWithModel", "EditKitRemoveObject", "EditKitTone", "EditKitRelight", "EditKitSwiftEdit",
  "EditKitKontextFit", "EditKitKontextUnfit", "EditKitVAERoundTrip", "EditKitComposite",
  "EditKitICEditUncrop", "EditKitSwiftEditDeliver", "EditKitEditMGTDecode", "EditKitCompare",
]);
const FARTHEST = 30;

/** {url, name} of the picture that goes into a node, or into one that takes what it gives; else null. */
export function pictureOf(node, { app, api }) {
  const host = { app, api, seen: new Set() };
  return before(node, host) ?? consumers(node, null, host).map((one) => before(one, host)).find(Boolean) ?? null;
}

function before(node, host) {
  if (host.seen.has(node) || host.seen.size > FARTHEST) return null;
  host.seen.add(node);
  for (const input of node.inputs ?? []) {
    if (input.link == null || !carries(node, input)) continue;
    const [source, from] = sourceOf(node.graph, input.link);
    const found = source && shownBy(source, from, host);
    if (found) return found;
  }
  return null;
}

/** [node, its output's number] behind a link: within the subgraph that it leaves, outside of the one that it enters. */
function sourceOf(graph, id) {
  const link = linkOf(graph, id);
  const source = link && graph.getNodeById(link.origin_id);
  if (source?.subgraph) return sourceOf(source.subgraph, source.subgraph.outputs[link.origin_slot]?.linkIds?.[0]);
  if (source || !link || !isInner(graph)) return [source, link?.origin_slot];
  const outer = holderOf(graph, graph.rootGraph);
  return outer ? sourceOf(outer.graph, outer.inputs[link.origin_slot]?.link) : [];
}

function isInner(graph) {
  return graph?.isRootGraph === false;
}

/** The node that stands for a subgraph, in a graph or in the subgraphs of its nodes. */
function holderOf(subgraph, graph) {
  const holders = graph.nodes.filter((node) => node.subgraph);
  return holders.find((node) => node.subgraph === subgraph)
    ?? holders.map((node) => holderOf(subgraph, node.subgraph)).find(Boolean);
}

function carries(node, input) {
  return CARRIES.has(input.type) || (node.type === "Reroute" && input.type === "*");
}

/** The picture that comes out of a node: its file, what it or a preview of it showed, or what went into it. */
function shownBy(source, slot, host) {
  const file = source.widgets?.find((widget) => widget.name === "image")?.value;
  if (typeof file === "string" && PICTURE.test(file)) return { url: viewUrl(host.api, file), name: stem(file) };
  for (const node of [source, ...consumers(source, slot, host)]) {
    const image = outputsOf(node, host.app)?.images?.[0];
    const query = image?.filename && new URLSearchParams(image);
    if (query) return { url: host.api.apiURL(`/view?${query}`), name: stem(image.filename) };
  }
  return IN_PLACE.has(source.type) || source.type?.startsWith("Reroute") ? before(source, host) : null;
}

function outputsOf(node, app) {
  return app.nodeOutputs?.[isInner(node.graph) ? `${node.graph.id}:${node.id}` : node.id];
}

/** The nodes that take an output of this one; of any slot for null. */
function consumers(node, slot, { app }) {
  const graph = node.graph ?? app.graph;
  const links = (node.outputs ?? []).filter((_, at) => slot === null || at === slot).flatMap((out) => out.links ?? []);
  return links.map((id) => linkOf(graph, id)).map((link) => link && graph.getNodeById(link.target_id)).filter(Boolean);
}

function linkOf(graph, id) {
  if (id == null) return null;
  return graph.getLink?.(id) ?? graph.links?.get?.(id) ?? graph.links?.[id];
}

function stem(file) {
  return file.replace(/\s*\[\w+\]$/, "").split(/[\\/]/).pop().replace(/\.\w+$/, "");
}
