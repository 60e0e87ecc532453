"""Position ids (t, h, w) of the tokens of target and references: Eq. 2 and the two placements of ComfyUI's core.

Ids are fp32 whatever the network computes in: in bf16 whole numbers above 256 collide. Sizes are (height, width) in
latent pixels, of which a token covers 2x2; an odd side is padded by one, as the network does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import EditError

PATCH = 2
PLACEMENTS = ("offset", "index", "uxo")
Size = tuple[int, int]


@dataclass(frozen=True)
class Place:
    """Where one reference stands. index: its virtual time. top, left: where its first token is, in tokens."""

    index: int
    top: int = 0
    left: int = 0


def grid(size: Size) -> Size:
    """(rows, columns) of tokens of a latent's (height, width)."""
    return tuple((side + PATCH // 2) // PATCH for side in size)


def grid_ids(size: Size, place: Place = Place(0), device=None) -> Tensor:  # noqa: B008 - frozen
    """Ids [rows·columns, 3] in fp32 of a latent of that size, row by row."""
    rows, columns = grid(size)
    h = torch.arange(place.top, place.top + rows, dtype=torch.float32, device=device)
    w = torch.arange(place.left, place.left + columns, dtype=torch.float32, device=device)
    ids = torch.full((rows, columns, 3), float(place.index), dtype=torch.float32, device=device)
    ids[..., 1], ids[..., 2] = h[:, None], w[None]
    return ids.flatten(0, 1)


def places(
    target: Size,
    references: Sequence[Size],
    placements: str | Sequence[str] = "offset",
    indices: Sequence[int] | None = None,
) -> list[Place]:
    """Where each reference of a chain stands, as ComfyUI's core does it and per reference.

    offset: all at virtual time 1, packed beside or below one another (core's default, which the released dev
    weights answer to best). index: virtual time i with the target's own rows and columns (Eq. 2). uxo: time 0, on the
    diagonal after the target. placements: one for all, or one each. indices: virtual times; 0 takes the order in the
    chain, and for offset 1. EditError for an unknown placement or an index below 0.
    """
    count = len(references)
    placements = [placements] * count if isinstance(placements, str) else list(placements)
    indices = [0] * count if indices is None else list(indices)
    packed, diagonal, out = (0, 0), (0, 0), []
    for number, (size, placement, index) in enumerate(zip(references, placements, indices, strict=True), 1):
        _check(placement, index)
        if placement == "index":
            out.append(Place(index or number))
        elif placement == "uxo":
            first = tuple(g * PATCH + d for g, d in zip(grid(target), diagonal, strict=True))
            out.append(Place(index, *grid(first)))
            diagonal = (diagonal[0] + size[0], diagonal[1] + size[1])
        else:
            at = _beside(packed, size)
            out.append(Place(index or 1, *grid(at)))
            packed = tuple(max(p, s + a) for p, s, a in zip(packed, size, at, strict=True))
    return out


def _beside(packed: Size, size: Size) -> Size:
    """(top, left) of the next reference: on the side where what is packed stays smaller."""
    taller = size[0] + packed[0] > size[1] + packed[1]
    return (0, packed[1]) if taller else (packed[0], 0)


def _check(placement: str, index: int) -> None:
    if placement not in PLACEMENTS:
        raise EditError(f"The placement {placement!r} is unknown; choose one of {', '.join(PLACEMENTS)}.")
    if index < 0:
        raise EditError(f"The virtual time index is {index}; give 0 for the order in the chain, or 1 and above.")


def sequence_ids(target: Size, references: Sequence[Size], stands: Sequence[Place], device=None) -> Tensor:
    """Ids [tokens, 3] in fp32 of the target's tokens and then each reference's."""
    parts = [grid_ids(target, device=device)]
    parts += [grid_ids(size, place, device) for size, place in zip(references, stands, strict=True)]
    return torch.cat(parts)
