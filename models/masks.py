"""Masks [b, h, w], float32 in 0..1, white (1) = edit; a grey value is strength."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import EditError
from .filters import gaussian_blur

GRID = 128  # longest side of the canvas on which the objects of a mask are told apart
MOST = 12  # more pieces than this are strokes or noise, not objects
LARGE = 32  # px from which growth is computed on a smaller copy


def grow(mask: Tensor, radius: int) -> Tensor:
    """Dilates a mask by a disc of `radius` pixels, keeping its grey levels.

    mask: [b, h, w], 0..1. Returns the same shape. EditError for a negative radius.
    """
    if radius < 0:
        raise EditError(f"A mask cannot grow by {radius} pixels; use 0 or more, or shrink it.")
    if radius > LARGE:
        return _grow_large(mask, radius)
    out, done = mask[:, None], 0
    while (
        done < radius
    ):  # octagons of at most 8 px, one after the other, stay close to a disc and fast at any size
        step = min(8, radius - done)
        out = _dilate_disc(out, step)
        done += step
    return out[:, 0].clone() if radius == 0 else out[:, 0]


def _grow_large(mask: Tensor, radius: int) -> Tensor:
    """Growth by many pixels on a smaller copy; the edge becomes a ramp of a fraction of the radius."""
    factor = -(-radius // (LARGE // 2))
    h, w = mask.shape[-2:]
    small = F.max_pool2d(F.pad(mask[:, None], (0, -w % factor, 0, -h % factor)), factor)[:, 0]
    grown = grow(small, max(1, round(radius / factor - 0.5)))
    up = F.interpolate(grown[:, None], scale_factor=factor, mode="bilinear", align_corners=False)
    return torch.maximum(up[:, 0, :h, :w], mask)


def shrink(mask: Tensor, radius: int) -> Tensor:
    """Erodes a mask by a disc of `radius` pixels. EditError for a negative radius."""
    if radius < 0:
        raise EditError(f"A mask cannot shrink by {radius} pixels; use 0 or more, or grow it.")
    return 1 - grow(1 - mask, radius)


def _dilate_disc(x: Tensor, radius: int) -> Tensor:
    rows = []
    for dy in range(-radius, radius + 1):
        half = int((radius**2 - dy**2) ** 0.5 + 0.5)
        wide = F.max_pool2d(x, (1, 2 * half + 1), 1, (0, half)) if half else x
        rows.append(
            F.pad(wide, (0, 0, max(dy, 0), max(-dy, 0)))[..., max(-dy, 0) :, :][..., : x.shape[-2], :]
        )
    return torch.stack(rows).amax(0)


def feather(mask: Tensor, radius: int) -> Tensor:
    """Softens a mask outward: it keeps its value inside and falls to 0 within `radius` pixels around.

    EditError for a negative radius.
    """
    if radius < 0:
        raise EditError(f"A mask cannot be feathered by {radius} pixels; use 0 or more.")
    if radius == 0:
        return mask.clone()
    wide = grow(mask, radius)
    soft = gaussian_blur(grow(mask, (radius + 1) // 2)[:, None], radius / 3)[:, 0]
    return torch.maximum(mask, torch.where(wide > 0, soft, torch.zeros_like(soft))).clamp(0, 1)


def invert(mask: Tensor) -> Tensor:
    """1 - mask."""
    return 1 - mask


def binarise(mask: Tensor, threshold: float = 0.0) -> Tensor:
    """1 where the mask is above the threshold, else 0: what a network trained on τ · m sees."""
    return (mask > threshold).to(mask.dtype)


def strength(mask: Tensor, factor: float) -> Tensor:
    """Scales a mask's strength. EditError for a factor outside 0..1."""
    if not 0 <= factor <= 1:
        raise EditError(f"The strength is {factor}; use a value from 0 to 1.")
    return mask * factor


def checked(mask: Tensor) -> Tensor:
    """A mask [h, w] or [b, h, w] as float32 [b, h, w]. EditError for another shape and for NaN."""
    mask = (mask[None] if mask.ndim == 2 else mask).float()
    if mask.ndim != 3 or 0 in mask.shape:
        raise EditError(f"A mask of shape {tuple(mask.shape)} is not [batch, height, width].")
    if not bool(torch.isfinite(mask).all()):
        raise EditError("The mask holds NaN or infinite values; check the node that made it.")
    return mask


