/**
 * Texture for a smooth fill: copies the picture's own high frequencies by a few coherent shifts (`offsets`).
 *
 * models/blazeedit/texture.py. What is smooth is worked out on a smaller canvas, and only the finest band at full
 * size, row by row. k: the bundle's constants.
 */

import { divided, gaussianBlur, maskedBlur, maxPool, times } from "./filters.js";
import { membrane } from "./guess.js";
import { Picture, roundEven } from "./image.js";
import { inverted } from "./masks.js";
import { Canvas, labelled } from "./offsets.js";
import { Enlarged, areaMean } from "./resize.js";

const STRIP = 64; // rows that are averaged down at a time, as the Python pipeline does

/**
 * The guide's low frequencies plus `gain` times the shifted picture's high frequencies, inside the hole.
 *
 * photo, guide: [3, h, w], hole: one channel of 0 and 1; outside the hole the guide is the photo. sigma in pixels
 * separates low from high. Writes into the guide and returns it; where nothing can be copied it stays.
 */
export function coherentCopy(photo, hole, guide, { sigma, gain }, k) {
  const { height, width } = photo;
  if (mean(inverted(hole)) < 0.05 || Math.min(height, width) < 32) return guide;
  const factor = Math.max(1, Math.floor(sigma / k.texture_smooth));
  const small = new Small(photo, hole, guide, Math.ceil(height / factor), Math.ceil(width / factor), sigma, k);
  const labels = new Labels(small, height, width, k);
  if (!labels.used.length) return guide;
  const fill = small.continued(labels, gain);
  const finer = small.finer(photo);
  fill.limit.data.forEach((v, i) => (fill.limit.data[i] = v * finer));
  return withFine(photo, hole, guide, { ...fill, low: small.low }, labels);
}

function mean(x) {
  return x.data.reduce((a, b) => a + b, 0) / x.data.length;
}

/** Picture, hole and guide on a canvas on which nothing finer than a few pixels is of interest. */
class Small {
  constructor(photo, hole, guide, height, width, sigma, k) {
    this.k = k;
    this.full = photo;
    this.sigma = (sigma * height) / photo.height;
    if (height === photo.height && width === photo.width) Object.assign(this, { photo, hole, guide });
    else this.shrink(photo, hole, guide, height, width);
    this.known = inverted(this.hole);
    this.low = maskedBlur(this.photo, this.known, this.sigma, k);
  }

  shrink(photo, hole, guide, height, width) {
    const free = inverted(hole);
    const share = shrunk(free, height, width);
    const rest = inverted(share);
    const known = divided(shrunk(photo, height, width, free), share, 1e-3);
    const inside = divided(shrunk(guide, height, width, hole), rest, 1e-3);
    const n = share.data.length;
    // what a cell of the hole's border mixes is not known
    this.hole = new Picture(1, height, width, share.data.map((v) => (v < Math.fround(0.999) ? 1 : 0)));
    for (let i = 0; i < known.data.length; i++) if (share.data[i % n] <= 0.001) known.data[i] = inside.data[i];
    for (let i = 0; i < known.data.length; i++) if (this.hole.data[i % n] === 0) inside.data[i] = known.data[i];
    this.photo = known;
    this.guide = inside;
  }

  /** How much stronger the finest band of the full picture is than what is left of it here; on a few rows. */
  finer(photo) {
    const { height, width } = photo;
    if (height === this.photo.height && width === this.photo.width) return 1;
    const [low, known] = [new Enlarged(this.low, height, width), new Enlarged(this.known, height, width)];
    const [smooth, weight] = [new Float32Array(width), new Float32Array(width)];
    let [sum, count] = [0, 0];
    for (let y = 0; y < height; y += Math.ceil(height / this.k.texture_samples)) {
      known.row(0, y, 0, width, weight);
      for (let c = 0; c < 3; c++, count += width) {
        const row = photo.row(c, y);
        low.row(c, y, 0, width, smooth);
        for (let x = 0; x < width; x++) sum += Math.abs((row[x] - smooth[x]) * weight[x]);
      }
    }
    const here = mean(this.band(this.photo, this.low, (v) => Math.abs(v)));
    return Math.max(1, sum / count / Math.max(1e-6, here));
  }

