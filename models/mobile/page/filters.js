/** Blurs that several edits share (models/filters.py). k: the bundle's constants. */

import { Picture, padded } from "./image.js";
import { Enlarged, areaMean } from "./resize.js";

/** A normalised 1-D Gaussian out to 3 sigma. */
export function gaussianKernel(sigma) {
  const radius = Math.max(1, Math.ceil(3 * sigma));
  const kernel = Float32Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-((i - radius) ** 2) / (2 * sigma ** 2)),
  );
  const sum = kernel.reduce((a, b) => a + b, 0);
  return kernel.map((v) => v / sum);
}

/** One row, blurred; `line` is a buffer of its length plus two radii. edge: repeat the ends, else zeros beyond them. */
function blurLine(row, kernel, line, out, edge) {
  const [radius, width] = [kernel.length >> 1, row.length];
  line.fill(edge ? row[0] : 0, 0, radius).fill(edge ? row[width - 1] : 0, radius + width);
  line.set(row, radius);
  for (let x = 0; x < width; x++) {
    const centre = x + radius;
    let sum = kernel[radius] * line[centre];
    for (let j = 1; j <= radius; j++) sum += kernel[radius + j] * (line[centre - j] + line[centre + j]);
    out[x] = sum;
  }
}

function blurRows(x, kernel, edge) {
  const out = new Picture(x.channels, x.height, x.width);
  const line = new Float32Array(x.width + kernel.length - 1);
  for (let c = 0; c < x.channels; c++) {
    for (let y = 0; y < x.height; y++) blurLine(x.row(c, y), kernel, line, out.row(c, y), edge);
  }
  return out;
}

function blurColumns(x, kernel, edge) {
  const out = new Picture(x.channels, x.height, x.width);
  const radius = kernel.length >> 1;
  const beyond = new Float32Array(x.width);
  for (let c = 0; c < x.channels; c++) {
    const row = (y) => {
      if (y >= 0 && y < x.height) return x.row(c, y);
      return edge ? x.row(c, y < 0 ? 0 : x.height - 1) : beyond;
    };
    for (let y = 0; y < x.height; y++) {
      const target = out.row(c, y);
      addPair(target, row(y), beyond, kernel[radius]);
      for (let j = 1; j <= radius; j++) addPair(target, row(y - j), row(y + j), kernel[radius + j]);
    }
  }
  return out;
}

/** target += weight · (a + b) */
function addPair(target, a, b, weight) {
  for (let i = 0; i < target.length; i++) target[i] += weight * (a[i] + b[i]);
}

/** Separable Gaussian of a picture; sigma in pixels, 0 returns x. pad: "replicate" or "constant" (zeros). */
export function gaussianBlur(x, sigma, k, pad = "replicate") {
  if (sigma <= 0) return x;
  if (sigma > k.wide_blur) return wideBlur(x, sigma, k, pad);
  const kernel = gaussianKernel(sigma);
  const edge = pad === "replicate";
  return blurColumns(blurRows(x, kernel, edge), kernel, edge);
}

/** A wide Gaussian on a smaller copy: it has no detail that the copy could lose. */
function wideBlur(x, sigma, k, pad) {
  const factor = Math.floor(sigma / (k.wide_blur / 2));
  const [right, bottom] = [(factor - (x.width % factor)) % factor, (factor - (x.height % factor)) % factor];
  const full = padded(x, { right, bottom }, pad === "replicate" ? null : 0);
  const small = gaussianBlur(areaMean(full, full.height / factor, full.width / factor), sigma / factor, k, pad);
  const large = new Enlarged(small, full.height, full.width);
  const out = new Picture(x.channels, x.height, x.width);
  for (let c = 0; c < x.channels; c++) {
    for (let y = 0; y < x.height; y++) large.row(c, y, 0, x.width, out.row(c, y));
  }
  return out;
}

/** x times a picture of one channel. */
export function times(x, weight) {
  const out = new Picture(x.channels, x.height, x.width);
  const pixels = x.height * x.width;
  for (let c = 0; c < x.channels; c++) {
    for (let i = 0, at = c * pixels; i < pixels; i++, at++) out.data[at] = x.data[at] * weight.data[i];
  }
  return out;
}

