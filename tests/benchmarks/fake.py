"""A pipeline that edits without a network, with the signatures of models/blazeedit/pipeline.py."""

from types import SimpleNamespace

import numpy as np
import torch
from torch.nn import functional as F

from editkit.benchmarks.triplets import Triplet


def smooth_picture(size=64, seed=0):
    """A picture with large shapes and fine texture, float32 [size, size, 3], values of an 8-bit file."""
    import cv2

    noise = np.random.default_rng(seed).random((size, size, 3)).astype(np.float32)
    shapes, fine = cv2.GaussianBlur(noise, (0, 0), 6), cv2.GaussianBlur(noise, (0, 0), 1)
    picture = np.clip(0.5 + 4 * (shapes - 0.5) + 0.4 * (fine - 0.5), 0, 1)
    return np.round(picture * 255).astype(np.float32) * np.float32(1 / 255)


def triplet(task, size=64, seed=0):
    """A small example of a task."""
    y, hole = smooth_picture(size, seed), np.zeros((size, size), bool)
    x, shadow, margins = y.copy(), None, (0, 0, 0, 0)
    if task == "outpaint":
        hole[:, size * 3 // 4 :] = True
        x[hole], margins = 0.5, (0, 0, size // 4, 0)
    elif task in ("tone", "relight"):
        hole[:] = True
        x = (y * np.float32(0.6)).astype(np.float32)
    else:
        hole[20:36, 20:36] = True
        x[hole] = 0.9
    if task == "remove":
        shadow = np.zeros_like(hole)
        shadow[40:50, 20:40] = True
        x[shadow] *= np.float32(0.5)
    return Triplet(task, "photo", seed, x, hole, y, shadow, margins)


def _edit(image, changed):
    return SimpleNamespace(image=image, changed=changed)


def _filled(image, mask):
    known = 1 - mask[:, None]
    mean = (image * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    return torch.where(mask[:, None] > 0, mean, image)


def remove(model, image, mask, *, seed=0):
    return _edit(_filled(image, mask), mask)


def outpaint(model, image, *, left=0, top=0, right=0, bottom=0, seed=0):
    canvas = F.pad(image, (left, right, top, bottom), mode="replicate")
    changed = F.pad(torch.zeros_like(image[:, 0]), (left, right, top, bottom), value=1)
    return _edit(canvas, changed)


def tone(model, image, mask=None, *, method="default"):
    gain = {"default": 1.5, "network": 1.4, "stretch": 1.2}[method]
    return _edit((image * gain).clamp(0, 1), torch.ones_like(image[:, 0]))


def relight(model, image, mask=None):
    return _edit((image * 1.5).clamp(0, 1), torch.ones_like(image[:, 0]))


def sticker(model, image, mask, *, seed=0):
    border = (F.max_pool2d(mask[:, None], 9, 1, 4) > 0).float()
    rgb = torch.where(mask[:, None] > 0, image * 0.8, torch.ones_like(image))
    return _edit(F.pad(torch.cat([rgb, border], 1), (4, 4, 4, 4)), mask)


def guess_only(model, image, mask, task):
    conditioning = encode(model, image, mask, task)
    return deliver(model, conditioning, conditioning.guess)


def encode(model, image, mask, task):
    return SimpleNamespace(image=image, mask=mask, task=task, guess=_filled(image, mask))


def sample(model, conditioning, *, steps=2, seed=0):
    return conditioning.guess + 0.01 * steps


def decode(model, latent):
    return latent


def deliver(model, conditioning, decoded, *, texture=True):
    mask = conditioning.mask[:, None]
    image = torch.where(mask > 0, decoded, conditioning.image)
    if conditioning.task == "sticker":
        return sticker(model, image, conditioning.mask)
    return _edit(image, conditioning.mask)


def swap(model, image, mask, task, tau):
    own = {"remove": 0.4, "outpaint": 1.0, "tone": 0.2, "relight": 0.6, "sticker": 0.8}[task]
    return (image * (1.5 - abs(tau - own))).clamp(0, 1)


def pipeline(**changes):
    """The functions above as one object; a change of None takes one away."""
    known = {
        f.__name__: f
        for f in (remove, outpaint, tone, relight, sticker, guess_only, encode, sample, decode, deliver, swap)
    }
    return SimpleNamespace(**{k: v for k, v in (known | changes).items() if v is not None})


def model():
    """A model whose autoencoder loses nothing."""
    return SimpleNamespace(autoencoder=SimpleNamespace(encode=lambda x: x, decode=lambda z: z))
