/** Masks: pictures of one channel in 0..1, white (1) = edit (models/masks.py). k: the bundle's constants. */

import { EditError } from "./errors.js";
import { maxLine } from "./filters.js";
import { Picture, padded, roundEven } from "./image.js";
import { Enlarged } from "./resize.js";

const OCTAGON = 8; // px; discs this small, one after the other, stay close to a larger one and fast at any size

/** 1 where the mask is above the threshold, else 0: what a network trained on τ · m sees. */
export function binarise(mask, threshold = 0) {
  const out = new Picture(1, mask.height, mask.width);
  for (let i = 0; i < out.data.length; i++) out.data[i] = mask.data[i] > threshold ? 1 : 0;
  return out;
}

/** 1 - mask. */
export function inverted(mask) {
  const out = new Picture(1, mask.height, mask.width);
  for (let i = 0; i < out.data.length; i++) out.data[i] = 1 - mask.data[i];
  return out;
}

/** Dilates a mask by a disc of `radius` pixels, keeping its grey levels. */
export function grow(mask, radius, k) {
  if (radius > k.large_growth) return growLarge(mask, radius, k);
  let out = mask.clone();
  for (let done = 0; done < radius; done += OCTAGON) out = dilateDisc(out, Math.min(OCTAGON, radius - done));
  return out;
}

/** Growth by many pixels on a smaller copy; the edge becomes a ramp of a fraction of the radius. */
function growLarge(mask, radius, k) {
  const factor = Math.ceil(radius / Math.floor(k.large_growth / 2));
  const [height, width] = [Math.ceil(mask.height / factor), Math.ceil(mask.width / factor)];
  const frame = { right: width * factor - mask.width, bottom: height * factor - mask.height };
  const small = maxOfCells(padded(mask, frame, 0), factor);
  const up = new Enlarged(grow(small, Math.max(1, roundEven(radius / factor - 0.5)), k), height * factor, width * factor);
  const out = mask.clone();
  const line = new Float32Array(mask.width);
  for (let y = 0; y < mask.height; y++) {
    const row = out.row(0, y);
    up.row(0, y, 0, mask.width, line);
    for (let x = 0; x < mask.width; x++) row[x] = Math.max(row[x], line[x]);
  }
  return out;
}

function maxOfCells(x, factor) {
  const out = new Picture(1, x.height / factor, x.width / factor);
  for (let y = 0; y < x.height; y++) {
    const [row, target] = [x.row(0, y), out.row(0, Math.floor(y / factor))];
    for (let i = 0; i < x.width; i++) {
      const cell = Math.floor(i / factor);
      if (row[i] > target[cell]) target[cell] = row[i];
    }
  }
  return out;
}

/** Half the breadth of a disc's row, from the middle row outwards. */
function discRows(radius) {
  return Array.from({ length: radius + 1 }, (_, dy) => Math.floor(Math.sqrt(radius ** 2 - dy ** 2) + 0.5));
}

function dilateDisc(x, radius) {
  const [out, halves] = [x.clone(), discRows(radius)];
  const wide = new Float32Array(x.width);
  for (let y = 0; y < x.height; y++) {
    const row = x.row(0, y);
    if (firstOf(row) === row.length) continue; // most rows of most masks
    for (let dy = 0; dy <= radius; dy++) {
      maxLine(row, halves[dy], wide);
      for (const target of dy ? [y - dy, y + dy] : [y]) {
        if (target >= 0 && target < x.height) raise(out.row(0, target), wide);
      }
    }
  }
  return out;
}

function raise(target, row) {
  for (let x = 0; x < row.length; x++) if (row[x] > target[x]) target[x] = row[x];
}

/** {top, left, bottom, right} of what is above 0 in a mask (floats or bytes), ends exclusive; null when it is empty. */
export function boundingBox(mask) {
  let [top, left, bottom, right] = [Infinity, Infinity, 0, 0];
  for (let y = 0; y < mask.height; y++) {
    const row = mask.data.subarray(y * mask.width, (y + 1) * mask.width);
    const first = firstOf(row);
    if (first === row.length) continue;
    let last = mask.width - 1;
    while (row[last] <= 0) last--;
    [top, bottom] = [Math.min(top, y), y + 1];
    [left, right] = [Math.min(left, first), Math.max(right, last + 1)];
  }
  return bottom ? { top, left, bottom, right } : null;
}

/** The first place of a row that is above 0, or its length. */
function firstOf(row) {
  let x = 0;
  while (x < row.length && row[x] <= 0) x++;
  return x;
}

/** The mask of an edit that needs one. EditError when it is empty, or all white where something has to be left. */
export function checkMask(mask, task) {
  if (!boundingBox(mask)) throw new EditError("The mask is empty; paint over what you want to edit.");
  if (task === "remove" && !mask.data.includes(0)) {
    throw new EditError("The mask covers the whole photo; leave some of it free, for the fill to continue from.");
  }
}
