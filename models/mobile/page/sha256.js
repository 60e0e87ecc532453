/** SHA-256 (FIPS 180-4), for pages that are served without https, where `crypto.subtle` does not exist. */

/** The first 32 bits of the fractional part of primes' roots. */
function fractions(count, root) {
  const out = [];
  for (let n = 2; out.length < count; n++) {
    let prime = true;
    for (let d = 2; d * d <= n && prime; d++) prime = n % d !== 0;
    if (prime) out.push(((n ** (1 / root) % 1) * 2 ** 32) | 0);
  }
  return Int32Array.from(out);
}

const ROUNDS = fractions(64, 3);
const START = fractions(8, 2);

function hex(bytes) {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

/** The hexadecimal digest of an ArrayBuffer, by the browser where it offers it. */
export async function sha256(buffer) {
  const subtle = globalThis.crypto?.subtle;
  return subtle ? hex(new Uint8Array(await subtle.digest("SHA-256", buffer))) : plainSha256(buffer);
}

/** The same without the browser's help. */
export function plainSha256(buffer) {
  const length = buffer.byteLength;
  const whole = length - (length % 64);
  const state = START.slice();
  const words = new Int32Array(64);
  const view = new DataView(buffer);
  for (let at = 0; at < whole; at += 64) digestBlock(state, words, view, at);
  const tail = new Uint8Array(length - whole < 56 ? 64 : 128);
  tail.set(new Uint8Array(buffer, whole));
  tail[length - whole] = 0x80;
  const last = new DataView(tail.buffer);
  last.setUint32(tail.length - 8, Math.floor(length / 2 ** 29));
  last.setUint32(tail.length - 4, (length * 8) >>> 0);
  for (let at = 0; at < tail.length; at += 64) digestBlock(state, words, last, at);
  const out = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => out.setInt32(4 * i, word));
  return hex(new Uint8Array(out.buffer));
}

function turned(x, bits) {
  return (x >>> bits) | (x << (32 - bits));
}

function schedule(words, view, at) {
  for (let i = 0; i < 16; i++) words[i] = view.getInt32(at + 4 * i);
  for (let i = 16; i < 64; i++) {
    const [a, b] = [words[i - 15], words[i - 2]];
    const small = turned(a, 7) ^ turned(a, 18) ^ (a >>> 3);
    const large = turned(b, 17) ^ turned(b, 19) ^ (b >>> 10);
    words[i] = (words[i - 16] + small + words[i - 7] + large) | 0;
  }
}

function digestBlock(state, words, view, at) {
  schedule(words, view, at);
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const mixed = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
    const first = (h + mixed + ((e & f) ^ (~e & g)) + ROUNDS[i] + words[i]) | 0;
    const second = ((turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + second) | 0;
  }
  for (const [i, value] of [a, b, c, d, e, f, g, h].entries()) state[i] = (state[i] + value) | 0;
}
