"""The flags that every system's stages share, and the loop's options that they make."""

import argparse
import math

from ..models.errors import EditError
from .loop import Options

# name: (type, placeholder or None, what it is)
RUN = {
    "steps": (int, None, "optimiser steps, counted from the very first run"),
    "batch": (int, None, "pictures at once"),
    "accumulate": (int, None, "batches per step"),
    "size": (int, None, "side of the pictures"),
    "lr": (float, None, "learning rate"),
    "warmup": (int, None, "steps until it is reached"),
    "decay": (float, "SHARE", "share of the steps, at the end, over which the rate falls"),
    "weight_decay": (float, None, "the optimiser's weight decay"),
    "clip": (float, None, "largest norm of the gradient"),
    "ema": (float, None, "decay of the averaged weights"),
    "minutes": (float, None, "end this run after so much wall clock"),
    "save_every": (float, "MIN", "minutes between saves"),
    "validate_every": (float, "MIN", "minutes between measurements"),
}
ALWAYS = {"minutes": "no limit", "save_every": "5", "validate_every": "5"}
COUNTS = ("batch", "accumulate", "size")


def add(p: argparse.ArgumentParser, **said: str) -> None:
    """Adds the flags of a run. said: which of RUN there are, each with the default that its help names."""
    for name, default in (said | ALWAYS).items():
        kind, placeholder, what = RUN[name]
        flag = f"--{name.replace('_', '-')}"
        p.add_argument(flag, type=kind, metavar=placeholder, help=f"{what} (default {default})")
    p.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    p.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"])
    p.add_argument("--threads", type=int, help="CPU threads")
    p.add_argument("--seed", type=int, default=0)


def add_state(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--state", default="train", metavar="DIR", help="where the training keeps its state (./train)"
    )


def options(arguments: argparse.Namespace, usual: dict) -> Options:
    """The loop's options: a system's usual numbers, with what the command line says on top. EditError for none of."""
    chosen = {name: value for name in RUN if (value := getattr(arguments, name, None)) is not None}
    fixed = {"minutes": math.inf, "warmup": 0, "precision": arguments.precision, "seed": arguments.seed}
    made = Options(**{**fixed, **usual, **chosen})
    for name in COUNTS:
        if getattr(made, name) < 1:
            raise EditError(f"--{name} {getattr(made, name)} is none; use 1 or more.")
    return made
