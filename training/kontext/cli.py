"""`python . train kontext prepare|flow|guidance|ladd|export`."""

import argparse

from ...models.kontext.ids import PLACEMENTS
from .. import flags
from ..cli import finish, word_parser
from .adapters import TARGETS

STAGES = ("flow", "guidance", "ladd")
EXAMPLE = """\
example:
  python . train kontext prepare --model FLUX.1-dev --edits edits --pairs pairs --out prepared
  python . train kontext flow --model FLUX.1-dev --data prepared
  python . train kontext guidance --model FLUX.1-dev --data prepared
  python . train kontext ladd --model FLUX.1-dev --data prepared
  python . train kontext export --out models/diffusion_models/kontext-mine.safetensors
  python . train kontext flow --config tiny --steps 600     (a small world of shapes, on one CPU)
"""


def parser() -> argparse.ArgumentParser:
    said = "Trains FLUX.1 Kontext in three stages (§3). Run one again to go on where it stopped."
    return word_parser("kontext", said, EXAMPLE, WORDS)


def _prepare(p: argparse.ArgumentParser) -> None:
    flags.add_encoding(p)
    p.add_argument("--edits", metavar="PATH", help="a table of source (source_2 …), target, instruction")
    p.add_argument("--pairs", metavar="PATH", help="pictures with captions: a folder, .csv, .jsonl or .parquet")
    p.add_argument("--area", type=int, default=1024, help="side of the square that pictures have the area of (1024)")


def _flow(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--text-to-image", type=float, default=0.25, metavar="P", help="share of batches without references (0.25)"
    )
    p.add_argument("--text-dropout", type=float, default=0.1, metavar="P", help="share of texts dropped (0.1)")
    p.add_argument("--lora", type=int, metavar="RANK", help="train a LoRA of this rank (default: all weights)")
    p.add_argument("--lora-alpha", type=float, metavar="A", help="its scale is A / RANK (default A = RANK)")
    p.add_argument("--lora-targets", default=",".join(TARGETS), metavar="LIST", help="layers (default: attention's)")
    _shared(p, "50000", "1", "1e-5")


def _guidance(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--scales", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of the guidance, drawn evenly (1 5)"
    )
    _shared(p, "20000", "1", "1e-5")


def _ladd(p: argparse.ArgumentParser) -> None:
    p.add_argument("--student-steps", type=int, default=4, metavar="N", help="to sample in (default 4)")
    p.add_argument("--first", type=float, default=0.5, metavar="P", help="share that starts from pure noise (0.5)")
    p.add_argument("--critic-mu", type=float, default=1.0, metavar="MU", help="of the times that are judged (1)")
    p.add_argument("--critic-sigma", type=float, default=1.0, metavar="SIGMA", help="their spread (1)")
    p.add_argument("--adversarial", type=float, default=1.0, metavar="W", help="weight of the critic (1)")
    p.add_argument("--distillation", type=float, default=0.0, metavar="W", help="weight of the teacher's x̂0 (0)")
    p.add_argument("--r1", type=float, default=0.0, metavar="W", help="weight of the critic's gradient penalty (0)")
    p.add_argument("--critic-rate", type=float, default=10.0, metavar="X", help="its learning rate: X times --lr (10)")
    p.add_argument("--critic-width", type=int, default=256, metavar="N", help="channels of its heads (256)")
    p.add_argument("--critic-every", type=int, default=4, metavar="N", help="a head after every so many blocks (4)")
    p.add_argument("--text-dropout", type=float, default=0.0, metavar="P", help="share of texts dropped (0)")
    _shared(p, "10000", "2.5", "1e-5")


def _export(p: argparse.ArgumentParser) -> None:
    p.add_argument("--model", metavar="PATH", help="what a LoRA was trained on, for --merge (default: as noted)")
    p.add_argument("--out", metavar="PATH", help="the file or folder to write (default: in the state's)")
    p.add_argument("--trained", choices=STAGES, help="which stage (default: the last one trained)")
    p.add_argument("--merge", action="store_true", help="add a LoRA to the weights, instead of writing it alone")
    p.add_argument(
        "--layout", default="comfyui", choices=["comfyui", "diffusers"], help="one file under BFL's names, or a folder"
    )
    flags.add_dtype(p)
    flags.add_state(p)


def _shared(p: argparse.ArgumentParser, steps: str, guidance: str, lr: str) -> None:
    p.add_argument("--model", metavar="PATH", help="a diffusers folder, or one file that ComfyUI loads")
    p.add_argument("--config", choices=["tiny"], help="instead of --model: a small network, on a small world")
    p.add_argument("--data", metavar="DIR", help="what prepare wrote (default with --config: the small world)")
    flags.add_state(p)
    p.add_argument("--mu", type=float, help="of p(t), Sec. A.1 (default: by the target's resolution)")
    p.add_argument("--sigma", type=float, default=1.0, help="of p(t) (default 1)")
    p.add_argument("--placement", default="index", choices=PLACEMENTS, help="of references (default index, Eq. 2)")
    p.add_argument(
        "--guidance", type=float, default=float(guidance), metavar="G",
        help=f"told where the transformer embeds it (default {guidance})",
    )  # fmt: skip
    flags.add_sampling(p, steps="28; ladd: as trained", guidance="as --guidance")
    flags.add(
        p, steps=steps, batch="4", accumulate="4", lr=lr, warmup="500", decay="0", weight_decay="1e-2", clip="1",
        ema="0.9999",
    )  # fmt: skip


WORDS = {
    "prepare": (_prepare, "--model DIR --edits PATH --out DIR ", "encodes pictures and texts, once"),
    "flow": (_flow, "--model PATH --data DIR ", "rectified flow on edits and text to image (Eq. 3)"),
    "guidance": (_guidance, "--model PATH --data DIR ", "distils guidance into the embedded scale"),
    "ladd": (_ladd, "--model PATH --data DIR ", "distils to few steps against a critic in latent space"),
    "export": (_export, "", "writes the file that ComfyUI loads, a diffusers folder, or a LoRA"),
}


def main(argv: list[str]) -> int:
    """Runs one word. Returns the exit status: 0, or 1 after a one-sentence error."""
    return finish("kontext.running", parser().parse_args(argv))
