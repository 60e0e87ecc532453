"""One `eval`: reads the benchmark, opens the output folder, runs, and writes the report."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...headless.files import check_writable, write
from ...models.errors import EditError
from . import page, readers, summary
from . import settings as runs
from .inputs import Inputs
from .ledger import Ledger, held
from .metrics.catalogue import METRICS, VIE, applicable
from .metrics.engines import Engines
from .metrics.judge import Wanted
from .papers import BENCHMARKS, Benchmark
from .running import Edits, Evaluation
from .samples import Found, Sample


def evaluate(options: argparse.Namespace, editor: Edits, prompt: Mapping) -> dict:
    """Everything after the workflow is there; editor: what edits, with its `workflow_hash`. Returns the report."""
    benchmark = BENCHMARKS[options.benchmark]
    found = readers.read(benchmark.name, options.data, _reading(options))
    inputs = Inputs(prompt, options.map, options.workflow)
    samples, notes = _chosen(found, options, inputs)
    inputs.check(samples, benchmark.words, benchmark.title)
    engines = Engines(options.models, _judge(options))
    with held(check_writable(options.out)):
        settings = runs.opened(options.out, _settings(options, editor))
        ledger = Ledger(options.out)
        metrics = _metrics(benchmark, options)
        missing = _missing(metrics, samples, engines)
        settings = runs.check_engines(options.out, settings, engines.identities())
        runs.save(options.out, settings)
        for why, names in missing.items():
            print(f"left out: {names}: {why}", file=sys.stderr)
        try:
            Evaluation(options.out, editor, inputs, engines, metrics, ledger).run(samples, benchmark.name)
        finally:
            rows = [ledger.rows[s.id] for s in samples if s.id in ledger.rows]
            report = summary.report(benchmark, rows, settings, missing, [*found.notes, *notes], len(samples))
            if rows:
                _write(options.out, report, rows, benchmark.headline)
    return report


def _reading(options: argparse.Namespace) -> readers.Options:
    return readers.Options(options.split, options.language, options.turns, options.keep_flawed)


def _judge(options: argparse.Namespace) -> Wanted:
    return Wanted(options.judge_url, options.judge_model, options.judge_key, options.judge)


def _settings(options: argparse.Namespace, editor: Edits) -> dict:
    return {
        "benchmark": options.benchmark, "data": str(options.data), "workflow": options.workflow.name,
        "workflow_hash": editor.workflow_hash, "turns": options.turns, "split": options.split,
        "language": options.language, "map": sorted(options.map), "set": options.set,
    }  # fmt: skip


def _chosen(found: Found, options: argparse.Namespace, inputs: Inputs) -> tuple[list[Sample], list[str]]:
    """The samples of this run, and a note about those that need a reference which the workflow does not take."""
    samples, notes = list(found.samples), []
    if options.category:
        samples = [sample for sample in samples if sample.category in options.category]
        if not samples:
            there = ", ".join(sorted({s.category for s in found.samples if s.category})) or "none"
            raise EditError(f"No sample is of the category {options.category[0]!r}; there are {there}.")
    if "reference" not in inputs.fields:
        guided = sum(sample.reference is not None for sample in samples)
        samples = [sample for sample in samples if sample.reference is None]
        notes = [f"{guided} samples are guided by a further picture and left out: the workflow has no node titled "
                 "'reference'."] if guided else []  # fmt: skip
        if not samples:
            raise EditError("Every sample is guided by a further picture; title the node that takes it 'reference'.")
    return samples[: options.limit], notes


def _metrics(benchmark: Benchmark, options: argparse.Namespace) -> tuple[str, ...]:
    """The names that are wanted. VIE-Score's four come together."""
    if not options.metrics:
        return benchmark.metrics
    names = [name.strip() for name in options.metrics.split(",")]
    unknown = next((name for name in names if name not in METRICS), None)
    if unknown is not None:
        raise EditError(f"There is no metric {unknown!r}; there are {', '.join(METRICS)}.")
    return tuple(dict.fromkeys(names + (list(VIE) if set(names) & set(VIE) else [])))


def _missing(metrics: Sequence[str], samples: Sequence[Sample], engines: Engines) -> dict[str, str]:
    """Why -> which metrics cannot be measured, of those for which the samples have what it takes."""
    possible = {n for s in samples for n in applicable(metrics, lambda field, s=s: bool(getattr(s, field)))}
    out: dict[str, list[str]] = {}
    for name in metrics:
        if name in possible and (why := engines.missing(METRICS[name].engine)):
            out.setdefault(why, []).append(name)
    return {why: ", ".join(names) for why, names in out.items()}


def _write(out: Path, report: dict, rows: Sequence[dict], headline: str) -> None:
    """report.json, report.txt and the page."""
    text = "\n".join(summary.lines(report)) + "\n"
    write(out / "report.json", lambda file: file.write(json.dumps(report, indent=1, ensure_ascii=False).encode()))
    write(out / "report.txt", lambda file: file.write(text.encode()))
    page.build(out, report, rows, headline)
