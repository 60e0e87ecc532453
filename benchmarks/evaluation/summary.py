"""The means of a run's rows in the shape of the papers' tables, and the report as JSON and as text."""

import math
from collections.abc import Sequence

from . import bootstrap
from .bootstrap import Mean
from .ledger import DONE, FAILED
from .metrics.catalogue import METRICS
from .papers import SECONDS, Benchmark, Cell, Table, printed

FORMAT = 1
MOST_ERRORS = 10
WIDTH = 33  # of a method's name in the text


def report(
    benchmark: Benchmark, rows: Sequence[dict], settings: dict, missing: dict[str, str], notes: Sequence[str],
    samples: int | None = None,
) -> dict:
    """Everything that the text, the JSON and the page say.

    missing: a sentence -> the metrics that it leaves out, joined. samples: how many there are, more than rows where a
    run was stopped (default: as many). A cell is null where nothing was measured.
    """
    done = [row for row in rows if row["status"] == DONE]
    failed = [{"id": row["id"], "error": row["error"]} for row in rows if row["status"] == FAILED]
    open_ones = [{"id": row["id"], "note": row["note"]} for row in done if row["note"]]
    metrics = {name: _mean(done, Cell(name), lambda row: True) for name in (*benchmark.metrics, SECONDS)}
    return {
        "format": FORMAT,
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "settings": settings,
        "samples": len(rows) if samples is None else samples,
        "done": len(done),
        "failed": failed,
        "open": open_ones,
        "missing": missing,
        "notes": list(notes),
        "tables": [made for table in benchmark.tables if _says(made := _table(table, done))],
        "metrics": {name: _number(found, 1) | {"said": _said(name)} for name, found in metrics.items() if found.count},
    }


def _said(name: str) -> str:
    return METRICS[name].said if name in METRICS else "seconds of an edit"


def _table(table: Table, rows: Sequence[dict]) -> dict:
    ours = [
        {"name": name, "cells": [_number(_mean(rows, cell, table.wanted), _scale(cell)) for cell in cells],
         "digits": [_digits(cell) for cell in cells]}
        for name, cells in table.ours
    ]  # fmt: skip
    known = printed().get(table.printed, {"source": "", "rows": []})
    theirs = [_theirs(row, len(table.columns)) for row in known["rows"]]
    return {"title": table.title, "columns": list(table.columns), "ours": ours, "printed": theirs,
            "source": known["source"], "note": table.note}  # fmt: skip


def _says(table: dict) -> bool:
    """Whether a table holds any number."""
    ours = any(cell["count"] for row in table["ours"] for cell in row["cells"])
    return ours or bool(table["printed"])


def _theirs(row: list, columns: int) -> dict:
    """A printed row; AnyBench's have the metric's name as their second cell."""
    name = " ".join(str(part) for part in row[: len(row) - columns])
    return {"name": name, "cells": row[len(row) - columns :]}


def _mean(rows: Sequence[dict], cell: Cell, wanted) -> Mean:
    counted = [row for row in rows if wanted(row)]
    if cell.category == "each":
        kinds = sorted({row["category"] for row in counted})
        means = [_mean(counted, Cell(cell.metric, kind), wanted) for kind in kinds]
        values = [found.value for found in means if found.count]
        found = bootstrap.mean(values)
        return Mean(found.value, math.nan, math.nan, sum(found.count for found in means))
    return bootstrap.mean([row[cell.metric] for row in counted if cell.category in ("", row["category"])])


def _number(found: Mean, scale: float) -> dict:
    """For JSON, which has no NaN."""
    values = {"value": found.value, "low": found.low, "high": found.high}
    return {k: None if math.isnan(v) else v * scale for k, v in values.items()} | {"count": found.count}


def _scale(cell: Cell) -> float:
    return METRICS[cell.metric].scale if cell.metric in METRICS else 1.0


def _digits(cell: Cell) -> int:
    return METRICS[cell.metric].digits if cell.metric in METRICS else 2


def lines(found: dict) -> list[str]:
    """The report as text, tables in plain columns."""
    settings = found["settings"]
    out = [f"{found['title']}: {found['done']} of {found['samples']} samples, workflow {settings['workflow']}", ""]
    for table in found["tables"]:
        out += [*table_lines(table), ""]
    out += [f"left out: {names}: {why}" for why, names in found["missing"].items()]
    out += [f"note: {note}" for note in found["notes"]]
    return out + failures(found["failed"], "failed", "error") + failures(found["open"], "not fully measured", "note")


def failures(items: Sequence[dict], what: str, field: str) -> list[str]:
    """The first of them, and how many there are."""
    out = [f"{item['id']}: {item[field]}" for item in items[:MOST_ERRORS]]
    return [f"{len(items)} {what}:", *(f"  {line}" for line in out)] if items else []


def table_lines(table: dict) -> list[str]:
    """One table: the printed rows, then ours, then the interval of ours."""
    width = [max(9, len(column)) for column in table["columns"]]
    head = " " * WIDTH + "  ".join(f"{c:>{w}}" for c, w in zip(table["columns"], width, strict=True))
    title = f"{table['title']}" + (f" (printed: {table['source']})" if table["source"] else "")
    out = [title, head]
    digits = table["ours"][0]["digits"]
    out += [_row(row["name"], [shown(v, d) for v, d in zip(row["cells"], digits)], width) for row in table["printed"]]
    for row in table["ours"]:
        out.append(_row(row["name"], [shown(c["value"], d) for c, d in zip(row["cells"], row["digits"])], width))
        if any(cell["low"] is not None for cell in row["cells"]):
            spans = [_span(c, d) for c, d in zip(row["cells"], row["digits"])]
            out.append(_row("  ± half of the 95 % interval", spans, width))
    return out + ([f"  {table['note']}"] if table["note"] else [])


def _row(name: str, cells: Sequence[str], width: Sequence[int]) -> str:
    return f"{name[: WIDTH - 1]:<{WIDTH}}" + "  ".join(f"{c:>{w}}" for c, w in zip(cells, width, strict=True))


def _span(cell: dict, digits: int) -> str:
    return "-" if cell["low"] is None else shown((cell["high"] - cell["low"]) / 2, digits)


def shown(value: float | None, digits: int) -> str:
    """A number as a table prints it, `-` for none."""
    return "-" if value is None else f"{value:.{digits}f}"
