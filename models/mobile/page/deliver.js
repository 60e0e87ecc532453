/**
 * From the decoded working canvas to the photo's full resolution, each task in its own way
 * (models/blazeedit/delivering.py). k: the bundle's constants.
 *
 * A fill equals the photo outside its hole, so the Python pipeline's feathered paste changes nothing there: here only
 * the hole's own pixels are written, and all others keep their bytes.
 */

import { extend, membrane, partialStretch, seamCorrection, stickerGuess } from "./guess.js";
import { Picture, cropped, fitted, toByte } from "./image.js";
import { GainMap, applyGain, recoloured } from "./maps.js";
import { binarise, inverted } from "./masks.js";
import { newStrips } from "./region.js";
import { Enlarged, resize } from "./resize.js";
import { dieCut } from "./sticker.js";
import { coherentCopy } from "./texture.js";
import { shrinkKnown } from "./work.js";

const STRIP = 32; // rows at a time: what is computed on the way stays in the processor's cache

/**
 * The low frequencies of a fill: the first guess at full size, and what the network changed in the small one.
 *
 * The change is zero at the hole's edge, so the full-size guess alone meets the picture there and no seam can show.
 * image, known: what `shrinkKnown` takes, change: [3, h', w'], smallHole: its hole.
 */
export class Guide {
  constructor(image, known, change, smallHole, guess, k) {
    const { height, width } = image;
    const small = shrinkKnown(image, known, ...fitted(height, width, k.guide_size, 1), false);
    const correction = seamCorrection(change, zeros(change), smallHole, k);
    const n = smallHole.data.length;
    for (let i = 0; i < correction.data.length; i++) correction.data[i] *= smallHole.data[i % n];
    this.guess = new Enlarged(guess(small.image, small.hole, k), height, width);
    this.change = new Enlarged(correction, height, width);
  }

  /** A window {picture, hole} at (top, left) with its hole filled: a new picture. */
  filled({ picture, hole }, top, left) {
    const out = picture.clone();
    const { width } = picture;
    const [guess, change] = [new Float32Array(width), new Float32Array(width)];
    for (let y = 0; y < picture.height; y++) {
      const empty = hole.row(0, y);
      if (!empty.includes(1)) continue;
      for (let c = 0; c < 3; c++) {
        this.guess.row(c, top + y, left, left + width, guess);
        this.change.row(c, top + y, left, left + width, change);
        const row = out.row(c, y);
        for (let x = 0; x < width; x++) if (empty[x] > 0) row[x] = Math.min(1, Math.max(0, guess[x] + change[x]));
      }
    }
    return out;
  }
}

function zeros(x) {
  return new Picture(x.channels, x.height, x.width);
}

/** Pixels that separate the network's low frequencies from the copied high ones, by the breadth of the hole. */
export function textureSigma(hole, k) {
  const columns = new Uint8Array(hole.width);
  let [rows, area] = [0, 0];
  for (let y = 0; y < hole.height; y++) {
    const row = hole.row(0, y);
    let any = 0;
    for (let x = 0; x < hole.width; x++) {
      if (row[x] === 0) continue;
      any = columns[x] = 1;
      area++;
    }
    rows += any;
  }
  const side = Math.min(Math.sqrt(area), rows, columns.reduce((a, b) => a + b, 0));
  return k.texture_sigma * Math.max(1, side / k.texture_hole);
}

/**
 * A picture [3, h, w] with its hole filled: guess, the network's change, and copied texture.
 *
 * change: [3, h', w'] on the working canvas, smallHole: the hole there. Returns a new picture.
 */
export function fillHole(picture, hole, change, smallHole, k) {
  const guide = new Guide(picture, inverted(hole), change, smallHole, membrane, k);
  const fill = guide.filled({ picture, hole }, 0, 0);
  return coherentCopy(picture, hole, fill, { sigma: textureSigma(hole, k), gain: k.texture_gain }, k);
}

/**
 * The new strips of an `Extended` canvas, one after the other, each from what lies beside it: [[crop, picture], ...].
 *
 * change: [3, h', w'] on the working canvas, smallHole: the new pixels there.
 */
export function fillStrips(canvas, change, smallHole, k) {
  const guide = new Guide(canvas, canvas.known, change, smallHole, extend, k);
  for (const [target, around] of newStrips(canvas, canvas.place, k)) {
    const window = canvas.window(around);
    const piece = guide.filled(window, around.top, around.left);
    const inside = { ...target, top: target.top - around.top, left: target.left - around.left };
    const texture = { sigma: textureSigma(cropped(window.hole, inside), k), gain: k.texture_gain_outpaint };
    coherentCopy(window.picture, window.hole, piece, texture, k);
    canvas.finished.push([target, cropped(piece, inside)]);
  }
  return canvas.finished;
}

