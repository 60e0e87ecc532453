"""Which stage is which class, and what each runs with unless told otherwise."""

import argparse

from ...models.blazeedit.config import config as named_config
from ...models.errors import EditError
from .loop import Options, run as run_loop
from .sources import open_sources
from .store import Store

DEFAULTS = {
    "autoencoder": {"batch": 16, "size": 128, "lr": 1e-3, "ema": 0.998},
    "decoder": {"batch": 16, "size": 128, "lr": 1e-3, "ema": 0.998},
    "pretrain": {"batch": 32, "size": 128, "lr": 6e-4, "ema": 0.999},
    "finetune": {"batch": 32, "size": 128, "lr": 6e-4, "ema": 0.999},
    "distill": {"batch": 16, "size": 128, "lr": 1e-4, "ema": 0.998},
    "gain": {"batch": 24, "size": 96, "lr": 6e-4, "ema": 0.998},
    "tone": {"batch": 64, "size": 64, "lr": 3e-4, "ema": 0.99, "weight_decay": 0.3, "keep_best": True,
             "validate_every": 0.25},
}


def run(arguments: argparse.Namespace) -> dict:
    """Builds the stage that the command line names and trains it. Returns its summary."""
    config = named_config(arguments.config)
    store = Store(arguments.state, config.name)
    if arguments.stage == "export":
        from .exporting import export

        return export(config, store, arguments.out, distilled=not arguments.undistilled)
    if arguments.size and arguments.size % 32:
        raise EditError(f"--size {arguments.size} is not a multiple of 32; use for example 128.")
    stage = _class(arguments.stage)(config, open_sources(arguments.photos, arguments.cutouts), store)
    chosen = {k: getattr(arguments, k) for k in ("batch", "size", "lr") if getattr(arguments, k) is not None}
    common = {k: getattr(arguments, k) for k in ("minutes", "steps", "decay", "precision", "seed")}
    return run_loop(stage, store, Options(**{**DEFAULTS[arguments.stage], **chosen, **common}))


def _class(name: str):
    from . import codec, diffusion, distill, maps

    return {
        "autoencoder": codec.AutoencoderStage, "decoder": codec.DecoderStage, "pretrain": diffusion.PretrainStage,
        "finetune": diffusion.FinetuneStage, "distill": distill.DistillStage, "gain": maps.GainStage,
        "tone": maps.ToneStage,
    }[name]  # fmt: skip
