// Checks of web/painter/strength.js and png.js without a browser. node strength.mjs MODULES: the folder of copies.

import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { Strength } = await import(pathToFileURL(join(process.argv[2], "strength.js")));
const { greyPng, fingerprint } = await import(pathToFileURL(join(process.argv[2], "png.js")));
const found = {};

function stroke(mask, value, ...points) {
  mask.begin(value, 1);
  let last = points[0];
  for (const point of points) mask.line(last, (last = point));
  return mask.end();
}

// A history of strokes over random places goes back and forth without a trace, across tiles and at ragged edges.
let seed = 1;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
const mask = new Strength(301, 263);
const states = [mask.data.slice()];
for (let n = 0; n < 40; n++) {
  const point = () => ({ x: random() * 340 - 20, y: random() * 300 - 20, r: 1 + random() * 40 });
  const did = n % 7 === 6 ? (mask.replace((v) => 255 - v), true) : stroke(mask, Math.floor(random() * 256), point(), point());
  if (did) states.push(mask.data.slice());
}
const same = (a, b) => a.length === b.length && a.every((value, at) => value === b[at]);
found.back = states.slice(0, -1).reverse().every((state) => mask.undo() && same(mask.data, state)) && !mask.undo();
found.forth = states.slice(1).every((state) => mask.redo() && same(mask.data, state)) && !mask.redo();
found.steps = states.length;

// Another size is a step like any other.
mask.replace(new Uint8Array(20).fill(9), 5, 4);
found.resized = mask.undo() && mask.width === 301 && same(mask.data, states.at(-1)) && mask.redo() && mask.width === 5;

// What a stroke leaves outside the picture is nothing, and no step.
found.outside = stroke(new Strength(50, 50), 255, { x: -90, y: -90, r: 5 }, { x: -80, y: -90, r: 5 });

// The history of a 12-megapixel mask that changes everywhere stays bounded; that of single strokes is small.
const large = new Strength(4000, 3000);
const noise = new Uint8Array(4000 * 3000);
for (let i = 0; i < noise.length; i++) noise[i] = (i * 7919) >> 3;
for (let n = 0; n < 8; n++) large.replace(noise.slice());
found.bytes = large.past.reduce((sum, one) => sum + one.bytes, 0);
found.kept = large.past.length;

// A name for each mask, and its bytes in the PNG.
const bytes = Uint8Array.from({ length: 7 * 3 }, (_, n) => n * 12);
found.names = new Set([fingerprint(bytes, 7), fingerprint(bytes, 3), fingerprint(bytes.map((v) => v + 1), 7)]).size;
found.again = fingerprint(bytes.slice(), 7) === fingerprint(bytes, 7);
found.png = Buffer.from(await (await greyPng(bytes, 7, 3)).arrayBuffer()).toString("base64");
console.log(JSON.stringify(found));
