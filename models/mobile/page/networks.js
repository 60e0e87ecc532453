/** A bundle's networks as the edits use them: pictures in, pictures out, the fixed canvas hidden. */

import { fromTensor, toTensor } from "./canvas.js";
import { EditError } from "./errors.js";

/**
 * manifest: the bundle's, run: async (file, signature, {name: Float32Array}) => {name: Float32Array}.
 *
 * Latents and features are passed on as the networks made them, on the whole canvas of `side` px.
 */
export class Networks {
  constructor(manifest, run, seed = 0) {
    this.manifest = manifest;
    this.files = new Map(manifest.files.map((file) => [file.name, file]));
    this.run = run;
    this.seed = seed;
  }

  has(name) {
    return this.files.has(name);
  }

  /** The signature of a file for a canvas side. */
  signature(name, side) {
    const found = this.files.get(name).signatures.find(({ size }) => size === side);
    if (!found) throw new EditError(`The bundle's ${name} does not take a canvas of ${side} px; export it again.`);
    return found;
  }

  /** The smallest canvas that holds a working picture. */
  sideFor(image) {
    const longest = Math.max(image.height, image.width);
    const fitting = this.manifest.canvas.sizes.filter((side) => side >= longest);
    if (!fitting.length) throw new EditError(`The bundle has no canvas of ${longest} px; export it again.`);
    return Math.min(...fitting);
  }

  call(name, side, inputs) {
    return this.run(this.files.get(name), this.signature(name, side), inputs);
  }

  /** f_θ(concat[x, τ·m]) and the latent of the first guess (null for a model without one). */
  async encode(image, mask, tau, guess) {
    const side = this.sideFor(image);
    const inputs = { image: toTensor(image, side), mask: toTensor(mask, side), tau: Float32Array.of(tau) };
    if (this.manifest.model.first_guess) inputs.guess = toTensor(guess, side);
    const { features, guess_latent: guessLatent = null } = await this.call("encoder", side, inputs);
    return { side, features, guessLatent };
  }

  /** The few-step sampler: x0 is predicted, renoised to the next time, and predicted again. Resolves to a latent. */
  async sample({ side, features, guessLatent }, steps) {
    const { schedule, model } = this.manifest;
    const rows = schedule.steps[steps];
    if (!rows) throw new EditError(`The bundle has no schedule of ${steps} steps; export it again.`);
    const length = (side / model.downscale) ** 2 * model.latent_channels;
    let latent = new Float32Array(length);
    for (const row of rows) {
      // one step starts from the noise's mean, as the small model is used
      const noise = rows.length === 1 ? new Float32Array(length) : gaussian(length, this.seed++);
      const inputs = { latent, noise, time: Float32Array.from(row), features };
      if (guessLatent) inputs.guess_latent = guessLatent;
      ({ latent } = await this.call("denoiser", side, inputs));
    }
    return latent;
  }

  /** The decoded picture in 0..1, cut to the size of `like`. */
  async decode(latent, like) {
    const side = this.sideFor(like);
    const { image } = await this.call("decoder", side, { latent });
    return fromTensor(image, side, 3, like.height, like.width, 0, 1);
  }

  /** The canvas side of a gain head. */
  gainSize(name) {
    return this.files.get(name).signatures[0].size;
  }

  /** A gain head's log-gain in linear light, of the picture's size. */
  async gain(name, image, mask, tau) {
    const side = this.gainSize(name);
    const inputs = { image: toTensor(image, side), mask: toTensor(mask, side), tau: Float32Array.of(tau) };
    const { log_gain: logGain } = await this.call(name, side, inputs);
    return fromTensor(logGain, side, 3, image.height, image.width);
  }
}

/** Standard normal values from a seed, by Box and Muller over a xorshift generator. */
export function gaussian(length, seed) {
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  const uniform = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < 16; i++) uniform(); // seeds close to each other start alike
  const value = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return Float32Array.from({ length }, value);
}
