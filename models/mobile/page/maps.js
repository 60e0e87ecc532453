/**
 * Edits that reach the picture as a map: colour maps, gain maps, lifted shadows (models/blazeedit/delivery.py, maps.py).
 *
 * k: the bundle's constants. Full-size results are made row by row.
 */

import { gaussianBlur, guidedFilter, maxPool, times } from "./filters.js";
import { Picture, cropped, fitted, linearToSrgb, looked, luminance, srgbToLinear, tabled } from "./image.js";
import { cropAround } from "./region.js";
import { Enlarged, resize } from "./resize.js";

const TERMS = 10; // 1, r, g, b, rr, gg, bb, rg, rb, gb
const STEEPEST = 2.5; // log-gain; deeper shadows hold nothing that could be lifted

/**
 * The quadratic map that takes source to target in least squares, robustly reweighted, close to the identity.
 *
 * source, target: [3, h, w]. Returns Float64Array [10, 3].
 */
export function fitColourMap(source, target, k) {
  const pixels = source.height * source.width;
  const weights = new Float64Array(pixels).fill(1);
  let map = null;
  for (let round = 0; round < k.map_rounds; round++) {
    map = solve(...normalEquations(source, target, weights, k.map_ridge * pixels));
    reweigh(source, target, map, weights, k.map_robust);
  }
  for (let c = 0; c < 3; c++) map[(1 + c) * 3 + c] += 1; // it was fitted to the difference
  return map;
}

function termsOf(r, g, b, out) {
  out[0] = 1;
  out[1] = r;
  out[2] = g;
  out[3] = b;
  out[4] = r * r;
  out[5] = g * g;
  out[6] = b * b;
  out[7] = r * g;
  out[8] = r * b;
  out[9] = g * b;
}

/** The weighted normal matrix [10, 10] with its ridge, and the right-hand sides [10, 3]. */
function normalEquations(source, target, weights, ridge) {
  const [matrix, right] = [new Float64Array(TERMS * TERMS), new Float64Array(TERMS * 3)];
  const t = new Float64Array(TERMS);
  const [n, s, d] = [weights.length, source.data, target.data];
  for (let i = 0; i < n; i++) {
    termsOf(s[i], s[n + i], s[2 * n + i], t);
    for (let a = 0; a < TERMS; a++) {
      const weighted = weights[i] * t[a];
      for (let b = a; b < TERMS; b++) matrix[a * TERMS + b] += weighted * t[b];
      for (let c = 0; c < 3; c++) right[a * 3 + c] += weighted * (d[c * n + i] - s[c * n + i]);
    }
  }
  for (let a = 0; a < TERMS; a++) {
    for (let b = 0; b < a; b++) matrix[a * TERMS + b] = matrix[b * TERMS + a];
    matrix[a * TERMS + a] += ridge;
  }
  return [matrix, right];
}

/** Gaussian elimination of a symmetric positive definite system [10, 10] with three right-hand sides. */
function solve(matrix, right) {
  for (let a = 0; a < TERMS; a++) {
    for (let b = a + 1; b < TERMS; b++) {
      const factor = matrix[b * TERMS + a] / matrix[a * TERMS + a];
      for (let j = a; j < TERMS; j++) matrix[b * TERMS + j] -= factor * matrix[a * TERMS + j];
      for (let c = 0; c < 3; c++) right[b * 3 + c] -= factor * right[a * 3 + c];
    }
  }
  for (let a = TERMS - 1; a >= 0; a--) {
    for (let c = 0; c < 3; c++) {
      let sum = right[a * 3 + c];
      for (let b = a + 1; b < TERMS; b++) sum -= matrix[a * TERMS + b] * right[b * 3 + c];
      right[a * 3 + c] = sum / matrix[a * TERMS + a];
    }
  }
  return right;
}

/** Halves the weight of a pixel whose residual is `robust`, and so on. */
function reweigh(source, target, map, weights, robust) {
  const t = new Float64Array(TERMS);
  const [n, s, d] = [weights.length, source.data, target.data];
  for (let i = 0; i < n; i++) {
    termsOf(s[i], s[n + i], s[2 * n + i], t);
    let worst = 0;
    for (let c = 0; c < 3; c++) {
      let residual = s[c * n + i] - d[c * n + i];
      for (let a = 0; a < TERMS; a++) residual += t[a] * map[a * 3 + c];
      worst = Math.max(worst, Math.abs(residual));
    }
    weights[i] = 1 / (1 + (worst / robust) ** 2);
  }
}

