"""Two runs of one benchmark side by side: paired differences, and the samples where they differ most."""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...headless.files import write
from ...models.errors import EditError
from . import page, settings, summary, thumbs
from .bootstrap import Paired, paired
from .ledger import DONE, Ledger
from .metrics.catalogue import METRICS, Metric
from .papers import BENCHMARKS

SHOWN = 12


def read(out: Path) -> tuple[dict, dict[str, dict]]:
    """(settings, finished rows by id) of a run's folder. EditError for a folder that is none."""
    if not (out / settings.NAME).is_file():
        raise EditError(f"{out} holds no results of `eval`; name a folder that --out made.")
    return settings.read(out), {key: row for key, row in Ledger(out).rows.items() if row["status"] == DONE}


def compared(a: Path, b: Path, metric: str, seed: int) -> dict:
    """Everything that the text, the JSON and the page say. metric: by which samples are ranked; "" for the benchmark's.

    EditError for runs of two benchmarks or that share no sample.
    """
    (first, rows_a), (second, rows_b) = read(a), read(b)
    if first["benchmark"] != second["benchmark"]:
        raise EditError(f"{a} is of {first['benchmark']}, {b} of {second['benchmark']}; compare runs of one benchmark.")
    shared = [key for key in rows_a if key in rows_b and rows_a[key]["key"] == rows_b[key]["key"]]
    if not shared:
        raise EditError(f"{a} and {b} have no finished sample in common.")
    wanted = [row for row in shared if rows_a[row]["final"]]
    apart = _measured_apart(first, second)
    found = {name: _paired(name, rows_a, rows_b, wanted, seed) for name in METRICS if name not in apart}
    metrics = {name: pair for name, pair in found.items() if pair is not None}
    if metric in apart:
        raise EditError(f"{metric} does not compare: {apart[metric]}")
    chosen = _chosen(metric or BENCHMARKS[first["benchmark"]].headline, metrics, bool(metric))
    return {
        "benchmark": first["benchmark"], "a": str(a), "b": str(b), "shared": len(wanted), "seed": seed,
        "settings": [first, second], "ranked_by": chosen, "only_a": len(rows_a) - len(shared),
        "only_b": len(rows_b) - len(shared), "metrics": {n: _told(n, pair) for n, pair in metrics.items()},
        "samples": _ranked(chosen, rows_a, rows_b, wanted), "left_out": _told_apart(apart),
    }  # fmt: skip


def _measured_apart(first: dict, second: dict) -> dict[str, str]:
    """Metric -> why its numbers of the two runs do not compare: another model, or another judge, has measured each."""
    a, b = first["engines"], second["engines"]
    said = {name: f"A was measured with {a[name]}, B with {b[name]}." for name in a if b.get(name, a[name]) != a[name]}
    return {name: said[metric.engine] for name, metric in METRICS.items() if metric.engine in said}


def _told_apart(apart: dict[str, str]) -> dict[str, str]:
    """Why -> the metrics that it leaves out, joined."""
    return {why: ", ".join(name for name in apart if apart[name] == why) for why in dict.fromkeys(apart.values())}


def _paired(name: str, a: dict, b: dict, keys: Sequence[str], seed: int) -> Paired | None:
    metric = METRICS[name]
    values = ([rows[key][name] for key in keys] for rows in (a, b))
    return paired(*values, metric.better, seed=seed)


def _chosen(wanted: str, metrics: dict, asked: bool) -> str:
    if wanted in metrics:
        return wanted
    if asked or not metrics:
        raise EditError(f"No two samples have {wanted!r} measured; both have {', '.join(metrics) or 'nothing'}.")
    return next(iter(metrics))


def _told(name: str, pair: Paired) -> dict:
    scale = METRICS[name].scale
    values = {"a": pair.a, "b": pair.b, "difference": pair.difference.value, "low": pair.difference.low,
              "high": pair.difference.high}  # fmt: skip
    better = (pair.difference.value > 0) == (METRICS[name].better == "higher")
    verdict = ("B" if better else "A") if pair.clear else ""
    told = {k: None if math.isnan(v) else v * scale for k, v in values.items()}
    return told | {"count": pair.difference.count, "wins": pair.wins, "better": verdict}


def _ranked(metric: str, a: dict, b: dict, keys: Sequence[str]) -> list[dict]:
    """The samples of the largest differences."""
    known = [key for key in keys if math.isfinite(_gap(metric, a[key], b[key]))]
    ordered = sorted(known, key=lambda key: -_gap(metric, a[key], b[key]))[:SHOWN]
    shown = ("id", "stem", "category", "instruction", "target_caption")
    return [{name: a[k][name] for name in shown} | {"a": a[k][metric], "b": b[k][metric]} for k in ordered]


