"""The candidates on one sheet, numbered as a person or a report names them."""

import torch
from torch import Tensor

from .. import sheet

COLUMNS, CELL = 6, 256


def numbered(pictures: Tensor, winner: int | None) -> Tensor:
    """Pictures [m, 3, h, w] in rows of six with their numbers from 1, the winner's marked: [1, 3, H, W]."""
    columns = min(COLUMNS, len(pictures))
    rows = [_row(pictures, start, columns, winner) for start in range(0, len(pictures), columns)]
    return torch.cat(rows, dim=2)


def _row(pictures: Tensor, start: int, columns: int, winner: int | None) -> Tensor:
    shown = list(pictures[start : start + columns])
    labels = [f"{start + i + 1}{' (winner)' if start + i == winner else ''}" for i in range(len(shown))]
    empty = columns - len(shown)
    return sheet.grid([shown + [torch.ones_like(shown[0])] * empty], labels + [""] * empty, [""], cell=CELL)
