"""The bars of the quality table: one declarative list, judged from nothing but the measured rows.

A row is {"task", "method", "photograph", "pair", "measure", "value"}; `evaluate(rows)` gives the verdicts
that `python . bench quality` prints, so whoever holds the `--json` file can recompute them.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

OURS = "ours"


class Table:
    """Rows by task, method and measure; each cell maps (photograph, pair) to a finite value."""

    def __init__(self, rows):
        self.cells = defaultdict(dict)
        for row in rows:
            if row["value"] is not None and np.isfinite(row["value"]):
                key = row["task"], row["method"], row["measure"]
                self.cells[key][row["photograph"], row["pair"]] = float(row["value"])
        self.rows = list(rows)

    def values(self, task, method, measure) -> dict:
        return self.cells.get((task, method, measure), {})

    def paired(self, task, measure, a, b) -> list[tuple[float, float]]:
        """Values of methods a and b on the pairs that both have."""
        first, second = self.values(task, a, measure), self.values(task, b, measure)
        return [(first[pair], second[pair]) for pair in first if pair in second]

    def complete(self, task, measure, *methods) -> bool:
        """Whether the methods were measured on the same pairs: a bar may not skip the hard ones."""
        keys = [self.values(task, method, measure).keys() for method in methods]
        return bool(keys[0]) and all(k == keys[0] for k in keys)

    def photographs(self) -> list[str]:
        return list(dict.fromkeys(row["photograph"] for row in self.rows))

    def methods(self, task) -> list[str]:
        return list(dict.fromkeys(row["method"] for row in self.rows if row["task"] == task))

    def tasks(self) -> list[str]:
        return list(dict.fromkeys(row["task"] for row in self.rows))

    def only(self, photograph) -> "Table":
        return Table([row for row in self.rows if row["photograph"] == photograph])


Statistic = Callable[[Table, str], float | None]


def mean(measure, method=OURS) -> Statistic:
    """Mean over the pairs."""

    def of(table, task):
        values = list(table.values(task, method, measure).values())
        return float(np.mean(values)) if values else None

    return of


def largest(measure, method=OURS) -> Statistic:
    """The largest value of any pair."""

    def of(table, task):
        return max(table.values(task, method, measure).values(), default=None)

    return of


def gain(measure, against, method=OURS) -> Statistic:
    """Mean paired difference, ours minus the other method's."""

    def of(table, task):
        if not table.complete(task, measure, method, against):
            return None
        return float(np.mean([a - b for a, b in table.paired(task, measure, method, against)]))

    return of


def wins(measure, against, method=OURS, lower=False) -> Statistic:
    """Share of the pairs in which ours is better, 0..1."""

    def of(table, task):
        if not table.complete(task, measure, method, against):
            return None
        pairs = table.paired(task, measure, method, against)
        return float(np.mean([(a < b) if lower else (a > b) for a, b in pairs]))

    return of


def worst_photograph(measure, against: tuple[str, ...], method=OURS) -> Statistic:
    """The lowest, over the photographs, of our mean minus the best mean among other methods."""

    def of(table, task):
        if not table.complete(task, measure, method, *against):
            return None
        margins = []
        for photograph in table.photographs():
            part = table.only(photograph)
            if ours := part.values(task, method, measure):
                others = [np.mean(list(part.values(task, other, measure).values())) for other in against]
                margins.append(float(np.mean(list(ours.values())) - max(others)))
        return min(margins)

    return of


def swap_margin() -> Statistic:
    """Mean PSNR with the task's own τ minus the best mean with any other task's."""

    def of(table, task):
        means = {m: mean("swap_psnr", m)(table, task) for m in table.methods(task) if m.startswith("tau:")}
        known = {m: v for m, v in means.items() if v is not None}
        own = known.pop(f"tau:{task}", None)
        return None if own is None or not known else own - max(known.values())

    return of


@dataclass(frozen=True)
class Bar:
    """A statistic of a task that should be on the right side of `must` and of `aim`."""

    task: str
    text: str
    statistic: Statistic
    must: float | None = None
    aim: float | None = None
    at_most: bool = False  # else at least
    unit: str = "dB"


@dataclass(frozen=True)
class Verdict:
    """A bar against its limit. value None: it could not be computed, which is short of a must."""

    bar: Bar
    kind: str  # "must" | "aim"
    limit: float
    value: float | None
    by_photograph: dict[str, float | None]

    @property
    def ok(self) -> bool:
        if self.value is None:
            return False
        slack = 1e-9  # so that 0.7 of the pairs is 70 %
        return self.value <= self.limit + slack if self.bar.at_most else self.value >= self.limit - slack


