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


def add_encoding(p: argparse.ArgumentParser) -> None:
    """What a `prepare` encodes with, FLUX.1's folder, and how it writes."""
    p.add_argument("--model", metavar="DIR", help="a FLUX.1 folder in diffusers' layout")
    p.add_argument("--vae", metavar="DIR", help="the autoencoder (default: vae in --model)")
    p.add_argument("--text", metavar="DIR", help="holds CLIP, T5 and their tokenizers (default: --model)")
    p.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    p.add_argument("--text-tokens", type=int, default=512, metavar="N", help="T5's tokens, pads and all (512)")
    p.add_argument("--device", help="where to encode (default: the GPU, if there is one)")
    add_dtype(p)


def add_dtype(p: argparse.ArgumentParser) -> None:
    p.add_argument("--dtype", default="bf16", choices=["bf16", "fp32"], help="of what is written (default bf16)")


def add_sampling(p: argparse.ArgumentParser, steps: str, guidance: str) -> None:
    """How held-out edits are sampled at each validation. steps, guidance: the defaults that the help names."""
    p.add_argument("--sample", type=int, default=0, metavar="N", help="sample N held-out edits at each validation")
    p.add_argument("--sample-steps", type=int, metavar="N", help=f"in so many steps (default {steps})")
    p.add_argument("--sample-guidance", type=float, metavar="G", help=f"told this guidance (default {guidance})")


def options(arguments: argparse.Namespace, usual: dict) -> Options:
    """The loop's options: a system's usual numbers, with what the command line says on top. EditError for none of."""
    chosen = {name: value for name in RUN if (value := getattr(arguments, name, None)) is not None}
    fixed = {"minutes": math.inf, "warmup": 0, "precision": arguments.precision, "seed": arguments.seed}
    made = Options(**{**fixed, **usual, **chosen})
    for name in COUNTS:
        if getattr(made, name) < 1:
            raise EditError(f"--{name} {getattr(made, name)} is none; use 1 or more.")
    return made
