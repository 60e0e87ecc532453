"""From the decoded working canvas to the user's full-resolution picture, each task in its own way."""

import torch
from torch import Tensor

from .. import masks
from ..filters import Enlarged
from ..image import resize
from ..region import Crop, composite, new_strips
from .cutout import die_cut, margin
from .delivery import apply_colour_map, apply_gain, fit_colour_map, seam_correction, upsample_gain
from .first_guess import TONE_BLEND, TONE_LIMIT, first_guess
from .guess import partial_stretch, sticker_guess
from .maps import RELIGHT_SCALE, TONE_SCALE, WHITE_DROP, highlights, shrink
from .model import BlazeEdit
from .texture import coherent_copy
from .work import Conditioning, Edit, Work, fitted, shrink_known

# px, for holes of up to TEXTURE_HOLE; chosen, as the gains, on photographs held back from training
TEXTURE_SIGMA = 1.5
TEXTURE_HOLE = 48.0  # px; larger holes lack coarser structure too, so what is copied grows with them
TEXTURE_GAIN = {True: 0.85, False: 0.85}  # outpainting, removal
STRIP_CONTEXT = 2.0  # how much of the picture beside a new strip its texture may come from, times its breadth
GUIDE_SIZE = 1024  # longest side at which a first guess is made for delivery; it is smooth by nature
# longest side at which a sticker's colours are drawn; they are smooth, its outline is not
STICKER_RENDER = 1536
GAIN_BLUR = 1.5  # px at working size; finer differences are the codec's, not the light's


@torch.no_grad()
def deliver(
    model: BlazeEdit, conditioning: Conditioning, decoded: list[Tensor], *, feather: int = 4, strength: float = 1.0,
    texture: bool = True, seed: int = 0,
) -> Edit:  # fmt: skip
    """Takes decoded working images [1, 3, hw, ww] to full resolution; bit-identical where Edit.changed is 0.

    Removal and outpainting paste the fill with copied texture, tone goes through a colour map, relighting through a
    gain map. The mask's grey value times `strength` is the opacity. seed: 0 copies texture from where it fits best.
    """
    kind = conditioning.task.delivery
    if kind == "sticker":
        return deliver_sticker(model, conditioning, decoded)
    edits = []
    for work, small in zip(conditioning.works, decoded, strict=True):
        small = _own(work, small)
        if kind == "paste":
            change, whole = _change(model, work, small), conditioning.task.name == "outpaint"
            edits.append(_paste(work, change, feather, strength, texture, whole, seed))
        else:
            edits.append(_map(model, work, small, strength, kind))
    images, changed = zip(*edits, strict=True)
    return Edit(torch.cat(images), torch.cat(changed))


def _own(work: Work, small: Tensor) -> Tensor:
    """A decoded picture without the padding that a batch of several sizes, or a model of one size, needs."""
    return small[..., : work.small.shape[-2], : work.small.shape[-1]].to(work.image.device)


def _change(model: BlazeEdit, work: Work, small: Tensor) -> Tensor:
    """What the network changed in the first guess; the codec's own loss, which both went through, cancels out."""
    if work.guess_latent is None:
        return small - work.guess
    return small - _own(work, model.autoencoder.decode(work.guess_latent).clamp(0, 1))


def _paste(work: Work, change: Tensor, feather: int, strength: float, texture: bool, whole: bool, seed: int):
    """The fill in the hole's surroundings at full resolution, blended into the picture by the mask."""
    hole = masks.binarise(work.mask)
    window = (...,) if work.crop is None else work.crop.window
    picture, local = work.image[window], hole[window]
    guide = _Guide(work, change, picture, local, "outpaint" if whole else "remove")
    fill = _filled(picture, local, guide, texture, whole, seed)
    soft = hole if whole else masks.feather(work.mask[window], feather)
    changed, base = torch.zeros_like(hole), work.image
    if work.shadow is not None:  # its opacity is that of the object it belongs to
        opacity = strength * float((work.mask * hole).sum() / hole.sum())
        changed = work.shadow * opacity
        base = composite(work.original, work.image, changed)
    weight = soft * strength
    out = base.clone()
    out[window] = composite(base[window], fill, weight)
    changed[window] = torch.maximum(changed[window], weight)
    return out, changed


def _filled(picture: Tensor, hole: Tensor, guide: "_Guide", texture: bool, whole: bool, seed: int) -> Tensor:
    """The picture with its hole filled; outpainted strips one after the other, each from what lies beside it."""
    fill, left = picture.clone(), hole.clone()
    everything = Crop(0, 0, *picture.shape[-2:])
    for target, around in new_strips(hole, STRIP_CONTEXT) if whole else [(everything, everything)]:
        near, empty = fill[around.window], left[around.window]
        piece = guide.filled(near, empty, around)
        if texture:
            sigma = _texture_sigma(left[target.window])
            piece = coherent_copy(near, empty, piece, sigma=sigma, gain=TEXTURE_GAIN[whole], seed=seed)
        inside = Crop(target.top - around.top, target.left - around.left, target.height, target.width)
        fill[target.window] = piece[inside.window]
        left[target.window] = 0
    return fill


