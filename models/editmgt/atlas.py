"""Attention Atlas (EditMGT, appendix B.1): what text and picture attend to, block by block and step by step.

Three maps of the picture's tokens are drawn per block, each the mean over the heads:
- text to image: how much the chosen text tokens (queries) look at each picture token; Eq. 3's map of that block;
- image to text: how much each picture token (query) looks at the chosen text tokens;
- image to image: how much each picture token is looked at by all the others, or by one chosen point.
The paper does not say how it made a picture of attention between n and n tokens; the mean over the queries keeps what
it describes: foreground shapes. The reference is left out of the softmax, as in the released code.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import sheet
from ..errors import EditError
from . import localise, smoothing
from .config import MGTConfig

KINDS = {
    "text_to_image": "text to image",
    "image_to_text": "image to text",
    "image_to_image": "image to image",
}
CHUNK = 256  # queries at a time, so that a block's whole attention never exists


class AtlasCapture:
    """Reads the three maps of chosen blocks; where a `layers.Capture` goes, this one may go instead.

    blocks: global indices. rows: positions of the text tokens that count, or None for all. point: index of the picture
    token whose view is the image-to-image map, or None for the mean. half: only the batch's second half counts.
    After a step maps[block][kind] is [b, n] and tokens[block] is [b, t]: how much the picture, on average, looks at
    each text token. All of it is about 3·n numbers per block; while reading, at most CHUNK rows of attention exist.
    """

    def __init__(self, blocks, rows=None, point: int | None = None, half: bool = True):
        self.text = localise.capture(blocks, rows, half)
        self.blocks, self.rows, self.point, self.half = self.text.blocks, self.text.rows, point, half
        self.maps: dict[int, dict[str, Tensor]] = {}
        self.tokens: dict[int, Tensor] = {}

    def __call__(self, block: int, q: Tensor, k: Tensor, text: int, image: int) -> None:
        """q, k: [b, heads, text + image + …, d] after norm and rotation."""
        if block not in self.blocks:
            return
        if self.point is not None and not 0 <= self.point < image:
            raise EditError(f"Point {self.point} is not one of the picture's {image} tokens.")
        self.text(block, q, k, text, image)
        if self.half:
            q, k = (x[len(x) // 2 :] for x in (q, k))
        to_text, to_image = self._of_picture(q, k[:, :, : text + image].float(), text, image)
        chosen = to_text if self.rows is None else to_text[..., self.rows.to(to_text.device)]
        self.tokens[block] = to_text.mean(1)
        self.maps[block] = {
            "text_to_image": self.text.maps.pop(block),
            "image_to_text": chosen.mean(-1),
            "image_to_image": to_image,
        }

    def _of_picture(self, q: Tensor, k: Tensor, text: int, image: int) -> tuple[Tensor, Tensor]:
        """The picture's attention: to the text [b, n, t], and to the picture, over queries or from the point [b, n]."""
        to_text, total = [], 0
        for start in range(0, image, CHUNK):
            rows = q[:, :, text + start : text + min(start + CHUNK, image)].float()
            found = (rows @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(1)
            to_text.append(found[..., :text])
            if self.point is None:
                total = total + found[..., text:].sum(1) / image
            elif start <= self.point < start + CHUNK:
                total = found[:, self.point - start, text:]
        return torch.cat(to_text, 1), total


def point(x: float, y: float, size: tuple[int, int]) -> int:
    """The token of a grid (height, width) at a place given by 0..1 from the left and from the top."""
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise EditError(f"A point lies within 0..1 of the picture, and ({x}, {y}) does not.")
    row, column = (min(int(t * n), n - 1) for t, n in zip((y, x), size))
    return row * size[1] + column


def stacked(maps: dict[int, dict[str, Tensor]], config: MGTConfig) -> dict[str, dict[str, Tensor]]:
    """Means over the double, the single and all blocks among `maps` (Figures 13 to 15): {name: {kind: [b, n]}}."""
    groups = {
        "double": [b for b in maps if b < config.num_layers],
        "single": [b for b in maps if b >= config.num_layers],
        "all": list(maps),
    }
    return {
        name: {kind: torch.stack([maps[b][kind] for b in blocks]).mean(0) for kind in KINDS}
        for name, blocks in groups.items()
        if blocks and (name != "all" or len(maps) > 1)
    }


class Atlas:
    """The maps of the chosen steps of a run, and the sheet of them."""

    def __init__(self, config: MGTConfig, size: tuple[int, int]):
        self.config, self.size = config, size
        self.steps: dict[int, dict[int, dict[str, Tensor]]] = {}

    def add(self, step: int, capture: AtlasCapture) -> None:
        """Keeps what was read in a step (on the CPU: an atlas is looked at, not computed with)."""
        self.steps[step] = {
            block: {kind: one.cpu() for kind, one in maps.items()} for block, maps in capture.maps.items()
        }

    def sheet(self, kinds=tuple(KINDS), title: str = "", cell: int = 160, number: int = 0) -> Tensor:
        """The labelled sheet [1, 3, H, W] of one picture of the batch.

        A row per block, then the means over the double, the single and all of them; a column per step and kind. Every
        map is stretched to its own 0..1: shapes compare, amounts do not. EditError for no step and an unknown kind.
        """
        if not self.steps:
            raise EditError("No step was read, so there is no atlas; choose steps that the run has.")
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise EditError(f"There is no map {unknown[0]!r}; choose among {', '.join(KINDS)}.")
        columns = [(step, kind) for step in sorted(self.steps) for kind in kinds]
        shown = {step: self._named(maps) for step, maps in self.steps.items()}
        names = list(next(iter(shown.values())))
        rows = [
            [self._picture(shown[step][name][kind][number], cell) for step, kind in columns] for name in names
        ]
        across = [f"{step}: {KINDS[kind]}" for step, kind in columns]
        return sheet.grid(rows, across, names, title or "Attention by block; columns are step: map", cell)

    def _named(self, maps: dict[int, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        double = self.config.num_layers
        named = {f"{'double' if b < double else 'single'} {b}": maps[b] for b in sorted(maps)}
        return named | {f"mean of {name}": one for name, one in stacked(maps, self.config).items()}

    def _picture(self, attention: Tensor, cell: int) -> Tensor:
        """One map [n] as colours [3, h, w], each token a square."""
        value = smoothing.rescale(localise.shaped(attention[None].float(), self.size))
        times = max(1, cell // max(self.size))
        return F.interpolate(localise.colours(value), scale_factor=times, mode="nearest")[0]
