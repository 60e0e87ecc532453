"""One stage's work: items in their order, several at once, and what happens when a model stops answering.

An item ends as a row of the ledger. Where a model could not be reached it gets none, so that a later run does it; after
`patience` of those in succession the run ends, with what is done kept.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...models.errors import EditError
from ...models.icedit.judging import JudgeFailed
from .ledger import KEPT, Ledger


class Down(Exception):
    """Somebody who is asked gave no answer. final: nor will it answer the next question."""

    def __init__(self, said: str, final: bool = False):
        super().__init__(said)
        self.final = final


class Refused(Exception):
    """Somebody who is asked does not answer this question."""


class Doubtful(Exception):
    """An item that failed with a row for it; the fault may be the item's, or that of whoever works on it."""

    def __init__(self, row: dict):
        super().__init__(row["reason"])
        self.row = row


class Asked(Protocol):
    """A model that answers questions about pictures, or about none."""

    name: str

    def ask(self, question: str, pictures: Sequence) -> str: ...


@dataclass(frozen=True)
class Voice:
    """A model whose silence is told apart from its refusal; neither ends as an edit's fault by mistake."""

    inner: Asked

    @property
    def name(self) -> str:
        return self.inner.name

    def ask(self, question: str, pictures: Sequence = ()) -> str:
        """Its words. Down or Refused where there are none."""
        try:
            return self.inner.ask(question, list(pictures))
        except JudgeFailed as failed:
            raise (Down(str(failed)) if failed.down else Refused(str(failed))) from None
        except EditError as error:
            raise Down(str(error), final=True) from None


@dataclass
class Pace:
    """workers: items at once. patience: failures in succession until a run ends. left: items that got no row."""

    workers: int = 1
    patience: int = 5
    left: int = 0


def work_off(ledger: Ledger, todo: Sequence, work: Callable, pace: Pace, settle: Callable | None = None) -> None:
    """Adds a row for each item; work(item) makes it, settle(row) has the last word, one row after the other.

    EditError when `patience` items in succession came to nothing, and when all did.
    """
    silent, doubtful = 0, []
    for row, error in _outcomes(todo, work, pace.workers):
        if isinstance(error, Down):
            silent, pace.left = silent + 1, pace.left + 1
            if error.final or silent >= pace.patience:
                raise EditError(_given_up(str(error), silent))
        elif isinstance(error, Doubtful):
            doubtful.append(error.row)
            if len(doubtful) >= pace.patience:
                raise EditError(_given_up(str(error), len(doubtful)))
        else:
            silent = 0
            for one in (*doubtful, row):
                ledger.add(settle(one) if settle else one)
            doubtful = []
    if doubtful and not ledger.of(KEPT):
        raise EditError(_given_up(doubtful[-1]["reason"], len(doubtful)))
    for one in doubtful:
        ledger.add(one)


def _given_up(said: str, times: int) -> str:
    often = f", {times} times in succession" if times > 1 else ""
    return f"{said.rstrip('.')}{often}; put that right and run the same command again, what is done is kept."


def _outcomes(todo: Iterable, work: Callable, workers: int) -> Iterator[tuple[dict | None, Exception | None]]:
    """(row, None) or (None, what happened) of each item, in order; never more than twice the workers ahead."""
    if workers <= 1:
        for item in todo:
            yield _outcome(work, item)
        return
    waiting, crowd = deque(), _Crowd(work, workers)
    try:
        for item in todo:
            waiting.append(crowd.start(item))
            if len(waiting) >= 2 * workers:
                yield _taken(waiting.popleft())
        while waiting:
            yield _taken(waiting.popleft())
    finally:
        crowd.over.set()


class _Crowd:
    """Threads that end with the process: Ctrl-C need not wait for an answer that is a minute away."""

    def __init__(self, work: Callable, workers: int):
        self.work, self.turn, self.over = work, threading.Semaphore(workers), threading.Event()

    def start(self, item) -> queue.Queue:
        """Begins an item when its turn comes; its outcome comes through the queue."""
        box: queue.Queue = queue.Queue(1)

        def run():
            with self.turn:
                if not self.over.is_set():
                    box.put(_caught(self.work, item))

        threading.Thread(target=run, name="editkit-triplets", daemon=True).start()
        return box


def _taken(box: queue.Queue) -> tuple[dict | None, Exception | None]:
    row, error = box.get()
    if isinstance(error, (Down, Doubtful)) or error is None:
        return row, error
    raise error


def _caught(work: Callable, item) -> tuple[dict | None, BaseException | None]:
    try:
        return work(item), None
    except BaseException as error:  # it is raised again where the rows are written
        return None, error


def _outcome(work: Callable, item) -> tuple[dict | None, Exception | None]:
    try:
        return work(item), None
    except (Down, Doubtful) as error:
        return None, error


def shown(items: Sequence, label: str) -> Iterable:
    """The items with a progress bar, on a terminal."""
    from tqdm import tqdm

    return tqdm(items, desc=label, disable=None, leave=False) if items else items
