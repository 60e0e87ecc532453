/** Between planar pictures of any size and the networks' fixed square NHWC tensors. */

import { Picture } from "./image.js";

/** The indices 0..n-1, n-1..0, 0.. of a mirrored axis. */
export function mirror(length, wanted) {
  return Int32Array.from({ length: wanted }, (_, i) => Math.min(i % (2 * length), 2 * length - 1 - (i % (2 * length))));
}

/** A picture continued to the right and below by its mirror image, to side x side, channels last. */
export function toTensor(x, side) {
  const out = new Float32Array(side * side * x.channels);
  const [rows, columns] = [mirror(x.height, side), mirror(x.width, side)];
  for (let c = 0; c < x.channels; c++) {
    for (let y = 0; y < side; y++) {
      const row = x.row(c, rows[y]);
      for (let i = 0, at = y * side * x.channels + c; i < side; i++, at += x.channels) out[at] = row[columns[i]];
    }
  }
  return out;
}

/** The upper left height x width px of a tensor [1, side, side, channels], kept within low..high. */
export function fromTensor(data, side, channels, height, width, low = -Infinity, high = Infinity) {
  const out = new Picture(channels, height, width);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < height; y++) {
      const row = out.row(c, y);
      for (let x = 0, at = y * side * channels + c; x < width; x++, at += channels) {
        row[x] = Math.min(high, Math.max(low, data[at]));
      }
    }
  }
  return out;
}
