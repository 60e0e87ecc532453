/** Compares a bundle's networks, on the device that they run on, with what torch computed for the same inputs. */

import { plainFile } from "./bundle.js";

/** Peak signal-to-noise ratio in dB; the peak is the reference's max - min, nothing is clipped. */
export function psnr(values, reference) {
  let [low, high, sum] = [Infinity, -Infinity, 0];
  for (let i = 0; i < reference.length; i++) {
    low = Math.min(low, reference[i]);
    high = Math.max(high, reference[i]);
    sum += (values[i] - reference[i]) ** 2;
  }
  return 10 * Math.log10((high - low) ** 2 / (sum / reference.length));
}

/** The values 0..1 of an 8-bit PNG, its first `channels` channels interleaved. */
async function pixels(base, path, channels) {
  const bitmap = await createImageBitmap(new Blob([await plainFile(base, path)]));
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const out = new Float32Array((data.length / 4) * channels);
  for (let i = 0; i < out.length; i++) out[i] = data[Math.floor(i / channels) * 4 + (i % channels)] / 255;
  return out;
}

async function floats(base, path) {
  return new Float32Array(await plainFile(base, path));
}

/**
 * Runs a task's golden edit through encoder, denoiser and decoder, each on what the one before it made.
 *
 * Resolves to decibels of features, guess_latent, latent, decoded and log_gain against torch's, and milliseconds per network.
 */
export async function goldenTest(base, manifest, name, networks, runtime) {
  const golden = manifest.golden[name];
  const [image, mask] = [await pixels(base, golden.image, 3), await pixels(base, golden.mask, 1)];
  const side = golden.size;
  const inputs = { image, mask, tau: Float32Array.of(manifest.tasks[golden.task ?? name].tau) };
  if (manifest.model.first_guess) inputs.guess = await pixels(base, golden.guess, 3);
  runtime.times = {};
  const encoded = await networks.call("encoder", side, inputs);
  const expected = await expectations(base, golden);
  const rows = manifest.schedule.steps[golden.steps];
  let latent = new Float32Array(expected.latents[0].length);
  const decibels = {};
  for (const [step, row] of rows.entries()) {
    const noise = await floats(base, golden.noise[step]);
    const time = Float32Array.from(row);
    ({ latent } = await networks.call("denoiser", side, { latent, noise, time, ...encoded }));
  }
  const decoded = (await networks.call("decoder", side, { latent })).image;
  for (const key of Object.keys(encoded)) decibels[key] = psnr(encoded[key], expected[key]);
  decibels.latent = psnr(latent, expected.latents.at(-1));
  decibels.decoded = psnr(decoded, expected.decoded);
  if (golden.gain) decibels.log_gain = await goldenGain(base, golden.gain, inputs.tau, networks);
  return { decibels, milliseconds: rounded(runtime.times), steps: golden.steps };
}

/** Decibels of a gain head on its own golden input. */
async function goldenGain(base, gain, tau, networks) {
  const inputs = { image: await pixels(base, gain.image, 3), mask: await pixels(base, gain.mask, 1), tau };
  const { log_gain: found } = await networks.call(gain.file, networks.gainSize(gain.file), inputs);
  return psnr(found, await floats(base, gain.log_gain));
}

async function expectations(base, golden) {
  const out = { latents: [], decoded: await floats(base, golden.decoded), features: await floats(base, golden.features) };
  if (golden.guess_latent) out.guess_latent = await floats(base, golden.guess_latent);
  for (const path of golden.latent) out.latents.push(await floats(base, path));
  return out;
}

function rounded(times) {
  return Object.fromEntries(Object.entries(times).map(([name, value]) => [name, Math.round(value)]));
}
