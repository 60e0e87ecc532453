"""The candidates on one sheet, numbered as a person or a report names them."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import masks, sheet
from ..image import resize
from .diptych import Diptych

COLUMNS, CELL, LONGEST = 6, 256, 1024


def bounded(record: Diptych, longest: int = LONGEST) -> Diptych:
    """The record of a picture of at most `longest` pixels a side: what is only looked at need not be larger."""
    height, width = record.rgb.shape[-2:]
    scale = longest / max(height, width)
    if scale >= 1:
        return replace(record, alpha=None)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    mask = None if record.mask is None else masks.fit(record.mask, *size)
    return replace(record, rgb=resize(record.rgb, size), alpha=None, mask=mask)


def numbered(pictures: Tensor, winner: int | None) -> Tensor:
    """Pictures [m, 3, h, w] in rows of six with their numbers from 1, the winner's marked: [1, 3, H, W]."""
    columns = min(COLUMNS, len(pictures))
    rows = [_row(pictures, start, columns, winner) for start in range(0, len(pictures), columns)]
    width = max(row.shape[-1] for row in rows)  # the winner's label may be wider than a narrow picture
    return torch.cat([F.pad(row, (0, width - row.shape[-1]), value=1.0) for row in rows], dim=2)


def _row(pictures: Tensor, start: int, columns: int, winner: int | None) -> Tensor:
    shown = list(pictures[start : start + columns])
    labels = [f"{start + i + 1}{' (winner)' if start + i == winner else ''}" for i in range(len(shown))]
    empty = columns - len(shown)
    return sheet.grid([shown + [torch.ones_like(shown[0])] * empty], labels + [""] * empty, [""], cell=CELL)
