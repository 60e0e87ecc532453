"""`python . train swiftedit stage1|stage2|export`."""

import argparse

from ...models.swiftedit.generators import DEFAULT, GENERATORS
from .. import flags
from ..cli import finish, word_parser
from .regularisation import RANGE, WEIGHTINGS

EXAMPLE = """\
example:
  python . train swiftedit stage1 --generator sbv2 --vision image_encoder --captions captions.txt
  python . train swiftedit stage2 --generator sbv2 --vision image_encoder --teacher sd21 --photos photos
  python . train swiftedit export --out models/editkit/swiftedit-mine
"""


def parser() -> argparse.ArgumentParser:
    said = "Trains SwiftEdit's one-step inversion. Run a stage again to go on where it stopped."
    return word_parser("swiftedit", said, EXAMPLE, WORDS)


def _stage1(p: argparse.ArgumentParser) -> None:
    p.add_argument("--captions", required=True, metavar="FILE", help="a text file, one caption on each line")
    p.add_argument(
        "--lambda1", dest="weight", type=float, default=1.0, help="weight of the regression (default 1)"
    )
    _without(p, "reconstruction", "reconstruction", "the reconstruction loss")
    _without(p, "regression", "regression", "the regression of the noise (Table 3)")
    _shared(p, batch=4, steps="100000")


def _stage2(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--photos", required=True, metavar="DIR", help="photographs; captions as NAME.txt or captions.csv"
    )
    p.add_argument(
        "--teacher", metavar="DIR", help="the frozen multi-step diffusion model: a UNet or a pipeline"
    )
    p.add_argument(
        "--teacher-prediction", default="auto", choices=["auto", "epsilon", "v_prediction"],
        help="what it predicts (default: as its scheduler's config says)",
    )  # fmt: skip
    p.add_argument(
        "--lambda2", dest="weight", type=float, default=1.0, help="weight of the regularisation (default 1)"
    )
    p.add_argument("--timesteps", type=int, nargs=2, default=RANGE, metavar=("FIRST", "LAST"),
                   help="range of the teacher's t (default 20 980)")  # fmt: skip
    p.add_argument(
        "--weighting", default=WEIGHTINGS[0], choices=WEIGHTINGS, help="w(t): sigma_t^2 (default), or 1"
    )
    p.add_argument("--skip-stage1", action="store_true", help="start from the generator's weights (Table 2)")
    _without(p, "perceptual", "perceptual", "the perceptual loss, DISTS")
    _without(p, "regularisation", "regularised", "the regularisation (Table 3)")
    _shared(p, batch=1, steps="180000")


def _export(p: argparse.ArgumentParser) -> None:
    _where(p, required=False)
    p.add_argument("--out", metavar="DIR", help="the folder to write (default: the state's own)")
    p.add_argument("--skip-stage2", action="store_true", help="write stage 1's weights (Table 2)")
    p.add_argument("--with-generator", action="store_true", help="write the generator's UNet too")


def _without(p: argparse.ArgumentParser, flag: str, name: str, what: str) -> None:
    p.add_argument(f"--no-{flag}", dest=name, action="store_false", help=f"leave out {what}")


def _where(p: argparse.ArgumentParser, required: bool) -> None:
    p.add_argument(
        "--generator", required=required, metavar="DIR", help="the one-step generator: a UNet or a pipeline"
    )
    p.add_argument("--family", default=DEFAULT, choices=GENERATORS, metavar="NAME",
                   help=f"which it is: {', '.join(GENERATORS)} (default {DEFAULT})")  # fmt: skip
    flags.add_state(p)


def _shared(p: argparse.ArgumentParser, batch: int, steps: str) -> None:
    _where(p, required=True)
    p.add_argument(
        "--text", metavar="DIR", help="holds text_encoder and tokenizer (default: beside the generator)"
    )
    p.add_argument("--vae", metavar="DIR", help="the VAE (default: beside the generator)")
    p.add_argument(
        "--vision", metavar="DIR", help="CLIP's image encoder (default: image_encoder beside the generator)"
    )
    _without(p, "image-branch", "image_branch", "the image branch (Table 2)")
    p.add_argument("--pure-noise", action="store_true", help="start G^IP from eps_hat alone, as Eq. 4 has it")
    flags.add(
        p, steps=steps, batch=f"{batch}", size="512 pixels", lr="1e-5", weight_decay="1e-4", ema="0.9999"
    )


WORDS = {
    "stage1": (
        _stage1,
        "--generator DIR --captions FILE ",
        "on the generator's own pictures: net and image branch",
    ),
    "stage2": (_stage2, "--generator DIR --photos DIR ", "on photographs: the inversion net alone"),
    "export": (_export, "", "writes a folder that Load SwiftEdit reads"),
}


def main(argv: list[str]) -> int:
    """Runs one word. Returns the exit status: 0, or 1 after a one-sentence error."""
    return finish("swiftedit.running", parser().parse_args(argv))
