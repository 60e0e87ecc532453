/** The bundle's manifest and files: fetched from beside the page, checked by SHA-256, kept for use without a network. */

import { EditError } from "./errors.js";
import { sha256 } from "./sha256.js";

const [FORMAT, VERSION, CACHE] = ["editkit-mobile-bundle", 1, "editkit"];

/** Fetches a file of the bundle. EditError when it is missing or the network is. */
async function fetched(base, path) {
  let response;
  try {
    response = await fetch(new URL(path, base));
  } catch {
    throw new EditError(`The file ${path.split("?")[0]} could not be loaded; check the connection and try again.`);
  }
  if (response.ok) return response;
  throw new EditError(`The bundle lacks the file ${path.split("?")[0]}; export or copy it again.`);
}

/** Reads and checks manifest.json. EditError in one sentence for what is missing, foreign or too new. */
export async function openManifest(base) {
  const response = await fetched(base, "manifest.json");
  let manifest;
  try {
    manifest = await response.json();
  } catch {
    throw new EditError("manifest.json is damaged; export or copy the bundle again.");
  }
  if (manifest?.format !== FORMAT) {
    throw new EditError("manifest.json is not that of an EditKit bundle; export the bundle again.");
  }
  if (manifest.format_version !== VERSION) {
    const found = manifest.format_version;
    throw new EditError(`The bundle has format version ${found} and this page reads version ${VERSION}; export it again.`);
  }
  return manifest;
}

/** The address of a listed file; its hash makes sure that no older version of it comes out of a cache. */
function addressed(file) {
  return `${file.path}?sha256=${file.sha256.slice(0, 16)}`;
}

async function cache() {
  try {
    return await globalThis.caches?.open(CACHE);
  } catch {
    return undefined; // private windows, pages without https
  }
}

const incoming = new Map(); // one download serves all who wait for the same file

/**
 * A listed file {path, bytes, sha256} as an ArrayBuffer, from the cache or the network, its hash checked.
 *
 * progress(received, total) is called while it comes in. EditError when it is missing or altered.
 */
export function fileOf(base, file, progress = () => {}) {
  if (!incoming.has(file.path)) {
    incoming.set(file.path, checkedFile(base, file, progress).finally(() => incoming.delete(file.path)));
  }
  return incoming.get(file.path);
}

async function checkedFile(base, file, progress) {
  const [store, address] = [await cache(), addressed(file)];
  const kept = await store?.match(new URL(address, base));
  if (kept) {
    const buffer = await kept.arrayBuffer();
    if ((await sha256(buffer)) === file.sha256) return buffer;
    await store.delete(new URL(address, base));
  }
  const buffer = await read(await fetched(base, address), file.bytes, progress);
  if ((await sha256(buffer)) !== file.sha256) {
    throw new EditError(`The file ${file.path} is damaged (its SHA-256 is not the manifest's); copy the bundle again.`);
  }
  await store?.put(new URL(address, base), new Response(buffer)).catch(() => {}); // no room: it stays online only
  return buffer;
}

async function read(response, bytes, progress) {
  const parts = [];
  let received = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    progress((received += value.length), bytes);
  }
  return new Blob(parts).arrayBuffer();
}

/** A file that has no hash of its own (LiteRT.js, golden arrays), from the network. */
export async function plainFile(base, path) {
  return (await fetched(base, path)).arrayBuffer();
}

/**
 * Fetches everything that the page needs without a network, and forgets what other versions of the bundle left.
 *
 * extra: paths of files without a hash. Resolves to whether all of it is kept.
 */
export async function keepAll(base, manifest, extra) {
  const store = await cache();
  if (!store) return false;
  const wanted = new Set(manifest.files.map((file) => new URL(addressed(file), base).href));
  for (const { url } of await store.keys()) {
    if (url.startsWith(base) && url.includes("?sha256=") && !wanted.has(url)) await store.delete(url);
  }
  for (const file of manifest.files) {
    if (!(await store.match(new URL(addressed(file), base)))) await fileOf(base, file);
  }
  await store.addAll(["manifest.json", ...extra].map((path) => new URL(path, base).href));
  return true;
}
