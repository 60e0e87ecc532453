"""Stage 2, customised instructions (A.1): one per picture and category, checked before any edit."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from . import answers, prompts
from .curation import asked
from .ledger import KEPT, Ledger, kept, rejected
from .prompts import CATEGORIES, Example
from .working import Pace, Refused, Voice, shown, work_off

ROUND = 32  # items that are written with the same examples; then what was accepted can serve as one
LEARNT, POOL = 2, 64  # of the accepted ones: shown with a question, remembered per category


@dataclass(frozen=True)
class Item:
    """A picture that gets an instruction of one category."""

    key: str
    picture: dict  # its row of the first stage
    category: str
    number: int


def items(pictures: Sequence[dict], chosen: Sequence[str], each: int, seed: int) -> list[Item]:
    """Draws `each` categories per picture, in the shares of A.2, by the picture's digest: the same in every run."""
    made = []
    for row in pictures:
        rng, left = random.Random(f"{seed}:{row['digest']}"), list(chosen)
        for _ in range(min(each, len(left))):
            category = rng.choices(left, [CATEGORIES[name].count for name in left])[0]
            left.remove(category)
            made.append(Item(f"{row['digest']}-{category}", row, category, len(made)))
    return made


@dataclass
class Writer:
    """Writes and checks instructions. learnt: by category, what was accepted in earlier rounds."""

    voice: Voice
    tries: int = 3
    learnt: dict[str, list[Example]] | None = None

    def row(self, item: Item) -> dict:
        """The ledger's row. Down may be raised."""
        known = {"digest": item.picture["digest"], "category": item.category}
        try:
            instruction, target = self._written(item)
            known |= {"instruction": instruction, "target_caption": target}
            question = prompts.check(item.category, item.picture["caption"], instruction, target)
            good, why = asked(self.voice, question, "good", self.tries)
        except Refused as error:
            return rejected(item.key, str(error), **known)
        if not good:
            return rejected(item.key, f"the check found it wrong: {why}", **known)
        return kept(item.key, **known)

    def _written(self, item: Item) -> tuple[str, str]:
        """Asks again where the answer cannot be used, saying why. Refused after the last try, and where the model
        finds the picture unfit for this category."""
        caption, fault = item.picture["caption"], None
        question = prompts.instruct(item.category, caption, self._examples(item))
        for _ in range(self.tries):
            try:
                answer = self.voice.ask(prompts.again(question, fault) if fault else question)
                made = answers.written(answer, item.category, caption)
            except answers.Fault as error:
                fault = str(error)
                continue
            if isinstance(made, str):
                raise Refused(f"not suitable for {item.category}: {made}")
            return made
        raise Refused(f"no instruction in {self.tries} tries: {fault}")

    def _examples(self, item: Item) -> list[Example]:
        pool = (self.learnt or {}).get(item.category, [])
        return random.Random(item.key).sample(pool, min(LEARNT, len(pool)))


def write(ledger: Ledger, todo: Sequence[Item], voice: Voice, tries: int, pace: Pace) -> None:
    """Writes what is not in the ledger yet, a round at a time. What a round is shown is settled by the rounds before
    it, so a run that was killed asks the same when it goes on."""
    learnt: dict[str, list[Example]] = {name: [] for name in CATEGORIES}
    writer = Writer(voice, tries, learnt)
    for start in shown(range(0, len(todo), ROUND), "instructions"):
        items = todo[start : start + ROUND]
        work_off(ledger, [i for i in items if i.key not in ledger.rows], writer.row, pace)
        for item in items:
            row = ledger.rows.get(item.key)
            if row and row["status"] == KEPT:
                made = Example(item.picture["caption"], row["instruction"], row["target_caption"])
                learnt[item.category] = [*learnt[item.category], made][-POOL:]


def given(ledger: Ledger, pictures: Sequence[dict], needs_target: bool) -> None:
    """Takes the instructions that came with the pictures; nothing is asked."""
    for row in pictures:
        category = prompts.category(row.get("category", ""))
        instruction, target = row.get("instruction", ""), row.get("target_caption", "")
        digest = hashlib.sha256(instruction.encode()).hexdigest()[:8]
        key = f"{row['digest']}-{category or prompts.OTHER}-{digest}"
        if key in ledger.rows:
            continue
        known = {"digest": row["digest"], "category": category or prompts.OTHER, "instruction": instruction}
        known |= {"target_caption": target} if target else {}
        if category is None:
            ledger.add(rejected(key, f"its category {row['category']!r} is none of {', '.join(CATEGORIES)}", **known))
        elif not instruction:
            ledger.add(rejected(key, "it has no instruction", **known))
        elif needs_target and not target:
            ledger.add(rejected(key, "it has no target caption, which the CLIP text check needs", **known))
        else:
            ledger.add(kept(key, **known))
