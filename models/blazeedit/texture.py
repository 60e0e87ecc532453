"""Texture for a smooth fill: copies the picture's own high frequencies by a few coherent shifts (`offsets`).

What is smooth is worked out on a smaller canvas, and only the finest band at full size, in strips of rows: a hole in
12 megapixels needs little more memory than the picture itself.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..filters import Enlarged, gaussian_blur, masked_blur
from ..image import resize
from .guess import membrane
from .offsets import LABELS, Canvas, labelled

SCALE = 4  # labels are chosen on a canvas this much smaller
LARGEST = 96  # longest side of that canvas
SMOOTH = 4.0  # px of sigma that the smaller canvas keeps: what is finer is taken from the full picture
ALIKE = 0.3  # difference of low frequencies at which copied texture has faded to 1/e: bark is no sky
COARSE = 4.0  # times sigma: between the two lies structure, copied whole it costs the most where it is wrong
AT_EDGE, INSIDE = 0.5, 0.1  # share of it: offsets explain the surroundings, so it fits best beside them
STEADY = (0.4, 1.4)  # how far texture's strength may be moved towards that of the hole's surroundings
SAMPLES = 32  # rows on which the finest band's strength is looked up
LIMIT = 2.5  # times the texture's mean strength: what is stronger is an edge, whose lone copy looks embossed
STRIP = 64  # rows at a time


def coherent_copy(
    photo: Tensor, hole: Tensor, guide: Tensor, *, sigma: float = 2.0, gain: float = 0.8, offsets: int = LABELS,
    seed: int = 0,
) -> Tensor:  # fmt: skip
    """The guide's low frequencies plus `gain` times the shifted picture's high frequencies, inside the hole.

    photo, guide: [b, 3, h, w], hole: [b, h, w] of 0 and 1; sigma in pixels separates low from high. Returns
    [b, 3, h, w]; outside the hole it is the photo. Where nothing can be copied the guide alone stays. seed: 0 copies
    from where it fits best, another number from other places that fit.
    """
    parts = [
        _copy_one(photo[i : i + 1], hole[i : i + 1], guide[i : i + 1], sigma, gain, offsets, seed)
        for i in range(len(photo))
    ]
    return torch.cat(parts)


def _copy_one(photo, hole, guide, sigma, gain, offsets, seed):
    shape, known = photo.shape[-2:], 1 - hole
    nothing = float(known.mean()) < 0.05 or min(shape) < 32
    factor = max(1, int(sigma / SMOOTH))
    small = _Small(photo, hole, guide, tuple(-(-side // factor) for side in shape), sigma)
    labels = None if nothing else _Labels(small, shape, offsets, seed)
    if labels is None or not labels.used:
        return torch.where(hole[:, None] > 0, guide, photo)
    smooth, strength, limit = small.continued(labels, gain)
    return _with_fine(photo, hole, smooth, strength, limit * small.finer(photo), small.low, labels)


class _Small:
    """Picture, hole and guide on a canvas on which nothing finer than about `SMOOTH` px is of interest."""

    def __init__(self, photo: Tensor, hole: Tensor, guide: Tensor, size: tuple[int, int], sigma: float):
        self.full, self.sigma = photo.shape[-2:], sigma * size[0] / photo.shape[-2]
        if tuple(photo.shape[-2:]) == size:
            self.photo, self.hole, self.guide = photo, hole, guide
        else:
            share = _shrunk(1 - hole[:, None], size)
            self.hole = (share[:, 0] < 0.999).float()  # what a cell of the hole's border mixes is not known
            known = _shrunk(photo, size, 1 - hole[:, None]) / share.clamp_min(1e-3)
            inside = _shrunk(guide, size, hole[:, None]) / (1 - share).clamp_min(1e-3)
            self.photo = torch.where(share > 0.001, known, inside)
            self.guide = torch.where(self.hole[:, None] > 0, inside, self.photo)
        self.known = 1 - self.hole[:, None]
        self.low = masked_blur(self.photo, self.known, self.sigma)

    def finer(self, photo: Tensor) -> float:
        """How much stronger the finest band of the full picture is than what is left of it here; on a few rows."""
        if photo.shape[-2:] == self.photo.shape[-2:]:
            return 1.0
        low, rows = Enlarged(self.low, self.full), range(0, self.full[0], -(-self.full[0] // SAMPLES))
        known = Enlarged(self.known, self.full)
        full = sum(float(((photo[..., r : r + 1, :] - low.window(slice(r, r + 1)))
                          * known.window(slice(r, r + 1))).abs().mean()) for r in rows) / len(rows)  # fmt: skip
        return max(1.0, full / max(1e-6, float(((self.photo - self.low) * self.known).abs().mean())))

    def continued(self, labels: "_Labels", gain: float) -> tuple[Tensor, Tensor, Tensor]:
        """The fill without its finest band [1, 3, h, w], and for that band a factor and a limit [1, 1, h, w].

        The finest band is as strong as it is around the hole; of what is coarser, a share is copied near its edge.
        """
        coarse = masked_blur(self.photo, self.known, COARSE * self.sigma)
        bands = torch.cat([self.photo - self.low, self.low - coarse, self.low], dim=1) * self.known
        copied, weight = _shifted(bands, self.known, labels)
        fine, middle, source = copied.chunk(3, dim=1)
        steady, wanted = steadied(bands[:, :3], fine * self.hole[:, None], self.hole, COARSE * self.sigma)
        near = (2 * gaussian_blur(self.known, COARSE * self.sigma)).clamp(0, 1)
        share = (INSIDE + (AT_EDGE - INSIDE) * near) * steady.clamp_max(1)
        low = gaussian_blur(torch.where(self.hole[:, None] > 0, self.guide, self.photo), self.sigma)
        unlike = gaussian_blur(source - low, 2 * self.sigma).square().mean(1, keepdim=True)
        strength = gain * torch.exp(-unlike / ALIKE**2) * (weight > 0.02)
        filled = torch.where(weight > 0.02, low + strength * share * middle, self.guide)
        return filled, strength * steady, LIMIT * wanted


def _shrunk(x: Tensor, size: tuple[int, int], weight: Tensor | None = None) -> Tensor:
    """x, or x · weight, averaged down to `size`, in strips of rows that hold whole cells wherever they can."""
    height, out = x.shape[-2], []
    for first in range(0, size[0], STRIP):
        last = min(first + STRIP, size[0])
        rows = slice(first * height // size[0], -(-last * height // size[0]))
        part = x[..., rows, :] if weight is None else x[..., rows, :] * weight[..., rows, :]
        out.append(F.adaptive_avg_pool2d(part, (last - first, size[1])))
    return torch.cat(out, dim=-2)


class _Labels:
    """The offsets that win somewhere in the hole, each with its place on the label canvas [1, 1, h', w']."""

    def __init__(self, small: _Small, full: tuple[int, int], offsets: int, seed: int):
        self.full = tuple(full)
        scale = max(SCALE, -(-max(full) // LARGEST))
        size = tuple(max(8, round(side / scale)) for side in full)
        size = tuple(min(a, b) for a, b in zip(size, small.photo.shape[-2:], strict=True))
        canvas = Canvas(small.photo, small.hole, small.guide, size)
        (self.shifts, winners), self.used = labelled(canvas, offsets, seed), []
        if self.shifts:
            inside = resize(small.hole[:, None], winners.shape, mode="area") > 0
            near = F.max_pool2d(inside.float(), 3, 1, 1)  # a cell more, for the bilinear borders
            present = torch.unique(winners[inside[0, 0]]).tolist()
            self.used = [(label, (winners == label) * near) for label in present]

    def pieces(self, size: tuple[int, int]):
        """Per label: its soft place, and the windows (rows, columns) that it fills and that it takes from.

        size: of the picture that is copied, the full one or a smaller copy, whose offsets stay in step with it.
        """
        for label, place in self.used:
            ratio = [side / cells for side, cells in zip(size, place.shape[-2:], strict=True)]
            shift = [round(s * r) for s, r in zip(self.shifts[label], ratio, strict=True)]
            yield (Enlarged(place, size), *_windows(place[0, 0], size, shift))


def _windows(place: Tensor, size: tuple[int, int], shift: list[int]) -> tuple[list[slice], list[slice]]:
    """The part of the picture that a label can reach and has a source for, and that source."""
    target, source = [], []
    for axis in (0, 1):
        cells = (place > 0).any(1 - axis).nonzero()[:, 0]
        cell = size[axis] / place.shape[axis]
        start = max(0, math.floor((int(cells[0]) - 1) * cell), -shift[axis])
        end = max(start, min(size[axis], math.ceil((int(cells[-1]) + 2) * cell), size[axis] - shift[axis]))
        target.append(slice(start, end))
        source.append(slice(start + shift[axis], end + shift[axis]))
    return target, source


def _shifted(x: Tensor, known: Tensor, labels: _Labels) -> tuple[Tensor, Tensor]:
    """x [1, c, h, w] taken from each label's offset, label borders bilinear; and the weight [1, 1, h, w] of sources."""
    total, weights = torch.zeros_like(x), torch.zeros_like(known)
    for soft, (rows, columns), source in labels.pieces(x.shape[-2:]):
        if rows.start < rows.stop and columns.start < columns.stop:
            there = known[(..., *source)] * soft.window(rows, columns)
            total[..., rows, columns].addcmul_(x[(..., *source)], there)
            weights[..., rows, columns] += there
    return total.div_(weights.clamp_min(1e-3)), weights


