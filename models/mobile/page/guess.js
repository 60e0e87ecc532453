/** Classical first guesses of what a network then improves (models/blazeedit/guess.py). k: the bundle's constants. */

import { gaussianBlur, gaussianKernel, guidedFilter, maskedBlur } from "./filters.js";
import { Picture, cropped, luminance, roundEven } from "./image.js";
import { Enlarged } from "./resize.js";

/**
 * Fills a hole with the solution of Laplace's equation, on a multigrid (a soap film over the hole's edge).
 *
 * image: [c, h, w], hole: one channel of 0 and 1. Returns a new picture; outside the hole it is the image.
 */
export function membrane(image, hole, k) {
  const known = new Picture(1, hole.height, hole.width);
  for (let i = 0; i < known.data.length; i++) known.data[i] = hole.data[i] > 0 ? 0 : 1;
  const value = image.clone();
  clearUnknown(value, known);
  return solved(value, known, k).value;
}

function clearUnknown(x, known) {
  for (let c = 0; c < x.channels; c++) {
    const plane = x.plane(c);
    for (let i = 0; i < plane.length; i++) if (known.data[i] === 0) plane[i] = 0;
  }
}

/** Fills `value`, which is 0 where `known` is, in place. Returns it and how many levels lie below it. */
function solved(value, known, k) {
  const { height, width } = value;
  if (Math.min(height, width) <= k.membrane_coarsest || known.data.every((v) => v > 0)) {
    startAtMean(value, known);
    return { value: relax(value, value, known, k.membrane_sweeps_0), level: 0 };
  }
  const coarse = solved(...halved(value, known), k);
  const start = new Picture(value.channels, height, width);
  const large = new Enlarged(coarse.value, 2 * coarse.value.height, 2 * coarse.value.width);
  for (let c = 0; c < value.channels; c++) {
    for (let y = 0; y < height; y++) large.row(c, y, 0, width, start.row(c, y));
  }
  return { value: relax(start, value, known, sweepsOf(coarse.level + 1, k)), level: coarse.level + 1 };
}

/** Jacobi sweeps of a level; the finest one that is listed holds for all finer ones. */
function sweepsOf(level, k) {
  while (!(`membrane_sweeps_${level}` in k)) level--;
  return k[`membrane_sweeps_${level}`];
}

/** Picture and known pixels at half the size: means of what is known in each square of 2 x 2. */
function halved(value, known) {
  const [height, width] = [(value.height + 1) >> 1, (value.width + 1) >> 1];
  const [small, there] = [new Picture(value.channels, height, width), new Picture(1, height, width)];
  const counts = new Float32Array(width);
  for (let y = 0; y < height; y++) {
    sumPairs(known, 0, y, counts.fill(0));
    const kept = there.row(0, y);
    for (let x = 0; x < width; x++) kept[x] = counts[x] > 0 ? 1 : 0;
    for (let c = 0; c < value.channels; c++) {
      const row = sumPairs(value, c, y, small.row(c, y));
      for (let x = 0; x < width; x++) row[x] = counts[x] > 0 ? row[x] / counts[x] : 0;
    }
  }
  return [small, there];
}

function sumPairs(x, channel, y, out) {
  for (let row = 2 * y; row < Math.min(2 * y + 2, x.height); row++) {
    const line = x.row(channel, row);
    for (let i = 0; i < x.width; i++) out[i >> 1] += line[i];
  }
  return out;
}

function startAtMean(value, known) {
  const count = known.data.reduce((a, b) => a + b, 0);
  for (let c = 0; c < value.channels; c++) {
    const plane = value.plane(c);
    const mean = count ? plane.reduce((a, b) => a + b, 0) / count : 0.5;
    for (let i = 0; i < plane.length; i++) if (known.data[i] === 0) plane[i] = mean;
  }
}

/**
 * Jacobi sweeps: the unknown becomes the mean of its four neighbours, mirrored at the picture's border.
 *
 * The first sweep looks at `start` everywhere, the others at `value`, which is filled in place and returned.
 */
function relax(start, value, known, sweeps) {
  const { places, neighbours } = stencil(known);
  const next = new Float32Array(places.length);
  for (let c = 0; c < value.channels; c++) {
    const plane = value.plane(c);
    for (let sweep = 0; sweep < sweeps; sweep++) {
      meansOf(sweep ? plane : start.plane(c), neighbours, next);
      for (let i = 0; i < next.length; i++) plane[places[i]] = next[i];
    }
  }
  return value;
}

function meansOf(plane, neighbours, out) {
  for (let i = 0, j = 0; i < out.length; i++, j += 4) {
    const vertical = plane[neighbours[j]] + plane[neighbours[j + 1]];
    out[i] = 0.25 * (vertical + plane[neighbours[j + 2]] + plane[neighbours[j + 3]]);
  }
}

