"""How far the turns of an editing session have moved from the first picture and from one another (Figs. 12 and 15)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import measures
from ..colour import ciede2000, to_lab
from ..errors import EditError
from ..image import resize
from ..masks import fit

SHAPE = 0.02  # pictures whose width / height differ by more are not turns of one session
NAN = float("nan")


@dataclass(frozen=True)
class Distance:
    """Between two pictures: outside the edit in pixels, in whole by their embeddings. NaN where nothing was measured.

    psnr: dB, 99 for equal pictures. ssim: of the luminance. delta_e: mean CIEDE2000. clip, face: cosines.
    """

    psnr: float = NAN
    ssim: float = NAN
    delta_e: float = NAN
    clip: float = NAN
    face: float = NAN


@dataclass(frozen=True)
class Turn:
    """One turn against the first picture and against the one before it."""

    first: Distance
    previous: Distance


@dataclass(frozen=True)
class Embeddings:
    """Of the first picture and of each turn: CLIP vision's [n + 1, d], and a face's [d] or None each."""

    clip: Tensor | None = None
    face: list[Tensor | None] | None = None


def aligned(pictures: list[Tensor]) -> list[Tensor]:
    """Pictures [3, h, w] of several sizes at the smallest one's. EditError where one has another shape."""
    smallest = min(pictures, key=lambda p: p.shape[-2] * p.shape[-1])
    height, width = smallest.shape[-2:]
    for number, picture in enumerate(pictures):
        wide, high = pictures[0].shape[-1], pictures[0].shape[-2]
        if abs(picture.shape[-1] / picture.shape[-2] * high / wide - 1) > SHAPE:
            raise EditError(
                f"Picture {number} is {picture.shape[-1]}x{picture.shape[-2]} px and the first {wide}x{high}; turns of "
                "one session have one shape: undo the fit or the padding first."
            )
    return [resize(picture[None], (height, width))[0] for picture in pictures]


def stacked(given: list[Tensor | None]) -> Tensor | None:
    """Masks [b, h, w] of any sizes as one batch [n, h, w] of the largest one's size; None where there is none."""
    found = [mask for mask in given if mask is not None]
    if not found:
        return None
    size = max((tuple(mask.shape[-2:]) for mask in found), key=lambda size: size[0] * size[1])
    return torch.cat([fit(mask, *size).cpu() for mask in found])


def distance(one: Tensor, other: Tensor, edit: Tensor | None = None) -> Distance:
    """PSNR, SSIM and ΔE of pictures [3, h, w] where the edit [h, w] is 0 (None: everywhere).

    SSIM counts windows that see nothing of the edit. NaN where the edit leaves nothing.
    """
    outside = torch.ones(one.shape[-2:], dtype=torch.bool) if edit is None else edit.cpu() <= 0
    a, b = (x.movedim(0, -1).float().cpu() for x in (one, other))
    if not bool(outside.any()):
        return Distance()
    window = 2 * measures.WINDOW + 1
    seen = F.max_pool2d((~outside).float()[None, None], window, 1, measures.WINDOW)[0, 0] > 0
    return Distance(
        measures.psnr(b.numpy(), a.numpy(), outside.numpy()),
        measures.ssim(b.numpy(), a.numpy(), (~seen).numpy()),
        float(ciede2000(to_lab(a[outside]), to_lab(b[outside])).mean()),
    )


def measured(
    pictures: list[Tensor], edits: Tensor | None, embeddings: Embeddings | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Turn]:  # fmt: skip
    """Each turn of pictures [3, h, w], of which the first is where the session began.

    edits: [1 or n, h, w], white where a turn (or every turn) may have changed; against the first picture all edits
    until then are left out. EditError for a single picture and for masks that do not fit.
    """
    turns = len(pictures) - 1
    if turns < 1:
        raise EditError("A single picture has nothing to compare it with; wire the first picture, or a batch of turns.")
    pictures, embeddings = aligned(pictures), embeddings or Embeddings()
    edits = None if edits is None else _edits(edits, pictures[0].shape[-2:], turns)
    out = []
    for k in range(1, turns + 1):
        own, all_until = (None, None) if edits is None else (edits[k - 1], edits[:k].amax(0))
        first = _with_cosines(distance(pictures[0], pictures[k], all_until), embeddings, 0, k)
        previous = _with_cosines(distance(pictures[k - 1], pictures[k], own), embeddings, k - 1, k)
        out.append(Turn(first, previous))
        report(k, turns)
    return out


def _edits(edits: Tensor, size: tuple[int, int], turns: int) -> Tensor:
    """Masks at the pictures' size; scaled ones reach a pixel further, as what lies in them does."""
    fitted = fit(edits, *size, batch=turns)
    return fitted if tuple(edits.shape[-2:]) == tuple(size) else F.max_pool2d(fitted, 3, 1, 1)


def _with_cosines(found: Distance, embeddings: Embeddings, a: int, b: int) -> Distance:
    clip = NAN if embeddings.clip is None else cosine(embeddings.clip[a], embeddings.clip[b])
    face = NAN
    if embeddings.face is not None and embeddings.face[a] is not None and embeddings.face[b] is not None:
        face = cosine(embeddings.face[a], embeddings.face[b])
    return Distance(found.psnr, found.ssim, found.delta_e, clip, face)


def cosine(a: Tensor, b: Tensor) -> float:
    """The cosine of two vectors."""
    return float(F.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0))


HEADS = {"psnr": "PSNR", "ssim": "SSIM", "delta_e": "ΔE", "clip": "CLIP", "face": "face"}
DIGITS = {"psnr": 2, "ssim": 4, "delta_e": 3, "clip": 4, "face": 4}


def report(turns: list[Turn], masked: bool, notes: list[str]) -> str:
    """The numbers as a table in plain text."""
    where = "outside the mask" if masked else "of the whole picture"
    lines = [f"PSNR (dB), SSIM and ΔE (CIEDE2000) {where}; CLIP and face: cosines of the whole picture."]
    for name, title in (("first", "against the first picture"), ("previous", "against the picture before")):
        lines += ["", title, "turn " + "".join(f"{head:>9}" for head in HEADS.values())]
        for number, turn in enumerate(turns):
            values = (_shown(getattr(getattr(turn, name), f.name), DIGITS[f.name]) for f in fields(Distance))
            lines.append(f"{number + 1:>4} " + "".join(f"{value:>9}" for value in values))
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _shown(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
