"""Attention Atlas (EditMGT, appendix B.1): what text and picture attend to, block by block and step by step.

Three maps of the picture's tokens are drawn per block, each the mean over the heads:
- text to image: how much the chosen text tokens (queries) look at each picture token; Eq. 3's map of that block;
- image to text: how much each picture token (query) looks at the chosen text tokens;
- image to image: how much each picture token is looked at by all the others, or by one chosen point.
The paper does not say how it made a picture of attention between n and n tokens; the mean over the queries keeps what
it describes: foreground shapes. The reference is left out of the softmax, as in the released code.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import sheet
from ..errors import EditError
from . import localise, padding, smoothing
from .config import MGTConfig

KINDS = {
    "text_to_image": "text to image",
    "image_to_text": "image to text",
    "image_to_image": "image to image",
}
CHUNK = 256  # queries at a time, so that a block's whole attention never exists
STEPS = "first, middle, last"
MOST_PIXELS = 64_000_000  # of a sheet: 770 MB as an IMAGE

Maps = dict[tuple[int, str], Tensor]  # by block and kind: [b, n]


class AtlasCapture:
    """Reads the maps of chosen blocks; where a `layers.Capture` goes, this one may go instead.

    blocks: global indices. rows: positions of the text tokens that count, or None for all. point: index of the picture
    token whose view is the image-to-image map, or None for the mean. half: only the batch's second half counts. kinds:
    which of the maps are read at all. pads: for how many the first text token stands (`padding`). After a step
    maps[block, kind] is [b, n], on the device where it was read; while reading, at most CHUNK rows of attention exist.
    """

    def __init__(
        self, blocks, rows=None, point: int | None = None, half: bool = True, kinds=tuple(KINDS), pads: int = 1
    ):
        self.text, self.pads = localise.capture(blocks, rows, half), pads
        self.text.pads = pads
        self.blocks, self.rows, self.point, self.half = self.text.blocks, self.text.rows, point, half
        self.kinds = known(kinds)
        self.maps: Maps = {}

    def __call__(self, block: int, q: Tensor, k: Tensor, text: int, image: int) -> None:
        """q, k: [b, heads, text + image + …, d] after norm and rotation."""
        if block not in self.blocks:
            return
        if self.point is not None and not 0 <= self.point < image:
            raise EditError(f"Point {self.point} is not one of the picture's {image} tokens.")
        found = {}
        if "text_to_image" in self.kinds:
            self.text(block, q, k, text, image)
            found["text_to_image"] = self.text.maps.pop(block)
        if set(self.kinds) != {"text_to_image"}:
            if self.half:
                q, k = (x[len(x) // 2 :] for x in (q, k))
            found |= self._of_picture(q, k[:, :, : text + image].float(), text, image)
        self.maps |= {(block, kind): found[kind] for kind in self.kinds}

    def _of_picture(self, q: Tensor, k: Tensor, text: int, image: int) -> dict[str, Tensor]:
        """The picture's attention: to the chosen text tokens, and to itself, over its queries or from the point."""
        to_text, to_image = [], 0
        for start in self._starts(image):
            rows = q[:, :, text + start : text + min(start + CHUNK, image)].float()
            scores = rows @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            scores[..., 0] += math.log(self.pads)
            found = scores.softmax(-1).mean(1)
            to_text.append(self._words(found[..., :text]))
            if self.point is None:
                to_image = to_image + found[..., text:].sum(1) / image
            elif start <= self.point < start + CHUNK:
                to_image = found[:, self.point - start, text:]
        return {"image_to_text": torch.cat(to_text, 1), "image_to_image": to_image}

    def _words(self, found: Tensor) -> Tensor:
        """Attention to each text token [b, n, t] to its mean over the chosen ones, in which every pad counts."""
        if self.rows is None:
            return found.sum(-1) / (found.shape[-1] + self.pads - 1)
        each = torch.cat([found[..., :1] / self.pads, found[..., 1:]], -1)
        return each[..., self.rows.to(found.device)].mean(-1)

    def _starts(self, image: int) -> range:
        """Where the pieces of the queries begin; the view of a point alone needs its own piece only."""
        if self.point is None or "image_to_text" in self.kinds:
            return range(0, image, CHUNK)
        start = self.point // CHUNK * CHUNK
        return range(start, start + 1)