/** The unknown pixels, and the upper, lower, left and right neighbour of each. */
function stencil(known) {
  const { width, height, data } = known;
  let count = 0;
  for (let i = 0; i < data.length; i++) if (data[i] === 0) count++;
  const [places, neighbours] = [new Int32Array(count), new Int32Array(4 * count)];
  for (let y = 0, i = 0, n = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (data[i] !== 0) continue;
      places[n] = i;
      neighbours[4 * n] = y > 0 ? i - width : i;
      neighbours[4 * n + 1] = y < height - 1 ? i + width : i;
      neighbours[4 * n + 2] = x > 0 ? i - 1 : i;
      neighbours[4 * n + 3] = x < width - 1 ? i + 1 : i;
      n++;
    }
  }
  return { places, neighbours };
}

/**
 * Continues a rectangle of known pixels to all sides: its border rows and columns, ever wider blurred.
 *
 * At distance d the border is seen through a Gaussian of sigma = spread · d. hole: one channel, 0 in the rectangle.
 */
export function extend(image, hole, k) {
  const { top, left, bottom, right } = knownRectangle(hole);
  let x = cropped(image, { top, left, height: bottom - top, width: right - left });
  x = flipped(continuedDown(x, image.height - bottom, k));
  x = transposed(flipped(continuedDown(x, top, k)));
  x = flipped(continuedDown(x, image.width - right, k));
  return transposed(flipped(continuedDown(x, left, k)));
}

function knownRectangle(hole) {
  let [top, left, bottom, right] = [hole.height, hole.width, 0, 0];
  for (let y = 0; y < hole.height; y++) {
    const row = hole.row(0, y);
    const first = row.indexOf(0);
    if (first < 0) continue;
    [top, bottom] = [Math.min(top, y), y + 1];
    [left, right] = [Math.min(left, first), Math.max(right, row.lastIndexOf(0) + 1)];
  }
  return { top, left, bottom, right };
}

function flipped(x) {
  const out = new Picture(x.channels, x.height, x.width);
  for (let c = 0; c < x.channels; c++) {
    for (let y = 0; y < x.height; y++) out.row(c, y).set(x.row(c, x.height - 1 - y));
  }
  return out;
}

function transposed(x) {
  const out = new Picture(x.channels, x.width, x.height);
  for (let c = 0; c < x.channels; c++) {
    const [source, target] = [x.plane(c), out.plane(c)];
    for (let y = 0, i = 0; y < x.height; y++) {
      for (let j = 0; j < x.width; j++, i++) target[j * x.height + y] = source[i];
    }
  }
  return out;
}

/** [c, h, w] to [c, h + count, w]: the last row, blurred along itself by `spread` times the distance. */
function continuedDown(x, count, k) {
  if (count === 0) return x;
  const distances = [0]; // blurs at a few distances, the rows between them interpolated
  while (distances.at(-1) < count) distances.push(distances.at(-1) + Math.max(1, 0.35 * distances.at(-1)));
  const out = new Picture(x.channels, x.height + count, x.width);
  for (let c = 0; c < x.channels; c++) {
    out.plane(c).set(x.plane(c));
    const profiles = distances.map((d) => blurredRow(x.row(c, x.height - 1), k.spread * d));
    for (let distance = 1, upper = 1; distance <= count; distance++) {
      while (distances[upper] < distance && upper < distances.length - 1) upper++;
      const share = (distance - distances[upper - 1]) / (distances[upper] - distances[upper - 1]);
      mix(profiles[upper - 1], profiles[upper], share, out.row(c, x.height + distance - 1));
    }
  }
  return out;
}

function mix(a, b, share, out) {
  for (let x = 0; x < out.length; x++) out[x] = a[x] + share * (b[x] - a[x]);
}

function blurredRow(row, sigma) {
  if (sigma < 0.3) return row;
  const kernel = gaussianKernel(Math.min(sigma, 4 * row.length));
  const [radius, last] = [kernel.length >> 1, row.length - 1];
  return row.map((_, x) => {
    let sum = 0;
    for (let j = -radius; j <= radius; j++) sum += kernel[j + radius] * row[Math.min(last, Math.max(0, x + j))];
    return sum;
  });
}

/**
 * Black and white point [low, high] of the luminance of a picture or photo, stretching it by at most `tone_limit`.
 *
 * Measured on at most about 256 x 256 samples; where the limit holds, the black point is kept.
 */
export function stretchPoints(x, k) {
  const cumulative = cumulativeLuminance(x, k.stretch_bins);
  const below = (share) => Math.fround(cumulative.filter((v) => v < Math.fround(share)).length / (k.stretch_bins - 1));
  const low = below(k.stretch_low);
  const high = Math.max(below(k.stretch_high), low + 1 / 32);
  return [low, Math.max(high, Math.min(1.5, low + 1 / k.tone_limit))];
}

