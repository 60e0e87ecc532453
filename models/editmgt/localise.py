"""Multi-layer attention consolidation (EditMGT, Eq. 3): where in the picture an instruction, or a word of it, acts.

A `layers.Capture` reads the text's attention to the picture in chosen blocks of one step. Here its maps become one
localisation map per step, smoothed (appendix B.2), a final one, a mask, and a picture of the map.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..colour import colours
from ..errors import EditError
from . import interpolation, smoothing
from .config import MGTConfig
from .layers import Capture

BLOCKS = "28-36"  # the paper's choice among the released 42
METHODS = ("none", *smoothing.FILTERS, *interpolation.INTERPOLATIONS)


@dataclass(frozen=True)
class Smoothing:
    """How a map is made coherent. The released code's choice is the default.

    method: none, a filter (gaussian, bilateral, morphological, adaptive; strength counts) or an interpolation (rbf,
    cubic, linear, nearest; factor counts).
    """

    method: str = "adaptive"
    strength: float = 1.0
    factor: int = 3
    preserve_peaks: bool = True

    def __call__(self, maps: Tensor) -> Tensor:
        """Smooths maps [b, h, w] in 0..1. EditError for another method, and for a strength or factor out of range."""
        if self.method not in METHODS:
            raise EditError(
                f"A map cannot be smoothed by {self.method!r}; choose one of {', '.join(METHODS)}."
            )
        if self.method == "none":
            return maps
        if self.method in smoothing.FILTERS:
            return smoothing.smooth(maps, self.method, self.strength, self.preserve_peaks)
        return interpolation.smooth(maps, self.method, self.factor, self.preserve_peaks)


def chosen_blocks(text: str, config: MGTConfig) -> tuple[int, ...]:
    """Global block indices, in order, of words like "28-36", "3, 7, 20-24", "double", "single" or "all".

    A range is cut to the blocks that the model has. EditError where none is left, and for anything else.
    """
    named = {
        "all": range(config.blocks),
        "double": range(config.num_layers),
        "single": range(config.num_layers, config.blocks),
    }
    found = set()
    for part in (p.strip().lower() for p in text.split(",") if p.strip()):
        ends = [p.strip() for p in part.split("-")]
        if part in named:
            found |= set(named[part])
        elif len(ends) <= 2 and all(p.isdecimal() for p in ends):
            found |= set(range(int(ends[0]), int(ends[-1]) + 1))
        else:
            raise EditError(
                f"{part!r} names no blocks; write numbers and ranges as in 28-36, or double, single or all."
            )
    blocks = tuple(sorted(b for b in found if b < config.blocks))
    if not blocks:
        raise EditError(
            f"The model has blocks 0 to {config.blocks - 1}, and {text!r} names none of them; choose others."
        )
    return blocks


def capture(blocks, rows=None, half: bool = True, text: int | None = None) -> Capture:
    """What reads the attention of one step: give it to the transformer, then its `maps` to `localisation`.

    blocks: global indices. rows: positions of the text tokens that count (a keyword's), or None for all of them, the
    padding included, as the released code does. half: the batch is [unconditional, conditional] and the second half
    counts. text: how many text tokens there are, where known. EditError for no row and for one outside the text.
    """
    if rows is None:
        return Capture(blocks, None, half)
    rows = torch.as_tensor(rows, dtype=torch.long).flatten()
    if not len(rows):
        raise EditError("No text token was chosen, so there is no attention to read; check the keyword.")
    if rows.min() < 0 or (text is not None and rows.max() >= text):
        raise EditError(f"Text tokens {rows.tolist()} were chosen, and the text has {text} from 0 on.")
    return Capture(blocks, rows, half)


def consolidated(maps: dict[int, Tensor]) -> Tensor:
    """The mean over the blocks (Eq. 3) of each block's mean over rows and heads: {block: [b, n]} to [b, n]."""
    if not maps:
        raise EditError("No block's attention was read; choose blocks that the model has.")
    return torch.stack(list(maps.values())).mean(0)


def shaped(attention: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens [b, n] on their grid (height, width): [b, h, w]."""
    if attention.shape[-1] != size[0] * size[1]:
        raise EditError(f"{attention.shape[-1]} tokens do not fill a grid of {size[0]}x{size[1]}.")
    return attention.unflatten(-1, size)


def localisation(attention: Tensor, size: tuple[int, int], smooth: Smoothing | None = None) -> Tensor:
    """Consolidated attention [b, n] to the localisation map [b, h, w] in 0..1 on the grid of tokens.

    smooth: None is the default `Smoothing()`.
    """
    return (smooth or Smoothing())(shaped(smoothing.rescale(attention.float()), size))


class Localiser:
    """Gathers the attention of every step of a run, on the device where it was read.

    map() is what region hold asks in a step; steps() and final() are for the end. A step takes b·n numbers.
    """

    def __init__(self, size: tuple[int, int], smooth: Smoothing | None = None):
        self.size, self.smooth = size, smooth or Smoothing()
        self.attention: list[Tensor] = []

    def add(self, maps: dict[int, Tensor]) -> Tensor:
        """Takes what a `Capture` read in a step; returns the step's map [b, h, w]."""
        self.attention.append(consolidated(maps))
        return self.map()

    def map(self) -> Tensor:
        """The map [b, h, w] of the step that was added last."""
        return localisation(self._any()[-1], self.size, self.smooth)

    def steps(self) -> Tensor:
        """All maps so far, [steps, b, h, w]."""
        return torch.stack([localisation(one, self.size, self.smooth) for one in self._any()])

    def final(self, how: str = "mean") -> Tensor:
        """One map [b, h, w] for the run.

        how: "mean" is the mean over the steps' attention, rescaled and smoothed once: the same consolidation along
        time as Eq. 3 makes along depth, steadier than any one step. "last" is the map of the last step.
        """
        if how not in ("mean", "last"):
            raise EditError(f"There is no final map {how!r}; choose mean or last.")
        attention = torch.stack(self._any()).mean(0) if how == "mean" else self._any()[-1]
        return localisation(attention, self.size, self.smooth)

    def _any(self) -> list[Tensor]:
        if not self.attention:
            raise EditError("No step has been taken yet, so there is no map.")
        return self.attention


def mask(maps: Tensor, threshold: float = 0.5, size: tuple[int, int] | None = None) -> Tensor:
    """Maps [b, h, w] to a MASK of 0 and 1: 1, to be edited, where the map is at least `threshold`.

    threshold: Eq. 3's lambda; what lies below it is held. size: (height, width) in pixels; the map is enlarged before
    it is cut, so that the outline is smooth. EditError for a threshold outside 0..1.
    """
    if not 0 <= threshold <= 1:
        raise EditError(f"A map lies in 0..1, and the threshold is {threshold}; choose one within.")
    return (enlarged(maps, size or maps.shape[-2:]) >= threshold).float()


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [b, h, w] at another size (height, width), bilinear."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


def heat_map(maps: Tensor, image: Tensor | None = None, opacity: float = 0.6, size=None) -> Tensor:
    """A picture of the maps [b, h, w]: their colours, over `image` [b or 1, 3, H, W] where there is one.

    opacity: of the colours, 0..1. size: (height, width) without an image; the map's own by default. [b, 3, H, W].
    """
    if image is None:
        return colours(enlarged(maps, size or maps.shape[-2:]))
    made = colours(enlarged(maps.to(image.device), image.shape[-2:]))
    return torch.lerp(image[:, :3].to(made.dtype).expand_as(made), made, float(opacity))
