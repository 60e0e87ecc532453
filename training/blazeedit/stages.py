"""Which stage is which class, and what each runs with unless told otherwise."""

import argparse
from dataclasses import replace
from pathlib import Path

from ...models.blazeedit.config import config as named_config
from ...models.errors import EditError
from ..loop import Options
from ..loop import run as run_loop
from ..store import Store
from .sources import open_sources

DEFAULTS = {
    "autoencoder": {"batch": 16, "size": 128, "lr": 1e-3, "ema": 0.998},
    "decoder": {"batch": 16, "size": 128, "lr": 1e-3, "ema": 0.998},
    "pretrain": {"batch": 32, "size": 128, "lr": 6e-4, "ema": 0.999},
    "finetune": {"batch": 32, "size": 128, "lr": 6e-4, "ema": 0.998},
    "distill": {"batch": 16, "size": 128, "lr": 1e-4, "ema": 0.99, "keep_best": True, "validate_every": 1.5},
    "relight": {"batch": 24, "size": 96, "lr": 6e-4, "ema": 0.998},
    "shadow": {"batch": 24, "size": 96, "lr": 6e-4, "ema": 0.998},
}


def run(arguments: argparse.Namespace) -> dict:
    """Builds the stage that the command line names and trains it. Returns its summary."""
    if arguments.size and arguments.size % 32:
        raise EditError(f"--size {arguments.size} is not a multiple of 32; use for example 128.")
    config = named_config(arguments.config)
    store = Store(arguments.state, config.name)
    if arguments.stage == "export":
        from .exporting import export

        return export(config, store, arguments.out, distilled=not arguments.undistilled)
    if arguments.triplets:
        return finetune_user(arguments)
    sources = open_sources(arguments.photos, arguments.cutouts)
    return run_loop(_class(arguments.stage)(config, sources, store), store, options(arguments))


def options(arguments: argparse.Namespace) -> Options:
    """The stage's defaults with what the command line says on top."""
    own = ("batch", "size", "lr", "validate_every")
    chosen = {k: getattr(arguments, k) for k in own if getattr(arguments, k) is not None}
    common = {k: getattr(arguments, k) for k in ("minutes", "steps", "decay", "precision", "seed")}
    return Options(**{**DEFAULTS[arguments.stage], **chosen, **common})


def finetune_user(arguments: argparse.Namespace) -> dict:
    """Finetunes a model folder on the user's triplets and saves it as a folder that the nodes load."""
    from ...models.blazeedit.checkpoint import load, save
    from ...models.blazeedit.tasks import register, task
    from .diffusion import UserFinetuneStage
    from .folders import FolderTriplets

    if arguments.stage != "finetune" or not arguments.out:
        raise EditError(
            "--triplets goes with the stage finetune and with --out FOLDER, where the model is saved."
        )
    model = load(arguments.base).requires_grad_(True).train()
    if arguments.register:
        name, _, tau = arguments.register.partition("=")
        try:
            extra = register(name, float(tau), model.config.extra_tasks)
        except ValueError as error:
            raise (
                error
                if isinstance(error, EditError)
                else EditError(
                    f"--register {arguments.register!r} is not NAME=TAU; use for example sepia=0.3."
                )
            ) from None
        model.config = replace(model.config, extra_tasks=extra)
    triplets = FolderTriplets(arguments.triplets, arguments.only)
    for name in triplets.tasks:
        task(name, model.config.extra_tasks)
    store = Store(arguments.state, f"finetuned-{Path(arguments.out).name}")
    summary = run_loop(UserFinetuneStage(model, triplets, store), store, options(arguments))
    store.load_part("condition", model.condition)
    store.load_part("denoiser", model.denoiser)
    save(model, Path(arguments.out).expanduser())
    return {"written": arguments.out, **summary}


def _class(name: str):
    from . import codec, diffusion, distill, maps

    return {
        "autoencoder": codec.AutoencoderStage, "decoder": codec.DecoderStage, "pretrain": diffusion.PretrainStage,
        "finetune": diffusion.FinetuneStage, "distill": distill.DistillStage, "relight": maps.RelightStage,
        "shadow": maps.ShadowStage,
    }[name]  # fmt: skip
