/**
 * Pictures as planar floats, and photos as the bytes they came in.
 *
 * A photo of 12 megapixels stays in its 8-bit bytes; only windows and strips of it become floats. Both kinds of
 * picture hand out rows, so that what reads a picture once (resizing, averaging) takes either.
 */

const BYTE = Float32Array.from({ length: 256 }, (_, value) => value / 255);
const LUMA = [0.299, 0.587, 0.114]; // Rec. 601

/** A picture or mask of floats in 0..1: data[(channel * height + y) * width + x]. */
export class Picture {
  constructor(channels, height, width, data = new Float32Array(channels * height * width)) {
    this.channels = channels;
    this.height = height;
    this.width = width;
    this.data = data;
  }

  /** The values of one channel, shared. */
  plane(channel) {
    const pixels = this.height * this.width;
    return this.data.subarray(channel * pixels, (channel + 1) * pixels);
  }

  /** One row of one channel, shared. */
  row(channel, y) {
    const start = (channel * this.height + y) * this.width;
    return this.data.subarray(start, start + this.width);
  }

  clone() {
    return new Picture(this.channels, this.height, this.width, this.data.slice());
  }
}

/** A picture of bytes, interleaved with `stride` bytes a pixel: a photo is RGBA (3 channels of 4), a mask is 1 of 1. */
export class Photo {
  constructor(height, width, data, channels = 3, stride = 4) {
    this.channels = channels;
    this.height = height;
    this.width = width;
    this.data = data;
    this.stride = stride;
    this.buffer = new Float32Array(width);
  }

  /** One row of one channel as floats, in a buffer that the next call overwrites. */
  row(channel, y) {
    return this.read(channel, y, 0, this.width, this.buffer);
  }

  /** `count` values of a row from column x on, as floats in 0..1, written to `out` from `at` on. */
  read(channel, y, x, count, out, at = 0) {
    const { data, stride } = this;
    let source = (y * this.width + x) * stride + channel;
    for (let i = 0; i < count; i++, source += stride) out[at + i] = BYTE[data[source]];
    return out;
  }
}

/** A window {top, left, height, width} of a picture or photo, as floats. */
export function cropped(image, { top, left, height, width }) {
  const out = new Picture(image.channels, height, width);
  for (let c = 0; c < image.channels; c++) {
    for (let y = 0; y < height; y++) {
      const at = (c * height + y) * width;
      if (image.read) image.read(c, top + y, left, width, out.data, at);
      else out.data.set(image.row(c, top + y).subarray(left, left + width), at);
    }
  }
  return out;
}

/** Writes a picture into a larger one at (top, left). */
export function pasted(image, piece, top, left) {
  for (let c = 0; c < image.channels; c++) {
    for (let y = 0; y < piece.height; y++) image.row(c, top + y).set(piece.row(c, y), left);
  }
  return image;
}

/** Adds the mirror-free frame of a fixed value, or of the repeated edge (`value` null), of so many pixels a side. */
export function padded(image, { left = 0, top = 0, right = 0, bottom = 0 }, value = null) {
  const out = new Picture(image.channels, image.height + top + bottom, image.width + left + right);
  if (value !== null) out.data.fill(value);
  for (let c = 0; c < image.channels; c++) {
    for (let y = 0; y < out.height; y++) {
      const inside = y >= top && y < top + image.height;
      if (value !== null && !inside) continue;
      const row = image.row(c, Math.min(Math.max(y - top, 0), image.height - 1));
      const target = out.row(c, y);
      target.set(row, left);
      if (value !== null) continue;
      target.fill(row[0], 0, left).fill(row[image.width - 1], left + image.width);
    }
  }
  return out;
}

/** A value in 0..1 as the nearest byte. */
export function toByte(value) {
  return value <= 0 ? 0 : value >= 1 ? 255 : (value * 255 + 0.5) | 0;
}

/** A smooth function of 0..1 as a table, for `looked`: powers of every pixel would take most of an edit's time. */
export function tabled(f, size) {
  return Float32Array.from({ length: size + 2 }, (_, i) => f(Math.min(1, i / size)));
}

/** A tabled function at x in 0..1, linear between the table's entries. */
export function looked(table, x) {
  const place = x * (table.length - 2);
  const i = place | 0;
  return table[i] + (place - i) * (table[i + 1] - table[i]);
}

const DECODED = tabled((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4), 4096);
const ENCODED = tabled((x) => (x <= 0.0031308 ? x * 12.92 : 1.055 * x ** (1 / 2.4) - 0.055), 32768);

/** IEC 61966-2-1 decoding of one value in 0..1, to 1e-7. */
export function srgbToLinear(x) {
  return looked(DECODED, x);
}

/** IEC 61966-2-1 encoding of one value in 0..1, to 1e-6. */
export function linearToSrgb(x) {
  return looked(ENCODED, x);
}

/** Rec. 601 luma of a picture of three channels: one channel. */
export function luminance(x) {
  const out = new Picture(1, x.height, x.width);
  const [r, g, b] = [x.plane(0), x.plane(1), x.plane(2)];
  for (let i = 0; i < out.data.length; i++) out.data[i] = LUMA[0] * r[i] + LUMA[1] * g[i] + LUMA[2] * b[i];
  return out;
}

/** Rounds to the nearest integer, halves to the even one, as Python does. */
export function roundEven(x) {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

/** [height, width] with the longer side at most `longest`, both multiples of `multiple`, aspect kept. */
export function fitted(height, width, longest, multiple = 8) {
  const scale = Math.min(1, longest / Math.max(height, width));
  return [height, width].map((side) => Math.max(multiple, roundEven((side * scale) / multiple) * multiple));
}
