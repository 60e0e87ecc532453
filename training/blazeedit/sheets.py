"""Sample sheets: rows of pictures as one."""

import numpy as np
from torch import Tensor


def grid(rows: list[Tensor], gap: int = 4) -> np.ndarray:
    """rows: each [n, 3, h, w] in 0..1, all of one size. Returns uint8 [h', w', 3]: a column per picture."""
    columns = []
    for pictures in zip(*rows, strict=True):
        cells = [_cell(p, gap) for p in pictures]
        columns.append(np.concatenate(cells, axis=0))
    return np.concatenate(columns, axis=1)


def _cell(picture: Tensor, gap: int) -> np.ndarray:
    pixels = (picture.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy() * 255 + 0.5).astype(
        np.uint8
    )
    return np.pad(pixels, ((0, gap), (0, gap), (0, 0)), constant_values=255)
