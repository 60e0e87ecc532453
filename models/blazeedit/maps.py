"""Edits that reach the picture as a map: lifted shadows, relighting and tone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import masks
from ..errors import EditError
from ..filters import gaussian_blur
from ..image import resize
from ..region import composite, crop_around
from .delivery import apply_gain, fade_gain, upsample_gain
from .model import BlazeEdit
from .tasks import TASKS
from .work import SHADOW_CONTEXT, Edit, fitted

RELIGHT_SCALE = (
    0.7  # the log-gain is shrunk: naturally dark places look like shadows (chosen on held-back photographs)
)
TONE_SCALE = 0.7  # of what the network changes in the partial stretch: the two err on different photographs
HIGHLIGHTS = 8  # power of the brightness: how far down from white the lift reaches
WHITE_DROP = (
    0.12  # how much a colour map may darken pure white; chosen, with the two above, on held-back photographs
)
TONE_DEFAULT = "network"
ATTACHED = 0.05  # log-gain from which a place counts as shadow when its connection to the object is sought
SHADOW_EDGES = (1, 0.01)  # guided filter: with a true gain map, radius 3 would halve what can be reached
SHADOW_FADE = (0.03, 0.02)  # log-gain that counts as noise, in the small map and at full size
SHADOW_MINIMUM = 96  # px of the surroundings that a shadow is looked for in, at least
TAPER = 0.12  # share of a crop's side over which a gain fades out before the crop's border


def shrink(image: Tensor, size: tuple[int, int]) -> Tensor:
    """resize, but the same tensor where nothing changes."""
    return image if tuple(image.shape[-2:]) == tuple(size) else resize(image, size)


def log_gain(head: nn.Module, image: Tensor, mask: Tensor, tau: float, longest: int) -> Tensor:
    """A gain head on a picture scaled to its own size. Returns the small log-gain map [1, 3, h', w']."""
    size = fitted(*image.shape[-2:], longest)
    small_mask = masks.fit(mask, *size, mode="nearest")
    return head(shrink(image, size), small_mask * tau)


def lift_shadow(model: BlazeEdit, image: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
    """Lifts the shadow that the object in the hole casts around it. Returns the picture and where it changed (0 or 1).

    The gain head sees the hole's surroundings; its gain fades to nothing before the crop ends, so that no edge shows.
    """
    crop, crop_hole, record = crop_around(image, hole, context=SHADOW_CONTEXT, multiple=8, minimum=SHADOW_MINIMUM)
    small = log_gain(model.shadow_head, crop, crop_hole, TASKS["remove"].tau, model.config.gain_size)
    small = small.clamp_min(0)  # a lifted shadow gets lighter
    small = small * attached(small, masks.fit(crop_hole, *small.shape[-2:], mode="nearest"))
    gain = upsample_gain(fade_gain(small, SHADOW_FADE[0]), crop, *SHADOW_EDGES) * _taper(crop, record, image)
    gain = fade_gain(gain, SHADOW_FADE[1]) * (1 - crop_hole[:, None])
    lifted = apply_gain(crop, gain)
    moved = (gain.abs().amax(1) > 0).float()
    out, shadow = image.clone(), torch.zeros_like(hole)
    window = (
        slice(record.top, record.top + crop.shape[-2]),
        slice(record.left, record.left + crop.shape[-1]),
    )
    out[..., window[0], window[1]] = torch.where(moved[:, None] > 0, lifted, crop)
    shadow[..., window[0], window[1]] = moved
    return out, shadow


def attached(gain: Tensor, hole: Tensor) -> Tensor:
    """1 where a gain region touches the hole, softly 0 elsewhere: an object's shadow begins at the object.

    Morphological reconstruction from the hole inside the thresholded gain. gain: [1, 3, h, w], hole: [1, h, w].
    """
    region = ((gain.amax(1, keepdim=True) > ATTACHED) | (hole[:, None] > 0)).float()
    reached = F.max_pool2d(hole[:, None], 5, 1, 2) * region
    for _ in range(max(gain.shape[-2:])):
        reached = F.max_pool2d(reached, 3, 1, 1) * region
    return gaussian_blur(F.max_pool2d(reached, 3, 1, 1), 1.0)


def _taper(crop: Tensor, record, image: Tensor) -> Tensor:
    """1 inside the crop, falling to 0 at those of its borders that are not the picture's own. [1, 1, h, w]."""
    h, w = crop.shape[-2:]
    rows = _ramp(h, record.top == 0, record.top + h >= image.shape[-2], crop)
    columns = _ramp(w, record.left == 0, record.left + w >= image.shape[-1], crop)
    return (rows[:, None] * columns[None, :])[None, None]


def _ramp(length: int, open_start: bool, open_end: bool, like: Tensor) -> Tensor:
    position = (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) / (TAPER * length)
    start = torch.ones_like(position) if open_start else position.clamp(max=1)
    end = torch.ones_like(position) if open_end else position.flip(0).clamp(max=1)
    return start * end


def relight(model: BlazeEdit, image: Tensor) -> Tensor:
    """The relit picture [1, 3, h, w] at full size."""
    if model.relight_head is None:
        raise EditError(f"{model.config.name} has no relight head; choose the method network.")
    white = torch.ones(1, *image.shape[-2:], device=image.device)
    small = log_gain(model.relight_head, image, white, TASKS["relight"].tau, model.config.gain_size)
    small = RELIGHT_SCALE * small
    return apply_gain(image, upsample_gain(small, image))


def highlights(image: Tensor, white: Tensor) -> Tensor:
    """What keeps white white: a lift of the brightest tones by as much as their colour map darkens pure white.

    A burnt-out sky that turns grey looks like fog. white: [1, 3, 1, 1], what the map makes of (1, 1, 1).
    """
    return (1 - white).clamp_min(0) * image.amin(1, keepdim=True) ** HIGHLIGHTS


def edit_by_map(
    image: Tensor, mask: Tensor | None, strength: float, edit: Callable[[Tensor], Tensor],
    callback: Callable[[int, int], None] | None,
) -> Edit:  # fmt: skip
    """Runs a map edit per picture and composites it by mask · strength. Outside the mask pixels are bit-identical."""
    if not 0 <= strength <= 1:
        raise EditError(f"The strength is {strength}; use a value from 0 to 1.")
    shape = (len(image), *image.shape[-2:])
    weight = (
        torch.ones(shape, device=image.device)
        if mask is None
        else masks.fit(mask, *shape[1:], batch=shape[0])
    )
    weight = weight * strength
    out = []
    for index in range(len(image)):
        one = image[index : index + 1]
        edited = edit(one)
        whole = mask is None and strength == 1
        out.append(edited if whole else composite(one, edited, weight[index : index + 1]))
        if callback is not None:
            callback(index + 1, len(image))
    return Edit(out[0] if len(out) == 1 else torch.cat(out), weight)
