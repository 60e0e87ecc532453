"""Runs the project's own edits on scored triplets: the very functions of the pipeline that the nodes call.

The classical first guess goes through `guess_only`, other tasks' τ through `swap`; a bar whose model was not given
(an undistilled one, a full decoder) says "not measured".
"""

from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import torch

from ..models import measures
from .triplets import Triplet

SEED = 7  # of every sampler: the noise of a pair does not change from run to run


@dataclass
class Kit:
    """The pipeline's functions and the loaded models. `undistilled` and `full_decoder` serve two aims only."""

    pipeline: ModuleType
    model: object
    undistilled: object | None = None
    full_decoder: object | None = None  # an autoencoder with .encode and .decode


@dataclass
class Result:
    """A delivered picture: float32 [s, s, 3], where it may differ from the input, and the sticker's alpha."""

    image: np.ndarray
    changed: np.ndarray | None = None
    rgba: np.ndarray | None = None  # [h', w', 4], the sticker's grown canvas


def planes(image: np.ndarray) -> torch.Tensor:
    """float32 [h, w, c] -> [1, c, h, w]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))[None]


def pixels(image: torch.Tensor) -> np.ndarray:
    """[1, c, h, w] -> float32 [h, w, c]."""
    return np.ascontiguousarray(image[0].detach().float().permute(1, 2, 0).cpu().numpy())


def mask_of(triplet: Triplet) -> torch.Tensor:
    """The hole as the pipeline takes it, [1, h, w]."""
    return torch.from_numpy(triplet.hole.astype(np.float32))[None]


def ours(kit: Kit, triplet: Triplet) -> Result:
    """What a user gets from the one-click function of the task with its defaults."""
    p, x = kit.pipeline, planes(triplet.x)
    if triplet.task == "remove":
        edit = p.remove(kit.model, x, mask_of(triplet), seed=SEED)
    elif triplet.task == "outpaint":
        left, top, right, bottom = triplet.margins
        kept = x[..., top : x.shape[2] - bottom, left : x.shape[3] - right]
        edit = p.outpaint(kit.model, kept, left=left, top=top, right=right, bottom=bottom, seed=SEED)
    elif triplet.task == "sticker":
        return _sticker(p.sticker(kit.model, x, mask_of(triplet), seed=SEED).image, triplet)
    else:
        edit = getattr(p, triplet.task)(kit.model, x)
    return _result(edit)


def tone_network(kit: Kit, triplet: Triplet) -> Result:
    """Tone by the network, whatever the default is."""
    return _result(kit.pipeline.tone(kit.model, planes(triplet.x), method="network"))


def first_guess(kit: Kit, triplet: Triplet) -> Result:
    """The classical first guess alone, through the same delivery as the network's result.

    Tone's is a stretch of the whole picture and relighting's the picture itself: neither needs a map to be fitted.
    """
    p, x = kit.pipeline, planes(triplet.x)
    if triplet.task == "relight":
        return Result(triplet.x)
    if triplet.task == "tone":
        return _result(p.tone(kit.model, x, method="stretch"))
    edit = p.guess_only(kit.model, x, mask_of(triplet), triplet.task)
    return _sticker(edit.image, triplet) if triplet.task == "sticker" else _result(edit)


def _result(edit) -> Result:
    return Result(np.clip(pixels(edit.image)[..., :3], 0, 1), edit.changed[0].float().cpu().numpy())


def _sticker(rgba: torch.Tensor, triplet: Triplet) -> Result:
    """Cuts the picture's own area out of the sticker's canvas, which is grown evenly for the border."""
    rgba = pixels(rgba)
    height, width = triplet.hole.shape
    top, left = (rgba.shape[0] - height) // 2, (rgba.shape[1] - width) // 2
    return Result(np.clip(rgba[top : top + height, left : left + width, :3], 0, 1), rgba=rgba)


def border_change(kit: Kit, triplet: Triplet, made: Result) -> float:
    """How much border and shadow depend on anything but the mask: the largest change under inverted colours.

    Alpha everywhere, colours outside the subject (2 px grown, where the subject's soft edge is mixed in).
    """
    other = ours(kit, replace(triplet, x=1 - triplet.x)).rgba
    height, width = triplet.hole.shape
    top, left = (made.rgba.shape[0] - height) // 2, (made.rgba.shape[1] - width) // 2
    subject = np.zeros(made.rgba.shape[:2], bool)
    subject[top : top + height, left : left + width] = triplet.hole
    outside = ~measures.dilated(subject, 2)
    difference = np.abs(made.rgba - other)
    return float(max(difference[..., 3].max(), difference[outside].max(initial=0)))


def fill(kit: Kit, triplet: Triplet, steps: int, model=None) -> np.ndarray:
    """The net's fill of a hole before the texture copy, pasted as it is delivered: float32 [h, w, 3]."""
    p, model = kit.pipeline, kit.model if model is None else model
    conditioning = p.encode(model, planes(triplet.x), mask_of(triplet), triplet.task)
    latent = p.sample(model, conditioning, steps=steps, seed=SEED)
    edit = p.deliver(model, conditioning, p.decode(model, latent), texture=False)
    return _result(edit).image


def swapped(kit: Kit, triplet: Triplet, tau: float) -> Result | None:
    """The edit with another task's τ: first guess, mask and delivery stay. None where the pipeline has no `swap`."""
    if not hasattr(kit.pipeline, "swap"):
        return None
    image = kit.pipeline.swap(kit.model, planes(triplet.x), mask_of(triplet), triplet.task, tau)
    if triplet.task == "sticker":
        return _sticker(image, triplet)
    return Result(np.clip(pixels(image)[..., :3], 0, 1))


def reconstructions(kit: Kit, image: np.ndarray) -> dict[str, np.ndarray]:
    """The picture through the autoencoder and back, by decoder."""
    coders = {"light decoder": kit.model.autoencoder, "full decoder": kit.full_decoder}
    out = {}
    with torch.inference_mode():
        for name, coder in coders.items():
            if coder is not None:
                out[name] = np.clip(pixels(coder.decode(coder.encode(planes(image)))), 0, 1)
    return out
