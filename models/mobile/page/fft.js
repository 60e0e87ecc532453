/** Cross-correlations of small pictures by fast Fourier transforms. */

/** In-place complex transform of one line of a power-of-two length at re/im[start + i * stride]. */
class Line {
  constructor(length) {
    this.length = length;
    this.cos = Float64Array.from({ length: length / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / length));
    this.sin = Float64Array.from({ length: length / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / length));
    const bits = Math.log2(length);
    this.order = Int32Array.from({ length }, (_, i) => {
      let reversed = 0;
      for (let bit = 0; bit < bits; bit++) reversed |= ((i >> bit) & 1) << (bits - 1 - bit);
      return reversed;
    });
    this.re = new Float64Array(length);
    this.im = new Float64Array(length);
  }

  transform(re, im, start, stride) {
    for (let i = 0, at = start; i < this.length; i++, at += stride) {
      this.re[this.order[i]] = re[at];
      this.im[this.order[i]] = im[at];
    }
    for (let half = 1; half < this.length; half *= 2) this.butterflies(half);
    for (let i = 0, at = start; i < this.length; i++, at += stride) {
      re[at] = this.re[i];
      im[at] = this.im[i];
    }
  }

  butterflies(half) {
    const { re, im, cos, sin, length } = this;
    const turn = length / (2 * half);
    for (let block = 0; block < length; block += 2 * half) {
      for (let i = block, angle = 0; i < block + half; i++, angle += turn) {
        const j = i + half;
        const real = re[j] * cos[angle] - im[j] * sin[angle];
        const imaginary = re[j] * sin[angle] + im[j] * cos[angle];
        re[j] = re[i] - real;
        im[j] = im[i] - imaginary;
        re[i] += real;
        im[i] += imaginary;
      }
    }
  }
}

function powerOfTwo(least) {
  return 2 ** Math.ceil(Math.log2(least));
}

/** Σ_p a(p) b(p + o) for every offset o of pictures of height x width px, summed over pairs (a, b). */
export class Correlator {
  constructor(height, width) {
    this.height = height;
    this.width = width;
    this.down = new Line(powerOfTwo(2 * height - 1));
    this.across = new Line(powerOfTwo(2 * width - 1));
    this.size = this.down.length * this.across.length;
  }

  /**
   * pairs: [[a, b, weight], ...], planes of height · width values. Returns Float64Array [2h - 1, 2w - 1] with the
   * offset (0, 0) in its middle.
   */
  correlate(pairs) {
    const sum = { re: new Float64Array(this.size), im: new Float64Array(this.size) };
    for (const [a, b, weight = 1] of pairs) this.add(sum, this.spectrum(a, b), weight);
    this.transform(sum.re, sum.im); // of the conjugate, which makes it the inverse
    return this.centred(sum.re);
  }

  /** The transform of a + i b: two real pictures in one. */
  spectrum(a, b) {
    const [re, im] = [new Float64Array(this.size), new Float64Array(this.size)];
    for (let y = 0; y < this.height; y++) {
      const [from, to] = [y * this.width, y * this.across.length];
      for (let x = 0; x < this.width; x++) {
        re[to + x] = a[from + x];
        im[to + x] = b[from + x];
      }
    }
    this.transform(re, im);
    return { re, im };
  }

  transform(re, im) {
    const [rows, columns] = [this.down.length, this.across.length];
    for (let y = 0; y < rows; y++) this.across.transform(re, im, y * columns, 1);
    for (let x = 0; x < columns; x++) this.down.transform(re, im, x, columns);
  }

  /** Adds weight · A · conj(B), the conjugate of the wanted spectrum, taken apart from that of a + i b. */
  add(sum, { re, im }, weight) {
    const [rows, columns] = [this.down.length, this.across.length];
    for (let y = 0; y < rows; y++) {
      const mirrored = ((rows - y) % rows) * columns;
      for (let x = 0; x < columns; x++) {
        const i = y * columns + x;
        const j = mirrored + ((columns - x) % columns);
        const aRe = (re[i] + re[j]) / 2;
        const aIm = (im[i] - im[j]) / 2;
        const bRe = (im[i] + im[j]) / 2;
        const bIm = (re[j] - re[i]) / 2;
        sum.re[i] += weight * (aRe * bRe + aIm * bIm);
        sum.im[i] += weight * (aIm * bRe - aRe * bIm);
      }
    }
  }

  centred(values) {
    const [h, w] = [this.height, this.width];
    const [rows, columns] = [this.down.length, this.across.length];
    const out = new Float64Array((2 * h - 1) * (2 * w - 1));
    for (let dy = 1 - h, at = 0; dy < h; dy++) {
      const row = ((dy + rows) % rows) * columns;
      for (let dx = 1 - w; dx < w; dx++, at++) out[at] = values[row + ((dx + columns) % columns)] / this.size;
    }
    return out;
  }
}
