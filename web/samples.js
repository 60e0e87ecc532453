// Lets the pack's templates open with their sample photographs: those that a template names in extra.editkit_samples and
// that ComfyUI's input folder lacks are put there, and the links in its notes lead to where this pack is installed.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const LOADERS = ["LoadImage", "LoadImageMask"];
const MEDIA = `workflow_templates/${new URL(import.meta.url).pathname.split("/").at(-2)}/media/`;
const ANY_MEDIA = /workflow_templates\/[^/\s)]+\/media\//g;
const placed = new Set(); // names that the node definitions, read when the page opened, do not list

/** The samples that a graph's loaders still name. */
function wanted(graph) {
  const samples = graph?.extra?.editkit_samples;
  if (!Array.isArray(samples)) return [];
  const named = graph.nodes.filter((node) => LOADERS.includes(node.type)).map((node) => node.widgets_values?.[0]);
  return samples.filter((name) => named.includes(name));
}

/** The names of the pictures in ComfyUI's input folder. */
async function present() {
  const info = await (await api.fetchApi("/object_info/LoadImage")).json();
  const [names, options] = info.LoadImage.input.required.image;
  return (Array.isArray(names) ? names : options?.options) ?? [];
}

/** Copies a sample from the pack to the input folder; returns the name that it got there. */
async function place(name) {
  const sample = await api.fetchApi(`/${MEDIA}${encodeURIComponent(name)}`);
  if (!sample.ok) throw new Error(`HTTP ${sample.status}`);
  const body = new FormData();
  body.append("image", new File([await sample.blob()], name));
  const stored = await api.fetchApi("/upload/image", { method: "POST", body });
  if (!stored.ok) throw new Error(`HTTP ${stored.status}`);
  return (await stored.json()).name;
}

/** Puts what is missing into the input folder, and its name into the loaders. */
async function supply(graph, names) {
  const there = await present();
  for (const name of names.filter((n) => !there.includes(n))) {
    const stored = await place(name);
    placed.add(stored);
    for (const node of graph.nodes) {
      if (LOADERS.includes(node.type) && node.widgets_values?.[0] === name) node.widgets_values[0] = stored;
    }
  }
}

/** Leads the links of a template's notes to this installation, whatever its folder is called. */
function redirect(graph) {
  for (const { type, widgets_values: values } of graph.nodes) {
    if (type === "MarkdownNote" && values?.[0]) values[0] = values[0].replace(ANY_MEDIA, MEDIA);
  }
}

app.registerExtension({
  name: "EditKit.Samples",
  async beforeConfigureGraph(graph) {
    const names = wanted(graph);
    if (Array.isArray(graph?.extra?.editkit_samples)) redirect(graph);
    if (!names.length) return;
    try {
      await supply(graph, names);
    } catch (problem) {
      console.warn(`EditKit could not put ${names.join(", ")} into the input folder: ${problem.message}.`);
    }
  },
  nodeCreated(node) {
    const values = LOADERS.includes(node.comfyClass) && node.widgets?.find((w) => w.name === "image")?.options?.values;
    if (!Array.isArray(values)) return;
    for (const name of placed) if (!values.includes(name)) values.push(name);
  },
});
