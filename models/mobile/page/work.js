/** The small canvas on which the networks work, made from the user's photo (models/blazeedit/work.py). */

import { Picture, cropped } from "./image.js";
import { areaMean } from "./resize.js";

/**
 * Picture and hole at a smaller size; known pixels are averaged over known pixels only.
 *
 * What is in the hole must not bleed into its edge, from where every fill continues. image: [3, h, w], known: [1, h, w]
 * of 0 and 1, both anything that has rows. inside: whether the hole is to show what the image has there. Returns
 * {image, hole}.
 */
export function shrinkKnown(image, known, height, width, inside = true) {
  const weight = areaMean(known, height, width);
  const clean = areaMean(image, height, width, known);
  const everything = inside ? areaMean(image, height, width) : clean;
  const thin = weight.data.every((v) => v >= 0.5); // a hole thinner than a working pixel
  const hole = new Picture(1, height, width, weight.data.map((v) => (v < (thin ? 1 : 0.5) ? 1 : 0)));
  const n = hole.data.length;
  for (let i = 0; i < clean.data.length; i++) {
    if (hole.data[i % n] > 0) clean.data[i] = everything.data[i];
    else clean.data[i] /= Math.max(1e-3, weight.data[i % n]);
  }
  return { image: clean, hole };
}

/** A photo with new margins of a fixed value, row by row: a canvas of 16 megapixels is never held as floats. */
export class Extended {
  constructor(photo, margins, blank) {
    this.photo = photo;
    this.channels = 3;
    this.top = margins.top;
    this.left = margins.left;
    this.height = photo.height + margins.top + margins.bottom;
    this.width = photo.width + margins.left + margins.right;
    this.blank = blank;
    this.buffer = new Float32Array(this.width);
    this.finished = []; // [crop, picture] of new strips that are there by now
  }

  /** The place {top, left, height, width} of the photo. */
  get place() {
    return { top: this.top, left: this.left, height: this.photo.height, width: this.photo.width };
  }

  row(channel, y) {
    const row = this.buffer.fill(this.blank);
    const inside = y >= this.top && y < this.top + this.photo.height;
    if (inside) this.photo.read(channel, y - this.top, 0, this.photo.width, row, this.left);
    return row;
  }

  /** What is known of it, [1, h, w], with rows of its own. */
  get known() {
    const line = new Float32Array(this.width);
    const { top, left, photo } = this;
    const row = (_, y) => {
      line.fill(0);
      return y < top || y >= top + photo.height ? line : line.fill(1, left, left + photo.width);
    };
    return { channels: 1, height: this.height, width: this.width, row };
  }

  /** A window as floats, with the strips that are finished, and where it is still empty: {picture, hole}. */
  window(crop) {
    const picture = new Picture(3, crop.height, crop.width);
    const hole = new Picture(1, crop.height, crop.width);
    picture.data.fill(this.blank);
    hole.data.fill(1);
    this.show(this.photo, this.place, crop, picture, hole);
    for (const [place, strip] of this.finished) this.show(strip, place, crop, picture, hole);
    return { picture, hole };
  }

  /** Copies what of `image`, which lies at `place`, is in a window, and marks it as known. */
  show(image, place, crop, picture, hole) {
    const [top, left] = [Math.max(crop.top, place.top), Math.max(crop.left, place.left)];
    const bottom = Math.min(crop.top + crop.height, place.top + place.height);
    const right = Math.min(crop.left + crop.width, place.left + place.width);
    if (top >= bottom || left >= right) return;
    const shared = { top: top - place.top, left: left - place.left, height: bottom - top, width: right - left };
    const part = cropped(image, shared);
    for (let y = 0; y < part.height; y++) {
      const [row, column] = [top - crop.top + y, left - crop.left];
      hole.row(0, row).fill(0, column, column + part.width);
      for (let c = 0; c < 3; c++) picture.row(c, row).set(part.row(c, y), column);
    }
  }
}

/** A window of a photo as floats, with what was changed in another window {crop, picture} of it, or null. */
export function windowOf(photo, crop, changed) {
  const out = cropped(photo, crop);
  if (!changed) return out;
  const { crop: place, picture } = changed;
  const top = Math.max(crop.top, place.top);
  const bottom = Math.min(crop.top + crop.height, place.top + place.height);
  const left = Math.max(crop.left, place.left);
  const right = Math.min(crop.left + crop.width, place.left + place.width);
  for (let c = 0; c < 3; c++) {
    for (let y = top; y < bottom; y++) {
      const part = picture.row(c, y - place.top).subarray(left - place.left, right - place.left);
      out.row(c, y - crop.top).set(part, left - crop.left);
    }
  }
  return out;
}
