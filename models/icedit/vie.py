"""VIE-Score (B.4.2): how well an edit follows its instruction (SC), how clean it looks (PQ), and √(SC · PQ)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from . import answers
from .judging import Ask, JudgeFailed


@dataclass(frozen=True)
class Scores:
    """The marks of one edit, each 0 to 10: its success, how little else it changed, and its quality."""

    success: float
    restraint: float  # the paper's "degree of overediting", 10 for the least
    quality: float

    @property
    def consistency(self) -> float:
        """SC: the lower of the two marks, as VIEScore has it."""
        return min(self.success, self.restraint)

    @property
    def overall(self) -> float:
        """√(SC · PQ), 0 to 10 (§4.1)."""
        return math.sqrt(self.consistency * self.quality)

    def weighted(self, threshold: float = 0) -> float:
        """PQ / 10 weighted by SC mapped to 0..1, as in B.4.2: 1 from the threshold on and 0 below it.

        The paper does not tell its threshold; with 0 the weight is SC / 10.
        """
        weight = float(self.consistency >= threshold) if threshold > 0 else self.consistency / 10
        return weight * self.quality / 10

    def told(self) -> str:
        """The marks in words."""
        return (
            f"SC {self.consistency:g} (success {self.success:g}, restraint {self.restraint:g}), PQ {self.quality:g}, "
            f"overall {self.overall:.2f}"
        )


def scored(ask: Ask, original: Tensor, edited: Tensor, instruction: str) -> Scores:
    """Asks a model for the two marks of SC and the one of PQ. JudgeFailed when it does not give them."""
    consistency = _marks(ask(answers.asked_consistency(instruction), [original, edited]), 2, "SC")
    quality = _marks(ask(answers.QUALITY, [edited]), 1, "PQ")
    return Scores(*consistency, *quality)


def _marks(answer: str, count: int, name: str) -> tuple[float, ...]:
    found = answers.scores(answer, count)
    if found is None:
        said = answers.shortened(answer)
        raise JudgeFailed(f"The judge's answer for {name} holds no {count} marks of 0 to 10: “{said}”.")
    return found


def mean(scores: Sequence[Scores], threshold: float = 0) -> tuple[float, float, float, float]:
    """Means of (SC, PQ, overall, weighted) over edits; NaN where there is no edit with marks."""
    if not scores:
        return (math.nan,) * 4
    each = [(s.consistency, s.quality, s.overall, s.weighted(threshold)) for s in scores]
    return tuple(sum(column) / len(each) for column in zip(*each, strict=True))


def report(name: str, means: tuple, lines: Sequence[str], count: int) -> str:
    """The means, then each edit's line; edits that were not asked about any more are named."""
    consistency, quality, overall, weighted = means
    head = f"SC {consistency:.2f}, PQ {quality:.2f}, overall {overall:.2f} of 10, weighted {weighted:.3f} of 1."
    head = "No edit has marks." if math.isnan(overall) else head
    rest = [f"{number}: not asked." for number in range(len(lines) + 1, count + 1)]
    return "\n".join([head, f"Judge: {name}.", *lines, *rest])