def fit(mask: Tensor, height: int, width: int, batch: int | None = None, mode: str = "bilinear") -> Tensor:
    """A mask that fits a picture: [h, w] or [b, h, w] of any size to [batch, height, width].

    A single mask serves a whole batch. mode: bilinear keeps soft edges, nearest keeps 0 and 1. EditError for a batch
    that does not fit and for NaN.
    """
    mask = checked(mask)
    if batch is not None and mask.shape[0] not in (1, batch):
        raise EditError(
            f"{mask.shape[0]} masks do not fit {batch} pictures; give one mask, or one per picture."
        )
    if mask.shape[-2:] != (height, width):
        options = {"mode": "nearest-exact"} if mode == "nearest" else {"mode": "bilinear", "antialias": True}
        mask = F.interpolate(mask[:, None], size=(height, width), **options)[:, 0]
    mask = mask.clamp(0, 1) if mask.min() < 0 or mask.max() > 1 else mask
    return mask if batch is None or mask.shape[0] == batch else mask.expand(batch, -1, -1)


def bounding_box(mask: Tensor) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of what is above 0 in any of [b, h, w], ends exclusive. EditError when empty."""
    covered = (mask > 0).any(0)
    rows, columns = covered.any(1).nonzero()[:, 0], covered.any(0).nonzero()[:, 0]
    if len(rows) == 0:
        raise EditError("The mask is empty (all black); paint the region to edit white.")
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def separate(mask: Tensor, context: float, minimum: int = 64) -> list[Tensor]:
    """Splits a mask into objects so far apart that the surroundings of one do not reach another.

    mask: [1, h, w]; context: the side of an object's surroundings over its own side, at least `minimum` px. Returns
    masks [1, h, w] that add up to the mask, from the top left; a single one where there is little to gain.
    """
    height, width = mask.shape[-2:]
    factor = -(-max(height, width) // GRID)
    cells = F.max_pool2d(F.pad(mask[:, None], (0, -width % factor, 0, -height % factor)), factor)
    cells = (cells > 0).float()
    labels = _components(cells)
    boxes = {}
    for label in labels.unique().tolist():
        if label:
            top, left, bottom, right = bounding_box((labels == label)[0].float())
            boxes[label] = [top * factor, left * factor, bottom * factor, right * factor]
            if len(boxes) > MOST:
                return [mask]
    groups = _merged(list(boxes.values()), context, minimum)
    if len(groups) < 2:
        return [mask]
    out = []
    for top, left, bottom, right in groups:
        part = torch.zeros_like(mask)
        part[:, top:bottom, left:right] = mask[:, top:bottom, left:right]
        out.append(part)
    return out


def pieces(mask: Tensor, grid: int = 512) -> list[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of each separate piece of what is above 0 in [1, h, w], from the top left.

    Ends are exclusive and exact. Pieces are told apart on a canvas of at most `grid` cells a side: in a larger mask
    those that lie less than a cell apart count as one.
    """
    height, width = mask.shape[-2:]
    factor = -(-max(height, width) // grid)
    white = F.pad((mask[:, None] > 0).float(), (0, -width % factor, 0, -height % factor))
    labels = _components(F.max_pool2d(white, factor))
    found = []
    for label in labels.unique().tolist():
        if label:
            own = F.interpolate((labels == label).float(), scale_factor=factor, mode="nearest")
            found.append(bounding_box((own * white)[0]))
    return sorted(found)


def _components(cells: Tensor) -> Tensor:
    """Connected regions of [1, 1, h, w] of 0 and 1, each with a number of its own (8-neighbourhood)."""
    labels = cells * torch.arange(1, cells.numel() + 1, device=cells.device).view_as(cells)
    while True:
        spread = F.max_pool2d(labels, 3, 1, 1) * cells
        if torch.equal(spread, labels):
            return labels
        labels = spread


def _merged(boxes: list[list[int]], context: float, minimum: int) -> list[list[int]]:
    """Boxes joined until none lies in the surroundings of another."""
    boxes = sorted(boxes)
    for a in range(len(boxes)):
        for b in range(a + 1, len(boxes)):
            if _reaches(boxes[a], boxes[b], context, minimum) or _reaches(
                boxes[b], boxes[a], context, minimum
            ):
                joined = [min(boxes[a][0], boxes[b][0]), min(boxes[a][1], boxes[b][1]),
                          max(boxes[a][2], boxes[b][2]), max(boxes[a][3], boxes[b][3])]  # fmt: skip
                rest = [box for i, box in enumerate(boxes) if i not in (a, b)]
                return _merged([*rest, joined], context, minimum)
    return boxes


def _reaches(box: list[int], other: list[int], context: float, minimum: int) -> bool:
    """Whether the surroundings of one box touch another."""
    side = max(context * max(box[2] - box[0], box[3] - box[1]), minimum)
    for axis in (0, 1):
        margin = (side - (box[axis + 2] - box[axis])) / 2
        if other[axis + 2] <= box[axis] - margin or other[axis] >= box[axis + 2] + margin:
            return False
    return True
