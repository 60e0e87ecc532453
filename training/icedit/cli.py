"""`python . train icedit prepare|base|lora|mixture|export`."""

import argparse

from .. import flags
from ..cli import finish, word_parser
from .stages import ADAMW, PRODIGY

EXAMPLE = """\
example:
  python . train icedit prepare --model FLUX.1-Fill-dev --edits edits --out prepared
  python . train icedit lora --model FLUX.1-Fill-dev --data prepared
  python . train icedit mixture --model FLUX.1-Fill-dev --data prepared
  python . train icedit export --trained mixture --out models/loras/ICEdit-MoE-LoRA-mine.safetensors
  python . train icedit base                     (a small world of shapes, on one CPU: its own small Fill …
  python . train icedit mixture --config tiny     … and a mixture on that)
"""


def parser() -> argparse.ArgumentParser:
    said = "Trains ICEdit's LoRA or mixture for FLUX.1 Fill. Run it again to go on where it stopped."
    return word_parser("icedit", said, EXAMPLE, WORDS)


def _prepare(p: argparse.ArgumentParser) -> None:
    flags.add_encoding(p)
    p.add_argument(
        "--edits", metavar="PATH",
        help="a table of source, target, instruction; or a folder with image/, edited/, instruction/NAME.txt",
    )  # fmt: skip
    p.add_argument("--width", type=int, default=512, metavar="N", help="of a panel, which is a square (512)")
    p.add_argument("--keep-shape", action="store_true", help="a panel's height by the source's shape instead")
    p.add_argument("--crop-bottom", action="store_true", help="MagicBrush: leave the lowest 1/32 of both pictures away")


def _base(p: argparse.ArgumentParser) -> None:
    p.set_defaults(config="tiny", model=None, data=None)
    _shared(p, steps="1000", batch="32", accumulate="1", lr="2.5e-3", warmup="50", clip="1", ema="0.99")


def _lora(p: argparse.ArgumentParser) -> None:
    p.add_argument("--rank", type=int, default=32, metavar="N", help="of the LoRA, of each expert too (default 32)")
    p.add_argument("--model", metavar="PATH", help="FLUX.1 Fill: a diffusers folder, or one file that ComfyUI loads")
    p.add_argument("--config", choices=["tiny"], help="instead of --model: the small Fill that base trained")
    p.add_argument("--data", metavar="DIR", help="what prepare wrote (default with --config: the small world)")
    p.add_argument("--optimizer", default=PRODIGY, choices=[PRODIGY, ADAMW], help="(default prodigy)")
    lr = "1 with prodigy, which finds its own; 1e-4 with adamw"
    _shared(p, steps="20000", batch="1", accumulate="2", lr=lr, warmup="0", clip="0.5", ema="0: none")


def _mixture(p: argparse.ArgumentParser) -> None:
    p.add_argument("--experts", type=int, default=4, metavar="N", help="of each routed layer (default 4)")
    p.add_argument("--experts-per-token", type=int, default=1, metavar="K", help="chosen for a token (default 1)")
    p.add_argument(
        "--softmax-first", action="store_true",
        help="not as released: gates are shares of the softmax over all experts, so that the router learns",
    )  # fmt: skip
    p.add_argument(
        "--balance", type=float, default=0.0, metavar="W", help="not as released: weight of a load-balance loss (0)"
    )
    _lora(p)


def _export(p: argparse.ArgumentParser) -> None:
    p.add_argument("--out", metavar="PATH", help="the file to write (default: as released, in the state's folder)")
    p.add_argument("--trained", choices=["lora", "mixture"], help="which (default: the mixture, if there is one)")
    flags.add_dtype(p)
    flags.add_state(p)


def _shared(p: argparse.ArgumentParser, **usual: str) -> None:
    flags.add_state(p)
    p.add_argument("--text-dropout", type=float, default=0.1, metavar="P", help="share of texts dropped (0.1)")
    p.add_argument("--guidance", type=float, default=1.0, metavar="G", help="told in training (default 1)")
    flags.add_sampling(p, steps="28", guidance="50; small world 1")
    flags.add(p, weight_decay="0.01", decay="0", **usual)


WORDS = {
    "prepare": (_prepare, "--model DIR --edits PATH --out DIR ", "encodes diptychs and texts, once"),
    "base": (_base, "", "the small world's own Fill, which stands for the published one"),
    "lora": (_lora, "--model PATH --data DIR ", "the plain LoRA"),
    "mixture": (_mixture, "--model PATH --data DIR ", "the mixture: routed experts, and plain LoRA elsewhere"),
    "export": (_export, "", "writes the file that ICEdit LoRA loads"),
}


def main(argv: list[str]) -> int:
    """Runs one word. Returns the exit status: 0, or 1 after a one-sentence error."""
    return finish("icedit.running", parser().parse_args(argv))
