"""`export`, `verify` and `serve`: a BlazeEdit for phones and browsers."""

import argparse
import os
import time
from pathlib import Path

from . import progress
from .errors import EditError
from .folders import PACK

RANDOM_SEED = 0


def export(options: argparse.Namespace) -> int:
    """`python . export`. Returns 0."""
    from ..models.mobile import exporting, packages, report, web
    from ..nodes.host import bundles

    packages.exporter()
    model, details = named_model(options.model)
    litertjs = None
    if options.web:
        from .litertjs import locate

        web.check_page(options.quant)
        litertjs = locate(options.litertjs, PACK, bundles.cache())
    name = f"{details['name']}-{options.quant}"
    request = exporting.Request(
        options.out or bundles.home() / name, options.quant, _sizes(options.sizes), options.overwrite,
        calibration=options.calibration, version=_version(), web=litertjs, single_file=options.single_file, **details,
    )  # fmt: skip
    start, shown = time.perf_counter(), _Stages()
    try:
        made = exporting.export(model, request, shown)
    finally:
        shown.close()
    print("\n".join(report.lines(made)))
    print(f"\n{made['folder']}\n{made['zip']}\nin {time.perf_counter() - start:.0f} s")
    if not details["trained"]:
        print("Random weights: good for measuring speed and size, and for nothing else.")
    if options.web:
        print(f"Open it with: python {PACK.name} serve {made['folder']}")
    return 0


def named_model(name: str):
    """The model to export and what the manifest says of it. EditError for a name that is no model."""
    import torch

    from ..models.blazeedit import checkpoint
    from ..models.blazeedit.config import config
    from ..models.blazeedit.model import BlazeEdit
    from ..models.mobile import exporting
    from ..nodes.host.folders import model_folders

    folders = model_folders()
    places = {"small": checkpoint.SHIPPED, "195m": folders.get("blazeedit-195m")}
    path = Path(os.path.expanduser(name))
    folder = places.get(name) or folders.get(name) or (path if path.is_dir() else None)
    if folder is not None:
        model = checkpoint.load(folder)
        own = Path(folder) == checkpoint.SHIPPED
        licence = exporting.licence(folder)
        return model, {"name": model.config.name if own else Path(folder).name, "licence": licence, "trained": True,
                       "weights_sha256": checkpoint.digest(folder)}  # fmt: skip
    if name != "195m":
        raise EditError(
            f"There is no model {name!r}; say small, 195m, a folder below models/editkit, or the path of one."
        )
    torch.manual_seed(RANDOM_SEED)
    model = BlazeEdit(config("blazeedit-195m")).requires_grad_(False).eval()
    for parameter in model.parameters():  # what starts at 0 or 1 would hide losses, and fold into other operators
        if not bool((parameter != parameter.flatten()[0]).any()):
            torch.nn.init.normal_(parameter, mean=float(parameter.flatten()[0]), std=0.02)
    return model, {"name": "blazeedit-195m", "licence": "Apache-2.0", "trained": False}


def _sizes(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise EditError(f"--sizes {text} is not a list of sides in pixels such as 256 or 256,512.") from None


def _version() -> str:
    from .doctor import pack_version

    return pack_version()


class _Stages:
    """The stages of an export: a bar on a terminal, a line each elsewhere."""

    def __init__(self):
        self.bar, self.done = None, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.bar is None:
            self.bar = progress.bar(total, "export")
        self.bar.update(done - self.done)
        self.done = done
        if isinstance(self.bar, progress.NoBar):
            print(f"[{done}/{total}] {stage}", flush=True)
        elif hasattr(self.bar, "set_postfix_str"):
            self.bar.set_postfix_str(stage)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def verify(options: argparse.Namespace) -> int:
    """`python . verify`. Returns 0; what is wrong is an EditError, exit status 1."""
    from ..models.mobile import verify as checks

    rows = checks.verify(options.bundle)
    print("\n".join(checks.lines(rows)))
    print(f"{options.bundle} is whole and makes what torch made.")
    return 0


def serve(options: argparse.Namespace) -> int:
    """`python . serve`: until Ctrl-C."""
    from .server import serve as run

    return run(options.bundle, options.port)
