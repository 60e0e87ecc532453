"""Edits that reach the picture as a map: lifted shadows, relighting and tone."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import masks
from ..errors import EditError
from ..filters import gaussian_blur
from ..image import resize
from ..region import composite, crop_around
from .delivery import apply_colour_map, apply_gain, fade_gain, upsample_gain
from .first_guess import TONE_BLEND, TONE_LIMIT
from .guess import luminance_stretch, partial_stretch
from .model import BlazeEdit
from .tasks import TASKS
from .work import SHADOW_CONTEXT, Edit, fitted

RELIGHT_SCALE = (
    0.7  # the log-gain is shrunk: naturally dark places look like shadows (chosen on held-back photographs)
)
TONE_SCALE = 0.95  # held-back photographs prefer 0.85 to 1; the rest is left to the strength slider
WHITE = 0.9  # from here on a pixel counts as partly burnt out
TONE_DEFAULT = "network"
THUMBNAIL = 64
ATTACHED = 0.05  # log-gain from which a place counts as shadow when its connection to the object is sought
SHADOW_SCALE = 1.15  # the head is a little timid (this and the thresholds: chosen on held-back photographs)
TAPER = 0.12  # share of a crop's side over which a gain fades out before the crop's border


def shrink(image: Tensor, size: tuple[int, int]) -> Tensor:
    """resize, but the same tensor where nothing changes."""
    return image if tuple(image.shape[-2:]) == tuple(size) else resize(image, size)


def log_gain(model: BlazeEdit, image: Tensor, mask: Tensor, tau: float) -> Tensor:
    """The gain head on a picture scaled to its own size. Returns the small log-gain map [1, 3, h', w']."""
    size = fitted(*image.shape[-2:], model.config.gain_size)
    small_mask = masks.fit(mask, *size, mode="nearest")
    return model.gain_head(shrink(image, size), small_mask * tau)


def lift_shadow(model: BlazeEdit, image: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
    """Lifts the shadow that the object in the hole casts around it. Returns the picture and where it changed (0 or 1).

    The gain head sees the hole's surroundings; its gain fades to nothing before the crop ends, so that no edge shows.
    """
    crop, crop_hole, record = crop_around(image, hole, context=SHADOW_CONTEXT, multiple=8, minimum=96)
    small = log_gain(model, crop, crop_hole, TASKS["remove"].tau).clamp_min(0)  # a lifted shadow gets lighter
    small = SHADOW_SCALE * small
    small = small * attached(small, masks.fit(crop_hole, *small.shape[-2:], mode="nearest"))
    gain = upsample_gain(fade_gain(small, 0.03), crop) * _taper(crop, record, image)
    gain = fade_gain(gain, 0.02) * (1 - crop_hole[:, None])
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
    if model.gain_head is None:
        raise EditError(
            f"{model.config.name} has no gain head; relight with blazeedit-small or wire the sampler nodes."
        )
    white = torch.ones(1, *image.shape[-2:], device=image.device)
    small = RELIGHT_SCALE * log_gain(model, image, white, TASKS["relight"].tau)
    return apply_gain(image, upsample_gain(small, image))


def tone(model: BlazeEdit, image: Tensor, method: str) -> Tensor:
    """The tone-corrected picture [1, 3, h, w] at full size."""
    method = TONE_DEFAULT if method == "default" else method
    if method == "stretch":
        return partial_stretch(image, TONE_BLEND, TONE_LIMIT)
    if method != "network":
        raise EditError(f"The tone method {method!r} is unknown; choose default, network or stretch.")
    if model.tone_head is None:
        raise EditError(f"{model.config.name} has no tone head; use the method stretch, or blazeedit-small.")
    thumbnail = resize(image, (THUMBNAIL, THUMBNAIL), mode="area")
    blend, residual = model.tone_head(thumbnail, luminance_stretch(thumbnail, TONE_LIMIT))
    base = partial_stretch(image, TONE_SCALE * float(blend), TONE_LIMIT)
    toned = (base + apply_colour_map(base, TONE_SCALE * residual)).clamp_(0, 1)
    return keep_white(toned, image)


def keep_white(toned: Tensor, image: Tensor) -> Tensor:
    """Leaves burnt-out white white: grey where a photograph has clipped looks like fog.

    The nearer all three channels of the input are to 1, the less its colour map may darken it.
    """
    burnt = ((image.amin(1, keepdim=True) - WHITE) / (1 - WHITE)).clamp_(0, 1).square_()
    return torch.lerp(toned, torch.maximum(toned, image), burnt)


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