  /** (a - b) · known, taken through a function if one is given. */
  band(a, b, of = null) {
    const out = new Picture(3, a.height, a.width);
    const n = this.known.data.length;
    for (let i = 0; i < out.data.length; i++) {
      const v = (a.data[i] - b.data[i]) * this.known.data[i % n];
      out.data[i] = of ? of(v) : v;
    }
    return out;
  }

  /**
   * The fill without its finest band [3, h, w], and for that band a strength and a limit [1, h, w].
   *
   * The finest band is as strong as it is around the hole; of what is coarser, a share is copied near its edge.
   */
  continued(labels, gain) {
    const { k, known, sigma } = this;
    const coarse = maskedBlur(this.photo, known, k.texture_coarse * sigma, k);
    const [fine, middle] = [this.band(this.photo, this.low), this.band(this.low, coarse)];
    const copied = shiftedBands([fine, middle, times(this.low, known)], known, labels);
    const { factor, wanted } = steadied(fine, times(copied.bands[0], this.hole), this.hole, k.texture_coarse * sigma, k);
    const near = gaussianBlur(known, k.texture_coarse * sigma, k);
    const guide = blended(this.hole, this.guide, this.photo);
    const low = gaussianBlur(guide, sigma, k);
    const alike = this.alikeness(copied.bands[2], low);
    const [smooth, strength] = [this.guide.clone(), new Picture(1, known.height, known.width)];
    const n = known.data.length;
    for (let i = 0; i < n; i++) {
      if (copied.weights.data[i] > 0.02) {
        const opacity = gain * alike.data[i];
        const edge = Math.min(1, Math.max(0, 2 * near.data[i]));
        const share = (k.texture_inside + (k.texture_at_edge - k.texture_inside) * edge) * Math.min(1, factor.data[i]);
        for (let at = i; at < 3 * n; at += n) smooth.data[at] = low.data[at] + opacity * share * copied.bands[1].data[at];
        strength.data[i] = opacity * factor.data[i];
      }
      wanted.data[i] *= k.texture_limit;
    }
    return { smooth, strength, limit: wanted };
  }

  /** 1 where the source's low frequencies are those of the fill, falling with their difference. */
  alikeness(source, low) {
    const { k } = this;
    const difference = source.clone();
    for (let i = 0; i < difference.data.length; i++) difference.data[i] -= low.data[i];
    const blurred = gaussianBlur(difference, 2 * this.sigma, k);
    const out = new Picture(1, low.height, low.width);
    const n = out.data.length;
    for (let i = 0; i < n; i++) {
      const sum = blurred.data[i] ** 2 + blurred.data[n + i] ** 2 + blurred.data[2 * n + i] ** 2;
      out.data[i] = Math.exp(-sum / 3 / k.texture_alike ** 2);
    }
    return out;
  }
}

function blended(hole, inside, outside) {
  const out = outside.clone();
  const n = hole.data.length;
  for (let i = 0; i < out.data.length; i++) if (hole.data[i % n] > 0) out.data[i] = inside.data[i];
  return out;
}

/** x, or x · weight, averaged down, in strips of rows that hold whole cells wherever they can. */
function shrunk(x, height, width, weight = null) {
  const out = new Picture(x.channels, height, width);
  for (let first = 0; first < height; first += STRIP) {
    const last = Math.min(first + STRIP, height);
    const top = Math.floor((first * x.height) / height);
    const part = areaMean(x, last - first, width, weight, top, Math.ceil((last * x.height) / height));
    for (let c = 0; c < x.channels; c++) out.plane(c).set(part.plane(c), first * width);
  }
  return out;
}