def _with_fine(photo, hole, smooth, strength, limit, low, labels) -> Tensor:
    """The smooth fill plus `strength` times the shifted picture's finest band, at full size; the photo elsewhere.

    The band is cut at ± `limit`.
    """
    size, out = photo.shape[-2:], photo.clone()
    smooth, strength, limit, low = (Enlarged(x, size) for x in (smooth, strength, limit, low))
    pieces = list(labels.pieces(size))
    places = [torch.nonzero(hole[0].amax(axis))[:, 0] for axis in (1, 0)]
    top, bottom, left, right = *(int(p) for p in places[0][[0, -1]]), *(int(p) for p in places[1][[0, -1]])
    across = slice(left, right + 1)
    for start in range(top, bottom + 1, STRIP):
        rows = slice(start, min(start + STRIP, bottom + 1))
        total = photo.new_zeros(1, 3, rows.stop - rows.start, right + 1 - left)
        weights = torch.zeros_like(total[:, :1])
        for soft, target, source in pieces:
            part = [_overlap(t, w) for t, w in zip(target, (rows, across), strict=True)]
            if part[0] is None or part[1] is None:
                continue
            taken = [
                slice(p.start + s.start - t.start, p.stop + s.start - t.start)
                for p, s, t in zip(part, source, target, strict=True)
            ]
            there = (1 - hole[:, None, taken[0], taken[1]]) * soft.window(*part)
            place = (..., slice(part[0].start - start, part[0].stop - start),
                     slice(part[1].start - left, part[1].stop - left))  # fmt: skip
            total[place].addcmul_(photo[(..., *taken)] - low.window(*taken), there)
            weights[place] += there
        most = limit.window(rows, across)
        fine = torch.maximum(torch.minimum(total / weights.clamp_min(1e-3), most), -most)
        filled = smooth.window(rows, across) + strength.window(rows, across) * fine
        inside = hole[:, None, rows, across] > 0
        out[..., rows, across] = torch.where(inside, filled.clamp(0, 1), out[..., rows, across])
    return out


