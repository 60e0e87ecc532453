"""Who picks among candidates or gives an edit its marks: a person, a model that is asked in words, or CLIP.

Every judge has `check(instruction, count)`, which refuses before anything is sampled what it could not judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ...models.errors import EditError
from ...models.icedit import judging, vie
from ...models.icedit.judging import Decision, JudgeFailed, Tell
from .vision_models import ClipScorer


class Voice(Protocol):
    """A model that answers questions about pictures: `Endpoint` or `LocalModel`."""

    name: str

    def ask(self, question: str, pictures: Sequence[Tensor]) -> str: ...


@dataclass(frozen=True)
class ModelJudge:
    """Compares two at a time, as the paper does. swapped: asks in both orders."""

    voice: Voice
    swapped: bool = False

    @property
    def name(self) -> str:
        return f"{self.voice.name}, in both orders" if self.swapped else self.voice.name

    def check(self, instruction: str, count: int) -> None:
        _need(instruction)

    def choose(self, candidates: Sequence[Tensor], original: Tensor, instruction: str, tell: Tell) -> Decision:
        return judging.pairwise(self.ask, candidates, original, instruction, tell, self.swapped)

    def score(self, original: Tensor, edited: Tensor, instruction: str) -> vie.Scores:
        return vie.scored(self.ask, original, edited, instruction)

    def ask(self, question: str, pictures: Sequence[Tensor]) -> str:
        """The model's words. What is wrong with it now ends the judging, not the run: the candidates are there."""
        try:
            return self.voice.ask(question, pictures)
        except EditError as error:
            raise JudgeFailed(str(error), down=True) from None


@dataclass(frozen=True)
class ClipJudge:
    """Takes the candidate of the highest CLIP cosine with a text: what the edit shows, or else the instruction."""

    scorer: ClipScorer
    caption: str = ""

    @property
    def name(self) -> str:
        return f"CLIP score of {self.scorer.folder}"

    def check(self, instruction: str, count: int) -> None:
        _need(self.caption.strip() or instruction)

    def choose(self, candidates: Sequence[Tensor], original: Tensor, instruction: str, tell: Tell) -> Decision:
        try:
            scores = self.scorer.scores(candidates, self.caption.strip() or instruction)
        except (JudgeFailed, EditError) as failed:
            said = f"all candidates: {failed}"
            return Decision(0, (f"{said} 1 stays.",), (said,))
        tell(1, 1)
        return judging.highest(scores, "CLIP")

    def similarity(self, edited: Tensor, instruction: str) -> float:
        """The CLIP cosine of one edit [3, h, w] with the caption, or else the instruction; −1 to 1."""
        return self.scorer.scores([edited], self.caption.strip() or instruction)[0]


@dataclass(frozen=True)
class ManualJudge:
    """A person. index: from 1; 0 for not yet."""

    index: int = 0
    name = "a person"

    def check(self, instruction: str, count: int) -> None:
        judging.picked(self.index, count)

    def choose(self, candidates: Sequence[Tensor], original: Tensor, instruction: str, tell: Tell) -> Decision:
        return judging.picked(self.index, len(candidates))


def _need(instruction: str) -> None:
    if not instruction.strip():
        raise EditError("The instruction is empty; write what the edit was asked to do, which the judge goes by.")


def scoring(judge) -> ModelJudge:
    """A judge that can give marks. EditError for one that only picks."""
    if not isinstance(judge, ModelJudge):
        raise EditError(f"{judge.name.capitalize()} gives no marks; wire Judge (Endpoint) or Judge (Local Model).")
    return judge


def marking(judge) -> str:
    """What kind of marks a judge gives for a race: VIE or CLIP. EditError for one that only picks."""
    if isinstance(judge, ClipJudge):
        return "CLIP"
    scoring(judge)
    return "VIE"


def mark(judge, original: Tensor, edited: Tensor, instruction: str) -> float:
    """A judge's marks of one edit [3, h, w]: VIE overall, or the CLIP cosine. JudgeFailed when it gives none."""
    if marking(judge) == "CLIP":
        return judge.similarity(edited, instruction)
    return judge.score(original, edited, instruction).overall
