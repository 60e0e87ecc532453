"""The static page of a run: the papers' tables with ours among them, and samples to look at. One folder, no scripts."""

import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...headless.files import make_folder, write
from . import summary, thumbs
from .ledger import DONE
from .metrics.catalogue import METRICS

INDEX, PICTURES = "index.html", "pictures"
SHOWN = 24  # samples with pictures: the worst, the best, and as many in between
VALUES = 6  # metrics under a sample
STYLE = Path(__file__).with_name("page.css")


def build(out: Path, report: dict, rows: Sequence[dict], headline: str) -> Path:
    """Writes OUT/page/index.html with the pictures that it shows. Returns the file.

    headline: the metric by which samples are chosen and ordered; where it was not measured, the first that was.
    """
    folder = fresh(out / "page")
    headline = next((name for name in (headline, *report["metrics"]) if name in report["metrics"]), "")
    parts = [_head(report), *(_table(table) for table in report["tables"])]
    parts += [left_out(report["missing"], report["notes"]), _means(report)]
    chosen = spread([row for row in rows if row["status"] == DONE], headline)
    parts += [_gallery(out, folder, chosen, report["metrics"], headline), _failures(report), _foot(report)]
    return document(folder, f"{report['title']}: {report['settings']['workflow']}", parts)


def document(folder: Path, title: str, parts: Sequence[str]) -> Path:
    """Puts the parts into a whole page. title: as text."""
    text = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )
    return write(folder / INDEX, lambda file: file.write(text.encode()))


def fresh(folder: Path) -> Path:
    """The page's folder without the pictures of an older page."""
    shutil.rmtree(folder / PICTURES, ignore_errors=True)
    return make_folder(folder)


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Numbers with what they mean, side by side."""
    items = "".join(f"<li><b>{escape(value)}</b><span>{escape(name)}</span></li>" for name, value in pairs)
    return f'<ul class="facts">{items}</ul>'


def _head(report: dict) -> str:
    settings, seconds = report["settings"], report["metrics"].get("seconds")
    counts = {"samples": report["samples"], "edited": report["done"], "failed": len(report["failed"])}
    pairs = [(name, str(count)) for name, count in counts.items()]
    pairs += [("seconds an edit", f"{seconds['value']:.2f}")] if seconds else []
    return (
        f"<h1>{escape(report['title'])}</h1>\n<p class=\"soft\">Workflow {escape(settings['workflow'])}, "
        f"{escape(settings['workflow_hash'][:12])}; data {escape(settings['data'])}</p>\n{facts(pairs)}"
    )


def _table(table: dict) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in ("", *table["columns"]))
    digits = table["ours"][0]["digits"]
    body = [_printed(row, digits) for row in table["printed"]] + [_own(row) for row in table["ours"]]
    source = f' <span class="soft">printed numbers: {escape(table["source"])}</span>' if table["source"] else ""
    note = f'<p class="note">{escape(table["note"])}</p>' if table["note"] else ""
    return (
        f'<h2>{escape(table["title"])}{source}</h2>\n<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>\n{note}"
    )


def _printed(row: dict, digits: Sequence[int]) -> str:
    cells = "".join(f"<td>{summary.shown(value, d)}</td>" for value, d in zip(row["cells"], digits))
    return f"<tr><td>{escape(row['name'])}</td>{cells}</tr>"


def _own(row: dict) -> str:
    cells = "".join(f"<td>{_cell(cell, d)}</td>" for cell, d in zip(row["cells"], row["digits"]))
    return f'<tr class="own"><td>{escape(row["name"])}</td>{cells}</tr>'


def _cell(cell: dict, digits: int) -> str:
    span = "" if cell["low"] is None else (
        f"<small>{summary.shown(cell['low'], digits)} – {summary.shown(cell['high'], digits)}</small>"
    )  # fmt: skip
    return summary.shown(cell["value"], digits) + span


def left_out(missing: dict[str, str], notes: Sequence[str] = ()) -> str:
    """Metrics that are not there, each with its reason, and remarks. missing: a sentence -> names of metrics."""
    lines = [f"<b>{escape(names)}</b>: {escape(why)}" for why, names in missing.items()]
    lines += [escape(note) for note in notes]
    return "\n".join(f'<p class="missing">{line}</p>' for line in lines)


def _means(report: dict) -> str:
    rows = "".join(_line(name, found) for name, found in report["metrics"].items())
    head = "<tr><th>metric</th><th>mean and 95 % interval</th><th>samples</th><th></th></tr>"
    return f'<h2>Every metric</h2>\n<div class="scroll"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _line(name: str, found: dict) -> str:
    """A metric's mean, times the power of ten that its name tells."""
    metric = METRICS.get(name)
    label, scale, digits = (metric.label, metric.scale, metric.digits) if metric else (name, 1.0, 2)
    cell = {k: None if found[k] is None else found[k] * scale for k in ("value", "low", "high")}
    return (
        f"<tr><td>{escape(label)}</td><td>{_cell(cell, digits + 1)}</td><td>{found['count']}</td>"
        f'<td style="text-align:left;white-space:normal">{escape(found["said"])}</td></tr>'
    )


