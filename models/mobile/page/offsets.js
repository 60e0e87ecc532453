/**
 * Which offsets a picture repeats itself by, and which of them continues it at each place of a hole.
 *
 * After He and Sun, "Statistics of Patch Offsets for Image Completion" (2012); models/blazeedit/offsets.py. Every
 * offset is scored by how well the known surroundings explain themselves when shifted by it, the best few become
 * labels, and a Potts model chooses among them in the hole. k: the bundle's constants.
 */

import { Correlator } from "./fft.js";
import { boxBlur, gaussianBlur, maskedBlur, maxPool, times } from "./filters.js";
import { Picture, roundEven } from "./image.js";
import { grow, inverted } from "./masks.js";
import { areaMean } from "./resize.js";

const NEVER = 1e3; // the score of an offset that cannot be used

/** Picture, hole and guide at label size, the hole grown to cover every full pixel of it. */
export class Canvas {
  constructor(photo, hole, guide, height, width, k) {
    this.height = height;
    this.width = width;
    const weight = areaMean(inverted(hole), height, width);
    this.hole = new Picture(1, height, width, weight.data.map((share) => (1 - share > 0.01 ? 1 : 0)));
    this.known = inverted(this.hole);
    this.colour = knownMean(photo, hole, weight, this.known);
    this.guide = areaMean(guide, height, width);
    this.ring = ringAround(this.hole, this.known, k);
    this.low = blend(gaussianBlur(this.guide, 1.5, k), maskedBlur(this.colour, this.known, 1.5, k), this.hole);
    this.correlator = new Correlator(height, width);
  }
}

function knownMean(photo, hole, weight, known) {
  const out = areaMean(photo, weight.height, weight.width, inverted(hole));
  const n = known.data.length;
  for (let i = 0; i < out.data.length; i++) out.data[i] *= known.data[i % n] / Math.max(1e-3, weight.data[i % n]);
  return out;
}

/** The known pixels around a region that offsets must explain. */
function ringAround(region, known, k) {
  const out = grow(region, k.offset_ring, k);
  for (let i = 0; i < out.data.length; i++) out.data[i] = (out.data[i] - region.data[i]) * known.data[i];
  return out;
}

/** inside where hole is 1, outside elsewhere. */
function blend(inside, outside, hole) {
  const n = hole.data.length;
  for (let i = 0; i < inside.data.length; i++) if (hole.data[i % n] === 0) inside.data[i] = outside.data[i];
  return inside;
}

/**
 * The offsets [dy, dx] of a hole, in label pixels, and per place the index of the one that continues the picture.
 *
 * Where none of those that explain the surroundings has a source like the guide, offsets that do are looked for.
 * Returns {shifts, winners: Int32Array}; shifts is empty when nothing can be copied.
 */
export function labelled(canvas, k) {
  let shifts = candidateShifts(canvas, k);
  if (!shifts.length) return { shifts, winners: new Int32Array(canvas.hole.data.length) };
  let winners = strongest(choose(canvas, shifts, k));
  const poor = poorlyServed(canvas, shifts, winners, k);
  if (total(poor) > k.offset_poor * total(canvas.hole)) {
    const more = unique([...shifts, ...bestOffsets(canvas, canvas.low, poor, poor, k.offset_least, k)]);
    if (more.length > shifts.length) {
      shifts = more;
      winners = strongest(choose(canvas, shifts, k));
    }
  }
  return { shifts, winners };
}

function total(x) {
  return x.data.reduce((a, b) => a + b, 0);
}

function unique(shifts) {
  return [...new Map(shifts.map((shift) => [shift.join(), shift])).values()];
}

/** Per place the index of the channel with the highest value. */
function strongest(belief) {
  const n = belief.height * belief.width;
  return Int32Array.from({ length: n }, (_, i) => {
    let best = 0;
    for (let c = 1; c < belief.channels; c++) if (belief.data[c * n + i] > belief.data[best * n + i]) best = c;
    return best;
  });
}

/** 1 where the hole's source does not exist or does not look like the guide, else 0. */
function poorlyServed(canvas, shifts, winners, k) {
  const out = new Picture(1, canvas.height, canvas.width);
  for (const label of new Set(winners)) {
    const [low, there] = [shifted(canvas.low, shifts[label]), shifted(canvas.known, shifts[label])];
    const unlike = squaredDifference(low, canvas.low);
    for (let i = 0; i < out.data.length; i++) {
      if (winners[i] !== label || canvas.hole.data[i] === 0) continue;
      if (unlike.data[i] > k.offset_unlike || there.data[i] === 0) out.data[i] = 1;
    }
  }
  return out;
}

