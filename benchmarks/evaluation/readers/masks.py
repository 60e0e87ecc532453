"""Masks as data sets store them: run lengths, transparent holes, white on black."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops

from ....models.errors import EditError
from ..samples import WHITE, Picture

NEARLY_WHITE = 250


def from_runs(runs: Sequence[int], height: int, width: int, border: bool) -> Image.Image:
    """PIE-Bench's run lengths (start, length, start, length, …, row by row) as a picture, white where they cover it.

    border: also the outermost pixels, as PIE-Bench's metrics have it "to avoid annotation errors". EditError for runs
    that do not fit.
    """
    starts, lengths = np.asarray(runs[0::2], np.int64), np.asarray(runs[1::2], np.int64)
    if len(starts) != len(lengths) or (len(starts) and (starts.min() < 0 or lengths.min() < 0)):
        raise EditError("A mask's run lengths are no pairs of a start and a length.")
    steps = np.zeros(height * width + 1, np.int64)
    inside = starts < height * width
    np.add.at(steps, starts[inside], 1)
    np.add.at(steps, np.minimum(starts + lengths, height * width)[inside], -1)
    mask = (np.cumsum(steps[:-1]) > 0).reshape(height, width)
    if border:
        mask[[0, -1], :] = mask[:, [0, -1]] = True
    return Image.fromarray(mask.astype(np.uint8) * 255)


def holes(mask: Picture, source: Picture) -> Picture:
    """A mask as inpainting services take it, the photograph with a hole, as white on black.

    A transparent hole, white on a picture without grey, or, where the transparency was lost, what is white in the mask
    and not in the source.
    """

    def read() -> Image.Image:
        found = mask.read()
        if found.mode in ("RGBA", "LA") or "transparency" in found.info:
            alpha = found.convert("RGBA").getchannel("A")
            if alpha.getextrema()[0] < 255:
                return ImageChops.invert(alpha).point(lambda level: 255 * (level > 0))
        return _white(found.convert("RGB"), source)

    return Picture(mask.name, read, content=mask.content)


def _white(found: Image.Image, source: Picture) -> Image.Image:
    values = np.asarray(found)
    two_levels = bool(((values <= 5) | (values >= NEARLY_WHITE)).mean() > 0.99)
    if two_levels:
        return found.convert("L").point(lambda level: 255 * (level > WHITE))
    original = np.asarray(source.load().resize(found.size))
    hole = (values >= NEARLY_WHITE).all(-1) & (original != values).any(-1)
    return Image.fromarray(hole.astype(np.uint8) * 255)
