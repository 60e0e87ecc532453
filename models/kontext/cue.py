"""Boxes, ellipses and arrows drawn onto a picture: marks that a visual cue in the prompt refers to (Fig. 13)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import masks, region
from ..errors import EditError

SHAPES, UNITS = ("box", "ellipse", "arrow"), ("relative", "pixels")
MOST = 64  # more pieces than this are noise, not objects
HEAD = 5.0  # an arrow's head over its line's width, in length; half as wide to each side
REACH = 0.18  # length of an arrow to a mask over the picture's longer side


@dataclass(frozen=True)
class Shape:
    """A shape in pixels: the corners of a box or of an ellipse's box, or an arrow's tail (x0, y0) and tip (x1, y1)."""

    kind: str
    x0: float
    y0: float
    x1: float
    y1: float


def colour(name: str) -> tuple[float, float, float]:
    """A colour's name or #rrggbb as rgb in 0..1. EditError for one that is unknown."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(name.strip())[:3]
    except ValueError:
        raise EditError(f"The colour {name!r} is unknown; write one such as red, or #ff0000.") from None
    return red / 255, green / 255, blue / 255


def from_numbers(kind: str, numbers: tuple, units: str, size: tuple[int, int]) -> Shape:
    """A shape from x0, y0, x1, y1 in pixels or as shares of (height, width).

    EditError for an unknown kind, a number that is none, and a shape without extent.
    """
    if kind not in SHAPES or units not in UNITS:
        raise EditError(f"The shape {kind!r} in {units!r} is unknown; choose of {SHAPES} and {UNITS}.")
    x0, y0, x1, y1 = (float(n) for n in numbers)
    if not all(math.isfinite(n) for n in (x0, y0, x1, y1)):
        raise EditError(f"The place {x0}, {y0}, {x1}, {y1} is not four finite numbers.")
    if units == "relative":
        x0, y0, x1, y1 = x0 * size[1], y0 * size[0], x1 * size[1], y1 * size[0]
    if kind != "arrow":
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    flat = (x0, y0) == (x1, y1) if kind == "arrow" else x0 == x1 or y0 == y1
    if flat:
        raise EditError(f"The {kind} from {x0:g}, {y0:g} to {x1:g}, {y1:g} px has no extent; give it two places.")
    return Shape(kind, x0, y0, x1, y1)


def from_mask(kind: str, mask: Tensor, margin: float) -> list[Shape]:
    """One shape for each separate white piece of a mask [h, w]: around it, or an arrow whose tip is at its rim.

    margin: how far a shape stays off the piece, over the piece's longer side. EditError for an empty mask, and for
    one of more than 64 pieces.
    """
    boxes = masks.pieces(mask[None])
    if not boxes:
        raise EditError("The mask is empty (all black); paint what the cue shall mark, or draw from numbers.")
    if len(boxes) > MOST:
        raise EditError(f"The mask falls into {len(boxes)} pieces; grow it until they join, or draw from numbers.")
    return [_around(kind, box, margin, tuple(mask.shape)) for box in boxes]


def from_masks(kind: str, mask: Tensor, margin: float, size: tuple[int, int], batch: int) -> list[list[Shape]]:
    """`from_mask` for masks [1 or batch, h, w] of any size on pictures of (height, width)."""
    fitted = masks.fit(mask, *size, batch=batch, mode="nearest")
    if len(mask) == 1:
        return [from_mask(kind, fitted[0], margin)] * batch
    return [from_mask(kind, one, margin) for one in fitted]


def _around(kind: str, box: tuple, margin: float, size: tuple[int, int]) -> Shape:
    top, left, bottom, right = box
    space = margin * max(bottom - top, right - left)
    if kind != "arrow":
        return Shape(kind, left - space, top - space, right + space, bottom + space)
    x, y, height, width = (left + right) / 2, (top + bottom) / 2, *size
    dx, dy = width / 2 - x, height / 2 - y  # from where the picture has most room: its middle
    if math.hypot(dx, dy) < 0.05 * max(size):
        dx, dy = -1.0, -1.0
    length = math.hypot(dx, dy)
    dx, dy = dx / length, dy / length
    halves = ((right - left) / 2 + space, (bottom - top) / 2 + space)
    rim = min(half / abs(d) for half, d in zip(halves, (dx, dy)) if abs(d) > 1e-9)
    reach = rim + REACH * max(size)
    return Shape("arrow", x + reach * dx, y + reach * dy, x + rim * dx, y + rim * dy)


def line_width(width: float, size: tuple[int, int]) -> float:
    """A line's width in pixels; 0 stands for 0.6 % of the longer side, at least 2."""
    if width < 0:
        raise EditError(f"A line cannot be {width} px wide; use 0 (by the picture's size) or more.")
    return width or max(2.0, 0.006 * max(size))


