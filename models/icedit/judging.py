"""Early filter (§3.3): of M edits made with few steps a judge picks the one whose seed is run in full."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ..errors import EditError
from . import answers

# A judge's way of being asked: (question, pictures [3, h, w] in 0..1) -> its words. JudgeFailed when it has none.
Ask = Callable[[str, Sequence[Tensor]], str]
Tell = Callable[[int, int], None]


class JudgeFailed(Exception):
    """A judge that gave no answer: one sentence. `down`: it will not answer the next question either."""

    def __init__(self, said: str, down: bool = False):
        super().__init__(said)
        self.down = down


@dataclass(frozen=True)
class Verdict:
    """What came of one comparison: 1 or 2, or None when the judge does not say; and its words."""

    choice: int | None
    said: str


@dataclass(frozen=True)
class Decision:
    """Which candidate won (None: nobody has chosen yet), a line for each step on the way, what failed, and how often
    the judge was asked."""

    winner: int | None
    lines: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    calls: int = 0


class Judge(Protocol):
    """Whoever picks one of the candidates."""

    name: str

    def choose(self, candidates: Sequence[Tensor], original: Tensor, instruction: str, tell: Tell) -> Decision:
        """candidates, original: pictures [3, h, w] in 0..1, each of its own size. tell(done, total): progress."""


@dataclass
class Tournament:
    """The running maximum over M candidates in M − 1 comparisons, champion against challenger (§3.3, B.3).

    compare(champion, challenger) gives a Verdict or raises JudgeFailed. Without a verdict the champion stays; once a
    judge is down the rest is not asked.
    """

    compare: Callable[[int, int], Verdict]
    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self, count: int, tell: Tell) -> int:
        """The winner's number, from 0."""
        champion = 0
        for challenger in range(1, count):
            verdict = self._verdict(champion, challenger)
            if verdict is None:
                break
            champion = challenger if verdict.choice == 2 else champion
            tell(challenger, count - 1)
        return champion

    def _verdict(self, champion: int, challenger: int) -> Verdict | None:
        """None once the judge is down."""
        pair = f"{champion + 1} against {challenger + 1}"
        try:
            verdict = self.compare(champion, challenger)
        except JudgeFailed as failed:
            self.failures.append(f"{pair}: {failed}")
            self.lines.append(f"{pair}: {failed} {champion + 1} stays.")
            return None if failed.down else Verdict(None, str(failed))
        if verdict.choice is None:
            self.failures.append(f"{pair}: the judge did not decide")
            self.lines.append(f"{pair}: no decision, {champion + 1} stays. {verdict.said}")
        else:
            won = challenger if verdict.choice == 2 else champion
            self.lines.append(f"{pair}: {won + 1} wins. {verdict.said}")
        return verdict


def pairwise(
    ask: Ask, candidates: Sequence[Tensor], original: Tensor, instruction: str, tell: Tell, swapped: bool = False
) -> Decision:
    """The paper's filter: a model is asked about two edits at a time (Fig. 13).

    swapped: asks twice with the edits exchanged and counts only what it says both times; models favour a place.
    """
    calls = 0

    def once(first: int, second: int) -> Verdict:
        nonlocal calls
        calls += 1
        said = ask(answers.asked_pair(instruction), [candidates[first], candidates[second], original])
        return Verdict(answers.choice(said), f"“{answers.shortened(said)}”")

    tournament = Tournament((lambda a, b: _both_ways(once, a, b)) if swapped else once)
    winner = tournament.run(len(candidates), tell)
    return Decision(winner, tuple(tournament.lines), tuple(tournament.failures), calls)


def _both_ways(compare: Callable[[int, int], Verdict], first: int, second: int) -> Verdict:
    """A verdict that holds in either order, or none."""
    one, other = compare(first, second), compare(second, first)
    exchanged = {1: 2, 2: 1}.get(other.choice)
    said = f"{one.said}; exchanged: {other.said}"
    if one.choice is None or one.choice != exchanged:
        return Verdict(None, f"It does not hold when the two are exchanged: {said}")
    return Verdict(one.choice, said)


def highest(scores: Sequence[float], what: str) -> Decision:
    """The candidate with the highest score, the first of equal ones."""
    winner = max(range(len(scores)), key=lambda i: (scores[i], -i))
    lines = [f"{number}: {what} {score:.4f}" for number, score in enumerate(scores, start=1)]
    return Decision(winner, tuple(lines))


def picked(index: int, count: int) -> Decision:
    """What a person chose, counted from 1; 0 is nothing yet. EditError for a candidate that there is not."""
    if index == 0:
        return Decision(None, ("Nothing is picked yet: look at the candidates and set the pick to 1 or more.",))
    if not 1 <= index <= count:
        raise EditError(f"Candidate {index} is picked and there are {count}; pick 1 to {count}.")
    return Decision(index - 1, (f"Candidate {index} was picked by hand.",))


def seeds(first: int, count: int) -> tuple[int, ...]:
    """count seeds from a first one on, within the 64 bits that a seed has."""
    return tuple((first + i) % 2**64 for i in range(count))


def evaluations(steps: int, early: int, count: int) -> int:
    """NFE = n + M · m (appendix D): n steps of the final run, m of each of the M candidates."""
    return steps + count * early


def report(name: str, seeds: Sequence[int], decision: Decision, steps: int, early: int) -> str:
    """The filter's story in lines: who won, who met whom and why, what failed, and the cost."""
    count = len(seeds)
    calls = f"{decision.calls} question{'s' * (decision.calls != 1)}"
    lines = [_headline(seeds, decision), f"Judge: {name}, {calls}.", *decision.lines]
    lines.append("Seeds: " + ", ".join(f"{number} is {seed}" for number, seed in enumerate(seeds, start=1)))
    total = evaluations(steps, early, count)
    lines.append(f"NFE = n + M · m = {steps} + {count} · {early} = {total}")
    return "\n".join(lines)


def _headline(seeds: Sequence[int], decision: Decision) -> str:
    if decision.winner is None:
        return f"{len(seeds)} candidates, none picked yet."
    won = f"Candidate {decision.winner + 1} of {len(seeds)} wins, seed {seeds[decision.winner]}."
    return f"{won} {warning(decision)}".strip()


def warning(decision: Decision) -> str:
    """One sentence on what the judge left open, or nothing."""
    if not decision.failures:
        return ""
    count = len(decision.failures)
    return (
        f"The judge left it open in {count} comparison{'s' * (count > 1)}, where the candidate that led stayed "
        f"({decision.failures[0].rstrip('.')})."
    )