/** x: [3, h, w] of any size. Returns the mapped picture, not clamped. */
export function applyColourMap(x, map) {
  const out = new Picture(3, x.height, x.width);
  const n = x.height * x.width;
  for (let c = 0; c < 3; c++) {
    const [m0, m1, m2, m3, m4] = [map[c], map[3 + c], map[6 + c], map[9 + c], map[12 + c]];
    const [m5, m6, m7, m8, m9] = [map[15 + c], map[18 + c], map[21 + c], map[24 + c], map[27 + c]];
    for (let i = 0; i < n; i++) {
      const r = x.data[i];
      const g = x.data[n + i];
      const b = x.data[2 * n + i];
      const byRed = m1 + m4 * r + m7 * g + m8 * b;
      out.data[c * n + i] = m0 + byRed * r + (m2 + m5 * g + m9 * b) * g + (m3 + m6 * b) * b;
    }
  }
  return out;
}

/**
 * The colour map on a strip, its white kept white.
 *
 * The brightest tones are lifted by as much as the map darkens pure white: a burnt-out sky that turns grey looks like
 * fog. A map that darkens it by more than `white_drop` takes a bright photo for an overexposed one: it is weakened.
 */
export function recoloured(strip, map, k) {
  const white = applyColourMap(new Picture(3, 1, 1, new Float32Array([1, 1, 1])), map).data;
  const out = applyColourMap(strip, map);
  if (white.some((v) => v < 1)) liftHighlights(out, strip, white, k);
  const drop = Math.max(1 - white[0], 1 - white[1], 1 - white[2]);
  const share = drop <= k.white_drop ? 1 : k.white_drop / drop;
  for (let i = 0; i < out.data.length; i++) {
    const edited = Math.min(1, Math.max(0, out.data[i]));
    out.data[i] = strip.data[i] + share * (edited - strip.data[i]);
  }
  return out;
}

function liftHighlights(out, strip, white, k) {
  const power = tabled((x) => x ** k.highlights, 4096);
  const { data } = strip;
  const n = strip.height * strip.width;
  const [red, green, blue] = Array.from(white, (v) => Math.max(0, 1 - v));
  for (let i = 0; i < n; i++) {
    const bright = looked(power, Math.min(data[i], data[n + i], data[2 * n + i]));
    out.data[i] += red * bright;
    out.data[n + i] += green * bright;
    out.data[2 * n + i] += blue * bright;
  }
}

/** Gains below the threshold become exactly 0, those above twice the threshold stay: small gains are noise. */
export function fadeGain(logGain, threshold) {
  const out = logGain.clone();
  const n = out.height * out.width;
  for (let i = 0; i < n; i++) {
    const share = fadeAt(out.data[i], out.data[n + i], out.data[2 * n + i], threshold);
    for (let at = i; at < 3 * n; at += n) out.data[at] *= share;
  }
  return out;
}

function fadeAt(r, g, b, threshold) {
  const size = Math.max(Math.abs(r), Math.abs(g), Math.abs(b));
  return Math.min(1, Math.max(0, (size - threshold) / threshold));
}

/**
 * A small log-gain map at the picture's size, along its edges (guided filter on log luminance), row by row.
 *
 * logGain: [3, h', w'], image: a picture or photo [3, h, w].
 */
export class GainMap {
  constructor(logGain, image, radius, eps) {
    const guide = luminance(resize(image, logGain.height, logGain.width, "area"));
    for (let i = 0; i < guide.data.length; i++) guide.data[i] = Math.log(guide.data[i] + 0.03);
    const { slope, offset } = guidedFilter(guide, logGain, radius, eps);
    this.slope = new Enlarged(slope, image.height, image.width);
    this.offset = new Enlarged(offset, image.height, image.width);
    this.width = image.width;
    this.line = new Float32Array(image.width);
  }

  /** The log-gain [3, 1, w] of row y, whose pixels are strip [3, 1, w], written to `out` [3, 1, w]. */
  row(y, strip, out) {
    const luma = luminance(strip).data;
    for (let x = 0; x < this.width; x++) luma[x] = Math.log(luma[x] + 0.03);
    for (let c = 0; c < 3; c++) {
      const target = this.offset.row(c, y, 0, this.width, out.row(c, 0));
      this.slope.row(c, y, 0, this.width, this.line);
      for (let x = 0; x < this.width; x++) target[x] += this.line[x] * luma[x];
    }
    return out;
  }
}

/** strip · exp(logGain) in linear light, in place; bit-identical where the gain is exactly 0. */
export function applyGain(strip, logGain) {
  const [x, gain] = [strip.data, logGain.data];
  for (let i = 0; i < x.length; i++) {
    if (gain[i] === 0) continue;
    x[i] = linearToSrgb(Math.min(1, Math.max(0, srgbToLinear(x[i]) * Math.exp(gain[i]))));
  }
  return strip;
}

