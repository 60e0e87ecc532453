"""Stage 3, the edits (A.1): every editor edits every picture, one editor after the other, and a judge chooses."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...models.errors import EditError
from ...models.icedit.answers import shortened
from . import pictures
from .ledger import Ledger, kept, rejected
from .tools import Editor, Judge
from .working import Doubtful, Down, Pace, Refused, shown, work_off

FOLDER = "edits"


@dataclass(frozen=True)
class Task:
    """A picture and what is to be done to it. key: of the instruction, and of its words."""

    key: str
    source: Path
    instruction: str


def tasks(out: Path, written: Sequence[dict], places: dict[str, str]) -> list[Task]:
    """written: rows of the second stage; places: where each digest's picture lies. An instruction that was written anew
    is another task, so no result of an older one is taken for it."""
    return [Task(key_of(row), out / places[row["digest"]], row["instruction"]) for row in written]


def key_of(row: dict) -> str:
    """The key of an instruction's edits."""
    mark = hashlib.sha256(row["instruction"].encode()).hexdigest()[:8]
    return row["key"] if row["key"].endswith(mark) else f"{row['key']}-{mark}"


def edit(ledger: Ledger, todo: Sequence[Task], editor: Editor, number: int, out: Path, title: str, pace: Pace) -> None:
    """One editor's results, as edits/NUMBER/KEY.png. title: of the node that takes the instruction, or nothing.

    Every task has seeds of its own, from its key; the paper does not say which it took. An EditError whose `down` is
    true says that the editor is away, not that the edit failed.
    """

    def work(task: Task) -> dict:
        path = Path(FOLDER) / str(number) / f"{task.key}.png"
        sets = {name: str(_seed(task.key, number)) for name in editor.seeds}
        try:
            result = editor.edit(task.source, sets=sets | ({title: task.instruction} if title else {}))
        except EditError as error:
            if getattr(error, "down", False):
                raise Down(str(error), final=True) from None
            raise Doubtful(rejected(task.key, f"editor {number}: {error}")) from None
        pictures.save(out / path, result)
        return kept(task.key, result=path.as_posix())

    left = [task for task in todo if task.key not in ledger.rows]
    work_off(ledger, shown(left, f"editor {number}"), work, Pace(1, pace.patience))


def _seed(key: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{key}:{number}".encode()).digest()[:4], "big")


def choose(
    ledger: Ledger, todo: Sequence[Task], edits: Sequence[Ledger], judge: Judge | None, out: Path, pace: Pace
) -> None:
    """The better of the results; where only one editor has made one, that. Without a verdict the edit is rejected."""

    def work(task: Task) -> dict:
        rows = [ledger.rows[task.key] for ledger in edits]
        made = [(number, row["result"]) for number, row in enumerate(rows, start=1) if "result" in row]
        if not made:
            return rejected(task.key, "; ".join(row["reason"] for row in rows))
        if len(made) == 1 or judge is None:
            number, result = made[0]
            return kept(task.key, editor=number, result=result, verdict="the only result")
        return _judged(judge, task, made, out)

    left = [task for task in todo if task.key not in ledger.rows]
    work_off(ledger, shown(left, "judge"), work, pace)


def _judged(judge: Judge, task: Task, made: list[tuple[int, str]], out: Path) -> dict:
    shown = [pictures.tensor(pictures.read(out / result)) for _, result in made]
    try:
        decision = judge.choose(shown, pictures.tensor(pictures.read(task.source)), task.instruction, lambda *_: None)
    except Refused as error:
        return rejected(task.key, f"the judge did not choose: {error}")
    if decision.failures or decision.winner is None:
        return rejected(task.key, f"the judge did not choose: {shortened('; '.join(decision.failures))}")
    number, result = made[decision.winner]
    return kept(task.key, editor=number, result=result, verdict=shortened(" ".join(decision.lines)))
