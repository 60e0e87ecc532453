"""`python . data build|look`: training triplets from photographs, and a contact sheet of them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tools import Tools

COLUMN, MODEL = "column", "model"  # where instructions come from
SKIPPED = ("aesthetic", "suitability", "clip", "clip-text")
BUILD = """\
The four stages of EditMGT's appendix A.1: curation, instructions, edits by every --editor and a judge's choice,
checks. Run the same command again to go on where it stopped. Models are addresses of OpenAI-compatible servers or local
folders:
  --llm URL --llm-model NAME, or a folder of a language model in transformers' format
  --judge URL --judge-model NAME, or the name of a vision-language model's folder below models/editkit
A key is never written here: --llm-key and --judge-key take the NAME of an environment variable, EDITKIT_…

examples:
  python . data build --images photos --out built --llm http://127.0.0.1:8000/v1 --llm-model Qwen3-8B \\
    --judge http://127.0.0.1:8001/v1 --judge-model Qwen2.5-VL-7B --caption --clip clip-vit-large-patch14 \\
    --aesthetic-head head.safetensors --editor kontext.json --editor step1x.json
  python . data build --images table.parquet --out built --instructions column --skip suitability --skip aesthetic \\
    --clip clip-vit-large-patch14 --editor editmgt.json steps=16
  python . data look built -o sheet.png

A workflow is in API format; its nodes titled image, instruction and result take and give what their names say.
--images is a folder (captions in NAME.txt beside the pictures), or a table (.csv, .jsonl, .parquet) with the column
image and, where there are some, caption, aesthetic, category, instruction, target_caption.
OUT/triplets is what `train editmgt --edits`, `train icedit prepare --edits` and `train finetune --triplets` read."""

LOOK = """\
examples:
  python . data look built -o sheet.png
  python . data look built --category remove --count 40
  python . data look built --rejects -o rejects.png"""


def parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(prog="python . data", description="Training triplets from photographs.")
    words = p.add_subparsers(dest="word", metavar="WORD", required=True)
    build = words.add_parser("build", help="builds triplets, or goes on with it", epilog=BUILD, formatter_class=layout)
    for fill in (_places, _models, _stages, _running):
        fill(build)
    look = words.add_parser("look", help="draws a contact sheet", epilog=LOOK, formatter_class=layout)
    _look(look)
    return p


def _places(p: argparse.ArgumentParser) -> None:
    p.add_argument("--images", required=True, metavar="PATH", help="a folder of pictures, or a table of them")
    p.add_argument("--out", required=True, metavar="DIR", help="where the build goes, and goes on")
    p.add_argument(
        "--editor", required=True, action="append", nargs="+", metavar=("FILE", "NAME=VALUE"),
        help="a workflow that edits, and what to set in it; once for each editor (the paper takes two)",
    )  # fmt: skip
    p.add_argument(
        "--server", action="append", metavar="URL",
        help="a ComfyUI server that runs the editors; one for all, or one for each (default: in this process)",
    )  # fmt: skip
    p.add_argument(
        "--instruction-title", default="instruction", metavar="TITLE",
        help="the node that takes the instruction; none: the editors do one thing (default instruction)",
    )  # fmt: skip


def _models(p: argparse.ArgumentParser) -> None:
    for name, what in (("llm", "writes and checks instructions"), ("judge", "sees, and chooses among results")):
        p.add_argument(f"--{name}", metavar="URL|FOLDER", help=f"the model that {what}")
        p.add_argument(f"--{name}-model", default="", metavar="NAME", help="as its server knows it")
        p.add_argument(f"--{name}-key", default="", metavar="VARIABLE", help="environment variable that holds its key")
    p.add_argument("--clip", metavar="FOLDER", help="CLIP in transformers' format, for the checks")
    p.add_argument("--aesthetic-head", metavar="FILE", help="an aesthetic predictor's layers, .safetensors")
    p.add_argument("--aesthetic-clip", metavar="FOLDER", help="the CLIP that it was made for (default: --clip)")
    p.add_argument("--temperature", type=float, default=0.7, help="of --llm (0.7); the judge's is 0")
    p.add_argument("--tokens", type=int, default=512, metavar="N", help="longest answer of either (512)")


def _stages(p: argparse.ArgumentParser) -> None:
    p.add_argument("--short-side", type=int, default=1024, metavar="PX", help="least, and then its size (1024)")
    p.add_argument("--least-aesthetic", type=float, default=4.5, metavar="S", help="scores must be above it (4.5)")
    p.add_argument("--caption", action="store_true", help="let --judge caption pictures that have no caption")
    p.add_argument("--instructions", choices=(MODEL, COLUMN), default=MODEL,
                   help="written by --llm, or a column of the table (model)")  # fmt: skip
    p.add_argument("--categories", metavar="A,B", help="of add, replace, remove, color, background, style, motion")
    p.add_argument("--each", type=int, default=1, metavar="N", help="categories per picture, drawn by A.2's shares (1)")
    p.add_argument("--tries", type=int, default=3, metavar="N", help="answers that cannot be used, until a reject (3)")
    p.add_argument("--both-orders", action="store_true", help="the judge must choose alike with the two exchanged")
    p.add_argument("--clip-text", type=float, default=0.2, metavar="C", help="least cosine with its caption (0.2)")
    p.add_argument("--clip-image", type=float, default=0.7, metavar="C", help="least cosine with the source (0.7)")
    p.add_argument("--least-change", type=float, default=0.001, metavar="S", help="share of pixels changed (0.001)")
    p.add_argument("--skip", action="append", default=[], choices=SKIPPED, help="leave a check out; may be repeated")
    p.add_argument("--format", default="png", choices=("png", "jpg"), help="of the pictures that are written (png)")
    p.add_argument("--seed", type=int, default=0, help="another seed draws other categories")


def _running(p: argparse.ArgumentParser) -> None:
    p.add_argument("--workers", type=int, default=4, metavar="N", help="questions at once (4)")
    p.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds for one answer (60)")
    p.add_argument("--retries", type=int, default=2, metavar="N", help="further tries at an answer (2)")
    p.add_argument("--patience", type=int, default=5, metavar="N", help="failures in succession that end a run (5)")
    p.add_argument("--debug", action="store_true", help="after an error, also print where it happened")


def _look(p: argparse.ArgumentParser) -> None:
    p.add_argument("out", metavar="DIR", help="what build wrote")
    p.add_argument("-o", "--to", default="triplets.png", metavar="FILE", help="the sheet, a PNG (triplets.png)")
    p.add_argument("--count", type=int, default=24, metavar="N", help="how many, drawn at random (24)")
    p.add_argument("--category", metavar="NAME", help="of one category only")
    p.add_argument("--rejects", action="store_true", help="what was rejected, with the reason")
    p.add_argument("--seed", type=int, default=0, help="another seed, another choice")
    p.add_argument("--debug", action="store_true", help="after an error, also print where it happened")


def main(argv: list[str], tools: "Tools") -> int:
    """Runs one word. Returns 0, or 1 where some items were left for another run. EditError in one sentence."""
    a = parser().parse_args(argv)
    if a.word == "look":
        from .look import look

        told = look(Path(a.out).expanduser(), Path(a.to).expanduser(), max(1, a.count), a.category, a.rejects, a.seed)
    else:
        from .build import run

        told = run(a, tools)
    print("  ".join(f"{name} {value}" for name, value in told.items()))
    if told.get("left"):
        print(f"{told['left']} were left, because a model did not answer; run the same command again to do them.")
    return 1 if told.get("left") else 0
