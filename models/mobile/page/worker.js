/*
 * A classic worker, because LiteRT.js loads its glue with importScripts, which module workers do not have. The page
 * starts it from a blob, so that the page's Content-Security-Policy holds here too: no address but the page's own.
 */
"use strict";

const waiting = [];
let engine = null;

self.onmessage = ({ data }) => {
  if (data.kind === "boot") boot(data.base, data.accelerator);
  else if (engine) engine.take(data);
  else waiting.push(data);
};

async function boot(base, accelerator) {
  let Engine;
  try {
    ({ Engine } = await import(new URL("engine.js", base).href));
  } catch (error) {
    self.postMessage({ fatal: `The page's own files could not be loaded (${error.message}); copy the bundle again.` });
    return;
  }
  engine = new Engine(base, accelerator, (message, transferred) => self.postMessage(message, transferred));
  for (const message of waiting.splice(0)) engine.take(message);
}
