/** The worker's side: opens the bundle, runs edits and golden tests, and tells the page how far it is. */

import { keepAll, openManifest } from "./bundle.js";
import { edit } from "./edit.js";
import { EditError } from "./errors.js";
import { goldenTest } from "./golden.js";
import { Photo } from "./image.js";
import { Networks } from "./networks.js";
import { Runtime } from "./runtime.js";

/** Answers the page's messages {id, kind, ...}; base: the bundle's address, send(message, transferred). */
export class Engine {
  constructor(base, accelerator, send) {
    this.base = base;
    this.send = send;
    this.current = null;
    this.runtime = new Runtime(base, (stage) => this.report(stage), accelerator);
    this.queue = Promise.resolve();
  }

  report(stage) {
    if (this.current !== null) this.send({ id: this.current, stage });
  }

  /** Takes a message; edits run one after the other, keeping files for later goes on beside them. */
  take(message) {
    if (message.kind === "keep") return this.answer(message);
    this.queue = this.queue.then(async () => {
      this.current = message.id;
      await this.answer(message);
      this.current = null;
    });
    return this.queue;
  }

  async answer({ id, kind, ...request }) {
    try {
      const result = await this[kind](request);
      this.send({ id, result }, result?.data ? [result.data.buffer] : []);
    } catch (error) {
      if (!(error instanceof EditError)) console.error(error);
      this.send({ id, error: error instanceof EditError ? error.message : unexpected(error) });
    }
  }

  /** The manifest; networks are loaded when they are needed. */
  async open() {
    this.manifest = await openManifest(this.base);
    this.networks = new Networks(this.manifest, (file, signature, inputs) => this.runtime.run(file, signature, inputs));
    return this.manifest;
  }

  /** name: of the task, photo and mask: {height, width, data}, options: what the task takes besides. */
  async edit({ name, photo, mask, options }) {
    const start = performance.now();
    this.runtime.times = {};
    const request = {
      photo: new Photo(photo.height, photo.width, photo.data),
      mask: mask && new Photo(photo.height, photo.width, mask, 1, 1),
      ...options,
    };
    const report = (stage) => this.report(stage);
    const result = await edit(name, request, { networks: this.networks, manifest: this.manifest, report });
    const times = { ...this.runtime.times };
    const total = performance.now() - start;
    times.rest = total - Object.values(times).reduce((a, b) => a + b, 0);
    return { ...result, times, total, accelerator: this.runtime.accelerators };
  }

  /** Golden tests of some tasks, one after the other. */
  async golden({ tasks }) {
    const results = {};
    for (const name of tasks) {
      this.report(`Golden test: ${name}`);
      results[name] = await goldenTest(this.base, this.manifest, name, this.networks, this.runtime);
    }
    return { accelerator: this.runtime.accelerators, quantisation: this.manifest.quantisation, tasks: results };
  }

  /** Starts LiteRT.js ahead of the first edit, and says what it will run on. */
  async start() {
    await this.runtime.start();
    return { accelerator: this.runtime.accelerators };
  }

  /** Keeps everything for use without a network. */
  async keep() {
    await this.runtime.start();
    return keepAll(this.base, this.manifest, this.runtime.files);
  }
}

function unexpected(error) {
  const memory = error instanceof RangeError || /memory|allocation/i.test(String(error?.message));
  if (memory) return "This device ran out of memory; close other tabs or use a smaller photo.";
  return `Something unexpected went wrong (${String(error?.message ?? error).slice(0, 160)}); reload the page and try again.`;
}