function cumulativeLuminance(x, bins) {
  const step = Math.max(1, Math.floor(Math.min(x.height, x.width) / 256));
  const line = new Picture(3, 1, Math.ceil(x.width / step));
  const counts = new Float32Array(bins);
  for (let y = 0; y < x.height; y += step) {
    for (let c = 0; c < 3; c++) {
      const [row, target] = [x.row(c, y), line.row(c, 0)];
      for (let i = 0; i < line.width; i++) target[i] = row[i * step];
    }
    for (const v of luminance(line).data) counts[Math.round(Math.min(1, Math.max(0, v)) * (bins - 1))]++;
  }
  const total = Math.ceil(x.height / step) * line.width;
  for (let i = 1; i < bins; i++) counts[i] += counts[i - 1];
  return counts.map((v) => v / total);
}

/** x + tone_blend · (stretched(x) - x) of a picture or strip, between given points [low, high]. */
export function partialStretch(x, [low, high], k) {
  const out = new Picture(x.channels, x.height, x.width);
  const scale = 1 / (high - low);
  for (let i = 0; i < out.data.length; i++) {
    const v = x.data[i];
    const stretched = Math.min(1, Math.max(0, (v - low) * scale));
    out.data[i] = v + k.tone_blend * (stretched - v);
  }
  return out;
}

/**
 * A sticker's look by filters: smooth inside edges, brightness in soft steps, strong colours, dark lines.
 *
 * x: [3, h, w], mask: one channel of 0 and 1, the subject. After XDoG (Winnemoeller et al., 2012); the sizes of the
 * filters follow the picture's, so that any resolution looks alike.
 */
export function stickerGuess(x, mask, k) {
  const scale = Math.max(x.height, x.width) / 256;
  const inside = surrounded(x, mask, 6 * scale, k);
  const smooth = smoothed(smoothed(inside, scale), scale);
  const dark = outlines(inside, mask, scale, k);
  const [out, value] = [new Picture(3, x.height, x.width), luminance(smooth)];
  for (let i = 0; i < value.data.length; i++) {
    const v = value.data[i];
    const stepped = softSteps(0.04 + 0.96 * Math.min(1, Math.max(1e-4, v)) ** 0.85, k);
    const chroma = (k.sticker_saturation * (stepped + 0.08)) / (v + 0.08);
    const ink = 1 - k.sticker_outline * dark.data[i];
    for (let at = i; at < out.data.length; at += value.data.length) {
      out.data[at] = Math.min(1, Math.max(0, (stepped + (smooth.data[at] - v) * chroma) * ink));
    }
  }
  return out;
}

/** The subject, and around it its own colours blurred outward. */
function surrounded(x, mask, sigma, k) {
  const out = maskedBlur(x, mask, sigma, k);
  const pixels = mask.data.length;
  for (let i = 0; i < out.data.length; i++) {
    out.data[i] = mask.data[i % pixels] > 0.5 ? x.data[i] : Math.min(1, Math.max(0, out.data[i]));
  }
  return out;
}

/** One pass of an edge-keeping blur, guided by the picture's own luminance. */
function smoothed(x, scale) {
  const luma = luminance(x);
  const { slope, offset } = guidedFilter(luma, x, Math.max(2, roundEven(2.5 * scale)), 0.0005);
  const pixels = luma.data.length;
  for (let c = 0, at = 0; c < 3; c++) {
    for (let i = 0; i < pixels; i++, at++) offset.data[at] += slope.data[at] * luma.data[i];
  }
  return offset;
}

/** Brightness in a few levels whose borders are smooth. */
function softSteps(value, k) {
  const position = Math.min(1, Math.max(0, value)) * k.sticker_steps;
  const floor = Math.floor(position);
  const fraction = Math.min(1, Math.max(0, (position - floor - 0.5) / k.sticker_softness + 0.5));
  return (floor + fraction * fraction * (3 - 2 * fraction)) / k.sticker_steps;
}

/** How dark the drawn lines are: edges by a difference of Gaussians, and a thin rim inside the subject. */
function outlines(x, mask, scale, k) {
  const [grey, sigma] = [luminance(x), Math.max(0.6, scale)];
  const [wide, out] = [gaussianBlur(grey, 2 * sigma, k), gaussianBlur(grey, sigma, k)];
  const near = gaussianBlur(mask, Math.max(0.9, 1.8 * scale), k, "constant");
  for (let i = 0; i < out.data.length; i++) {
    const line = Math.min(1, Math.max(0, (wide.data[i] - out.data[i] - 0.012) * 22));
    out.data[i] = Math.max(line, Math.min(0.9, Math.max(0, (0.95 - near.data[i]) * 2)));
  }
  return out;
}

/** Adds to a fill what it misses at the hole's edge, spread inward by the membrane, so that no seam shows. */
export function seamCorrection(fill, image, hole, k) {
  const error = image.clone();
  for (let i = 0; i < error.data.length; i++) error.data[i] -= fill.data[i];
  const out = membrane(error, hole, k);
  for (let i = 0; i < out.data.length; i++) out.data[i] += fill.data[i];
  return out;
}
