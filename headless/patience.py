"""Asking a server that may come and go: waiting for it, finding a prompt on it, taking prompts off it."""

import contextlib
import time
from collections.abc import Callable, Iterable

from .errors import EditError
from .remote import Remote, Unreachable

FIRST, LAST = 0.3, 10.0  # seconds between two attempts, doubling
CRASHES = 3  # answers of status 500 after which the same question is not asked again
RUNNING = ("queue_running",)


class Away(EditError):
    """The server stayed away for longer than anyone wants to wait."""

    down = True  # who has many items left keeps them for another time, and rejects none


class Patient:
    """A server, asked again until it answers.

    say(text) is told once per absence; gone(reason) is the sentence for the end of the patience (in seconds).
    """

    def __init__(self, remote: Remote, seconds: float, say: Callable[[str], None], gone: Callable[[str], str]):
        self.remote, self.seconds, self._say, self._gone = remote, seconds, say, gone

    def ask(self, call: Callable, *arguments):
        """What call(*arguments) returns once it does not raise Unreachable. Away when that takes too long."""
        end, wait, crashes = None, FIRST, 0
        while True:
            try:
                return call(*arguments)
            except Unreachable as problem:
                crashes += problem.status == 500
                if crashes >= CRASHES:
                    raise EditError(f"The server failed ({problem}); its log says why.") from problem
                if end is None:
                    end = time.monotonic() + self.seconds
                    self._say(f"The server at {self.remote.address} is away ({problem}); waiting for it.")
                if time.monotonic() + wait > end:
                    raise Away(self._gone(str(problem))) from problem
            time.sleep(wait)
            wait = min(2 * wait, LAST)

    def find(self, prompt_id: str) -> dict | None:
        """As find(), patiently."""
        return self.ask(find, self.remote, prompt_id)


def find(remote: Remote, prompt_id: str) -> dict | None:
    """The history entry of a prompt; {} while it waits or runs, None when the server knows nothing of it."""
    history = f"/history/{prompt_id}"
    entry = remote.get(history).get(prompt_id)
    if entry:
        return entry
    if prompt_id in queued(remote):
        return {}
    return remote.get(history).get(prompt_id)  # it may have ended between the two questions


def queued(remote: Remote, which: Iterable[str] = (*RUNNING, "queue_pending")) -> set[str]:
    """The ids of the prompts that run or wait."""
    found = remote.get("/queue")
    return {str(item[1]) for part in which for item in found.get(part) or [] if len(item) > 1}


def withdraw(remote: Remote, prompt_ids: set[str], arriving: bool) -> None:
    """Takes prompts off the queue and stops the one that runs, if it is among them; nobody else's is touched.

    arriving: one may still be on its way in, so the server is asked once more. Nothing is raised.
    """
    with contextlib.suppress(Unreachable, EditError):
        for _ in range(2 if arriving else 1):
            remote.post("/queue", {"delete": sorted(prompt_ids)}, seconds=5)
            for prompt_id in queued(remote, RUNNING) & prompt_ids:
                remote.post("/interrupt", {"prompt_id": prompt_id}, seconds=5)
            if arriving:
                time.sleep(0.5)