def spread(rows: Sequence[dict], metric: str) -> list[dict]:
    """At most SHOWN rows: the worst by the metric, the best, and evenly from in between; in that order, worst first."""
    known = [row for row in rows if row.get(metric) is not None and row[metric] == row[metric]]
    if not known:
        return list(rows[:SHOWN])
    sign = 1 if metric in METRICS and METRICS[metric].better == "higher" else -1
    ranked = sorted(known, key=lambda row: sign * row[metric])
    if len(ranked) <= SHOWN:
        return ranked
    third = SHOWN // 3
    middle = ranked[third:-third]
    return ranked[:third] + [middle[i * len(middle) // third] for i in range(third)] + ranked[-third:]


def _gallery(out: Path, folder: Path, rows: Sequence[dict], means: dict, headline: str) -> str:
    if not rows:
        return ""
    names = ([headline] if headline in means else []) + [n for n in means if n not in (headline, "seconds")]
    cards = "\n".join(_card(out, folder, row, names[:VALUES]) for row in rows)
    order = f" <span class=\"soft\">from the worst to the best {escape(headline)}</span>" if headline in means else ""
    return f'<h2>Samples{order}</h2>\n<div class="cards">{cards}</div>'


def _card(out: Path, folder: Path, row: dict, names: Sequence[str]) -> str:
    shown = [(kind, thumbs.path(out, row["stem"], kind), "") for kind in thumbs.KINDS]
    return card(folder, row, shown, values(row, names))


def card(folder: Path, row: dict, shown: Sequence[tuple[str, Path, str]], below: str) -> str:
    """One sample. shown: (caption, picture, what its copy's name begins with); those that are there are shown."""
    figures = "".join(
        f'<figure><img loading="lazy" src="{_copied(folder, path, prefix)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, path, prefix in shown if path.is_file()
    )  # fmt: skip
    said = row["instruction"] or row["target_caption"] or ""
    kind = f" · {row['category']}" if row["category"] else ""
    note = f'<p class="note">{escape(row["note"])}</p>' if row["note"] else ""
    return (
        f'<article class="card"><div class="pictures">{figures}</div><div class="words"><h3>{escape(said) or "–"}</h3>'
        f'<p class="soft">{escape(row["id"] + kind)}</p>{below}{note}</div></article>'
    )


def _copied(folder: Path, path: Path, prefix: str) -> str:
    """Copies a picture beside the page. Returns its address there."""
    make_folder(folder / PICTURES)
    name = f"{prefix}{path.name}"
    shutil.copyfile(path, folder / PICTURES / name)
    return f"{PICTURES}/{escape(name, quote=True)}"


def values(row: dict, names: Sequence[str]) -> str:
    """Some metrics of a row."""
    known = [(METRICS[n], row[n]) for n in names if n in METRICS and row[n] is not None and row[n] == row[n]]
    cells = "".join(f"<div><span>{escape(m.label)}</span> {v * m.scale:.{m.digits}f}</div>" for m, v in known)
    return f'<div class="values">{cells}</div>' if cells else ""


def _failures(report: dict) -> str:
    parts = []
    for items, what, field in ((report["failed"], "Failed", "error"), (report["open"], "Not fully measured", "note")):
        lines = "".join(f"<li><b>{escape(i['id'])}</b>: {escape(i[field])}</li>" for i in items)
        parts += [f'<h2>{what}</h2><ul class="plain">{lines}</ul>'] if items else []
    return "\n".join(parts)


def _foot(report: dict) -> str:
    engines = "; ".join(f"{name}: {identity}" for name, identity in report["settings"].get("engines", {}).items())
    models = f" Models: {escape(engines)}." if engines else ""
    return (
        "<footer>Intervals: 95 %, bootstrap over samples, seeded. What each metric is, and where ours differ from the "
        f"papers': benchmarks/evaluation/README.md of EditKit.{models}</footer>"
    )
