"""`python . train editmgt phase1|phase2|phase3|export`."""

import argparse

from ...models.editmgt.adapters import PARTS, TARGETS
from ...models.editmgt.options import TIMES
from ...models.editmgt.schedule import SCHEDULES
from .. import flags
from ..cli import finish, word_parser
from .release import CONNECTORS

EXAMPLE = """\
example:
  python . train editmgt phase1 --model meissonic --llm gemma-2-2b-it --pairs pairs
  python . train editmgt phase2 --model meissonic --llm gemma-2-2b-it --edits edits
  python . train editmgt phase3 --model meissonic --llm gemma-2-2b-it --edits edits
  python . train editmgt export --out models/editkit/editmgt-mine
  python . train editmgt phase2 --config tiny --steps 600     (a small world of shapes, on one CPU)
"""


def parser() -> argparse.ArgumentParser:
    said = "Trains EditMGT in the paper's three phases. Run one again to go on where it stopped."
    return word_parser("editmgt", said, EXAMPLE, WORDS, "PHASE")


def _phase1(p: argparse.ArgumentParser) -> None:
    p.add_argument("--pairs", metavar="PATH", help="pictures with captions: a folder, .csv, .jsonl or .parquet")
    p.add_argument(
        "--connector", default="linear", choices=CONNECTORS, metavar="NAME",
        help=f"what follows the language model: {', '.join(CONNECTORS)} (default linear)",
    )  # fmt: skip
    _shared(p, steps="5000")


def _phase2(p: argparse.ArgumentParser) -> None:
    _edits(p, 1.0, "all")
    _shared(p, steps="50000")


def _phase3(p: argparse.ArgumentParser) -> None:
    _edits(p, 0.12, "0.12")
    _shared(p, steps="1000")


def _edits(p: argparse.ArgumentParser, share: float, said: str) -> None:
    p.add_argument(
        "--edits", metavar="PATH", help="a table of source, target, instruction (and mask): a folder or a file"
    )
    p.add_argument("--best", type=float, default=share, help=f"the share that scores highest (default {said})")
    p.add_argument("--score-column", metavar="NAME", help="by this column (default: aesthetic, …_score or score)")
    p.add_argument("--lora", type=int, metavar="RANK", help="train a LoRA of this rank (default: all weights)")
    p.add_argument("--lora-alpha", type=float, metavar="A", help="its scale is A / RANK (default A = RANK)")
    p.add_argument(
        "--lora-targets", default=",".join(TARGETS), metavar="LIST", help=f"layers (default {','.join(TARGETS)})"
    )
    p.add_argument("--lora-part", default="all", choices=PARTS, help="on all tokens (default), or the reference's")
    p.add_argument("--follow", type=int, default=0, metavar="N", help="sample N held-out edits at each validation")
    p.add_argument("--follow-steps", type=int, default=16, metavar="N", help="in so many steps (default 16)")
    p.add_argument("--follow-guidance", type=float, default=6.0, metavar="G", help="with this guidance (default 6)")


def _export(p: argparse.ArgumentParser) -> None:
    _where(p)
    p.add_argument("--out", metavar="DIR", help="the folder to write (default: the state's own)")
    p.add_argument("--phase", metavar="NAME", help="phase1, phase2 or phase3 (default: the last one trained)")
    p.add_argument("--merge", action="store_true", help="add a LoRA to the weights, instead of writing it alone")
    p.add_argument("--transformer-only", action="store_true", help="leave out encoders and VQ, which did not change")


def _where(p: argparse.ArgumentParser) -> None:
    p.add_argument("--model", metavar="DIR", help="EditMGT's or Meissonic's folder, as published")
    p.add_argument("--llm", metavar="DIR", help="Gemma2-2B-IT (default: llm_encoder in --model)")
    p.add_argument("--config", choices=["tiny"], help="instead of --model: a small world of shapes")
    flags.add_state(p)


def _shared(p: argparse.ArgumentParser, steps: str) -> None:
    _where(p)
    p.add_argument("--text-dropout", type=float, default=0.1, metavar="P", help="share of texts dropped (0.1)")
    p.add_argument("--negative", default="", metavar="TEXT", help="what a dropped text becomes (default: empty)")
    p.add_argument(
        "--mask-schedule", default="cosine", choices=SCHEDULES, help="of the masking rates (default cosine)"
    )
    p.add_argument(
        "--time", default="ratio", choices=TIMES, help="told of a step: the masked share (default) or its number"
    )
    flags.add(
        p, steps=steps, batch="4", accumulate="4", size="64 tokens of 16 pixels", lr="1e-4", warmup="0",
        weight_decay="1e-2", ema="0.9999",
    )  # fmt: skip


WORDS = {
    "phase1": (_phase1, "--model DIR --pairs PATH ", "a language model for CLIP, on pictures with captions"),
    "phase2": (_phase2, "--model DIR --edits PATH ", "edits: source, instruction, target"),
    "phase3": (_phase3, "--model DIR --edits PATH ", "the best of the edits, by a column of scores"),
    "export": (_export, "", "writes a folder that Load EditMGT reads, or a LoRA"),
}


def main(argv: list[str]) -> int:
    """Runs one word. Returns the exit status: 0, or 1 after a one-sentence error."""
    return finish("editmgt.running", parser().parse_args(argv))
