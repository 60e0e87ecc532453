"""`python . eval BENCHMARK …` and `python . eval compare A B`."""

import argparse
from pathlib import Path

from ...models.errors import EditError

DESCRIPTION = """Runs a benchmark of the papers on any workflow, and scores it as the papers score theirs.

  pie-bench      PIE-Bench, 700 edits told by captions, with masks (SwiftEdit, Table 1)
  magicbrush     MagicBrush dev or test, single- or multi-turn, with targets (EditMGT Table 1, ICEdit Table 2)
  emu-edit       Emu Edit's test set (ICEdit Table 1, EditMGT Table 1)
  anybench       AnyBench, that is AnyEdit-Test (EditMGT Tables 6 and 7)
  gedit-bench    GEdit-Bench, scored by a vision model (EditMGT Table 2)
  kontext-bench  KontextBench
  folder         your own: a table (.csv, .jsonl, .parquet) with source and, as you have them, instruction,
                 source_caption, target_caption, mask, target, category, session, turn
  compare        two runs of one benchmark
"""
EXAMPLES = """The workflow is in API format. Its node titled `image` reads the picture, the one titled `result` saves
the edit, and nodes titled `instruction`, `source caption`, `target caption`, `mask` and `reference` are set to what
the sample has.
--map NAME=FIELD names another input: a title, TITLE.input or ID.input.

A run that was stopped goes on where it was when it is started again. Models of metrics lie in --models, or below
models/editkit; what is missing is named, and the other metrics are measured. When it is there, the same command
measures it on the edits that are done.

examples:
  python . eval folder --data photos/ --workflow workflows/api/remove_object.json --out out/removal
  python . eval pie-bench --data PIE-Bench/ --workflow mine.json --out out/pie --models ~/metrics
  python . eval magicbrush --turns multi --data MagicBrush/test --workflow mine.json --out out/magic
  python . eval gedit-bench --data GEdit-Bench/ --workflow mine.json --out out/gedit \\
      --judge-url http://127.0.0.1:8000/v1 --judge-model Qwen/Qwen2.5-VL-72B-Instruct
  python . eval compare out/first out/second --out out/both

Needs requirements-eval.txt. The exit status is 1 when an edit failed.
"""


def main(argv: list[str]) -> int:
    """Runs one benchmark or one comparison. Returns the exit status. EditError in one sentence."""
    options = parser().parse_args(argv)
    _need_packages()
    if options.benchmark == "compare":
        return _compare(options)
    return _evaluate(options)


def parser() -> argparse.ArgumentParser:
    """The options of all benchmarks and of the comparison."""
    from .papers import BENCHMARKS

    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("python . eval", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    kinds = top.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK|compare")
    for name, benchmark in BENCHMARKS.items():
        _arguments(kinds.add_parser(name, help=benchmark.title, epilog=EXAMPLES, formatter_class=raw), name)
    _compare_arguments(kinds.add_parser("compare", help="two runs of one benchmark", formatter_class=raw))
    for made in kinds.choices.values():
        made.add_argument("--debug", action="store_true", help="after an error, also print where it happened")
    return top


def _arguments(made: argparse.ArgumentParser, name: str) -> None:
    made.add_argument("--data", type=Path, required=True, metavar="DIR", help="the benchmark's folder, as published")
    made.add_argument("--workflow", type=Path, required=True, metavar="FILE.json", help="what edits, in API format")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="rows, pictures and the report")
    made.add_argument("--server", metavar="URL", help="a ComfyUI server that edits (default: this process)")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as in `run`, for every edit")
    made.add_argument("--map", action="append", default=[], metavar="NAME=FIELD", help="where a sample's field goes")
    made.add_argument("--models", type=Path, metavar="DIR", help="where the models of the metrics are")
    made.add_argument("--metrics", default="", metavar="A,B", help="only these metrics (default: the benchmark's)")
    made.add_argument("--limit", type=_positive, metavar="N", help="only the first N samples")
    made.add_argument("--category", action="append", default=[], metavar="NAME", help="only these; may be repeated")
    made.add_argument("--judge", default="", metavar="FOLDER", help="a vision model of models/editkit, for VIE-Score")
    made.add_argument("--judge-url", default="", metavar="URL", help="an OpenAI-compatible address, for VIE-Score")
    made.add_argument("--judge-model", default="", metavar="NAME", help="the model's name there")
    made.add_argument("--judge-key", default="", metavar="VARIABLE", help="the NAME of the variable with its key")
    made.set_defaults(turns="single", split="", language="en", keep_flawed=False)
    if name == "magicbrush":
        made.add_argument("--turns", choices=("single", "multi"), default="single", help="single")
    if name == "emu-edit":
        made.add_argument("--split", choices=("validation", "test"), default="", help="where the folder has both")
        made.add_argument("--keep-flawed", action="store_true", help="also samples whose captions cannot be right")
    if name == "gedit-bench":
        made.add_argument("--language", choices=("en", "cn", "all"), default="en", help="en")


def _compare_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("a", type=Path, metavar="A", help="the --out of one run")
    made.add_argument("b", type=Path, metavar="B", help="the --out of another run of the same benchmark")
    made.add_argument("--out", type=Path, metavar="DIR", help="a page with the pictures, and the numbers as JSON")
    made.add_argument("--metric", default="", metavar="NAME", help="by which samples are ranked")
    made.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def _need_packages() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise EditError("pyarrow is not installed; run pip install -r requirements-eval.txt.") from None


def _evaluate(options: argparse.Namespace) -> int:
    """Edits, measures and reports; 1 when an edit failed."""
    from ...headless.editor import Editor
    from ...headless.folders import Folders
    from . import evaluating, summary

    places = Folders(inputs=(options.data,))
    with Editor(options.workflow, server=options.server, sets=options.set, places=places) as editor:
        report = evaluating.evaluate(options, editor, editor.work.prompt)
    print("\n".join(summary.lines(report)))
    print(f"\n{options.out / 'page' / 'index.html'}")
    return int(bool(report["failed"]))


def _compare(options: argparse.Namespace) -> int:
    from . import compare

    found = compare.compared(options.a, options.b, options.metric, options.seed)
    page = compare.build(options.out, found) if options.out else None
    print("\n".join(compare.lines(found)))
    if page:
        print(f"\n{page}")
    return 0