/** Divides x by a picture of one channel, which counts as `least` where it is smaller, in place. */
export function divided(x, weight, least) {
  const pixels = x.height * x.width;
  for (let c = 0; c < x.channels; c++) {
    for (let i = 0, at = c * pixels; i < pixels; i++, at++) x.data[at] /= Math.max(least, weight.data[i]);
  }
  return x;
}

/** Normalised blur that sees only where known (one channel) is 1; far inside the rest it is 0. */
export function maskedBlur(x, known, sigma, k) {
  return divided(gaussianBlur(times(x, known), sigma, k), gaussianBlur(known, sigma, k), 1e-4);
}

/** Mean over a square of side 2 · radius + 1, over what lies inside the picture. */
export function boxBlur(x, radius) {
  if (radius < 1) return x;
  const out = new Picture(x.channels, x.height, x.width);
  const sums = new Float64Array(x.width);
  for (let c = 0; c < x.channels; c++) {
    sums.fill(0);
    for (let y = 0; y < Math.min(radius, x.height); y++) addTo(sums, x.row(c, y), 1);
    for (let y = 0; y < x.height; y++) {
      if (y + radius < x.height) addTo(sums, x.row(c, y + radius), 1);
      if (y - radius > 0) addTo(sums, x.row(c, y - radius - 1), -1);
      const rows = Math.min(y + radius, x.height - 1) - Math.max(y - radius, 0) + 1;
      slidingMean(sums, radius, rows, out.row(c, y));
    }
  }
  return out;
}

function addTo(sums, row, sign) {
  for (let x = 0; x < sums.length; x++) sums[x] += sign * row[x];
}

function slidingMean(sums, radius, rows, out) {
  const width = sums.length;
  let sum = 0;
  for (let x = 0; x < Math.min(radius, width); x++) sum += sums[x];
  for (let x = 0; x < width; x++) {
    if (x + radius < width) sum += sums[x + radius];
    if (x - radius > 0) sum -= sums[x - radius - 1];
    out[x] = sum / (rows * (Math.min(x + radius, width - 1) - Math.max(x - radius, 0) + 1));
  }
}

/** Local affine model x ≈ a · guide + b (He et al., 2013). guide: one channel. Returns {slope, offset} as x. */
export function guidedFilter(guide, x, radius, eps) {
  const [meanGuide, meanX] = [boxBlur(guide, radius), boxBlur(x, radius)];
  const meanSquare = boxBlur(times(guide, guide), radius);
  const slope = boxBlur(times(x, guide), radius);
  const offset = new Picture(x.channels, x.height, x.width);
  const pixels = x.height * x.width;
  for (let c = 0; c < x.channels; c++) {
    for (let i = 0, at = c * pixels; i < pixels; i++, at++) {
      const g = meanGuide.data[i];
      const variance = meanSquare.data[i] - g * g;
      slope.data[at] = (slope.data[at] - g * meanX.data[at]) / (variance + eps);
      offset.data[at] = meanX.data[at] - slope.data[at] * g;
    }
  }
  return { slope: boxBlur(slope, radius), offset: boxBlur(offset, radius) };
}

/** The maximum over a square of odd `side` around each pixel (max_pool2d of stride 1). */
export function maxPool(x, side) {
  const [out, wide] = [new Picture(x.channels, x.height, x.width), new Picture(x.channels, x.height, x.width)];
  const radius = side >> 1;
  for (let c = 0; c < x.channels; c++) {
    for (let y = 0; y < x.height; y++) maxLine(x.row(c, y), radius, wide.row(c, y));
    for (let y = 0; y < x.height; y++) {
      const target = out.row(c, y).fill(-Infinity);
      for (let j = Math.max(0, y - radius); j <= Math.min(x.height - 1, y + radius); j++) {
        const row = wide.row(c, j);
        for (let i = 0; i < x.width; i++) if (row[i] > target[i]) target[i] = row[i];
      }
    }
  }
  return out;
}

/** The maximum over `radius` pixels to both sides of one row. */
export function maxLine(row, radius, out) {
  out.set(row);
  for (let step = 1; step <= radius; step++) {
    for (let x = step; x < row.length; x++) {
      if (row[x - step] > out[x]) out[x] = row[x - step];
      if (row[x] > out[x - step]) out[x - step] = row[x];
    }
  }
}
