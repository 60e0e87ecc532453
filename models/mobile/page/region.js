/** Windows of a picture: around a mask, and along its new borders (models/region.py). k: the bundle's constants. */

import { roundEven } from "./image.js";
import { boundingBox } from "./masks.js";

/**
 * The window {top, left, height, width} around a mask, with `context` times its side, moved to lie inside the picture.
 *
 * Sides are rounded up to the bundle's multiple where the picture allows, and are at least `minimum`.
 */
export function cropAround(mask, context, minimum, k) {
  const { top, left, bottom, right } = boundingBox(mask);
  const side = Math.max(bottom - top, right - left); // a long thin mask needs surroundings on its thin side too
  const tall = Math.max(context * (bottom - top), side, minimum);
  const wide = Math.max(context * (right - left), side, minimum);
  const [first, height] = span(top, bottom, tall, mask.height, k.crop_multiple);
  const [start, width] = span(left, right, wide, mask.width, k.crop_multiple);
  return { top: first, left: start, height, width };
}

function span(start, end, wanted, limit, multiple) {
  const length = Math.min(limit, Math.ceil(roundEven(wanted) / multiple) * multiple);
  const first = roundEven((start + end - length) / 2);
  return [Math.max(0, Math.min(first, limit - length)), length];
}

/**
 * The strips around a picture of height x width px placed at (top, left) of a canvas, each with the window that it is
 * continued from. Top and bottom reach into the corners; a window is `strip_context` times as deep as its strip.
 */
export function newStrips(canvas, place, k) {
  const bottom = place.top + place.height;
  const right = place.left + place.width;
  const below = canvas.height - bottom;
  const beside = canvas.width - right;
  const [above, under] = [place.top, below].map((b) => reach(b, canvas.height, k));
  const [before, after] = [place.left, beside].map((b) => reach(b, canvas.width, k));
  const crop = (t, l, height, width) => ({ top: t, left: l, height, width });
  const strips = [
    [crop(0, 0, place.top, canvas.width), crop(0, 0, above, canvas.width)],
    [crop(bottom, 0, below, canvas.width), crop(canvas.height - under, 0, under, canvas.width)],
    [crop(place.top, 0, place.height, place.left), crop(0, 0, canvas.height, before)],
    [crop(place.top, right, place.height, beside), crop(0, canvas.width - after, canvas.height, after)],
  ];
  return strips.filter(([strip]) => strip.height && strip.width);
}

function reach(breadth, side, k) {
  return Math.min(side, breadth + Math.max(k.strip_minimum, roundEven(k.strip_context * breadth)));
}
