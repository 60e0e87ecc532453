"""`python . train STAGE …` trains a stage of BlazeEdit, going on where it stopped; `train swiftedit …` and so on."""

import argparse
import os
from importlib import import_module
from pathlib import Path

from ..models.errors import EditError

SYSTEMS = ("swiftedit", "editmgt", "kontext", "icedit")  # which have words of their own
STAGES = {
    "autoencoder": "the frozen encoder E with its full decoder",
    "decoder": "the light decoder, with the encoder frozen",
    "pretrain": "masked reconstruction with the whole mask zoo (Eq. 1)",
    "finetune": "all tasks jointly on the full picture (Eq. 2); with --triplets on your own",
    "distill": "two steps by distribution matching with an adversarial loss",
    "relight": "the gain-map head that relights",
    "shadow": "the gain-map head that lifts a removed object's shadow; starts from the relight head",
    "export": "writes the trained parts as one model folder that the nodes load",
}


def parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:12s} {text}" for name, text in STAGES.items())
    p = argparse.ArgumentParser(
        prog="python . train", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Trains one stage of BlazeEdit. Run it again to go on where it stopped.",
        epilog=f"stages, in order:\n{lines}\n\nexample:\n"
        "  python . train autoencoder --photos ~/photos --minutes 30\n"
        "  python . train export --out models/editkit/mine\n\n"
        "SwiftEdit, EditMGT, Kontext and ICEdit have their own words: python . train swiftedit --help, and so on",
    )  # fmt: skip
    p.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    p.add_argument("--config", default="blazeedit-small", help="blazeedit-small (default) or blazeedit-195m")
    p.add_argument(
        "--photos", action="append", help="a folder of photographs (repeatable); default: scikit's samples"
    )
    p.add_argument("--cutouts", help="a folder of RGBA cut-outs; default: rendered objects")
    p.add_argument("--triplets", help="finetune: TASK/{x,m,y}/ folders with same-named files")
    p.add_argument("--only", action="append", default=[], metavar="TASK", help="of --triplets, this task (repeatable)")
    p.add_argument("--base", help="finetune: a model folder to start from (default: the shipped weights)")
    p.add_argument("--register", metavar="NAME=TAU", help="finetune: a sixth task with a τ of its own")
    p.add_argument("--state", default="train", help="where the training keeps its state (default: ./train)")
    p.add_argument("--out", help="export: the folder to write (default: the state's own)")
    p.add_argument("--undistilled", action="store_true", help="export: leave the distilled weights out")
    p.add_argument("--minutes", type=float, default=10.0, help="wall clock of this run (default 10)")
    p.add_argument("--steps", type=int, help="stop at this optimiser step, counted from the very first run")
    p.add_argument("--batch", type=int, help="pictures per step")
    p.add_argument("--size", type=int, help="side of the training crops in pixels, a multiple of 32")
    p.add_argument("--lr", type=float, help="learning rate")
    p.add_argument(
        "--decay", type=float, default=0.0, help="share of this run, at its end, over which the rate falls"
    )
    p.add_argument(
        "--validate-every", type=float, metavar="MIN", help="minutes between validations (default 5)"
    )
    p.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"])
    p.add_argument("--threads", type=int, help="CPU threads")
    p.add_argument("--seed", type=int, default=0)
    return p


def main(argv: list[str]) -> int:
    """Runs one stage. Returns the exit status: 0, or 1 after a one-sentence error."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported
    if argv and argv[0] in SYSTEMS:
        return import_module(f".{argv[0]}.cli", __package__).main(argv[1:])
    return finish("blazeedit.stages", parser().parse_args(argv))


def word_parser(system: str, said: str, example: str, words: dict, named: str = "STAGE") -> argparse.ArgumentParser:
    """`python . train SYSTEM WORD …`. words: name -> (what adds its flags, what it needs, what it does)."""
    p = argparse.ArgumentParser(
        prog=f"python . train {system}", formatter_class=argparse.RawDescriptionHelpFormatter, description=said,
        epilog=example,
    )  # fmt: skip
    known = p.add_subparsers(dest="stage", metavar=named, required=True)
    for name, (fill, needed, what) in words.items():
        fill(known.add_parser(name, usage=f"{p.prog} {name} {needed}[options]", help=what))
    return p


def finish(module: str, arguments: argparse.Namespace) -> int:
    """Runs a stage, `run` of a module in training/, and prints its summary or the one sentence that says why it could
    not. Returns the exit status."""
    if getattr(arguments, "threads", None):
        import torch

        torch.set_num_threads(arguments.threads)
    try:
        summary = import_module(f".{module}", __package__).run(arguments)
    except EditError as error:
        print(error)
        return 1
    if summary:
        print(
            "  ".join(f"{k} {v}" if isinstance(v, (str, int)) else f"{k} {v:.3f}" for k, v in summary.items())
        )
    return 0


def state_folder(arguments: argparse.Namespace) -> Path:
    return Path(arguments.state).expanduser()