def known(kinds) -> tuple[str, ...]:
    """The kinds in their order. EditError for none, and for one that there is not."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise EditError(f"There is no map {unknown[0]!r}; choose among {', '.join(KINDS)}.")
    if not kinds:
        raise EditError(f"No map was chosen; switch on one or more of {', '.join(KINDS.values())}.")
    return tuple(kind for kind in KINDS if kind in kinds)


def point(x: float, y: float, size: tuple[int, int]) -> int:
    """The token of a grid (height, width) at a place given by 0..1 from the left and from the top."""
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise EditError(f"A point lies within 0..1 of the picture, and ({x}, {y}) does not.")
    row, column = (min(int(t * n), n - 1) for t, n in zip((y, x), size))
    return row * size[1] + column


def chosen_steps(text: str, count: int) -> tuple[int, ...]:
    """The indices 0.. of words like "first, middle, last", "1, 8, 16", "3-5" or "all", of a run of `count` steps.

    Steps are counted from 1, and ranges are cut to the run. EditError where none is left, and for anything else.
    """
    named = {"all": range(count), "first": [0], "middle": [(count - 1) // 2], "last": [count - 1]}
    found = set()
    for part in (p.strip().lower() for p in text.split(",") if p.strip()):
        ends = [p.strip() for p in part.split("-")]
        if part in named:
            found |= set(named[part])
        elif len(ends) <= 2 and all(p.isdecimal() for p in ends):
            found |= set(range(int(ends[0]) - 1, min(int(ends[-1]), count)))
        else:
            raise EditError(f"{part!r} names no steps; write numbers and ranges as in 1, 8-16, or {', '.join(named)}.")
    steps = tuple(sorted(step for step in found if 0 <= step < count))
    if not steps:
        raise EditError(f"The run has the steps 1 to {count}, and {text!r} names none of them; choose others.")
    return steps


def stacked(maps: Maps, config: MGTConfig) -> dict[tuple[str, str], Tensor]:
    """Means over the double, the single and all blocks among `maps` (Figures 13 to 15), by group and kind: [b, n]."""
    every = list(dict.fromkeys(block for block, _ in maps))
    groups = {
        "double": [b for b in every if b < config.num_layers],
        "single": [b for b in every if b >= config.num_layers],
        "all": every if len(every) > 1 else [],
    }
    return {
        (name, kind): torch.stack([maps[b, kind] for b in blocks]).mean(0)
        for name, blocks in groups.items() if blocks
        for kind in dict.fromkeys(kind for _, kind in maps)
    }  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """What an atlas reads: blocks, steps (indices) and kinds of maps, the text tokens that count, and from where."""

    blocks: tuple[int, ...]
    steps: tuple[int, ...]
    kinds: tuple[str, ...] = tuple(KINDS)
    rows: Tensor | None = None
    point: int | None = None


class Atlas:
    """The maps of the chosen steps of a run on its grid (height, width), and the sheet of them."""

    def __init__(self, config: MGTConfig, size: tuple[int, int], chosen: Chosen, title: str = ""):
        self.config, self.size, self.chosen, self.title = config, size, chosen, title
        self.steps: dict[int, Maps] = {}

    @property
    def pictures(self) -> int:
        """How many pictures the run had."""
        return next((len(one) for maps in self.steps.values() for one in maps.values()), 0)

    def capture(self, step: int, half: bool, pads: int = 1) -> AtlasCapture | None:
        """What reads a step's attention, or None for one that was not chosen; its maps go to `add`."""
        if step not in self.chosen.steps:
            return None
        chosen = self.chosen
        rows = padding.rows(chosen.rows, pads)
        return AtlasCapture(chosen.blocks, rows, chosen.point, half, chosen.kinds, pads)

    def add(self, step: int, maps: Maps) -> None:
        """Takes what was read of a step, on the whole grid."""
        self.steps[step] = maps

    def kept(self) -> "Atlas":
        """The atlas with its maps on the CPU, moved there all at once."""
        out = Atlas(self.config, self.size, self.chosen, self.title)
        places = [(step, key) for step, maps in self.steps.items() for key in maps]
        if places:
            moved = torch.stack([self.steps[step][key] for step, key in places]).cpu()
            for (step, key), one in zip(places, moved):
                out.steps.setdefault(step, {})[key] = one
        return out

    def sheet(self, cell: int = 128, number: int = 0, inner: tuple[int, int] | None = None) -> Tensor:
        """The labelled sheet [1, 3, H, W] of picture `number` of the batch.

        A row per block, then the means over the double, the single and all of them; a column per step and kind. Every
        map is stretched to its own 0..1: shapes compare, amounts do not. cell: the longer side of a map in pixels.
        inner: the part (height, width) of the grid that is shown, from its first corner. EditError for an atlas in
        which nothing was read, and for a sheet beyond MOST_PIXELS.
        """
        if not self.steps:
            raise EditError("No step was read, so there is no atlas; choose steps that the run has.")
        shown = {step: self._named(self.steps[step]) for step in sorted(self.steps)}
        names = list(dict.fromkeys(name for name, _ in next(iter(shown.values()))))
        columns = [(step, kind) for step in shown for kind in self.chosen.kinds]
        _check_size(len(names), len(columns), cell)
        rows = [
            [self._picture(shown[step][name, kind][number], cell, inner) for step, kind in columns] for name in names
        ]
        across = [f"step {step + 1}\n{KINDS[kind]}" for step, kind in columns]
        return sheet.grid(rows, across, names, self.title or "Attention, block by block", cell)

    def _named(self, maps: Maps) -> dict[tuple[str, str], Tensor]:
        double, found = self.config.num_layers, sorted(maps.items(), key=lambda one: one[0][0])
        named = {(f"{'double' if b < double else 'single'} {b}", kind): one for (b, kind), one in found}
        return named | {(f"mean of {name}", kind): one for (name, kind), one in stacked(maps, self.config).items()}

    def _picture(self, attention: Tensor, cell: int, inner: tuple[int, int] | None) -> Tensor:
        """One map [n] as colours [3, h, w], each token a square."""
        height, width = inner or self.size
        value = localise.shaped(attention[None].float(), self.size)[:, :height, :width]
        times = max(1, cell // max(height, width))
        return F.interpolate(localise.colours(smoothing.rescale(value)), scale_factor=times, mode="nearest")[0]


def _check_size(rows: int, columns: int, cell: int) -> None:
    across, down = columns * (cell + sheet.GAP), rows * (cell + sheet.GAP)
    if across * down > MOST_PIXELS:
        raise EditError(
            f"The atlas of {rows} rows and {columns} columns would be {across}x{down} px; choose fewer blocks, "
            "steps or maps, or a smaller cell."
        )
