// An 8-bit grey PNG of exactly these bytes. A canvas would write four channels, and may round them.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** bytes: width * height values. Returns a Blob. */
export async function greyPng(bytes, width, height) {
  const rows = new Uint8Array((width + 1) * height); // each row begins with its filter, 0: none
  for (let y = 0; y < height; y++) rows.set(bytes.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header[8] = 8; // bits; colour type 0 is grey
  const image = new Uint8Array(await new Response(packed).arrayBuffer());
  const parts = [chunk("IHDR", header), chunk("IDAT", image), chunk("IEND", new Uint8Array())];
  return new Blob([Uint8Array.from(SIGNATURE), ...parts], { type: "image/png" });
}

function chunk(name, content) {
  const bytes = new Uint8Array(content.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set([...name].map((letter) => letter.charCodeAt(0)), 4);
  bytes.set(content, 8);
  view.setUint32(content.length + 8, crc32(bytes.subarray(4, content.length + 8)));
  return bytes;
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** 64 bits of the bytes and their width in hex: a name that the same mask has again. It guards against chance alone. */
export function fingerprint(bytes, width) {
  let [a, b] = [0xdeadbeef ^ width, 0x41c6ce57 ^ bytes.length];
  for (let i = 0; i < bytes.length; i++) {
    a = Math.imul(a ^ bytes[i], 2654435761);
    b = Math.imul(b ^ bytes[i], 1597334677);
    b ^= b >>> 15;
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return [a, b].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
}
