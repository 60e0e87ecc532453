"""Texture for a smooth fill: copies the picture's own high frequencies by a few coherent shifts.

After He and Sun, "Statistics of Patch Offsets for Image Completion" (2012), in tensor form: every offset is scored by
how well the known surroundings explain themselves when shifted by it, the best few become labels, and a Potts
model chooses among them in the hole. Shifts, pools and an argmax: no training, any resolution.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import masks
from ..filters import box_blur, gaussian_blur, masked_blur
from ..image import resize
from .guess import membrane

SCALE = 4  # labels are chosen on a canvas this much smaller
LARGEST = 96  # longest side of that canvas
RING = 6  # px on it around the hole that offsets must explain
LABELS = 24
SWEEPS, SMOOTHNESS = 14, 1.6
COVERAGE = 0.35  # what an offset pays for each part of the hole that it leaves uncovered
GUIDE = 1.0  # weight of the low-pass difference to the guide inside the hole
ALIKE = 0.3  # difference of low frequencies at which copied texture has faded to 1/e: bark is no sky
COARSE = 4.0  # times sigma: between the two lies structure, copied whole it costs the most where it is wrong
AT_EDGE, INSIDE = 0.5, 0.1  # share of it: offsets explain the surroundings, so it fits best beside them
STEADY = (0.4, 1.4)  # how far texture's strength may be moved towards that of the hole's surroundings
MISSING = 4.0  # cost of a source pixel that does not exist


def coherent_copy(
    photo: Tensor,
    hole: Tensor,
    guide: Tensor,
    *,
    sigma: float = 2.0,
    gain: float = 0.8,
    offsets: int = LABELS,
) -> Tensor:
    """The guide's low frequencies plus `gain` times the shifted picture's high frequencies, inside the hole.

    photo, guide: [b, 3, h, w], hole: [b, h, w] of 0 and 1; sigma in pixels separates low from high. Returns
    [b, 3, h, w]; outside the hole it is the photo. Where nothing can be copied the guide alone stays.
    """
    parts = [
        _copy_one(photo[i : i + 1], hole[i : i + 1], guide[i : i + 1], sigma, gain, offsets)
        for i in range(len(photo))
    ]
    return torch.cat(parts)


def _copy_one(photo, hole, guide, sigma, gain, offsets):
    scale = max(SCALE, -(-max(photo.shape[-2:]) // LARGEST))
    small = tuple(max(8, round(s / scale)) for s in photo.shape[-2:])
    known = 1 - hole[:, None]
    if float(known.mean()) < 0.05 or min(photo.shape[-2:]) < 32:
        return torch.where(hole[:, None] > 0, guide, photo)
    canvas = Canvas(photo, hole, guide, small)
    shifts = candidate_shifts(canvas, offsets)
    if not shifts:
        return torch.where(hole[:, None] > 0, guide, photo)
    labels = choose(canvas, shifts)
    ratio = [full / part for full, part in zip(photo.shape[-2:], small, strict=True)]
    texture, source, weight = shifted_texture(photo, hole, shifts, labels, ratio, sigma)
    low = guide_low_pass(photo, guide, hole, sigma)
    alike = torch.exp(-(gaussian_blur(source - low, 2 * sigma).square().mean(1, keepdim=True) / ALIKE**2))
    textured = torch.lerp(guide, low + gain * alike * texture, weight)
    return torch.where(hole[:, None] > 0, textured.clamp(0, 1), photo)


class Canvas:
    """Picture, hole and guide at label size, the hole grown to cover every full pixel of it."""

    def __init__(self, photo: Tensor, hole: Tensor, guide: Tensor, size: tuple[int, int]):
        self.size = size
        self.hole = (resize(hole[:, None], size, mode="area") > 0.01).float()  # [1, 1, h, w]
        self.known = 1 - self.hole
        weight = resize(1 - hole[:, None], size, mode="area")
        self.colour = (
            resize(photo * (1 - hole[:, None]), size, mode="area") / weight.clamp_min(1e-3) * self.known
        )
        self.guide = resize(guide, size, mode="area")
        grown = masks.grow(self.hole[:, 0], RING)[:, None]
        self.ring = (grown - self.hole) * self.known
        self.low = torch.where(
            self.hole > 0, gaussian_blur(self.guide, 1.5), masked_blur(self.colour, self.known, 1.5)
        )


def candidate_shifts(canvas: Canvas, count: int) -> list[tuple[int, int]]:
    """The offsets (dy, dx), in label pixels, under which the ring looks most like the picture elsewhere.

    All offsets at once by correlation: Σ ring (I(p) - I(p + o))² over sources that are known, plus what the
    offset leaves uncovered. Local minima, the best first.
    """
    h, w = canvas.size
    error, valid = _correlate_error(canvas.colour, canvas.ring, canvas.known)
    covered = _correlate(canvas.hole, canvas.known) / canvas.hole.sum().clamp_min(1)
    ring_total = canvas.ring.sum().clamp_min(1)
    share = valid / ring_total
    score = error / valid.clamp_min(1) / 3 + COVERAGE * 0.05 * (1 - covered) + 0.05 * (1 - share)
    score = torch.where((share > 0.25) & (covered > 0.02), score, torch.full_like(score, 1e3))
    cy, cx = h - 1, w - 1
    score[max(0, cy - 1) : cy + 2, max(0, cx - 1) : cx + 2] = (
        1e3  # no shift at all copies the hole onto itself
    )
    lowest = -F.max_pool2d(-score[None, None], 3, 1, 1)[0, 0]
    minima = torch.where((score <= lowest) & (score < 1e2), score, torch.full_like(score, 1e3)).flatten()
    values, order = minima.topk(min(count, minima.numel()), largest=False)
    return [
        (int(i) // (2 * w - 1) - cy, int(i) % (2 * w - 1) - cx)
        for v, i in zip(values, order, strict=True)
        if v < 1e2
    ]


def _correlate(a: Tensor, b: Tensor) -> Tensor:
    """Σ_p a(p) b(p + o) for every offset o, by FFT. a, b: [1, c, h, w]. Returns [2h - 1, 2w - 1], o = 0 centred."""
    h, w = a.shape[-2:]
    size = (2 * h - 1, 2 * w - 1)
    product = torch.fft.rfft2(b, size) * torch.fft.rfft2(a, size).conj()
    out = torch.fft.irfft2(product, size).sum((0, 1))
    return torch.roll(out, (h - 1, w - 1), (0, 1))


def _correlate_error(colour: Tensor, ring: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_ring |I(p) - I(p + o)|² over known sources, and how many pixels that were."""
    own = _correlate((colour**2).sum(1, keepdim=True) * ring, known)
    other = _correlate(ring, (colour**2).sum(1, keepdim=True) * known)
    cross = _correlate(colour * ring, colour * known)
    return (own + other - 2 * cross).clamp_min(0), _correlate(ring, known).round()


