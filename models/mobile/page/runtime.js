/**
 * LiteRT.js in a worker: loads a bundle's networks when they are first needed, runs them by name, frees tensors.
 *
 * LiteRT.js's glue is a classic script, so this runs in a classic worker, where import maps do not reach: the one bare
 * name in its module is replaced by an address before it is imported.
 */

import { fileOf, plainFile } from "./bundle.js";
import { EditError } from "./errors.js";

const LIBRARY = ["litert/index.js", "litert/wasm-utils.js"];

export class Runtime {
  /** base: the bundle's address; notice(text) tells what is being loaded; wanted: "webgpu", "wasm" or null (the best). */
  constructor(base, notice = () => {}, wanted = null) {
    this.base = base;
    this.notice = notice;
    this.wanted = wanted;
    this.models = new Map();
    this.placed = new Map(); // file name -> what it was compiled for
    this.times = {};
    this.started = null;
  }

  /** Loads LiteRT.js once. EditError where the browser or a file of it is missing. */
  start() {
    this.started ??= this.load().catch((error) => {
      this.started = null;
      throw error;
    });
    return this.started;
  }

  async load() {
    if (typeof WebAssembly !== "object") {
      throw new EditError("This browser has no WebAssembly; use a current Chrome, Edge, Firefox or Safari.");
    }
    this.notice("Loading LiteRT");
    const library = await importLibrary(this.base);
    const gpu = this.wanted !== "wasm" && (await hasGpu(this.wanted === "webgpu"));
    const simd = await library.supportsFeature("relaxedSimd");
    const jspi = gpu && simd && (await library.supportsFeature("jspi"));
    const glue = jspi ? "_jspi" : simd ? "" : "_compat";
    this.files = [...LIBRARY, ...["js", "wasm"].map((end) => `litert/wasm/litert_wasm${glue}_internal.${end}`)];
    self.Module = { locateFile: (file) => new URL(`litert/wasm/${file}`, this.base).href };
    try {
      await library.loadLiteRt(new URL("litert/wasm/", this.base).href, { jspi });
    } catch (error) {
      throw new EditError(`LiteRT did not start (${firstLine(error)}); copy the folder litert/ of the bundle again.`);
    }
    this.library = library;
    this.accelerator = gpu ? "webgpu" : "wasm";
  }

  /** A compiled network of the manifest; downloaded, checked and compiled at its first use. */
  model(file) {
    if (!this.models.has(file.name)) {
      const loading = this.compile(file);
      loading.catch(() => this.models.delete(file.name));
      this.models.set(file.name, loading);
    }
    return this.models.get(file.name);
  }

  async compile(file) {
    await this.start();
    const megabytes = (file.bytes / 1e6).toFixed(1);
    const buffer = await fileOf(this.base, file, (received, total) => {
      this.notice(`Loading the ${file.name}: ${Math.round((100 * received) / total)} % of ${megabytes} MB`);
    });
    this.notice(`Preparing the ${file.name}`);
    const bytes = new Uint8Array(buffer);
    if (this.accelerator === "webgpu") {
      try {
        return await this.compileFor("webgpu", file, bytes);
      } catch (error) {
        console.warn(`${file.name} does not compile for WebGPU, the CPU takes it: ${firstLine(error)}`);
      }
    }
    try {
      return await this.compileFor("wasm", file, bytes);
    } catch (error) {
      throw new EditError(`LiteRT cannot load ${file.path} (${firstLine(error)}); export it as fp32 or int8.`);
    }
  }

  async compileFor(accelerator, file, bytes) {
    const model = await this.library.loadAndCompile(bytes, { accelerator });
    this.placed.set(file.name, accelerator);
    return model;
  }

  /** Where the networks run that were loaded by now: "webgpu", "wasm" or "wasm+webgpu". */
  get accelerators() {
    return [...new Set(this.placed.size ? this.placed.values() : [this.accelerator])].sort().join("+");
  }

  /**
   * Runs a network on {name: Float32Array} by its signature of the manifest. Resolves to {name: Float32Array}.
   *
   * All tensors are freed again. Loading and running times add up in `times`, in milliseconds.
   */
  async run(file, signature, inputs) {
    const model = await this.timed("loading", () => this.model(file));
    return this.timed(file.name, async () => {
      const tensors = {};
      let outputs = {};
      try {
        for (const { name, shape } of signature.inputs) tensors[name] = new this.library.Tensor(inputs[name], shape);
        outputs = await model.run(signature.key, tensors);
        return await copied(outputs);
      } finally {
        for (const tensor of [...Object.values(tensors), ...Object.values(outputs)]) tensor.delete();
      }
    });
  }

  async timed(name, work) {
    const start = performance.now();
    const result = await work();
    this.times[name] = (this.times[name] ?? 0) + performance.now() - start;
    return result;
  }
}

/** The outputs' values, out of the GPU or of LiteRT's memory. */
async function copied(outputs) {
  const out = {};
  for (const [name, tensor] of Object.entries(outputs)) out[name] = (await tensor.data()).slice();
  return out;
}

/** Whether there is a GPU; one that is imitated by the processor only counts when it was asked for. */
async function hasGpu(any) {
  try {
    const adapter = await globalThis.navigator?.gpu?.requestAdapter();
    return Boolean(adapter) && (any || !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter));
  } catch {
    return false;
  }
}

async function importLibrary(base) {
  const text = new TextDecoder().decode(await plainFile(base, LIBRARY[0]));
  const helper = JSON.stringify(new URL(LIBRARY[1], base).href);
  const module = text.replace(/(["'])@litertjs\/wasm-utils\1/, helper);
  const address = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
  try {
    return await import(address);
  } finally {
    URL.revokeObjectURL(address);
  }
}

function firstLine(error) {
  return String(error?.message ?? error).split("\n")[0].slice(0, 160);
}
