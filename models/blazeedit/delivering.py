"""From the decoded working canvas to the user's full-resolution picture, each task in its own way."""

import torch
from torch import Tensor

from .. import masks
from ..image import resize
from ..region import composite
from .cutout import die_cut
from .delivery import (
    apply_colour_map,
    apply_gain,
    fit_colour_map,
    paste,
    seam_correction,
    upsample_gain,
)  # fmt: skip
from .guess import sticker_guess
from .maps import shrink
from .model import BlazeEdit
from .texture import coherent_copy
from .work import Conditioning, Edit, Work

TEXTURE_SIGMA = 2.0  # px, for holes of up to TEXTURE_HOLE; this and the gains were chosen on photographs held back from training
TEXTURE_HOLE = 48.0  # px; larger holes lack coarser structure too, so what is copied grows with them
TEXTURE_GAIN = {True: 0.7, False: 0.8}  # outpainting, removal
GAIN_BLUR = 1.5  # px at working size; finer differences are the codec's, not the light's


@torch.no_grad()
def deliver(
    model: BlazeEdit, conditioning: Conditioning, decoded: list[Tensor], *, feather: int = 4, strength: float = 1.0,
    texture: bool = True,
) -> Edit:  # fmt: skip
    """Takes decoded working images [1, 3, hw, ww] to full resolution; bit-identical where Edit.changed is 0.

    Removal and outpainting paste the fill with copied texture, tone goes through a colour map, relighting through a
    gain map. The mask's grey value times `strength` is the opacity.
    """
    kind = conditioning.task.delivery
    if kind == "sticker":
        return deliver_sticker(conditioning, decoded)
    edits = []
    for work, small in zip(conditioning.works, decoded, strict=True):
        small = small[..., : work.small.shape[-2], : work.small.shape[-1]].to(work.image.device)
        if kind == "paste":
            edits.append(
                _paste(work, small, feather, strength, texture, conditioning.task.name == "outpaint")
            )
        else:
            edits.append(_map(model, work, small, strength, kind))
    images, changed = zip(*edits, strict=True)
    return Edit(torch.cat(images), torch.cat(changed))


def _paste(work: Work, small: Tensor, feather: int, strength: float, texture: bool, whole: bool):
    """The fill in the hole's surroundings at full resolution, blended into the picture by the mask."""
    hole = masks.binarise(work.mask)
    top, left = (0, 0) if work.crop is None else (work.crop.top, work.crop.left)
    height, width = work.image.shape[-2:] if work.crop is None else (work.crop.height, work.crop.width)
    window = (..., slice(top, top + height), slice(left, left + width))
    picture, local = work.image[window], hole[window]
    smooth = seam_correction(small, work.small, work.small_mask)
    guide = shrink(torch.where(work.small_mask[:, None] > 0, smooth, work.small), picture.shape[-2:]).clamp(
        0, 1
    )
    fill = (
        coherent_copy(picture, local, guide, sigma=_texture_sigma(local), gain=TEXTURE_GAIN[whole])
        if texture
        else guide
    )
    soft = hole if whole else masks.feather(hole, feather)
    weight = (soft * strength if whole else _opacity(soft, work.mask, hole, strength))[window]
    out = work.image.clone()
    out[window] = paste(picture, fill, weight)
    changed = torch.zeros_like(hole)
    changed[window] = weight
    if work.shadow is not None:
        out = _fade_shadow(work, out, strength)
        changed = torch.maximum(changed, work.shadow)
    return out, changed


def _texture_sigma(hole: Tensor) -> float:
    """Pixels that separate the network's low frequencies from the copied high ones, by the side of the hole."""
    rows, columns = hole[0].amax(1).sum(), hole[0].amax(0).sum()
    side = min(float(hole.sum()) ** 0.5, float(rows), float(columns))
    return TEXTURE_SIGMA * max(1.0, side / TEXTURE_HOLE)


def _opacity(soft: Tensor, mask: Tensor, hole: Tensor, strength: float) -> Tensor:
    """The feathered hole with the mask's own grey inside it."""
    return torch.where(hole > 0, torch.minimum(soft, mask), soft) * strength


def _fade_shadow(work: Work, out: Tensor, strength: float) -> Tensor:
    return out if strength == 1 else composite(work.original, out, torch.full_like(work.mask, strength))


def _map(model: BlazeEdit, work: Work, small: Tensor, strength: float, kind: str):
    """The edit as a map between the codec's own reconstruction and its output, applied to the full picture."""
    seen = model.autoencoder.decode(model.autoencoder.encode(work.small)).clamp(0, 1)
    if (
        kind == "residual"
    ):  # a task of the user's: what the network changed, on top of every pixel of the photo
        edited = (work.image + resize(small - seen, work.image.shape[-2:])).clamp(0, 1)
    elif kind == "colour_map":
        edited = apply_colour_map(work.image, fit_colour_map(seen, small)).clamp(0, 1)
    else:
        edited = apply_gain(work.image, upsample_gain(_log_ratio(seen, small), work.image))
    weight = work.mask * strength
    return composite(work.original, edited, weight), weight


def _log_ratio(before: Tensor, after: Tensor) -> Tensor:
    """Log-gain in linear light between two blurred pictures."""
    from ..filters import gaussian_blur
    from ..image import srgb_to_linear

    blurred = [gaussian_blur(srgb_to_linear(x), GAIN_BLUR) + 0.01 for x in (before, after)]
    return torch.log(blurred[1] / blurred[0]).clamp(-2.5, 2.5)


def deliver_sticker(
    conditioning: Conditioning, decoded: list[Tensor], *, border: float = 0.03, shadow: bool = True
) -> Edit:
    """The subject's colours at full resolution, its border and its drop shadow. Returns RGBA and its alpha."""
    images = []
    for work, small in zip(conditioning.works, decoded, strict=True):
        small = small[..., : work.small.shape[-2], : work.small.shape[-1]]
        colours = sticker_guess(work.image, masks.binarise(work.mask, 0.5)) + resize(
            small - work.guess, work.image.shape[-2:], mode="bicubic"
        )
        pixels = round(border * min(work.image.shape[-2:]))
        images.append(die_cut(colours.clamp(0, 1), work.mask, pixels, shadow))
    out = torch.cat(images)
    return Edit(out, out[:, 3])
