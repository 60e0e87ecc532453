"""Was the machine idle? How much of the processor other processes used while something was measured."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
LIMIT = 0.1  # of one core, by others: more, and the seconds of this process are theirs as well
SHORTEST = 1.0  # seconds of a sample: the kernel counts in hundredths
SEEN = 0.5  # of this process's own work has to show in the kernel's count, or that counts something else


@dataclass(frozen=True)
class Reading:
    """Seconds at one moment: the clock's, all cores' busy ones (None: unknown), and this process's own."""

    clock: float
    busy: float | None
    own: float


def read(stat: Path = STAT) -> Reading:
    """The counters now. Own time is this process's and that of its children that have ended."""
    times = os.times()
    own = time.process_time() + times.children_user + times.children_system
    return Reading(time.perf_counter(), busy_seconds(stat), own)


def busy_seconds(stat: Path = STAT) -> float | None:
    """Seconds that all cores together have worked since the start, or None where the system does not say."""
    try:
        line = stat.read_text(encoding="ascii").splitlines()[0].split()
    except (OSError, IndexError):
        return None
    if line[0] != "cpu":
        return None
    user, nice, system, _, _, irq, soft_irq, *more = map(int, line[1:])
    stolen = more[0] if more else 0  # by other guests of the same host
    return (user + nice + system + irq + soft_irq + stolen) / os.sysconf("SC_CLK_TCK")


def others(before: Reading, after: Reading) -> float | None:
    """Cores that others kept busy between two readings (0.5 = half of one), or None where that cannot be known."""
    if before.busy is None or after.busy is None:
        return None
    own, busy = after.own - before.own, after.busy - before.busy
    if busy < SEEN * own - 0.1:  # a container that counts only zeros
        return None
    return max(0.0, busy - own) / max(after.clock - before.clock, 1e-9)


class Watch:
    """Samples the share of others, phase by phase. reader and pause (seconds of a rest) are for tests."""

    def __init__(self, reader=read, pause: float = SHORTEST):
        self.reader, self.pause, self.samples = reader, pause, {}
        self.last = reader()

    def start(self) -> None:
        """From here on."""
        self.last = self.reader()

    def tick(self, phase: str, least: float = SHORTEST) -> None:
        """Takes a sample since the last one, unless that was less than `least` seconds ago."""
        now = self.reader()
        if now.clock - self.last.clock >= least:
            self.samples.setdefault(phase, []).append((now.clock - self.last.clock, others(self.last, now)))
            self.last = now

    def rest(self, phase: str) -> None:
        """A sample of a moment in which this process does nothing."""
        self.start()
        time.sleep(self.pause)
        self.tick(phase, 0)

    def shares(self) -> dict[str, float] | None:
        """Phase -> cores used by others, averaged over its time; None where a sample could not be taken."""
        flat = [share for samples in self.samples.values() for _, share in samples]
        if not flat or None in flat:
            return None
        return {
            phase: sum(seconds * share for seconds, share in samples) / max(sum(s for s, _ in samples), 1e-9)
            for phase, samples in self.samples.items()
        }

    def idle(self) -> bool | None:
        """Whether others used at most LIMIT of a core in every phase; None where it cannot be known."""
        shares = self.shares()
        return None if shares is None else max(shares.values()) <= LIMIT
