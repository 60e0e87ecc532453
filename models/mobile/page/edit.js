/**
 * The five edits, from the user's photo to the user's photo (models/blazeedit/pipeline.py).
 *
 * Each takes a request {photo: Photo, mask: Photo of one byte a pixel or null, ...} and a context {networks, manifest,
 * report}, and resolves to RGBA bytes {height, width, data}. Where the pipeline removes objects that are far apart one
 * after the other, here all share one canvas: a page's user paints one object at a time.
 */

import { cutSticker, editedInStrips, fillHole, fillStrips, relighting, rgba, tonedStrip, writeWhere } from "./deliver.js";
import { EditError } from "./errors.js";
import { extend, membrane, partialStretch, stickerGuess, stretchPoints } from "./guess.js";
import { Picture, cropped, fitted, roundEven } from "./image.js";
import { fitColourMap, liftShadow, logRatio } from "./maps.js";
import { binarise, checkMask, inverted } from "./masks.js";
import { cropAround } from "./region.js";
import { resize } from "./resize.js";
import { Extended, shrinkKnown, windowOf } from "./work.js";

const EDITS = { remove, outpaint, tone, relight, sticker };

/** Runs a task of the manifest by name. EditError for one that it does not have. */
export function edit(name, request, context) {
  const task = context.manifest.tasks[name];
  if (!task || !EDITS[name]) throw new EditError(`This bundle has no task "${name}".`);
  return EDITS[name](request, { ...context, name, task, k: context.manifest.constants });
}

/** Encodes, samples and decodes a working canvas. Resolves to the decoded picture and its first guess's latent. */
async function run(image, mask, guess, { networks, task, report }) {
  report("Encoding");
  const encoded = await networks.encode(image, mask, task.tau, guess);
  report("Denoising");
  const latent = await networks.sample(encoded, task.steps);
  report("Decoding");
  return { decoded: await networks.decode(latent, image), guessLatent: encoded.guessLatent };
}

/** What the network changed in the first guess; the codec's own loss, which both went through, cancels out. */
async function changeOf(image, mask, guess, context) {
  const { decoded, guessLatent } = await run(image, mask, guess, context);
  const before = guessLatent ? await context.networks.decode(guessLatent, image) : guess;
  for (let i = 0; i < decoded.data.length; i++) decoded.data[i] -= before.data[i];
  return decoded;
}

async function remove({ photo, mask, shadow = true }, context) {
  const { k, task, networks, report } = context;
  checkMask(mask, "remove");
  let lift = null;
  if (shadow && task.gain_head && networks.has(task.gain_head)) {
    report("Finding its shadow");
    const head = (image, hole) => networks.gain(task.gain_head, image, hole, task.tau);
    lift = await liftShadow(photo, mask, head, networks.gainSize(task.gain_head), k);
  }
  const crop = cropAround(mask, k.fill_context, k.crop_minimum, k);
  const picture = windowOf(photo, crop, lift && { crop: lift.crop, picture: lift.lifted });
  const hole = binarise(cropped(mask, crop), context.manifest.mask.binarise_above);
  const small = shrinkKnown(picture, inverted(hole), ...fitted(crop.height, crop.width, task.working_size));
  const change = await changeOf(small.image, small.hole, membrane(small.image, small.hole, k), context);
  report("Filling at full resolution");
  const out = photo.data.slice();
  if (lift) writeWhere(out, photo.width, lift.crop, lift.lifted, lift.moved);
  writeWhere(out, photo.width, crop, fillHole(picture, hole, change, small.hole, k), hole.data);
  return { height: photo.height, width: photo.width, data: out };
}

async function outpaint({ photo, margins }, context) {
  const { k, task, report } = context;
  const canvas = new Extended(photo, margins, k.blank);
  if (canvas.height === photo.height && canvas.width === photo.width) {
    throw new EditError("There is nothing to add; choose another shape or wider margins.");
  }
  const size = fitted(canvas.height, canvas.width, task.working_size);
  const { image, hole } = shrinkKnown(canvas, canvas.known, ...size);
  const n = hole.data.length;
  for (let i = 0; i < image.data.length; i++) if (hole.data[i % n] > 0) image.data[i] = k.blank;
  const change = await changeOf(image, hole, extend(image, hole, k), context);
  report("Painting at full resolution");
  const out = framed(photo, canvas);
  for (const [crop, strip] of fillStrips(canvas, change, hole, k)) writeWhere(out, canvas.width, crop, strip, null);
  return { height: canvas.height, width: canvas.width, data: out };
}