/** The offsets that win somewhere in the hole, each with its place on the label canvas. */
class Labels {
  constructor(small, height, width, k) {
    const scale = Math.max(k.texture_scale, Math.ceil(Math.max(height, width) / k.texture_largest));
    const rows = Math.min(small.photo.height, Math.max(8, roundEven(height / scale)));
    const columns = Math.min(small.photo.width, Math.max(8, roundEven(width / scale)));
    const { shifts, winners } = labelled(new Canvas(small.photo, small.hole, small.guide, rows, columns, k), k);
    this.shifts = shifts;
    this.used = [];
    if (shifts.length) this.place(areaMean(small.hole, rows, columns), winners);
  }

  place(inside, winners) {
    const touched = new Picture(1, inside.height, inside.width, inside.data.map((v) => (v > 0 ? 1 : 0)));
    const near = maxPool(touched, 3); // a cell more, for the bilinear borders
    const present = new Set(winners.filter((_, i) => inside.data[i] > 0));
    for (const label of [...present].sort((a, b) => a - b)) {
      const place = new Picture(1, inside.height, inside.width);
      place.data.forEach((_, i) => (place.data[i] = winners[i] === label ? near.data[i] : 0));
      this.used.push({ label, place });
    }
  }

  /**
   * Per label: its soft place, the window that it fills, and how far away that is taken from.
   *
   * height, width: of the picture that is copied, the full one or a smaller copy, whose offsets stay in step with it.
   */
  pieces(height, width) {
    return this.used
      .map(({ label, place }) => {
        const dy = roundEven((this.shifts[label][0] * height) / place.height);
        const dx = roundEven((this.shifts[label][1] * width) / place.width);
        const [top, bottom] = reached(extent(place, true), height / place.height, height, dy);
        const [left, right] = reached(extent(place, false), width / place.width, width, dx);
        return { soft: new Enlarged(place, height, width), dy, dx, top, bottom, left, right };
      })
      .filter(({ top, bottom, left, right }) => top < bottom && left < right);
  }
}

/** The first and the last row (or column) of a label's place. */
function extent(place, down) {
  let [first, last] = [Infinity, 0];
  place.data.forEach((v, i) => {
    if (v === 0) return;
    const at = down ? Math.floor(i / place.width) : i % place.width;
    [first, last] = [Math.min(first, at), Math.max(last, at)];
  });
  return [first, last];
}

/** The part of an axis that a label can reach and has a source for. */
function reached([first, last], cell, size, shift) {
  const start = Math.max(0, Math.floor((first - 1) * cell), -shift);
  return [start, Math.max(start, Math.min(size, Math.ceil((last + 2) * cell), size - shift))];
}

/** Bands taken from each label's offset, label borders bilinear; and the weight [1, h, w] of sources. */
function shiftedBands(bands, known, labels) {
  const { height, width } = known;
  const out = bands.map(() => new Picture(3, height, width));
  const weights = new Picture(1, height, width);
  const there = new Float32Array(width);
  for (const piece of labels.pieces(height, width)) {
    for (let y = piece.top; y < piece.bottom; y++) {
      if (!presence(piece, y, known.row(0, y + piece.dy), piece.left, piece.right, there)) continue;
      addScaled(weights.row(0, y), there, null, piece);
      bands.forEach((band, b) => {
        for (let c = 0; c < 3; c++) addScaled(out[b].row(c, y), there, band.row(c, y + piece.dy), piece);
      });
    }
  }
  for (const band of out) divided(band, weights, 1e-3);
  return { bands: out, weights };
}

/** soft place · known source of columns left..right of row y, in `there`; whether any of it is above 0. */
function presence(piece, y, known, left, right, there) {
  piece.soft.row(0, y, left, right, there, left);
  let any = false;
  for (let x = left; x < right; x++) {
    there[x] *= known[x + piece.dx];
    any ||= there[x] > 0;
  }
  return any;
}

/** target += there · source (or there alone) over a piece's columns. */
function addScaled(target, there, source, { left, right, dx }) {
  if (source) for (let x = left; x < right; x++) target[x] += there[x] * source[x + dx];
  else for (let x = left; x < right; x++) target[x] += there[x];
}

/**
 * The smooth fill plus `strength` times the shifted picture's finest band, cut at ± `limit`, at full size.
 *
 * Written into `out`, inside the hole only.
 */