def drawn(image: Tensor, shapes: list[list[Shape]], rgb: tuple, width: float, fill: float):
    """Draws shapes onto pictures [b, 3, h, w], smoothly, one list of them per picture.

    rgb: 0..1. width: of the lines in pixels, 0 by the picture's size. fill: opacity of the inside, 0..1.
    Returns (pictures, what was drawn [b, h, w], the insides [b, h, w]); an arrow's inside is the arrow. Where nothing
    was drawn the pictures are bit-identical. EditError for a fill outside 0..1.
    """
    if not 0 <= fill <= 1:
        raise EditError(f"The fill is {fill}; use an opacity from 0 to 1.")
    size = tuple(image.shape[-2:])
    width = line_width(width, size)
    ink = torch.zeros(len(image), *size, device=image.device)
    inside = torch.zeros_like(ink)
    for number, group in enumerate(shapes):
        for shape in group:
            window, line, within = _coverage(shape, width, size)
            solid = torch.maximum(line, fill * within).to(image.device)
            ink[number][window] = torch.maximum(ink[number][window], solid)
            inside[number][window] = torch.maximum(inside[number][window], within.to(image.device))
    paint = torch.tensor(rgb, dtype=image.dtype, device=image.device)[None, :, None, None].expand_as(image)
    return region.composite(image, paint, ink), ink, inside


def _coverage(shape: Shape, width: float, size: tuple[int, int]):
    """(window, line, inside): the part of the picture that a shape reaches, and how much of each pixel it covers."""
    reach = width / 2 + 2 if shape.kind != "arrow" else HEAD * width + 2
    spans = []
    for a, b, side in ((shape.y0, shape.y1, size[0]), (shape.x0, shape.x1, size[1])):
        first, last = math.floor(min(a, b) - reach), math.ceil(max(a, b) + reach)
        spans.append((min(max(first, 0), side), min(max(last, 0), side)))
    (top, bottom), (left, right) = spans
    y = torch.arange(top, bottom, dtype=torch.float64)[:, None] + 0.5
    x = torch.arange(left, right, dtype=torch.float64)[None] + 0.5
    line, within = _arrow(shape, width, x, y) if shape.kind == "arrow" else _outline(shape, width, x, y)
    return (slice(top, bottom), slice(left, right)), line.float(), within.float()


def _outline(shape: Shape, width: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The line along a box or an ellipse, half inside and half outside it; and its inside."""
    solid = _box if shape.kind == "box" else _ellipse
    outer, inner = (solid(shape, grown, x, y) for grown in (width / 2, -width / 2))
    return outer - torch.minimum(inner, outer), solid(shape, 0.0, x, y)


def _box(shape: Shape, grown: float, x: Tensor, y: Tensor) -> Tensor:
    """The exact share of each pixel that a box covers."""
    across = _overlap(x, shape.x0 - grown, shape.x1 + grown)
    return across * _overlap(y, shape.y0 - grown, shape.y1 + grown)


def _overlap(centre: Tensor, low: float, high: float) -> Tensor:
    return ((centre + 0.5).clamp(max=high) - (centre - 0.5).clamp(min=low)).clamp(0, 1)


def _ellipse(shape: Shape, grown: float, x: Tensor, y: Tensor) -> Tensor:
    """The share of each pixel that an ellipse covers, by the distance to its rim to first order."""
    a, b = (shape.x1 - shape.x0) / 2 + grown, (shape.y1 - shape.y0) / 2 + grown
    if a <= 0 or b <= 0:
        return torch.zeros(len(y), x.shape[1], dtype=x.dtype)
    u, v = (x - (shape.x0 + shape.x1) / 2) / a, (y - (shape.y0 + shape.y1) / 2) / b
    radius = (u**2 + v**2).sqrt()
    slope = ((u / a) ** 2 + (v / b) ** 2).sqrt() / radius.clamp_min(1e-9)
    distance = (radius - 1) / slope.clamp_min(1e-9)
    return torch.where(radius < 1e-6, 1.0, (0.5 - distance).clamp(0, 1))


def _arrow(shape: Shape, width: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A line with a triangle at its end: the share of each pixel that they cover."""
    length = math.hypot(shape.x1 - shape.x0, shape.y1 - shape.y0)
    dx, dy = (shape.x1 - shape.x0) / length, (shape.y1 - shape.y0) / length
    along = (x - shape.x1) * dx + (y - shape.y1) * dy  # 0 at the tip, negative before it
    aside = ((y - shape.y1) * dx - (x - shape.x1) * dy).abs()
    head = min(HEAD * width, length)
    shaft = torch.maximum(torch.maximum(aside - width / 2, along + head / 2), -length - along)
    slant = math.hypot(1.0, 0.5)  # the head is as wide as it is long
    tip = torch.maximum((aside + along / 2) / slant, -head - along)
    covered = torch.maximum(*((0.5 - part).clamp(0, 1) for part in (shaft, tip)))
    return covered, covered