def choose(canvas: Canvas, shifts: list[tuple[int, int]]) -> Tensor:
    """Label probabilities [n, h, w] by a mean-field Potts model over the offsets' costs."""
    cost = torch.cat([_cost(canvas, shift) for shift in shifts])  # [n, h, w]
    area = (canvas.hole + canvas.ring)[0, 0]
    cost = box_blur((cost * area)[None], 3)[0] / box_blur(area[None, None], 3)[0, 0].clamp_min(1e-3)
    scale = cost.amin(0)[area > 0].mean().clamp_min(1e-4)
    unary = cost / scale
    belief = torch.softmax(-unary, dim=0)
    for sweep in range(SWEEPS):
        sharpness = 1 + 3 * sweep / SWEEPS
        neighbours = box_blur((belief * area)[None], 2)[0] * 25 / 8
        belief = torch.softmax(sharpness * (SMOOTHNESS * neighbours - unary), dim=0)
    return belief


def _cost(canvas: Canvas, shift: tuple[int, int]) -> Tensor:
    """[1, h, w]: colour difference in the ring, low-pass difference to the guide in the hole, and missing sources."""
    colour, low = _shift(canvas.colour, shift), _shift(canvas.low, shift)
    there = _shift(canvas.known, shift)
    ring = (colour - canvas.colour).square().mean(1) * canvas.ring[:, 0]
    inside = GUIDE * (low - canvas.low).square().mean(1) * canvas.hole[:, 0]
    return torch.where(there[:, 0] > 0, ring + inside, torch.full_like(inside, MISSING * 0.02))


def _shift(x: Tensor, shift: tuple[int, int]) -> Tensor:
    """x(p + shift), 0 where that lies outside."""
    dy, dx = shift
    h, w = x.shape[-2:]
    out = torch.zeros_like(x)
    rows, columns = slice(max(0, -dy), min(h, h - dy)), slice(max(0, -dx), min(w, w - dx))
    source = slice(max(0, dy), min(h, h + dy)), slice(max(0, dx), min(w, w + dx))
    if rows.start < rows.stop and columns.start < columns.stop:
        out[..., rows, columns] = x[..., source[0], source[1]]
    return out


