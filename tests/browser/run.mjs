// Runs functions of the page's modules on arrays that a Python test wrote, and writes what they return.
//
// node run.mjs JOB.json: {page, calls: [{module, name, arguments}], out}. A picture is {"picture": file, shape: [c, h, w]},
// a photo of bytes {"bytes": file, shape: [h, w, stride]}, a vector {"vector": file}; everything else is itself.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const load = (name) => import(pathToFileURL(join(job.page, name)));
const { Picture, Photo } = await load("image.js");
const modules = new Map();
let written = 0;

function floats(file) {
  const bytes = readFileSync(join(job.folder, file));
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

function read(value) {
  if (Array.isArray(value)) return value.map(read);
  if (value === null || typeof value !== "object") return value;
  if ("picture" in value) return new Picture(...value.shape, floats(value.picture));
  if ("vector" in value) return floats(value.vector);
  if ("bytes" in value) {
    const [height, width, stride] = value.shape;
    const bytes = Uint8ClampedArray.from(readFileSync(join(job.folder, value.bytes)));
    return new Photo(height, width, bytes, Math.min(3, stride), stride);
  }
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, read(item)]));
}

function write(value) {
  if (value === null || value === undefined || typeof value !== "object") return value ?? null;
  if (value instanceof Picture) {
    return { picture: store(value.data), shape: [value.channels, value.height, value.width] };
  }
  if (ArrayBuffer.isView(value)) return { vector: store(Float32Array.from(value)) };
  if (Array.isArray(value)) return value.map(write);
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, write(item)]));
}

function store(array) {
  const file = `out-${written++}.f32`;
  writeFileSync(join(job.folder, file), new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  return file;
}

// What the page does with a class, as a function of arrays.
const ADAPTERS = {
  async enlarged(small, height, width) {
    return new (await load("resize.js")).Enlarged(small, height, width).whole();
  },
  async upsampleGain(logGain, image, radius, eps) {
    const map = new (await load("maps.js")).GainMap(logGain, image, radius, eps);
    const out = new Picture(3, image.height, image.width);
    const [strip, gain] = [new Picture(3, 1, image.width), new Picture(3, 1, image.width)];
    for (let y = 0; y < image.height; y++) {
      for (let c = 0; c < 3; c++) strip.row(c, 0).set(image.row(c, y));
      map.row(y, strip, gain);
      for (let c = 0; c < 3; c++) out.row(c, y).set(gain.row(c, 0));
    }
    return out;
  },
  async correlate(a, b, height, width) {
    return new (await load("fft.js")).Correlator(height, width).correlate([[a, b]]);
  },
  async mirrored(x, side) {
    const { toTensor, fromTensor } = await load("canvas.js");
    return fromTensor(toTensor(x, side), side, x.channels, side, side);
  },
  async plainSha256(words) {
    return (await load("sha256.js")).plainSha256(words.buffer);
  },
  // What the denoiser is given at every step; it answers sevens.
  async sampled(manifest, steps) {
    const { Networks } = await load("networks.js");
    const calls = [];
    const run = async (file, signature, inputs) => {
      calls.push(inputs);
      return { latent: inputs.latent.map(() => 7) };
    };
    const encoded = { side: 16, features: new Float32Array(4), guessLatent: null };
    await new Networks(manifest, run).sample(encoded, steps);
    return calls;
  },
  // An edit whose networks answer with pictures that the test drew.
  async edit(name, request, manifest, answers) {
    const stages = [];
    const networks = {
      has: (file) => file in answers,
      gainSize: () => answers.gain_size,
      gain: async (file) => answers[file].clone(),
      encode: async (image, mask, tau, guess) => {
        stages.push({ image, mask, tau, guess });
        return { guessLatent: "own" };
      },
      sample: async () => "edited",
      decode: async (latent) => answers[latent].clone(),
    };
    const context = { networks, manifest, report: () => {} };
    const result = await (await load("edit.js")).edit(name, request, context);
    return { ...result, stages };
  },
};

async function call({ module, name, arguments: values }) {
  if (!module) return ADAPTERS[name](...values.map(read));
  if (!modules.has(module)) modules.set(module, await load(module));
  return modules.get(module)[name](...values.map(read));
}

const results = [];
for (const one of job.calls) results.push(write(await call(one)));
writeFileSync(join(job.folder, "result.json"), JSON.stringify(results));