def _overlap(a: slice, b: slice) -> slice | None:
    start, stop = max(a.start, b.start), min(a.stop, b.stop)
    return slice(start, stop) if start < stop else None


def steadied(fine: Tensor, copied: Tensor, hole: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The strength of texture (mean absolute value) that the surroundings ask for in the hole, by a membrane, and the
    factor that brings copied texture to it; the factor first, both [1, 1, h, w]."""
    size = tuple(max(8, -(-side // max(2, int(sigma / 2)))) for side in hole.shape[-2:])
    sigma = sigma * size[0] / hole.shape[-2]
    inside = resize(hole[:, None], size, mode="area")

    def strength(x, weight):
        return gaussian_blur(
            resize(x.abs().mean(1, keepdim=True), size, mode="area"), sigma
        ) / weight.clamp_min(1e-3)

    wanted = membrane(strength(fine, gaussian_blur(1 - inside, sigma)), (inside[:, 0] > 0).float())
    factor = wanted / strength(copied, gaussian_blur(inside, sigma)).clamp_min(1e-4)
    maps = torch.cat([factor.clamp(*STEADY), wanted], dim=1)
    maps = F.interpolate(maps, size=hole.shape[-2:], mode="bilinear", align_corners=False)
    return maps[:, :1], maps[:, 1:]
