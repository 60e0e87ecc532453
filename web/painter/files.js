// Masks on ComfyUI's server: uploaded into input/editkit, and read back.

import { greyPng } from "./png.js";

const SUBFOLDER = "editkit";
const KEPT_BYTES = 32 * 2 ** 20;
// What was painted on this page, by name: undoing a change of the graph asks for states that were never uploaded.
const drafts = new Map();
const stored = new Set(); // those of them that the server has

export function pathOf(name) {
  return `${SUBFOLDER}/${name}`;
}

/** Keeps a mask under its path; the oldest go when there are too many. */
export async function keep(path, bytes, width, height) {
  if (!drafts.has(path)) drafts.set(path, await greyPng(bytes, width, height));
  let total = [...drafts.values()].reduce((sum, blob) => sum + blob.size, 0);
  for (const [old, blob] of drafts) {
    if (total <= KEPT_BYTES || old === path) break;
    drafts.delete(old);
    total -= blob.size;
  }
  return drafts.get(path);
}

/** Whether a mask was painted here and is not on the server yet. */
export function isDraft(path) {
  return drafts.has(path) && !stored.has(path);
}

/** Uploads a PNG; returns the path under which the server keeps it. Throws one sentence. */
export async function upload(api, path, blob) {
  const form = new FormData();
  form.append("image", new File([blob], path.split("/").pop(), { type: "image/png" }));
  form.append("type", "input");
  form.append("subfolder", SUBFOLDER);
  form.append("overwrite", "true"); // the name belongs to these very bytes
  let reply;
  try {
    reply = await api.fetchApi("/upload/image", { method: "POST", body: form });
  } catch {
    throw new Error("The painted mask could not be uploaded, the server does not answer; queue again when it is up.");
  }
  if (reply.status !== 200) {
    throw new Error(`The painted mask could not be uploaded (HTTP ${reply.status}); see the server's log.`);
  }
  const { subfolder, name } = await reply.json();
  stored.add(path);
  return [subfolder, name].filter(Boolean).join("/");
}

/** Where the browser gets a file that a widget names: `folder/name.png`, also with ` [output]` or the like behind. */
export function viewUrl(api, value) {
  const [, path, type = "input"] = value.match(/^(.*?)(?:\s*\[(input|output|temp)\])?$/);
  const cut = path.lastIndexOf("/");
  const [filename, subfolder] = [path.slice(cut + 1), path.slice(0, Math.max(0, cut))];
  const query = new URLSearchParams({ filename, subfolder, type });
  return api.apiURL(`/view?${query}`);
}

/** The mask behind a widget's value as {bytes, width, height}. Throws one sentence. */
export async function download(api, value) {
  let blob = drafts.get(value);
  if (!blob) {
    const reply = await fetch(viewUrl(api, value), { cache: "no-cache" });
    if (!reply.ok) throw new Error(`The painted mask ${value} is not on the server any more; paint it again.`);
    blob = await reply.blob();
  }
  return decoded(blob);
}

/** A picture file as a mask: its luminance, less where it is transparent; scaled where a size is given. */
export async function decoded(blob, width = 0, height = 0) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${blob.name ?? "The file"} is no picture that can be read; drop a PNG or JPEG.`);
  }
  const bytes = luminance(bitmap, width || bitmap.width, height || bitmap.height);
  const size = { width: width || bitmap.width, height: height || bitmap.height };
  bitmap.close();
  return { bytes, ...size };
}

/** The bytes of a mask at another size, with smooth edges. */
export function resized({ data, width, height }, newWidth, newHeight) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < data.length; i++) image.data.set([data[i], data[i], data[i], 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return luminance(canvas, newWidth, newHeight);
}

function luminance(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const bytes = new Uint8Array(width * height);
  for (let i = 0, at = 0; i < bytes.length; i++, at += 4) {
    const grey = (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 0x8000) >> 16; // as Pillow has it
    bytes[i] = data[at + 3] === 255 ? grey : Math.round((grey * data[at + 3]) / 255);
  }
  return bytes;
}
