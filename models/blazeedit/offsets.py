"""Which offsets a picture repeats itself by, and which of them continues it at each place of a hole.

After He and Sun, "Statistics of Patch Offsets for Image Completion" (2012), in tensor form: every offset is scored by
how well the known surroundings explain themselves when shifted by it, the best few become labels, and a Potts
model chooses among them in the hole. Correlations, pools and an argmax on a small canvas: no training.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import masks
from ..filters import box_blur, gaussian_blur, masked_blur
from ..image import resize

RING = 6  # px of the label canvas around the hole that offsets must explain
LABELS = 24
PIECES, LEAST = 6, 8  # a long hole is cut into so many pieces at most; each has at least so many offsets
TASTE = 0.4  # how far a seed may change an offset's cost (deviation of its logarithm)
SWEEPS, SMOOTHNESS = 14, 1.6
COVERAGE = 0.35  # what an offset pays for each part of the hole that it leaves uncovered
UNLIKE = 0.03  # squared difference of low frequencies between source and guide that asks for more offsets,
POOR = 0.02  # from this share of the hole on
GUIDE = 1.0  # weight of the low-pass difference to the guide inside the hole
MISSING = 4.0  # cost of a source pixel that does not exist


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


def labelled(canvas: Canvas, count: int, seed: int = 0) -> tuple[list[tuple[int, int]], Tensor]:
    """The offsets of a hole (in label pixels) and, per place, the index of the one that continues the picture [h, w].

    Where none of those that explain the surroundings has a source like the guide, offsets that do are looked for. The
    list is empty when nothing can be copied. seed: 0 takes the best, another number prefers others at random.
    """
    shifts = candidate_shifts(canvas, count)
    if not shifts:
        return [], torch.zeros(canvas.size, dtype=torch.long)
    winners = choose(canvas, shifts, seed).argmax(0)
    poor = _poorly_served(canvas, shifts, winners)
    if float(poor.sum()) > POOR * float(canvas.hole.sum()):
        more = _best(canvas, canvas.low, poor, poor, LEAST)
        if set(more) - set(shifts):
            shifts = list(dict.fromkeys([*shifts, *more]))
            winners = choose(canvas, shifts, seed).argmax(0)
    return shifts, winners


def _poorly_served(canvas: Canvas, shifts: list[tuple[int, int]], winners: Tensor) -> Tensor:
    """1 where the hole's source does not exist or does not look like the guide, else 0: [1, 1, h, w]."""
    poor = torch.zeros_like(canvas.hole)
    for label in torch.unique(winners).tolist():
        low, there = _shift(canvas.low, shifts[label]), _shift(canvas.known, shifts[label])
        unlike = (low - canvas.low).square().mean(1, keepdim=True) > UNLIKE
        poor += (winners == label) * canvas.hole * (unlike | (there == 0))
    return poor


def candidate_shifts(canvas: Canvas, count: int) -> list[tuple[int, int]]:
    """The offsets (dy, dx), in label pixels, under which the hole's surroundings look most like the picture elsewhere.

    A long hole is looked at piece by piece: no single offset explains all that a strip passes along its way.
    """
    pieces = _pieces(canvas.hole)
    each = max(LEAST, count // len(pieces))
    found = []
    for piece in pieces:
        ring = masks.grow(piece[:, 0], RING)[:, None] * canvas.known
        found += _best(canvas, canvas.colour, ring, piece, each)
    return list(dict.fromkeys(found))


def _pieces(hole: Tensor) -> list[Tensor]:
    """The hole [1, 1, h, w] cut across its longer side into pieces about twice as long as broad."""
    rows, columns = (torch.nonzero(hole[0, 0].amax(axis))[:, 0] for axis in (1, 0))
    spans = [(int(r[0]), int(r[-1]) + 1) if len(r) else (0, 1) for r in (rows, columns)]
    sides = [end - start for start, end in spans]
    along = int(sides[1] > sides[0])
    number = min(PIECES, max(1, round(max(sides) / (2 * min(sides)))))
    start, end = spans[along]
    out = []
    for index in range(number):
        part = slice(start + index * (end - start) // number, start + (index + 1) * (end - start) // number)
        piece = torch.zeros_like(hole)
        place = (..., part) if along else (..., part, slice(None))
        piece[place] = hole[place]
        out.append(piece)
    return out


def _best(canvas: Canvas, image: Tensor, region: Tensor, piece: Tensor, count: int) -> list[tuple[int, int]]:
    """The best offsets for one piece of the hole.

    All offsets at once by correlation: Σ region (I(p) - I(p + o))² over sources that are known, plus what the
    offset leaves uncovered of the piece. Local minima, the best first.
    """
    h, w = canvas.size
    error, valid = _correlate_error(image, region, canvas.known)
    covered = _correlate(piece, canvas.known) / piece.sum().clamp_min(1)
    share = valid / region.sum().clamp_min(1)
    score = error / valid.clamp_min(1) / 3 + COVERAGE * 0.05 * (1 - covered) + 0.05 * (1 - share)
    score = torch.where((share > 0.25) & (covered > 0.02), score, torch.full_like(score, 1e3))
    cy, cx = h - 1, w - 1
    # no shift at all copies the hole onto itself
    score[max(0, cy - 1) : cy + 2, max(0, cx - 1) : cx + 2] = 1e3
    lowest = -F.max_pool2d(-score[None, None], 3, 1, 1)[0, 0]
    minima = torch.where((score <= lowest) & (score < 1e2), score, torch.full_like(score, 1e3)).flatten()
    return _lowest(minima, count, (h, w))


def _lowest(score: Tensor, count: int, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The offsets of the `count` lowest scores below 100 of all [2h - 1, 2w - 1], flattened."""
    (h, w), (values, order) = size, score.topk(min(count, score.numel()), largest=False)
    found = zip(values.tolist(), order.tolist(), strict=True)
    return [(i // (2 * w - 1) - h + 1, i % (2 * w - 1) - w + 1) for value, i in found if value < 1e2]


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


def choose(canvas: Canvas, shifts: list[tuple[int, int]], seed: int = 0) -> Tensor:
    """Label probabilities [n, h, w] by a mean-field Potts model over the offsets' costs."""
    cost = torch.cat([_cost(canvas, shift) for shift in shifts])  # [n, h, w]
    area = (canvas.hole + canvas.ring)[0, 0]
    cost = box_blur((cost * area)[None], 3)[0] / box_blur(area[None, None], 3)[0, 0].clamp_min(1e-3)
    scale = cost.amin(0)[area > 0].mean().clamp_min(1e-4)
    if seed:
        taste = torch.randn(len(shifts), 1, 1, generator=torch.Generator().manual_seed(seed % 2**63))
        cost = cost * (TASTE * taste).exp().to(cost)
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