class _Guide:
    """The low frequencies of the fill: the first guess at full size, and what the network changed in the small one.

    The change is zero at the hole's edge, so the full-size guess alone meets the picture there and no seam can show.
    """

    def __init__(self, work: Work, change: Tensor, picture: Tensor, hole: Tensor, task: str):
        full = picture.shape[-2:]
        guess = first_guess(task, *shrink_known(picture, hole, fitted(*full, GUIDE_SIZE, multiple=1)))
        change = seam_correction(change, torch.zeros_like(change), work.small_mask) * work.small_mask[:, None]
        self.guess, self.change = Enlarged(guess, full), Enlarged(change, full)

    def filled(self, picture: Tensor, hole: Tensor, crop: Crop) -> Tensor:
        """A crop of the picture with its hole filled."""
        rows, columns = crop.window[1:]
        smooth = self.guess.window(rows, columns) + self.change.window(rows, columns)
        return torch.where(hole[:, None] > 0, smooth.clamp_(0, 1), picture)


def _texture_sigma(hole: Tensor) -> float:
    """Pixels that separate the network's low frequencies from the copied high ones, by the side of the hole."""
    rows, columns = hole[0].amax(1).sum(), hole[0].amax(0).sum()
    side = min(float(hole.sum()) ** 0.5, float(rows), float(columns))
    return TEXTURE_SIGMA * max(1.0, side / TEXTURE_HOLE)


def _map(model: BlazeEdit, work: Work, small: Tensor, strength: float, kind: str):
    """The edit as a map between the codec's own reconstruction and its output, applied to the full picture."""
    latent = model.autoencoder.encode(work.small)  # None: a bundle without an encoder for pictures
    seen = work.small if latent is None else _own(work, model.autoencoder.decode(latent).clamp(0, 1))
    if kind == "residual":  # a task of the user's: what the network changed, on top of the photo's own pixels
        edited = (work.image + resize(small - seen, work.image.shape[-2:])).clamp(0, 1)
    elif kind == "colour_map":
        guess = partial_stretch(work.image, TONE_BLEND, TONE_LIMIT)
        edited = torch.lerp(guess, _recoloured(work.image, fit_colour_map(seen, small)), TONE_SCALE)
    else:
        edited = apply_gain(work.image, upsample_gain(RELIGHT_SCALE * _log_ratio(seen, small), work.image))
    weight = work.mask * strength
    return composite(work.original, edited, weight), weight


def _recoloured(image: Tensor, coefficients: Tensor) -> Tensor:
    """The colour map on the full picture, its white kept white.

    A map that darkens white by more than `WHITE_DROP` takes a bright photo for an overexposed one: it is weakened.
    """
    white = apply_colour_map(image.new_ones(1, 3, 1, 1), coefficients)
    edited = (apply_colour_map(image, coefficients) + highlights(image, white)).clamp_(0, 1)
    drop = float((1 - white).max())
    return edited if drop <= WHITE_DROP else torch.lerp(image, edited, WHITE_DROP / drop)


def _log_ratio(before: Tensor, after: Tensor) -> Tensor:
    """Log-gain in linear light between two blurred pictures."""
    from ..filters import gaussian_blur
    from ..image import srgb_to_linear

    blurred = [gaussian_blur(srgb_to_linear(x), GAIN_BLUR) + 0.01 for x in (before, after)]
    return torch.log(blurred[1] / blurred[0]).clamp(-2.5, 2.5)


def deliver_sticker(
    model: BlazeEdit, conditioning: Conditioning, decoded: list[Tensor], *, border: float = 0.03, shadow: bool = True
) -> Edit:  # fmt: skip
    """The subject's colours at full resolution, its border and its drop shadow. Returns RGBA and its alpha."""
    images = []
    for work, small in zip(conditioning.works, decoded, strict=True):
        change = _change(model, work, _own(work, small))
        pixels = round(border * min(work.image.shape[-2:]))
        piece = die_cut(_sticker_colours(work, change), work.mask[work.crop.window], pixels, shadow)
        height, width = (side + 2 * margin(pixels, shadow) for side in work.image.shape[-2:])
        canvas = piece.new_zeros(1, 4, height, width)
        canvas[..., work.crop.top : work.crop.top + piece.shape[-2], work.crop.left :][
            ..., : piece.shape[-1]
        ] = piece
        images.append(canvas)
    out = torch.cat(images)
    return Edit(out, out[:, 3])


def _sticker_colours(work: Work, change: Tensor) -> Tensor:
    """The crop's colours: the guess at (almost) full size plus what the network changed in the small one."""
    picture, subject = work.image[work.crop.window], masks.binarise(work.mask[work.crop.window], 0.5)
    size = fitted(*picture.shape[-2:], STICKER_RENDER, multiple=1)
    guess = sticker_guess(shrink(picture, size), masks.fit(subject, *size, mode="nearest"))
    return shrink((guess + shrink(change, size)).clamp(0, 1), picture.shape[-2:])
