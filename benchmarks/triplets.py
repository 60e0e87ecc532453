"""The seeded triplets that are scored: 256 px, three crops a photograph, every task on the same crops.

Degradations, shadows and holes are the training's own generators; photographs and objects are ones that it
never saw. A triplet depends on its photograph's name, its crop and its task alone, so that a subset of the
photographs or tasks gives the same pictures.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..models.errors import EditError
from ..training.blazeedit.data import degrade, holes, photos, shadows

SIZE = 256
EVALUATION_SEEDS = 10_000_000  # rendered objects from here on are never trained on
HOLE_SHARE = (0.05, 0.08)  # of the picture, removal
SUBJECT_SHARE = (0.12, 0.30)  # of the picture, sticker
SHADOW_PIXELS = 250  # at least, so that removal's shadow is there to be measured
VISIBLE = 0.03  # |x - y| of a pixel that belongs to the shadow, sRGB
ATTEMPTS = 40
TARGETS = {"tone": (15.5, 21.5), "relight": (18.0, 24.5)}  # dB of the input; the means lie in the middle
CANDIDATES = 12  # degradations drawn, of which the one nearest to its target is taken
GREY = 0.5  # what stands in the new pixels before outpainting


@dataclass
class Triplet:
    """One scored example. Pictures are float32 [s, s, 3], 0..1; `hole` is bool [s, s], True where to edit."""

    task: str
    photograph: str
    pair: int
    x: np.ndarray
    hole: np.ndarray
    y: np.ndarray
    shadow: np.ndarray | None = None  # bool: visibly shaded pixels outside the hole (removal)
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)  # left, top, right, bottom (outpainting)


def photographs(folder: Path | None, limit: int | None = None) -> dict:
    """Names and where the pictures are: arrays of the five held-out photographs, or the files of a folder."""
    if folder is None:
        found = photos.heldout_photographs()
    else:
        found = {}
        for path in photos.list_pictures(folder):
            found[path.stem if path.stem not in found else path.name] = path
    return dict(list(found.items())[:limit])


class Objects:
    """Where removal and sticker take their objects from: a folder of RGBA pictures, or the rendered ones."""

    def __init__(self, folder: Path | None):
        from ..training.blazeedit.data import cutouts

        self.bank = cutouts.CutoutBank(folder) if folder else None

    def take(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """float32 [size, size, 4], straight alpha."""
        if self.bank is not None:
            return self.bank.take(rng, size, vary=False)
        from ..training.blazeedit.data.objects import render_object

        return render_object(np.random.default_rng(EVALUATION_SEEDS + int(rng.integers(10**9))), size)


def triplets(sources: dict, objects: Objects, tasks, crops: int = 3, size: int = SIZE) -> Iterator[Triplet]:
    """Every triplet, photograph by photograph, so that one photograph at a time is in memory."""
    for name, source in sources.items():
        image = source if isinstance(source, np.ndarray) else photos.read_image(source)
        if min(image.shape[:2]) < 16:
            raise EditError(
                f"{name} is {image.shape[1]} x {image.shape[0]} px, too small to score; remove it."
            )
        bank = photos.PhotoBank({name: image})
        for pair in range(crops):
            y = bank.crop(seeded(name, pair, "crop"), size)
            for task in tasks:
                yield MAKERS[task](seeded(name, pair, task), y, objects, name, pair)


def seeded(name: str, pair: int, purpose: str) -> np.random.Generator:
    """The generator of one photograph, crop and purpose."""
    return np.random.default_rng(
        [EVALUATION_SEEDS, zlib.crc32(name.encode()), pair, zlib.crc32(purpose.encode())]
    )


def removal(rng, y, objects, name, pair) -> Triplet:
    """An object with its shadow on the photograph; the hole is its dilated outline, 5-8 % of the picture.

    Objects are drawn until the hole fits and the shadow shows; on a black photograph, where none can, the best is kept.
    """
    best, merit = None, (-1, -1)
    for _ in range(ATTEMPTS):
        made = _composite(
            rng, y, objects, rng.uniform(*HOLE_SHARE), shadow=True, rate=lambda c: c.mask.mean()
        )
        x, hole = _eight_bit(made.x), made.mask > 0
        shadow = (np.abs(x - y).max(2) > VISIBLE) & ~hole
        fits = HOLE_SHARE[0] <= hole.mean() <= HOLE_SHARE[1]
        if (fits, shadow.sum()) > merit:
            best, merit = Triplet("remove", name, pair, x, hole, y, shadow), (fits, shadow.sum())
        if fits and shadow.sum() >= SHADOW_PIXELS:
            break
    return best


def sticker(rng, y, objects, name, pair) -> Triplet:
    """An object standing on the photograph; the truth is the procedural sticker style inside its outline."""
    from ..training.blazeedit.data.teacher import sticker_teacher

    share = rng.uniform(*SUBJECT_SHARE)
    made = _composite(rng, y, objects, share, shadow=None, rate=lambda c: c.alpha.mean())
    x, subject = _eight_bit(made.x), made.alpha > 0.5
    styled = x + made.alpha[..., None] * (sticker_teacher(x, made.alpha) - x)
    return Triplet("sticker", name, pair, x, subject, styled.astype(np.float32))


def _composite(rng, y, objects, share, shadow, rate):
    """One object at one place, its size corrected until `rate` of the composite is about `share`."""
    rgba, seed, asked = objects.take(rng, y.shape[0]), int(rng.integers(2**62)), share
    for _ in range(4):
        made = shadows.composite(np.random.default_rng(seed), y, rgba, share=asked, shadow=shadow, exact=True)
        asked *= float(np.clip(share / max(rate(made), 1e-3), 0.4, 2.5))
    return made


def outpainting(rng, y, objects, name, pair) -> Triplet:
    """New strips of 20-38 % along the sides."""
    hole = holes.outpaint_strip(rng, y.shape[0]) > 0
    x = np.where(hole[..., None], np.float32(GREY), y)
    return Triplet("outpaint", name, pair, x, hole, y, margins=margins_of(hole))


def margins_of(hole: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a hole that leaves one rectangle."""
    rows, columns = np.flatnonzero(~hole.all(1)), np.flatnonzero(~hole.all(0))
    height, width = hole.shape
    return int(columns[0]), int(rows[0]), int(width - 1 - columns[-1]), int(height - 1 - rows[-1])


def toned(rng, y, objects, name, pair) -> Triplet:
    """Wrong exposure, white balance and gamma."""
    return Triplet(
        "tone", name, pair, _degraded(degrade.tone, y, rng, TARGETS["tone"]), np.ones(y.shape[:2], bool), y
    )


def shaded(rng, y, objects, name, pair) -> Triplet:
    """Coloured shadows with soft borders."""
    x = _degraded(degrade.relight, y, rng, TARGETS["relight"])
    return Triplet("relight", name, pair, x, np.ones(y.shape[:2], bool), y)


def _degraded(degradation, y, rng, target):
    """Of some degradations the one whose distance from the truth is nearest to a drawn target.

    Keeps the mean where the bars expect it on any photographs, without touching the kind of degradation.
    """
    from ..models.measures import psnr

    wanted = rng.uniform(*target)
    drawn = [_eight_bit(degradation(y, rng)) for _ in range(CANDIDATES)]
    return min(drawn, key=lambda x: abs(psnr(x, y) - wanted))


def _eight_bit(image):
    """What a file would hold of it."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.float32) * np.float32(1 / 255)


MAKERS = {"remove": removal, "outpaint": outpainting, "tone": toned, "relight": shaded, "sticker": sticker}