def shifted_texture(photo, hole, shifts, belief, ratio, sigma) -> tuple[Tensor, Tensor, Tensor]:
    """The shifted picture's texture and low-pass at full size, and where there was a source.

    Texture is what is finer than sigma, as strong as it is around the hole, and near the hole's edge a share of what
    is coarser. Returns [1, 3, h, w] twice and [1, 1, h, w] of 0 and 1.
    """
    known = 1 - hole[:, None]
    low, coarse = (masked_blur(photo, known, s) for s in (sigma, COARSE * sigma))
    bands = torch.cat([photo - low, low - coarse, low], dim=1) * known
    copied, weight = shifted(bands, known, shifts, labels_in(hole, belief), ratio)
    fine, middle, source = copied.chunk(3, dim=1)
    steady = steadied(bands[:, :3], fine * hole[:, None], hole, COARSE * sigma)
    near = (2 * gaussian_blur(known, COARSE * sigma)).clamp(0, 1)
    share = (INSIDE + (AT_EDGE - INSIDE) * near) * steady.clamp_max(1)
    return steady * fine + share * middle, source, (weight > 0.02).float()


def labels_in(hole: Tensor, belief: Tensor) -> list[tuple[int, Tensor]]:
    """The winning labels that occur in the hole, each with its place [1, 1, h', w'] there on the label canvas."""
    winners = belief.argmax(0)
    inside = resize(hole[:, None], winners.shape, mode="area") > 0
    near = F.max_pool2d(inside.float(), 3, 1, 1)  # a cell more, for the bilinear borders
    used = torch.unique(winners[inside[0, 0]]).tolist()
    return [(label, (winners == label) * near) for label in used]


def shifted(x: Tensor, known: Tensor, shifts, labels, ratio) -> tuple[Tensor, Tensor]:
    """x [1, c, h, w] taken from each label's offset, label borders bilinear; and the weight [1, 1, h, w] of sources."""
    total, weights = torch.zeros_like(x), torch.zeros_like(known)
    for label, place in labels:
        shift = [round(s * r) for s, r in zip(shifts[label], ratio, strict=True)]
        target, source = _windows(place[0, 0], x.shape[-2:], shift)
        soft = F.interpolate(place, size=x.shape[-2:], mode="bilinear", align_corners=False)
        there = known[source] * soft[target]
        total[target].addcmul_(x[source], there)
        weights[target] += there
    return total.div_(weights.clamp_min(1e-3)), weights


def _windows(place: Tensor, size: tuple[int, int], shift: list[int]) -> tuple[tuple, tuple]:
    """The part of the picture that a label can reach and has a source for, and that source."""
    target, source = [], []
    for axis in (0, 1):
        cells = (place > 0).any(1 - axis).nonzero()[:, 0]
        cell = size[axis] / place.shape[axis]
        start = max(0, math.floor((int(cells[0]) - 1) * cell), -shift[axis])
        end = max(start, min(size[axis], math.ceil((int(cells[-1]) + 2) * cell), size[axis] - shift[axis]))
        target.append(slice(start, end))
        source.append(slice(start + shift[axis], end + shift[axis]))
    return (..., *target), (..., *source)


def steadied(fine: Tensor, copied: Tensor, hole: Tensor, sigma: float) -> Tensor:
    """The factor [1, 1, h, w] that makes copied texture as strong as the membrane over the surroundings' strength."""
    size = tuple(max(8, -(-side // max(2, int(sigma / 2)))) for side in hole.shape[-2:])
    sigma = sigma * size[0] / hole.shape[-2]
    inside = resize(hole[:, None], size, mode="area")

    def strength(x, weight):
        return gaussian_blur(
            resize(x.abs().mean(1, keepdim=True), size, mode="area"), sigma
        ) / weight.clamp_min(1e-3)

    wanted = membrane(strength(fine, gaussian_blur(1 - inside, sigma)), (inside[:, 0] > 0).float())
    factor = wanted / strength(copied, gaussian_blur(inside, sigma)).clamp_min(1e-4)
    return F.interpolate(factor.clamp(*STEADY), size=hole.shape[-2:], mode="bilinear", align_corners=False)


def guide_low_pass(photo: Tensor, guide: Tensor, hole: Tensor, sigma: float) -> Tensor:
    """The guide inside the hole, seen with the photo around it, without its own fine structure."""
    return gaussian_blur(torch.where(hole[:, None] > 0, guide, photo), sigma)
