/** The sticker's outline: a white die-cut border and a soft drop shadow (models/blazeedit/cutout.py). */

import { gaussianBlur } from "./filters.js";
import { Picture, padded } from "./image.js";
import { grow } from "./masks.js";

/** Pixels that the canvas grows on each side. */
export function margin(border, shadow) {
  if (shadow) return border + 3 * Math.max(2, border >> 1) + 2;
  return border ? border + 2 : 0;
}

/**
 * Cuts a subject out with a white border and, if wanted, a drop shadow.
 *
 * image: [3, h, w], mask: one channel with soft edges allowed, border in pixels. Returns RGBA [4, h + 2m, w + 2m] with
 * a margin m for border and shadow.
 */
export function dieCut(image, mask, border, shadow, k) {
  const m = margin(border, shadow);
  const frame = { left: m, top: m, right: m, bottom: m };
  const subject = padded(mask, frame, 0);
  const outline = outlineOf(subject, border, k);
  const out = new Picture(4, outline.height, outline.width);
  out.data.set(padded(image, frame).data);
  const n = outline.data.length;
  for (let i = 0; i < n; i++) {
    for (let at = i; at < 3 * n; at += n) out.data[at] = 1 + subject.data[i] * (out.data[at] - 1);
    out.data[3 * n + i] = outline.data[i];
  }
  return shadow ? overShadow(out, dropShadow(outline, border, k)) : out;
}

function outlineOf(subject, border, k) {
  if (!border) return subject.clone();
  const out = gaussianBlur(grow(subject, border, k), 0.7, k); // antialiased
  for (let i = 0; i < out.data.length; i++) out.data[i] = Math.max(subject.data[i], out.data[i]);
  return out;
}

/** The opacity of a soft shadow a little below the outline. */
function dropShadow(outline, border, k) {
  const softness = Math.max(2, border >> 1);
  const lowered = new Picture(1, outline.height, outline.width);
  for (let y = softness; y < outline.height; y++) lowered.row(0, y).set(outline.row(0, y - softness));
  const out = gaussianBlur(lowered, softness * 0.8, k, "constant");
  for (let i = 0; i < out.data.length; i++) out.data[i] *= k.sticker_shadow;
  return out;
}

/** Straight-alpha "over", in place: the sticker in front of its black shadow. */
function overShadow(sticker, shadow) {
  const n = shadow.data.length;
  for (let i = 0; i < n; i++) {
    const outline = sticker.data[3 * n + i];
    const alpha = outline + shadow.data[i] * (1 - outline);
    for (let at = i; at < 3 * n; at += n) sticker.data[at] *= outline / Math.max(1e-4, alpha);
    sticker.data[3 * n + i] = alpha;
  }
  return sticker;
}
