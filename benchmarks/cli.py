"""`python . bench quality|speed|mobile|parity`: the tables that anyone can rerun."""

import argparse
import json
import os
import sys
from pathlib import Path

from ..models.errors import EditError
from ..models.files import write

DESCRIPTION = """Measures what this pack does, on your machine.

  quality   edits photographs whose right answer is known, against every classical method
  speed     seconds, memory and fraction of the machine's peak, beside Stable Diffusion's own parts
  mobile    exported bundles beside torch: size, accuracy, latency, fraction of the peak, memory
  parity    recomputes recorded outputs of the official code of each system
"""
QUALITY = """Scores the delivered edits of the shipped model on crops of 256 px, always the same ones.

Every "must" and "aim" is printed with its value, and for a must the value of each photograph.
The exit status is 1 when a must falls short. Examples:

  python . bench quality                                       the five held-out photographs, a few minutes
  python . bench quality --photos ~/Pictures --tasks tone      your own photographs, one task
  python . bench quality --json rows.json --sheet sheet.jpg    every measured value, and pictures to look at
"""
SPEED = """Times the edits of the small model, a 12-megapixel photograph, and the paper-sized model beside
Stable Diffusion 1.5's own networks (random weights, nothing is downloaded), all interleaved in one run. Then one
edit by SwiftEdit beside the same steps as its released code takes them, on networks of SD2.1's sizes, the same of
EditMGT, on a scaled-down network (a GPU takes the released size), with what its approximations change, and a step of
a small FLUX.1 Kontext with its context reused beside the same with every token.

  python . bench speed                    the whole table: minutes, and up to 12 GB of memory
  python . bench speed --quick            the same code on tiny sizes, to see that it runs
  python . bench speed --only edit,large  some parts: edit, large, parts, paper (6 GB), swiftedit (12 GB),
                                          editmgt (3 GB), kontext, icedit (6 GB)
"""
MOBILE = """Exports the model for phones in int8, fp16 and fp32 and measures the bundles beside torch on this CPU: the
paper's Tables 1 and 2, the error of every file and every edit on three photographs per task, the fraction of the
machine's peak, memory, and whether the machine was idle. Needs requirements-mobile.txt.

  python . bench mobile                              the shipped model: minutes, on a machine that does nothing else
  python . bench mobile --bundle DIR --bundle DIR    bundles that `export` made, in place of fresh ones
  python . bench mobile --model 195m --quants int8   the paper's size, random weights: 3 GB of disk and of memory
  python . bench mobile --quick --quants int8        the same code on tiny sizes, to see that it runs

Speed and seconds are judged only when other processes used at most a tenth of a core. The exit status is 1 when a
judged must falls short.
"""
PARITY = """Compares this pack with recorded outputs of the official code.

  python . bench parity tests/fixtures           a folder of families
  python . bench parity tests/fixtures/kontext   one family

One line per checked quantity; the last line is the summary. Exit status 1 when anything differs, when a file
cannot be read, and when no case was checked at all.
"""


def main(argv: list[str]) -> int:
    """Runs one benchmark. Returns the exit status: 0, or 1 when something falls short or cannot be done."""
    options = parser().parse_args(argv)
    try:
        for path in (options.json, getattr(options, "sheet", None)):
            _check_output(path)
        tables = {"quality": quality, "speed": speed, "mobile": mobile, "parity": parity}
        return tables[options.table](options)
    except EditError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The options of all tables."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("python . bench", description=DESCRIPTION, formatter_class=raw)
    tables = top.add_subparsers(dest="table", required=True, metavar="quality|speed|mobile|parity")

    one = tables.add_parser(
        "quality", help="pictures against their truth", description=QUALITY, formatter_class=raw
    )
    one.add_argument(
        "--photos", type=Path, metavar="DIR", help="JPEG or PNG photographs (default: five held-out ones)"
    )
    one.add_argument(
        "--cutouts", type=Path, metavar="DIR", help="RGBA objects (default: rendered, never trained on)"
    )
    one.add_argument(
        "--tasks", default="all", help="some of remove,outpaint,tone,relight,sticker (default: all)"
    )
    one.add_argument("--crops", type=_positive, default=3, metavar="N", help="crops a photograph (default 3)")
    one.add_argument("--limit", type=_positive, metavar="N", help="only the first N photographs")
    one.add_argument("--sheet", type=Path, metavar="FILE.jpg", help="input | mask | baseline | ours | truth")
    one.add_argument(
        "--weights", type=Path, metavar="DIR", help="another BlazeEdit folder than the shipped one"
    )
    one.add_argument(
        "--undistilled", type=Path, metavar="DIR", help="the same model before distillation (one aim)"
    )
    one.add_argument(
        "--full-decoder", type=Path, metavar="FILE", help="safetensors of the full autoencoder (one aim)"
    )

    two = tables.add_parser("speed", help="seconds and memory", description=SPEED, formatter_class=raw)
    two.add_argument("--quick", action="store_true", help="tiny sizes: checks the code, not the machine")
    two.add_argument(
        "--only", default="all", help="some of edit,large,parts,paper,swiftedit,editmgt,kontext,icedit (default: all)"
    )
    two.add_argument(
        "--repeats", type=_positive, default=3, metavar="N", help="interleaved rounds (default 3)"
    )
    two.add_argument("--threads", type=_positive, metavar="N", help="torch threads (default: torch's own)")
    two.add_argument(
        "--weights", type=Path, metavar="DIR", help="another BlazeEdit folder than the shipped one"
    )

    mobile_table = tables.add_parser(
        "mobile", help="bundles for phones", description=MOBILE, formatter_class=raw
    )
    _mobile_arguments(mobile_table)

    three = tables.add_parser(
        "parity", help="the official code's numbers", description=PARITY, formatter_class=raw
    )
    three.add_argument(
        "folder", type=Path, metavar="DIR", help="one family's folder, or a folder of families"
    )
    for table in (one, two, mobile_table, three):
        table.add_argument("--json", type=Path, metavar="FILE", help="write what was measured as JSON")
    return top


