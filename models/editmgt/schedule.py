"""Sampling: which tokens are committed at each step, which are masked again, and which are held (aMUSEd; Sec. 3.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import EditError

SCHEDULES = ("cosine", "linear")
HOLDS = ("official", "strict")


def temperatures(steps: int, temperature=(2.0, 0.0)) -> Tensor:
    """The temperature of each step's Gumbel noise [steps]: from the first of a pair to its second, or to 0.01."""
    first, last = temperature if isinstance(temperature, tuple | list) else (temperature, 0.01)
    return torch.linspace(first, last, steps)


def mask_ratio(step: int, steps: int, schedule: str = "cosine") -> float:
    """The share of tokens that is masked again after step 0, 1, … of `steps`. EditError for another schedule."""
    if schedule not in SCHEDULES:
        raise EditError(f"The mask schedule {schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}.")
    # in float32, as the released code rounds
    ratio = torch.tensor(step + 1) / steps
    return float(torch.cos(ratio * math.pi / 2) if schedule == "cosine" else 1 - ratio)


@dataclass(frozen=True)
class Draw:
    """The randomness of a step: a token for every position [b, n] from its probabilities, and uniforms [b, n]."""

    sampled: Tensor
    uniform: Tensor | None


@dataclass(frozen=True)
class Rows:
    """Probabilities [u, v] of some positions of [b, n] tokens, by their flat index [u]."""

    index: Tensor
    probabilities: Tensor
    shape: tuple[int, int]

    def of(self, tokens: Tensor) -> Tensor:
        """How probable these tokens [b, n] are, 1 at the positions that are not among the rows."""
        out = torch.ones(self.shape, device=tokens.device).flatten()
        chosen = tokens.flatten()[self.index][:, None]
        out[self.index] = self.probabilities.gather(-1, chosen)[:, 0]
        return out.view(self.shape)

    def placed(self, tokens: Tensor) -> Tensor:
        """Tokens [u] of the rows at their positions [b, n], 0 elsewhere."""
        out = torch.zeros(self.shape, dtype=tokens.dtype, device=tokens.device).flatten()
        out[self.index] = tokens
        return out.view(self.shape)


def draw(rows: Rows, generator: torch.Generator | None = None, *, last: bool = False, exact: bool = False) -> Draw:
    """Draws a token for each row, and the uniforms of the remasking. A CPU generator gives the same on every machine.

    exact: as the released code draws, an exponential for every entry of the vocabulary, in its order; `rows` must then
    hold all positions. Otherwise one uniform a row, which picks from the same distribution.
    """
    flat = rows.probabilities
    device = generator.device if generator is not None else flat.device
    if exact:
        flat = flat.to(device)
        sampled = (flat / torch.empty_like(flat).exponential_(1, generator=generator)).argmax(-1)
    else:  # the probabilities stay where they are: 8192 numbers a row, of which one would be moved
        total = flat.cumsum(-1)
        picked = torch.rand(len(flat), 1, generator=generator, device=device).to(flat.device) * total[:, -1:]
        sampled = torch.searchsorted(total, picked, right=True)[:, 0].clamp_max(flat.shape[-1] - 1)
    placed = rows.placed(sampled.to(rows.index.device))
    if last:
        return Draw(placed, None)
    uniform = torch.zeros(rows.shape, device=device).uniform_(0, 1, generator=generator)
    return Draw(placed, uniform.to(rows.index.device))


@dataclass(frozen=True)
class Hold:
    """Region hold: positions [b, n] that shall stay the reference's tokens [b, n].

    strict: they are reverted whatever was drawn and never masked again (the paper). Otherwise a held token is put in
    before the confidence is looked at, and may be masked again (the released code).
    """

    where: Tensor
    reference: Tensor
    strict: bool = False


@dataclass(frozen=True)
class Stepped:
    """tokens: the next step's input [b, n] with [MASK] in it; clean: what this step predicts [b, n]; masking: bool."""

    tokens: Tensor
    clean: Tensor
    masking: Tensor | None


def step(
    tokens: Tensor, drawn: Draw, probability: Callable[[Tensor], Tensor], *, mask_token: int,
    ratio: float | Tensor | None, temperature: float, hold: Hold | None = None,
) -> Stepped:  # fmt: skip
    """One step on tokens [b, n] with [MASK]. probability(tokens) tells how probable each of [b, n] tokens is.

    ratio: the share to mask again, one or one a picture [b, 1]; None at the last step, which masks nothing. At least
    one token is masked again (unless a strict hold keeps all), and never more than were.
    """
    unknown = tokens == mask_token
    clean = torch.where(unknown, drawn.sampled, tokens)
    if hold is not None:
        held = hold.where if hold.strict else hold.where & unknown
        clean = torch.where(held, hold.reference, clean)
    if ratio is None:
        return Stepped(clean, clean, None)
    confidence = probability(clean).float()
    known = ~unknown | hold.where if hold is not None and hold.strict else ~unknown
    confidence = torch.where(known, torch.finfo(confidence.dtype).max, confidence)
    masking = remask(confidence, drawn.uniform, _how_many(known, tokens.shape[1], ratio), temperature)
    if hold is not None and hold.strict:
        masking &= ~known  # where all are held, the one that is always masked again would be one of them
    return Stepped(torch.where(masking, mask_token, clean), clean, masking)


def _how_many(known: Tensor, length: int, ratio: float | Tensor) -> Tensor:
    """How many tokens are masked again: [b, 1]."""
    wanted = torch.floor(length * torch.as_tensor(ratio, dtype=torch.float32, device=known.device))
    return torch.minimum((~known).sum(-1, keepdim=True) - 1, wanted).clamp_min(1).long()


def remask(confidence: Tensor, uniform: Tensor, count: Tensor, temperature: float) -> Tensor:
    """The `count` [b, 1] least confident positions after Gumbel noise, as bool [b, n]."""
    gumbel = -torch.log((-torch.log(uniform.clamp(1e-20))).clamp(1e-20))
    noisy = torch.log(confidence.clamp(1e-20)) + temperature * gumbel
    return noisy < noisy.sort(-1).values.gather(1, count)


def hold_where(scores: Tensor, threshold: float, size: tuple[int, int]) -> Tensor:
    """Positions to hold [b, n]: where localisation scores [b, h, w] in 0..1, at the tokens' grid, are below λ."""
    if tuple(scores.shape[-2:]) != tuple(size):
        scores = F.interpolate(scores[:, None], size, mode="bicubic", align_corners=False)[:, 0]
        scores = scores.clamp(0, 1)  # the interpolation overshoots, and λ above 1 is to hold everything
    return (scores < threshold).flatten(1)