/** The mean over the channels of (a - b)²: one channel. */
function squaredDifference(a, b) {
  const out = new Picture(1, a.height, a.width);
  const n = out.data.length;
  for (let i = 0; i < a.data.length; i++) out.data[i % n] += (a.data[i] - b.data[i]) ** 2 / a.channels;
  return out;
}

/**
 * The offsets under which the hole's surroundings look most like the picture elsewhere.
 *
 * A long hole is looked at piece by piece: no single offset explains all that a strip passes along its way.
 */
function candidateShifts(canvas, k) {
  const pieces = piecesOf(canvas.hole, k);
  const each = Math.max(k.offset_least, Math.floor(k.texture_labels / pieces.length));
  return unique(
    pieces.flatMap((piece) => {
      const ring = times(grow(piece, k.offset_ring, k), canvas.known);
      return bestOffsets(canvas, canvas.colour, ring, piece, each, k);
    }),
  );
}

/** The hole cut across its longer side into pieces about twice as long as broad. */
function piecesOf(hole, k) {
  const box = boxOf(hole);
  const sides = [box.bottom - box.top, box.right - box.left];
  const across = sides[1] > sides[0];
  const most = Math.max(1, roundEven(Math.max(...sides) / (2 * Math.min(...sides))));
  const number = Math.min(k.offset_pieces, most);
  const [start, length] = across ? [box.left, sides[1]] : [box.top, sides[0]];
  return Array.from({ length: number }, (_, index) => {
    const first = start + Math.floor((index * length) / number);
    const last = start + Math.floor(((index + 1) * length) / number);
    return part(hole, across, first, last);
  });
}

function boxOf(hole) {
  const box = { top: hole.height, left: hole.width, bottom: 0, right: 0 };
  for (let y = 0, i = 0; y < hole.height; y++) {
    for (let x = 0; x < hole.width; x++, i++) {
      if (!hole.data[i]) continue;
      box.top = Math.min(box.top, y);
      box.bottom = y + 1;
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x + 1);
    }
  }
  return box.bottom ? box : { top: 0, left: 0, bottom: 1, right: 1 };
}

/** What of a hole lies in columns (or rows) first..last. */
function part(hole, across, first, last) {
  const out = new Picture(1, hole.height, hole.width);
  for (let y = 0; y < hole.height; y++) {
    if (!across && (y < first || y >= last)) continue;
    const row = hole.row(0, y);
    out.row(0, y).set(across ? row.subarray(first, last) : row, across ? first : 0);
  }
  return out;
}

/**
 * The best offsets for one piece of the hole: all of them at once by correlation, local minima, the best first.
 *
 * Σ region (I(p) - I(p + o))² over sources that are known, plus what the offset leaves uncovered of the piece.
 */
function bestOffsets(canvas, image, region, piece, count, k) {
  const { error, valid } = correlateError(canvas, image, region);
  const covered = canvas.correlator.correlate([[piece.data, canvas.known.data]]);
  const [inRegion, inPiece] = [Math.max(1, total(region)), Math.max(1, total(piece))];
  const score = new Picture(1, 2 * canvas.height - 1, 2 * canvas.width - 1);
  for (let i = 0; i < error.length; i++) {
    const [share, cover] = [valid[i] / inRegion, covered[i] / inPiece];
    const uncovered = k.offset_coverage * 0.05 * (1 - cover) + 0.05 * (1 - share);
    const usable = share > 0.25 && cover > 0.02;
    score.data[i] = usable ? error[i] / Math.max(1, valid[i]) / 3 + uncovered : NEVER;
  }
  excludeZero(score, canvas);
  return lowest(score, count, canvas);
}

/** No shift at all copies the hole onto itself. */
function excludeZero(score, { height, width }) {
  for (let y = Math.max(0, height - 2); y < Math.min(score.height, height + 1); y++) {
    score.row(0, y).fill(NEVER, Math.max(0, width - 2), width + 1);
  }
}

/** The offsets of the `count` lowest local minima that can be used. */
function lowest(score, count, { height, width }) {
  const least = maxPool(new Picture(1, score.height, score.width, score.data.map((v) => -v)), 3);
  const minima = [];
  score.data.forEach((v, i) => {
    if (v <= -least.data[i] && v < NEVER / 10) minima.push(i);
  });
  minima.sort((a, b) => score.data[a] - score.data[b] || a - b);
  return minima
    .slice(0, count)
    .map((i) => [Math.floor(i / score.width) - height + 1, (i % score.width) - width + 1]);
}