def _mobile_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--bundle", type=Path, action="append", default=[], metavar="DIR", help="measure it; may be repeated"
    )
    made.add_argument(
        "--model", default="small", metavar="small|195m|NAME|FOLDER", help="what is exported (small)"
    )
    made.add_argument("--quants", default="all", help="some of int8,fp16,fp32 (default: all)")
    made.add_argument("--rounds", type=_positive, metavar="N", help="interleaved rounds (30; 195m: 3)")
    made.add_argument("--threads", type=_counts, default=(1, 2), metavar="N[,N…]", help="threads (1,2)")
    made.add_argument("--quick", action="store_true", help="tiny sizes: checks the code, not the machine")


def quality(options) -> int:
    """Scores, prints, writes; 1 when a must falls short."""
    from . import bars, report
    from . import quality as table
    from . import triplets as data

    tasks = _chosen(options.tasks, table.TASKS)
    sources = data.photographs(options.photos, options.limit)
    stream = data.triplets(sources, data.Objects(options.cutouts), tasks, options.crops)
    total = len(sources) * options.crops * len(tasks)
    rows, tiles = table.run(_kit(options), stream, tasks, total)
    _write(options.json, rows)
    measured = bars.Table(rows)
    verdicts = bars.evaluate(measured, [*tasks, "autoencoder"])
    if options.sheet:
        report.sheet(tiles, options.sheet)
    print("\n".join(report.lines(measured, verdicts)))
    return int(any(v.kind == "must" and not v.ok for v in verdicts))


def speed(options) -> int:
    """Times, prints, writes; 1 when a must falls short."""
    from . import speed as table

    parts = _chosen(options.only, table.PARTS)
    rows = table.run(parts, quick=options.quick, repeats=options.repeats, threads=options.threads,
                     weights=options.weights)  # fmt: skip
    _write(options.json, rows)
    print("\n".join(table.lines(rows)))
    return int(not options.quick and any(row["kind"] == "must" and not row["ok"] for row in rows))


def mobile(options) -> int:
    """Exports, measures, prints, writes; 1 when a must that was judged falls short."""
    from . import mobile as table
    from . import mobile_report as report

    quants = _chosen(options.quants, table.QUANTS)
    rows = table.run(table.kit(options.model, options.bundle), quants=quants, threads=options.threads,
                     rounds=options.rounds, quick=options.quick)  # fmt: skip
    _write(options.json, rows)
    print("\n".join(report.lines(rows)))
    return int(table.failed(rows))


def parity(options) -> int:
    """Compares, prints, writes; 1 on a failure and when nothing was checked."""
    from . import parity as table

    return table.run(options.folder, lambda rows: _write(options.json, rows))


def _kit(options):
    """The pipeline and its models."""
    from ..models.blazeedit import checkpoint, pipeline
    from .methods import Kit

    kit = Kit(pipeline, checkpoint.load(options.weights))
    if options.undistilled:
        kit.undistilled = checkpoint.load(options.undistilled)
    if options.full_decoder:
        kit.full_decoder = _full_autoencoder(kit.model.config, options.full_decoder)
    return kit


def _full_autoencoder(config, path):
    """The autoencoder with the full decoder that the light one was trained to replace."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ..models.blazeedit.model import BlazeEdit

    coder = BlazeEdit(config, light=False).autoencoder
    try:
        coder.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise EditError(f"{path} is not the full autoencoder of {config.name} ({reason}).") from None
    return coder.requires_grad_(False).eval()


def _chosen(text: str, known) -> list[str]:
    if text == "all":
        return list(known)
    names = [name.strip() for name in text.replace(" ", ",").split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise EditError(f"There is no {name!r} to measure; choose from {', '.join(known)}.")
    if not names:
        raise EditError(f"Nothing was chosen to measure; name some of {', '.join(known)}.")
    return [name for name in known if name in names]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few; use 1 or more")
    return number


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_positive(part) for part in text.split(",")))


def _check_output(path: Path | None) -> None:
    """Minutes of measuring should not end in a folder that cannot be written."""
    if path is None:
        return
    there = next((p for p in path.absolute().parents if p.exists()), path.absolute())
    if not there.is_dir() or not os.access(there, os.W_OK) or path.is_dir():
        raise EditError(f"{path} cannot be written; choose a file in a folder that this user may write to.")


def _write(path: Path | None, rows) -> None:
    """Writes JSON, whole or not at all."""
    if path is None:
        return
    write(path, json.dumps(rows, indent=0) + "\n")
