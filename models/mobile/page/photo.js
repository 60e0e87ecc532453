/** Files to pictures and back, in the page. */

import { EditError } from "./errors.js";

/** Canvases of iOS end at 2^24 pixels; a result has to fit into one. */
export const LARGEST_RESULT = 2 ** 24;
const LARGEST_PHOTO = 12.6e6; // pixels: what cameras call 12 megapixels

/**
 * Opens an image file: upright by its EXIF orientation, in sRGB, transparency on white.
 *
 * Resolves to {canvas, height, width, data: RGBA bytes, name}. EditError for what is no picture, or too large.
 */
export async function openPhoto(file) {
  const bitmap = await decoded(file);
  const { width, height } = bitmap;
  if (width * height > LARGEST_PHOTO) {
    const size = (width * height / 1e6).toFixed(1);
    throw new EditError(`This photo has ${size} megapixels and the page takes up to 12; make it smaller first.`);
  }
  if (Math.min(width, height) < 32) throw new EditError(`This picture is only ${width}x${height} px; open a larger one.`);
  const canvas = canvasOf(width, height);
  const context = contextOf(canvas);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  return { canvas, height, width, data, name: (file.name ?? "photo").replace(/\.[^.]*$/, "") };
}

async function decoded(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    throw new EditError(`${file.name || "This file"} is not a picture that this browser opens; use a JPEG, PNG or WebP.`);
  }
}

/** A mask file, stretched to a photo's size, as a bitmap whose opacity is its brightness. */
export async function openMask(file, width, height) {
  const bitmap = await decoded(file);
  const canvas = canvasOf(width, height);
  const context = contextOf(canvas);
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const pixels = context.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at];
  context.putImageData(pixels, 0, 0);
  return canvas;
}

export function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** A 2-D context that stays in main memory: what is read back from it is what was written, to the bit. */
export function contextOf(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true });
}

/** RGBA bytes on a canvas of their own size. */
export function canvasFrom({ width, height, data }) {
  const canvas = canvasOf(width, height);
  contextOf(canvas).putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

/** Hands a canvas to the user as a PNG file. */
export async function download(canvas, name) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) throw new EditError("The browser could not make a PNG of this size; free some memory and try again.");
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${name}.png` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