/** The photo's bytes on a larger opaque canvas. */
function framed(photo, canvas) {
  const out = new Uint8ClampedArray(4 * canvas.height * canvas.width);
  new Uint32Array(out.buffer).fill(0xffffffff);
  for (let y = 0; y < photo.height; y++) {
    const row = photo.data.subarray(4 * y * photo.width, 4 * (y + 1) * photo.width);
    out.set(row, 4 * ((canvas.top + y) * canvas.width + canvas.left));
  }
  return out;
}

/** The whole photo at working size, and a mask that is all white. */
function wholeCanvas(photo, size) {
  const image = resize(photo, ...fitted(photo.height, photo.width, size));
  const mask = new Picture(1, image.height, image.width);
  mask.data.fill(1);
  return { image, mask };
}

/** The edit on the working canvas, and what the codec makes of the unedited one: {seen, decoded}. */
async function seenAndDecoded(image, mask, guess, context) {
  const { networks, task } = context;
  const { decoded, guessLatent } = await run(image, mask, guess, context);
  if (!guessLatent) return { seen: image, decoded }; // a bundle without the picture encoder
  const own = guess === image ? guessLatent : (await networks.encode(image, mask, task.tau, image)).guessLatent;
  return { seen: await networks.decode(own, image), decoded };
}

async function tone({ photo, mask = null }, context) {
  const { k, task, report } = context;
  const { image, mask: white } = wholeCanvas(photo, task.working_size);
  const guess = partialStretch(image, stretchPoints(image, k), k);
  const { seen, decoded } = await seenAndDecoded(image, white, guess, context);
  report("Recolouring at full resolution");
  const [map, points] = [fitColourMap(seen, decoded, k), stretchPoints(photo, k)];
  const data = editedInStrips(photo, mask, (strip) => tonedStrip(strip, points, map, k));
  return { height: photo.height, width: photo.width, data };
}

async function relight({ photo, mask = null }, context) {
  const { k, report } = context;
  const logGain = await relightGain(photo, context);
  report("Relighting at full resolution");
  const data = editedInStrips(photo, mask, relighting(photo, logGain, k));
  return { height: photo.height, width: photo.width, data };
}

/** The small log-gain map: by the relight head where the bundle has one, which measured better, else by the network. */
async function relightGain(photo, context) {
  const { k, task, networks, report } = context;
  if (!task.gain_head || !networks.has(task.gain_head)) {
    const { image, mask } = wholeCanvas(photo, task.working_size);
    const { seen, decoded } = await seenAndDecoded(image, mask, image, context);
    return logRatio(seen, decoded, k);
  }
  report("Measuring the light");
  const size = networks.gainSize(task.gain_head);
  const { image, mask } = wholeCanvas(photo, size);
  return networks.gain(task.gain_head, image, mask, task.tau);
}

async function sticker({ photo, mask, shadow = true }, context) {
  const { k, task, report } = context;
  checkMask(mask, "sticker");
  const crop = cropAround(mask, k.sticker_context, k.crop_minimum, k);
  const [picture, soft] = [cropped(photo, crop), cropped(mask, crop)];
  const size = fitted(crop.height, crop.width, task.working_size);
  const image = resize(picture, ...size);
  const subject = resize(binarise(soft, context.manifest.mask.binarise_above), ...size, "nearest");
  const guess = stickerGuess(image, subject, k);
  const n = subject.data.length;
  for (let i = 0; i < guess.data.length; i++) if (subject.data[i % n] === 0) guess.data[i] = image.data[i];
  const change = await changeOf(image, subject, guess, context);
  report("Cutting it out at full resolution");
  const border = roundEven(k.sticker_border * Math.min(photo.height, photo.width));
  const piece = cutSticker(picture, soft, change, border, shadow, k);
  return { height: piece.height, width: piece.width, data: rgba(piece) };
}

/**
 * The margins {left, top, right, bottom} of the smallest canvas of an aspect ratio [wide, high] that holds a photo.
 *
 * anchor says where the photo sits on it: center, left, right, top or bottom.
 */
export function outpaintMargins(height, width, [wide, high], anchor = "center") {
  const ratio = wide / high;
  const across = Math.max(0, roundEven(height * ratio) - width);
  const down = Math.max(0, roundEven(width / ratio) - height);
  const left = { left: 0, right: across }[anchor] ?? across >> 1;
  const top = { top: 0, bottom: down }[anchor] ?? down >> 1;
  return { left, top, right: across - left, bottom: down - top };
}