def _gap(metric: str, a: dict, b: dict) -> float:
    values = (a[metric], b[metric])
    return math.nan if None in values else abs(values[1] - values[0])


def lines(found: dict) -> list[str]:
    """The comparison as text."""
    out = [f"A: {found['a']}", f"B: {found['b']}", f"{found['shared']} samples that both have (B minus A)", ""]
    out.append(f"{'metric':<26}{'A':>10}{'B':>10}{'B - A':>10}  {'95 % interval':<22}{'B wins':>7}  better")
    for name, told in found["metrics"].items():
        metric = METRICS[name]
        a, b, difference, span, wins, better = _texts(metric, told)
        name = f"{metric.label} {metric.arrow}"
        out.append(f"{name:<26}{a:>10}{b:>10}{difference:>10}  {span:<22}{wins:>7}  {better}")
    out += [f"left out: {names}: {why}" for why, names in found["left_out"].items()]
    metric = METRICS[found["ranked_by"]]
    out += ["", f"where they differ most by {metric.label}:"]
    for sample in found["samples"]:
        a, b = (sample[side] * metric.scale for side in ("a", "b"))
        said = sample["instruction"] or sample["target_caption"] or ""
        digits = metric.digits + 1
        out.append(f"  {sample['id']:<28} {a:.{digits}f} → {b:.{digits}f}  {said[:60]}")
    return out


def build(out: Path, found: dict) -> Path:
    """Writes OUT/comparison.json and OUT/page/index.html. Returns the page."""
    folder = page.fresh(out / "page")
    parts = [_head(found), _table(found), page.left_out(found["left_out"]), _gallery(folder, found)]
    write(out / "comparison.json", lambda file: file.write(json.dumps(found, indent=1).encode()))
    return page.document(folder, f"{found['benchmark']}: A and B", parts)


def _head(found: dict) -> str:
    names = [" ".join((run["workflow"], *run["set"])) for run in found["settings"]]
    return (
        f"<h1>{escape(BENCHMARKS[found['benchmark']].title)}: A and B</h1>\n"
        f"<p>A: {escape(names[0])} <span class=\"soft\">({escape(found['a'])})</span><br>B: {escape(names[1])} "
        f"<span class=\"soft\">({escape(found['b'])})</span></p>\n"
        + page.facts([("samples that both have", str(found["shared"])), ("only in A", str(found["only_a"])),
                      ("only in B", str(found["only_b"]))])
    )  # fmt: skip


def _table(found: dict) -> str:
    heads = ("", "A", "B", "B − A", "95 % interval", "B wins", "better")
    head = "".join(f"<th>{h}</th>" for h in heads)
    body = "".join(_line(METRICS[name], told) for name, told in found["metrics"].items())
    return (
        f'<h2>Paired differences</h2>\n<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        '</table></div>\n<p class="note">Bootstrap over the shared samples, 10,000 resamples, seeded. An interval that '
        "holds zero leaves open which one is better.</p>"
    )


def _line(metric: Metric, told: dict) -> str:
    a, b, difference, span, wins, better = _texts(metric, told)
    kind = {"B": "good", "A": "bad"}.get(told["better"], "")
    return (
        f"<tr><td>{escape(metric.label)} {metric.arrow}</td><td>{a}</td><td>{b}</td>"
        f'<td class="{kind}">{difference}</td>'
        f"<td>{span}</td><td>{wins}</td><td>{better}</td></tr>"
    )


def _texts(metric: Metric, told: dict) -> tuple[str, ...]:
    """(A, B, difference, interval, wins, which is better) as they are printed."""
    keys = ("a", "b", "difference", "low", "high")
    a, b, difference, low, high = (summary.shown(told[key], metric.digits + 1) for key in keys)
    span = "-" if told["low"] is None else f"[{low}, {high}]"
    return a, b, difference, span, f"{told['wins']:.0%}", told["better"] or "not clear"


def _gallery(folder: Path, found: dict) -> str:
    metric = METRICS[found["ranked_by"]]
    cards = "\n".join(_card(folder, found, sample, metric) for sample in found["samples"])
    title = f'<h2>Where they differ most <span class="soft">by {escape(metric.label)}</span></h2>'
    return f'{title}\n<div class="cards">{cards}</div>'


def _card(folder: Path, found: dict, sample: dict, metric) -> str:
    a, b = Path(found["a"]), Path(found["b"])
    values = [f"{sample[side] * metric.scale:.{metric.digits + 1}f}" for side in ("a", "b")]
    shown = [("source", a, "source"), (f"A {values[0]}", a, "result"), (f"B {values[1]}", b, "result"),
             ("target", a, "target")]  # fmt: skip
    pictures = [
        (caption, thumbs.path(out, sample["stem"], kind), f"{number}_")
        for number, (caption, out, kind) in enumerate(shown)
    ]
    return page.card(folder, sample | {"note": ""}, pictures, "")