/** Writes a window's pixels where its mask (floats or bytes; null: everywhere) is above 0 into RGBA bytes. */
export function writeWhere(bytes, stride, crop, picture, mask) {
  for (let y = 0, i = 0; y < crop.height; y++) {
    let at = ((crop.top + y) * stride + crop.left) * 4;
    for (let x = 0; x < crop.width; x++, i++, at += 4) {
      if (mask && mask[i] === 0) continue;
      writePixel(bytes, at, picture.data, i, crop.height * crop.width);
    }
  }
}

function writePixel(bytes, at, data, i, n) {
  bytes[at] = toByte(data[i]);
  bytes[at + 1] = toByte(data[n + i]);
  bytes[at + 2] = toByte(data[2 * n + i]);
}

/**
 * A photo edited strip by strip: edit(strip, top) returns the edited strip, blended over the photo by the mask.
 *
 * mask: bytes of the photo's size (strength 0..255), or null for all of it. Returns RGBA bytes; where the mask is 0
 * they are the photo's.
 */
export function editedInStrips(photo, mask, edit) {
  const out = photo.data.slice();
  for (let top = 0; top < photo.height; top += STRIP) {
    const height = Math.min(STRIP, photo.height - top);
    const crop = { top, left: 0, height, width: photo.width };
    const weights = mask && mask.data.subarray(top * photo.width, (top + height) * photo.width);
    if (weights && weights.every((v) => v === 0)) continue;
    const strip = cropped(photo, crop);
    const edited = edit(strip.clone(), top);
    if (weights) blend(edited, strip, weights);
    writeWhere(out, photo.width, crop, edited, weights);
  }
  return out;
}

function blend(edited, strip, weights) {
  const n = weights.length;
  for (let i = 0; i < edited.data.length; i++) {
    const weight = weights[i % n];
    if (weight < 255) edited.data[i] = strip.data[i] + (weight / 255) * (edited.data[i] - strip.data[i]);
  }
}

/** Tone: between a partial stretch and the colour map of the network's edit. points: `stretchPoints` of the photo. */
export function tonedStrip(strip, points, map, k) {
  const [guess, edited] = [partialStretch(strip, points, k), recoloured(strip, map, k)];
  for (let i = 0; i < guess.data.length; i++) {
    guess.data[i] += k.tone_scale * (edited.data[i] - guess.data[i]);
  }
  return guess;
}

/** Relighting: logGain [3, h', w'] brought to the photo along its edges. Returns the edit of a strip. */
export function relighting(photo, logGain, k) {
  const small = new Picture(3, logGain.height, logGain.width, logGain.data.map((v) => v * k.relight_scale));
  const map = new GainMap(small, photo, k.relight_radius, k.relight_eps);
  const [line, gain] = [new Picture(3, 1, photo.width), new Picture(3, 1, photo.width)];
  return (strip, top) => {
    for (let y = 0; y < strip.height; y++) {
      for (let c = 0; c < 3; c++) line.row(c, 0).set(strip.row(c, y));
      applyGain(line, map.row(top + y, line, gain));
      for (let c = 0; c < 3; c++) strip.row(c, y).set(line.row(c, 0));
    }
    return strip;
  };
}

/**
 * A sticker from a crop of the photo: [4, h, w], trimmed to the subject with its border and shadow.
 *
 * picture: [3, h, w], mask: one channel, soft edges allowed, change: [3, h', w'] from the working canvas.
 */
export function cutSticker(picture, mask, change, border, shadow, k) {
  const { height, width } = picture;
  const size = fitted(height, width, k.sticker_render, 1);
  const subject = resize(binarise(mask, 0.5), ...size, "nearest");
  const colours = stickerGuess(resize(picture, ...size), subject, k);
  const large = resize(change, ...size);
  for (let i = 0; i < colours.data.length; i++) {
    colours.data[i] = Math.min(1, Math.max(0, colours.data[i] + large.data[i]));
  }
  return dieCut(resize(colours, height, width), mask, border, shadow, k);
}

/** A picture [4, h, w] as RGBA bytes. */
export function rgba(picture) {
  const n = picture.height * picture.width;
  const out = new Uint8ClampedArray(4 * n);
  for (let i = 0; i < n; i++) {
    writePixel(out, 4 * i, picture.data, i, n);
    out[4 * i + 3] = toByte(picture.data[3 * n + i]);
  }
  return out;
}