def fill_bars(task, low) -> list[Bar]:
    """The four bars that keep a fill from being blur, streaks, tiles or combs."""
    return [
        Bar(task, "gradient ratio, not blurred", mean("gradient_ratio"), low, unit=""),
        Bar(task, "gradient ratio, not noisy", mean("gradient_ratio"), 1.15, at_most=True, unit=""),
        Bar(
            task,
            "patch distance below Telea's, pairs",
            wins("patch_distance", "telea", lower=True),
            0.7,
            unit="",
        ),
        Bar(
            task,
            "autocorrelation over the truth's",
            gain("autocorrelation", "truth"),
            0.1,
            at_most=True,
            unit="",
        ),
        Bar(task, "8-px lattice ratio", mean("lattice"), 1.3, at_most=True, unit=""),
    ]


def step_bars(task) -> list[Bar]:
    """Two distilled steps against one, on the net's fill before the texture copy."""
    return [
        Bar(task, "2 steps over 1 step, fill", gain("fill_psnr", "1 step", "2 steps"), -0.3),
        Bar(task, "2 steps, fill's lattice ratio", mean("fill_lattice", "2 steps"), 1.3, at_most=True, unit=""),
        Bar(task, "2 steps over 2 undistilled, fill's gradient ratio",
            gain("fill_gradient", "2 steps undistilled", "2 steps"), aim=0.1, unit=""),
    ]  # fmt: skip


BARS = [
    Bar("tone", "over the full luminance stretch", gain("psnr", "luminance stretch"), 1.0),
    Bar("tone", "over the partial stretch", gain("psnr", "partial stretch"), 0.0, 1.0),
    Bar("tone", "worst photograph, over the better of identity and partial stretch",
        worst_photograph("psnr", ("identity", "partial stretch")), -2.0),
    Bar("tone", "already good photographs", mean("good_psnr"), 27.0),
    Bar("relight", "over identity", gain("psnr", "identity"), 1.5, 3.0),
    Bar("relight", "better than identity, pairs", wins("psnr", "identity"), 0.7, unit=""),
    Bar("relight", "already good photographs", mean("good_psnr"), 24.0),
    Bar("remove", "in the mask, over Telea", gain("psnr_mask", "telea"), 0.5, 0.9),
    *fill_bars("remove", 0.6),
    Bar("remove", "shadow outside the mask, over untouched", gain("psnr_shadow", "untouched"), 4.0, 5.5),
    Bar("remove", "rest of the picture, against the truth", mean("psnr_rest"), 42.0),
    Bar("remove", "rest of the picture, against the input", mean("psnr_rest_input"), 42.0),
    Bar("remove", "largest change outside `changed`", largest("outside_changed"), 0.0, at_most=True, unit=""),
    Bar("outpaint", "in the mask, over Telea", gain("psnr_mask", "telea"), 0.2, 0.5),
    *fill_bars("outpaint", 0.5),
    Bar("outpaint", "largest change of a kept pixel", largest("outside_changed"), 0.0, at_most=True, unit=""),
    Bar("sticker", "colours inside the subject, over the cut-out", gain("psnr_subject", "cut-out"), 3.0, 5.0),
    Bar("sticker", "border and shadow, change with the colours",
        largest("border_change"), 0.0, at_most=True, unit=""),
    Bar("tone", "right τ over any other", swap_margin(), 1.0),
    Bar("relight", "right τ over any other", swap_margin(), 1.0),
    Bar("remove", "right τ over any other", swap_margin(), aim=1.0),
    Bar("sticker", "right τ over any other", swap_margin(), aim=1.0),
    *step_bars("remove"),
    *step_bars("outpaint"),
    Bar("autoencoder", "reconstruction", mean("psnr", "full decoder"), aim=35.0),
    Bar("autoencoder", "light decoder over the full one", gain("psnr", "full decoder", "light decoder"), aim=-0.5),
]  # fmt: skip


def evaluate(rows, tasks=None) -> list[Verdict]:
    """Judges measured rows by every bar of the tasks that were run (default: those that have rows)."""
    table = rows if isinstance(rows, Table) else Table(rows)
    tasks = table.tasks() if tasks is None else tasks
    parts = {photograph: table.only(photograph) for photograph in table.photographs()}
    verdicts = []
    for bar in BARS:
        if bar.task not in tasks:
            continue
        value = bar.statistic(table, bar.task)
        each = {name: bar.statistic(part, bar.task) for name, part in parts.items()}
        for kind, limit in (("must", bar.must), ("aim", bar.aim)):
            if limit is not None:
                verdicts.append(Verdict(bar, kind, limit, value, each))
    return verdicts
