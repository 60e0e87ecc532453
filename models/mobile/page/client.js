/** The page's side of the worker: questions with an answer each, and progress in between. */

import { EditError } from "./errors.js";

export class Client {
  /**
   * base: the bundle's address, accelerator: "webgpu", "wasm" or null (the best).
   *
   * The worker is a blob, so that it inherits the page's Content-Security-Policy.
   */
  constructor(base, accelerator) {
    const source = `importScripts(${JSON.stringify(new URL("worker.js", base).href)})`;
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.worker = new Worker(address);
    this.waiting = new Map();
    this.count = 0;
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = () => this.fail("The page's worker did not start; reload the page, or copy the bundle again.");
    this.worker.postMessage({ kind: "boot", base, accelerator });
  }

  /** Resolves to the engine's answer; stage(text) hears its progress. EditError carries its one sentence. */
  ask(kind, request = {}, transferred = [], stage = () => {}) {
    if (this.broken) return Promise.reject(new EditError(this.broken));
    const id = this.count++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, stage });
      this.worker.postMessage({ id, kind, ...request }, transferred);
    });
  }

  hear({ id, stage, result, error, fatal }) {
    if (fatal) return this.fail(fatal);
    const asked = this.waiting.get(id);
    if (stage !== undefined) return asked.stage(stage);
    this.waiting.delete(id);
    return error === undefined ? asked.resolve(result) : asked.reject(new EditError(error));
  }

  fail(sentence) {
    this.broken = sentence;
    for (const { reject } of this.waiting.values()) reject(new EditError(sentence));
    this.waiting.clear();
  }
}
