/** Changes of size, with the formulas of torch's `interpolate`: bicubic and bilinear (antialiased), area, nearest. */

import { Picture } from "./image.js";

/** Keys' cubic (a = -1/2), the one that antialiased bicubic resizing uses. */
function cubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

function triangle(x) {
  return Math.max(0, 1 - Math.abs(x));
}

const FILTERS = { bicubic: [cubic, 2], bilinear: [triangle, 1] };

/** Per output position the first input position, and the normalised weights of those from there on. */
function weightTable(from, to, mode) {
  const [filter, reach] = FILTERS[mode];
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = reach * stretch;
  return Array.from({ length: to }, (_, i) => {
    const centre = scale * (i + 0.5);
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const count = Math.min(from, Math.floor(centre + support + 0.5)) - first;
    const weights = Array.from({ length: count }, (_, j) => filter((first + j - centre + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: Float32Array.from(weights, (w) => w / sum) };
  });
}

/** Weighs one row's pixels down (or up) to the width of the table. */
function resampleRow(row, table, out) {
  for (let x = 0; x < table.length; x++) {
    const { first, weights } = table[x];
    let sum = 0;
    for (let j = 0; j < weights.length; j++) sum += weights[j] * row[first + j];
    out[x] = sum;
  }
}

/** Antialiased resampling, row by row: the source is read once and never held as floats. Returns {out, low, high}. */
function resampled(x, height, width, mode) {
  const out = new Picture(x.channels, height, width);
  const [columns, rows] = [weightTable(x.width, width, mode), weightTable(x.height, height, mode)];
  const narrow = new Float32Array(width);
  const range = { low: Infinity, high: -Infinity };
  for (let c = 0; c < x.channels; c++) {
    let start = 0; // the first output row that may still need input rows
    for (let y = 0; y < x.height; y++) {
      const row = x.row(c, y);
      widen(range, row);
      resampleRow(row, columns, narrow);
      while (start < height && rows[start].first + rows[start].weights.length <= y) start++;
      for (let i = start; i < height && rows[i].first <= y; i++) {
        const weight = rows[i].weights[y - rows[i].first];
        if (weight === undefined) continue;
        const target = out.row(c, i);
        for (let j = 0; j < width; j++) target[j] += weight * narrow[j];
      }
    }
  }
  return { out, ...range };
}

/** Widens a range {low, high} to the values of a row. */
function widen(range, row) {
  let { low, high } = range;
  for (let x = 0; x < row.length; x++) {
    const v = row[x];
    if (v < low) low = v;
    if (v > high) high = v;
  }
  range.low = low;
  range.high = high;
}

/**
 * The mean over each cell of a grid laid over rows top..bottom of a picture: [c, height, width].
 *
 * weight: a picture of one channel that the values are multiplied with first, or null.
 */
export function areaMean(x, height, width, weight = null, top = 0, bottom = x.height) {
  const out = new Picture(x.channels, height, width);
  const span = bottom - top;
  const sums = new Float64Array(x.width);
  for (let c = 0; c < x.channels; c++) {
    for (let i = 0; i < height; i++) {
      const first = top + Math.floor((i * span) / height);
      const last = top + Math.ceil(((i + 1) * span) / height);
      sums.fill(0);
      for (let y = first; y < last; y++) addRow(sums, x.row(c, y), weight && weight.row(0, y));
      meanOfCells(sums, last - first, out.row(c, i));
    }
  }
  return out;
}

function addRow(sums, row, weight) {
  if (weight) for (let x = 0; x < sums.length; x++) sums[x] += row[x] * weight[x];
  else for (let x = 0; x < sums.length; x++) sums[x] += row[x];
}

function meanOfCells(sums, rows, out) {
  const [from, to] = [sums.length, out.length];
  for (let i = 0; i < to; i++) {
    const first = Math.floor((i * from) / to);
    const last = Math.ceil(((i + 1) * from) / to);
    let sum = 0;
    for (let x = first; x < last; x++) sum += sums[x];
    out[i] = sum / ((last - first) * rows);
  }
}

function nearest(x, height, width) {
  const out = new Picture(x.channels, height, width);
  const [down, across] = [Math.fround(x.height / height), Math.fround(x.width / width)];
  for (let c = 0; c < x.channels; c++) {
    for (let i = 0; i < height; i++) {
      const row = x.row(c, Math.min(x.height - 1, Math.floor(Math.fround((i + 0.5) * down))));
      const target = out.row(c, i);
      for (let j = 0; j < width; j++) {
        target[j] = row[Math.min(x.width - 1, Math.floor(Math.fround((j + 0.5) * across)))];
      }
    }
  }
  return out;
}

/**
 * Resizes a picture or photo, antialiased where it shrinks; 0..1 stays 0..1. mode: bicubic, bilinear, area, nearest.
 *
 * Returns a new Picture, or the same one where nothing changes.
 */
export function resize(x, height, width, mode = "bicubic") {
  if (x instanceof Picture && x.height === height && x.width === width) return x;
  if (mode === "area") return areaMean(x, height, width);
  if (mode === "nearest") return nearest(x, height, width);
  const { out, low, high } = resampled(x, height, width, mode);
  if (mode !== "bicubic") return out;
  const { data } = out;
  for (let i = 0; i < data.length; i++) data[i] = Math.min(high, Math.max(low, data[i]));
  return out;
}

/** Lower neighbour, upper neighbour and share of the upper one, for each of `to` places on an axis of `from` cells. */
export function linearTable(from, to, scale = from / to) {
  const [low, high] = [new Int32Array(to), new Int32Array(to)];
  const share = new Float32Array(to);
  for (let i = 0; i < to; i++) {
    const place = Math.min(from - 1, Math.max(0, (i + 0.5) * scale - 0.5));
    low[i] = Math.floor(place);
    high[i] = Math.min(from - 1, low[i] + 1);
    share[i] = place - low[i];
  }
  return { low, high, share };
}

/**
 * A small map seen at a larger size (bilinear, half-pixel centres), computed row by row.
 *
 * What is smooth is kept small: a picture of 12 megapixels never holds its low frequencies a second time.
 */
export class Enlarged {
  constructor(small, height, width) {
    this.small = small;
    this.height = height;
    this.width = width;
    this.across = linearTable(small.width, width);
    this.down = linearTable(small.height, height);
    this.mixed = new Float32Array(small.width);
  }

  /** Columns left..right of row y of one channel, written to `out` from `at` on. */
  row(channel, y, left, right, out, at = 0) {
    const { low, high, share } = this.across;
    const row = this.mixedRow(channel, y, low[left], high[right - 1]);
    for (let x = left; x < right; x++) {
      const value = row[low[x]];
      out[at++] = value + share[x] * (row[high[x]] - value);
    }
    return out;
  }

  /** The two small rows around row y, mixed, in columns first..last. */
  mixedRow(channel, y, first, last) {
    const above = this.small.row(channel, this.down.low[y]);
    const share = this.down.share[y];
    if (share === 0) return above;
    const below = this.small.row(channel, this.down.high[y]);
    for (let x = first; x <= last; x++) this.mixed[x] = above[x] + share * (below[x] - above[x]);
    return this.mixed;
  }

  /** All of it, as a picture. */
  whole() {
    const out = new Picture(this.small.channels, this.height, this.width);
    for (let c = 0; c < out.channels; c++) {
      for (let y = 0; y < out.height; y++) this.row(c, y, 0, this.width, out.row(c, y));
    }
    return out;
  }
}