/** Σ_region |I(p) - I(p + o)|² over known sources, and how many pixels that were. */
function correlateError(canvas, image, region) {
  const { known, correlator } = canvas;
  const energy = new Picture(1, canvas.height, canvas.width);
  const n = energy.data.length;
  for (let i = 0; i < image.data.length; i++) energy.data[i % n] += image.data[i] ** 2;
  const [own, other] = [times(energy, region), times(energy, known)];
  const [wanted, source] = [times(image, region), times(image, known)];
  const cross = Array.from({ length: image.channels }, (_, c) => [wanted.plane(c), source.plane(c), -2]);
  const error = correlator.correlate([[own.data, known.data], [region.data, other.data], ...cross]);
  const valid = correlator.correlate([[region.data, known.data]]);
  return { error: error.map((v) => Math.max(0, v)), valid: valid.map(Math.round) };
}

/** Label probabilities [n, h, w] by a mean-field Potts model over the offsets' costs. */
function choose(canvas, shifts, k) {
  const area = new Picture(1, canvas.height, canvas.width);
  for (let i = 0; i < area.data.length; i++) area.data[i] = canvas.hole.data[i] + canvas.ring.data[i];
  const unary = scaledCosts(canvas, shifts, area, k);
  const belief = unary.clone();
  soften(belief, unary, null, 1, k);
  for (let sweep = 0; sweep < k.offset_sweeps; sweep++) {
    const neighbours = boxBlur(times(belief, area), 2);
    soften(belief, unary, neighbours, 1 + (3 * sweep) / k.offset_sweeps, k);
  }
  return belief;
}

/** The costs of all offsets [n, h, w], smoothed over the hole and its ring, over the mean of the lowest. */
function scaledCosts(canvas, shifts, area, k) {
  const n = area.data.length;
  const cost = new Picture(shifts.length, canvas.height, canvas.width);
  shifts.forEach((shift, label) => cost.plane(label).set(costOf(canvas, shift, k).data));
  const [smooth, share] = [boxBlur(times(cost, area), 3), boxBlur(area, 3)];
  for (let i = 0; i < smooth.data.length; i++) smooth.data[i] /= Math.max(1e-3, share.data[i % n]);
  let [sum, count] = [0, 0];
  for (let i = 0; i < n; i++) {
    if (area.data[i] === 0) continue;
    let least = Infinity;
    for (let at = i; at < smooth.data.length; at += n) least = Math.min(least, smooth.data[at]);
    sum += least;
    count++;
  }
  const scale = Math.max(1e-4, sum / count);
  smooth.data.forEach((v, i) => (smooth.data[i] = v / scale));
  return smooth;
}

/** belief = softmax over the labels of sharpness · (smoothness · neighbours - unary), in place. */
function soften(belief, unary, neighbours, sharpness, k) {
  const n = belief.height * belief.width;
  const pull = (k.offset_smoothness * 25) / 8; // 25 cells of which 8 are counted
  for (let i = 0; i < n; i++) {
    let [most, sum] = [-Infinity, 0];
    for (let at = i; at < belief.data.length; at += n) {
      const logit = sharpness * ((neighbours ? pull * neighbours.data[at] : 0) - unary.data[at]);
      belief.data[at] = logit;
      if (logit > most) most = logit;
    }
    for (let at = i; at < belief.data.length; at += n) sum += belief.data[at] = Math.exp(belief.data[at] - most);
    for (let at = i; at < belief.data.length; at += n) belief.data[at] /= sum;
  }
}

/** Colour difference in the ring, low-pass difference to the guide in the hole, and missing sources: one channel. */
function costOf(canvas, shift, k) {
  const colour = squaredDifference(shifted(canvas.colour, shift), canvas.colour);
  const low = squaredDifference(shifted(canvas.low, shift), canvas.low);
  const there = shifted(canvas.known, shift);
  for (let i = 0; i < colour.data.length; i++) {
    const cost = colour.data[i] * canvas.ring.data[i] + k.offset_guide * low.data[i] * canvas.hole.data[i];
    colour.data[i] = there.data[i] > 0 ? cost : k.offset_missing * 0.02;
  }
  return colour;
}

/** x(p + shift), 0 where that lies outside. */
function shifted(x, [dy, dx]) {
  const out = new Picture(x.channels, x.height, x.width);
  const [from, to] = [Math.max(0, dx), Math.min(x.width, x.width + dx)];
  if (from >= to) return out;
  for (let c = 0; c < x.channels; c++) {
    for (let y = Math.max(0, -dy); y < Math.min(x.height, x.height - dy); y++) {
      out.row(c, y).set(x.row(c, y + dy).subarray(from, to), Math.max(0, -dx));
    }
  }
  return out;
}
