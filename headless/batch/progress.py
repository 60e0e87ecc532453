"""What the driver adds up and shows: pictures, speed, and where the workers' time goes."""

import sys
import time

from .task import Report

EVERY_TERMINAL, EVERY_LOG = 0.5, 60.0  # seconds between two lines


class Progress:
    """The sum of all reports. Shown in place on a terminal, else as a line a minute."""

    def __init__(self, workers: int):
        self.workers, self.sum = workers, Report()
        self.began, self._first, self._shown = time.monotonic(), None, time.monotonic()

    def add(self, report: Report) -> None:
        if self._first is None:
            self._first = time.monotonic() - report.busy - report.load
        for name in ("edited", "found", "failed", "busy", "load", "model"):
            setattr(self.sum, name, getattr(self.sum, name) + getattr(report, name))
        self._show()

    @property
    def pictures(self) -> int:
        return self.sum.edited + self.sum.found + self.sum.failed

    @property
    def seconds(self) -> float:
        """Since the first picture, so without the start of Ray and of the workers."""
        return max(1e-9, time.monotonic() - (self._first or time.monotonic()))

    def line(self) -> str:
        done, what = self.sum, "picture" if self.pictures == 1 else "pictures"
        return (
            f"{self.pictures:,} {what}: {done.edited:,} edited, {done.found:,} there already, "
            f"{done.failed:,} failed; {self.pictures / self.seconds:.2f} a second"
        )

    def shares(self) -> str:
        """Where the workers' time went, of which each had as much as the job took."""
        whole, done = self.seconds * self.workers, self.sum
        parts = {
            "in the workflow's nodes": done.model / whole,
            "reading, hashing and writing": max(0.0, done.busy - done.model) / whole,
            "starting": done.load / whole,
        }
        said = ", ".join(f"{share:.0%} {what}" for what, share in parts.items())
        return f"the workers' time: {said}, {max(0.0, 1 - sum(parts.values())):.0%} waiting"

    def _show(self) -> None:
        terminal, now = sys.stderr.isatty(), time.monotonic()
        if now - self._shown < (EVERY_TERMINAL if terminal else EVERY_LOG):
            return
        self._shown = now
        if terminal:
            in_place(self.line())
        else:
            print(self.line(), file=sys.stderr, flush=True)

    def close(self) -> None:
        in_place("")


def in_place(text: str) -> None:
    """Puts a text where the last one stood, on a terminal; nothing in a log."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