function withFine(photo, hole, out, maps, labels) {
  const { height, width } = photo;
  const pieces = labels.pieces(height, width);
  const large = Object.fromEntries(Object.entries(maps).map(([name, x]) => [name, new Enlarged(x, height, width)]));
  const free = inverted(hole);
  const lines = Array.from({ length: 8 }, () => new Float32Array(width));
  for (let y = 0; y < height; y++) {
    const empty = hole.row(0, y);
    const left = empty.findIndex((v) => v > 0);
    if (left < 0) continue;
    let right = width;
    while (empty[right - 1] === 0) right--;
    fineRow(photo, free, pieces, large.low, y, left, right, lines);
    finishRow(out, empty, large, y, left, right, lines);
  }
  return out;
}

/** Sums the finest bands that the labels bring to columns left..right of row y, and their weights, in `lines`. */
function fineRow(photo, free, pieces, low, y, left, right, lines) {
  const [red, green, blue, weights, there, smooth] = lines;
  for (const line of [red, green, blue, weights]) line.fill(0, left, right);
  for (const piece of pieces) {
    if (y < piece.top || y >= piece.bottom) continue;
    const part = { left: Math.max(left, piece.left), right: Math.min(right, piece.right), dx: piece.dx };
    if (part.left >= part.right) continue;
    if (!presence(piece, y, free.row(0, y + piece.dy), part.left, part.right, there)) continue;
    while (there[part.left] === 0) part.left++;
    while (there[part.right - 1] === 0) part.right--;
    addScaled(weights, there, null, part);
    [red, green, blue].forEach((sum, c) => {
      const source = photo.row(c, y + piece.dy);
      low.row(c, y + piece.dy, part.left + piece.dx, part.right + piece.dx, smooth, part.left);
      for (let x = part.left; x < part.right; x++) sum[x] += there[x] * (source[x + piece.dx] - smooth[x]);
    });
  }
}

function finishRow(out, empty, { smooth, strength, limit }, y, left, right, lines) {
  const [, , , weights, , base, opacity, most] = lines;
  strength.row(0, y, left, right, opacity, left);
  limit.row(0, y, left, right, most, left);
  for (let c = 0; c < 3; c++) {
    const target = out.row(c, y);
    smooth.row(c, y, left, right, base, left);
    for (let x = left; x < right; x++) {
      if (empty[x] === 0) continue;
      const fine = Math.max(-most[x], Math.min(most[x], lines[c][x] / Math.max(1e-3, weights[x])));
      target[x] = Math.min(1, Math.max(0, base[x] + opacity[x] * fine));
    }
  }
}

/**
 * The strength of texture (mean absolute value) that the surroundings ask for in the hole, by a membrane, and the
 * factor that brings copied texture to it: {factor, wanted}, [1, h, w] each.
 */
function steadied(fine, copied, hole, sigma, k) {
  const cell = Math.max(2, Math.floor(sigma / 2));
  const [height, width] = [hole.height, hole.width].map((side) => Math.max(8, Math.ceil(side / cell)));
  const inside = areaMean(hole, height, width);
  const soft = (sigma * height) / hole.height;
  const strength = (x, weight) =>
    divided(gaussianBlur(areaMean(magnitude(x), height, width), soft, k), gaussianBlur(weight, soft, k), 1e-3);
  const asked = strength(fine, inverted(inside));
  const wanted = membrane(asked, inside, k);
  const factor = strength(copied, inside);
  factor.data.forEach((v, i) => {
    const ratio = wanted.data[i] / Math.max(1e-4, v);
    factor.data[i] = Math.min(k.texture_most, Math.max(k.texture_least, ratio));
  });
  const large = (x) => new Enlarged(x, hole.height, hole.width).whole();
  return { factor: large(factor), wanted: large(wanted) };
}

/** The mean over the channels of |x|: one channel. */
function magnitude(x) {
  const out = new Picture(1, x.height, x.width);
  const n = out.data.length;
  for (let i = 0; i < x.data.length; i++) out.data[i % n] += Math.abs(x.data[i]) / x.channels;
  return out;
}
