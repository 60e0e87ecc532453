"""Progress bars on the terminal: tqdm's, or a plain one where it is missing; none into a file or pipe."""

import contextlib
import importlib
import sys
from collections.abc import Iterator


class PlainBar:
    """`label: 3/12`, rewritten in place. Has the methods of tqdm that are used here."""

    def __init__(self, total: int, desc: str):
        self.total, self.desc, self.n = total, desc, 0
        self.refresh()

    def update(self, n: int = 1) -> None:
        self.n += n
        self.refresh()

    def refresh(self) -> None:
        print(f"\r{self.desc}: {self.n}/{self.total}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        print(file=sys.stderr, flush=True)


class NoBar:
    """A bar that nobody would see."""

    def update(self, n: int = 1) -> None: ...

    def close(self) -> None: ...


def bar(total: int, label: str):
    """A bar with update(n) and close()."""
    if not sys.stderr.isatty():
        return NoBar()
    try:
        from tqdm import tqdm
    except ImportError:
        return PlainBar(total, label)
    return tqdm(total=total, desc=label, leave=False)


@contextlib.contextmanager
def shown(label: str) -> Iterator[None]:
    """Shows what nodes report of their steps, through nodes/host, while the `with` lasts."""
    reporter = Reporter(label)
    host = _host()
    if host is not None:
        host.set_listener(reporter.hear)
    try:
        yield
    finally:
        reporter.close()
        if host is not None:
            host.set_listener(None)


def _host():
    name = f"{__package__.rpartition('.')[0]}.nodes.host.progress"
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        if problem.name and name.startswith(problem.name):  # the pack's nodes are not there: no bars then
            return None
        raise


class Reporter:
    """One bar at a time; a new one when the count starts over or the total changes."""

    def __init__(self, label: str):
        self.label, self.bar, self.total, self.done = label, None, 0, 0

    def hear(self, done: int, total: int, *_) -> None:
        """What nodes/host calls: `done` of `total` steps are over."""
        if self.bar is None or total != self.total or done < self.done:
            self.close()
            self.bar, self.total, self.done = bar(total, self.label), total, 0
        self.bar.update(done - self.done)
        self.done = done
        if done >= total:
            self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = None
