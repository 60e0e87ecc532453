"""The Attention Atlas of a run: what the node asks for, in the numbers of the model that is run; and its sheets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.editmgt import localise as localisation
from ...models.editmgt.atlas import STEPS, Atlas, Chosen, chosen_steps, known, point
from ...models.editmgt.picture import Square
from ...models.errors import EditError
from . import editmgt

__all__ = ["STEPS", "Request", "begun", "kinds", "sheets"]


@dataclass(frozen=True)
class Request:
    """What EditMGT Attention Atlas chooses. point: (x, y) in 0..1 of the picture, or None for all of it."""

    blocks: str
    steps: str
    kinds: tuple[str, ...]
    keyword: str = ""
    occurrence: int = 1
    point: tuple[float, float] | None = None


def kinds(switches: dict[str, bool]) -> tuple[str, ...]:
    """The maps that are switched on. EditError for none."""
    return known([kind for kind, on in switches.items() if on])


def begun(
    request: Request | None, net: editmgt.Model, clip: editmgt.Clip, instruction: str, steps: int,
    size: tuple[int, int], square: Square | None,
) -> Atlas | None:  # fmt: skip
    """An empty atlas for a run of so many steps on so many tokens. EditError for what the run does not have."""
    if request is None:
        return None
    if request.point is not None and square is not None and square.tile:
        raise EditError("One point's view needs the picture in one square; choose the view picture, or large fit.")
    model, word = net.diffusion_model, request.keyword
    grid = tuple(side // 2 for side in size) if model.config.downsample else size
    rows = clip.rows(instruction, word, request.occurrence) if word else None
    chosen = Chosen(
        localisation.chosen_blocks(request.blocks, model.config), chosen_steps(request.steps, steps), request.kinds,
        rows, None if request.point is None else _place(request.point, grid, square),
    )  # fmt: skip
    about = f'Attention of "{word}" in: {instruction}' if word else f"Attention of the instruction: {instruction}"
    return Atlas(model.config, grid, chosen, about)


def _place(place: tuple[float, float], grid: tuple[int, int], square: Square | None) -> int:
    """The token at a place of the picture, which may fill the square in part."""
    if square is None:
        return point(*place, grid)
    side = square.pixels.shape[-2:]
    return point(place[0] * square.inner[1] / side[1], place[1] * square.inner[0] / side[0], grid)


def sheets(atlas: Atlas, cell: int, square: Square | None) -> Tensor:
    """The sheet of each picture [b, 3, H, W]; with the square, of the tokens in which the picture lies."""
    inner = None
    if square is not None:
        inner = tuple(-(-i * g // s) for i, g, s in zip(square.inner, atlas.size, square.pixels.shape[-2:]))
    return torch.cat([atlas.sheet(cell, number, inner) for number in range(atlas.pictures)])
