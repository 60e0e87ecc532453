/*
 * Keeps the page for use without a network. The networks' files carry their hash in the address and come from the
 * cache first; everything else is asked of the server first, so that a newer page replaces an older one.
 */
"use strict";

const CACHE = "editkit";
const PAGE = [
  "./", "app.js", "bundle.js", "canvas.js", "client.js", "deliver.js", "edit.js", "engine.js", "errors.js", "fft.js",
  "filters.js", "golden.js", "guess.js", "icon.svg", "image.js", "index.html", "maps.js", "masks.js", "networks.js",
  "offsets.js", "painter.js", "photo.js", "region.js", "resize.js", "runtime.js", "sha256.js", "sticker.js",
  "style.css", "tasks.js", "texture.js", "view.js", "work.js", "worker.js",
];

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answer(event.request));
});

async function install() {
  const cache = await caches.open(CACHE);
  await cache.addAll(PAGE.map((path) => new URL(path, self.registration.scope).href));
  await self.skipWaiting();
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const hashed = request.url.includes("?sha256=");
  const kept = hashed && (await cache.match(request));
  if (kept) return kept;
  try {
    const response = await fetch(request);
    // what has a hash is kept by the page, once the hash is checked
    if (response.ok && !hashed && (await cache.match(request, { ignoreSearch: true }))) {
      await cache.put(new URL(request.url).pathname, response.clone());
    }
    return response;
  } catch (error) {
    const known = !hashed && (await cache.match(request, { ignoreSearch: true }));
    if (known) return known;
    throw error;
  }
}