/** Log-gain in linear light between two blurred pictures. */
export function logRatio(before, after, k) {
  const linear = (x) => new Picture(3, x.height, x.width, x.data.map(srgbToLinear));
  const [low, out] = [before, after].map((x) => gaussianBlur(linear(x), k.gain_blur, k));
  for (let i = 0; i < out.data.length; i++) {
    const ratio = Math.log((out.data[i] + 0.01) / (low.data[i] + 0.01));
    out.data[i] = Math.min(STEEPEST, Math.max(-STEEPEST, ratio));
  }
  return out;
}

/**
 * 1 where a gain region touches the hole, softly 0 elsewhere: an object's shadow begins at the object.
 *
 * Morphological reconstruction from the hole inside the thresholded gain. gain: [3, h, w], hole: [1, h, w].
 */
export function attached(gain, hole, k) {
  const region = new Picture(1, gain.height, gain.width);
  const n = region.data.length;
  for (let i = 0; i < n; i++) {
    const strongest = Math.max(gain.data[i], gain.data[n + i], gain.data[2 * n + i]);
    region.data[i] = strongest > k.attached || hole.data[i] > 0 ? 1 : 0;
  }
  let reached = times(maxPool(hole, 5), region);
  for (let step = 0; step < Math.max(gain.height, gain.width); step++) {
    const next = times(maxPool(reached, 3), region);
    if (next.data.every((v, i) => v === reached.data[i])) break;
    reached = next;
  }
  return gaussianBlur(maxPool(reached, 3), 1, k);
}

/** 1 inside an axis of a crop, falling to 0 at those of its ends that are not the picture's own. */
export function taper(length, openStart, openEnd, k) {
  return Float32Array.from({ length }, (_, i) => {
    const start = openStart ? 1 : Math.min(1, (i + 0.5) / (k.taper * length));
    const end = openEnd ? 1 : Math.min(1, (length - i - 0.5) / (k.taper * length));
    return start * end;
  });
}

/** The canvas of a gain head: its picture and mask, at most `size` px a side. */
export function gainCanvas(image, mask, size) {
  const [height, width] = fitted(image.height, image.width, size);
  return { image: resize(image, height, width), mask: resize(mask, height, width, "nearest") };
}

/**
 * Lifts the shadow that the object in the hole casts around it.
 *
 * photo: a Photo, hole: a mask of bytes; head: async (image, mask) => log-gain, size: its canvas. Returns {crop, lifted:
 * the window's floats, moved: Uint8Array of its pixels}. The gain fades before the crop ends, so that no edge shows.
 */
export async function liftShadow(photo, hole, head, size, k) {
  const crop = cropAround(hole, k.shadow_context, k.shadow_minimum, k);
  const [window, empty] = [cropped(photo, crop), cropped(hole, crop)];
  const canvas = gainCanvas(window, empty, size);
  const gain = await head(canvas.image, canvas.mask);
  for (let i = 0; i < gain.data.length; i++) gain.data[i] = Math.max(0, gain.data[i]); // it gets lighter
  const small = fadeGain(times(gain, attached(gain, canvas.mask, k)), k.shadow_fade_small);
  const map = new GainMap(small, window, k.shadow_radius, k.shadow_eps);
  return { crop, ...liftRows(window, empty, map, tapers(crop, photo, k), k) };
}

function tapers(crop, photo, k) {
  const [bottom, right] = [crop.top + crop.height, crop.left + crop.width];
  return {
    rows: taper(crop.height, crop.top === 0, bottom >= photo.height, k),
    columns: taper(crop.width, crop.left === 0, right >= photo.width, k),
  };
}

function liftRows(window, empty, map, { rows, columns }, k) {
  const { height, width } = window;
  const moved = new Uint8Array(height * width);
  const [strip, gain] = [new Picture(3, 1, width), new Picture(3, 1, width)];
  for (let y = 0; y < height; y++) {
    for (let c = 0; c < 3; c++) strip.row(c, 0).set(window.row(c, y));
    map.row(y, strip, gain);
    fadeRow(gain.data, rows[y], columns, empty.row(0, y), k.shadow_fade_full, moved, y * width);
    applyGain(strip, gain);
    for (let c = 0; c < 3; c++) window.row(c, y).set(strip.row(c, 0));
  }
  return { lifted: window, moved };
}

/** Tapers and fades one row of gain in place, and notes where something is left of it. */
function fadeRow(gain, down, across, empty, threshold, moved, start) {
  const width = across.length;
  for (let x = 0; x < width; x++) {
    const share = empty[x] > 0 ? 0 : down * across[x];
    const r = gain[x] * share;
    const g = gain[width + x] * share;
    const b = gain[2 * width + x] * share;
    const fade = fadeAt(r, g, b, threshold);
    gain[x] = r * fade;
    gain[width + x] = g * fade;
    gain[2 * width + x] = b * fade;
    if (fade > 0) moved[start + x] = 1;
  }
}
