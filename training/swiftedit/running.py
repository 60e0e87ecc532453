"""What the three words of `python . train swiftedit` do."""

import argparse
import math
from dataclasses import fields

from ...models.errors import EditError
from ...models.swiftedit.generators import OneStep, generator
from .. import flags
from ..loop import Options
from ..loop import run as run_loop
from ..store import Store
from . import data
from .folders import Folders, read_json, resolve
from .stages import Recipe, Stage1, Stage2, SwiftEditStage

CARD = "swiftedit"  # its name in the state's folder: what was trained
# The paper's. Its EMA has no decay given; the gradient is not clipped, the rate neither warms up nor falls.
DEFAULTS = {"stage1": {"batch": 4, "steps": 100_000}, "stage2": {"batch": 1, "steps": 180_000}}
COMMON = {"lr": 1e-5, "weight_decay": 1e-4, "ema": 0.9999, "size": 512}


def run(arguments: argparse.Namespace) -> dict:
    """Runs stage1, stage2 or export. Returns its summary. EditError for what cannot be run."""
    family = generator(arguments.family)
    store = Store(arguments.state, f"swiftedit-{family.name}")
    if arguments.stage == "export":
        from .exporting import export

        return export(arguments, family, store)
    recipe, folders = recipe_of(arguments), folders_of(arguments, family)
    items = (
        data.read_captions(arguments.captions)
        if arguments.stage == "stage1"
        else data.read_photos(arguments.photos)
    )
    _check_order(arguments, store)
    _keep_card(store, folders, family, recipe)
    stage = build(arguments, folders, family, recipe, items, store)
    return run_loop(stage, store, options(arguments))


def build(
    arguments, folders: Folders, family: OneStep, recipe: Recipe, items: list, store: Store
) -> SwiftEditStage:
    """The stage with all its networks; the seed decides the weights that start at random."""
    import torch

    from .networks import Frozen
    from .perceptual import load_dists

    dists = load_dists() if arguments.stage == "stage2" and recipe.perceptual else None
    frozen = Frozen(folders)
    torch.manual_seed(arguments.seed)
    if arguments.stage == "stage1":
        stage = Stage1(frozen, family, recipe, arguments.size or COMMON["size"], items)
    else:
        size, skipped = arguments.size or COMMON["size"], arguments.skip_stage1
        stage = Stage2(frozen, family, recipe, size, items, store=store, skip_stage1=skipped, dists=dists)
    if arguments.gradient_checkpointing:
        stage.enable_checkpointing()
    return stage


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the flags describe."""
    known = {field.name for field in fields(Recipe)}
    chosen = {name: value for name, value in vars(arguments).items() if name in known}
    if "timesteps" in chosen:
        first, last = chosen["timesteps"] = tuple(chosen["timesteps"])
        if not 0 <= first <= last <= 999:
            raise EditError(f"--timesteps {first} {last} is no range within 0 and 999.")
    return Recipe(**chosen)


def folders_of(arguments: argparse.Namespace, family: OneStep) -> Folders:
    """The folders of a run. EditError for one that is missing, a teacher that is needed among them."""
    named = {name: getattr(arguments, name) for name in ("text", "vae", "vision", "image_branch")}
    if arguments.stage == "stage2" and arguments.regularised:
        if not arguments.teacher:
            raise EditError(
                "The regularisation needs a multi-step teacher; name --teacher, or say --no-regularisation."
            )
        named |= {"teacher": arguments.teacher, "prediction": arguments.teacher_prediction}
    return resolve(arguments.generator, family, **named)


def options(arguments: argparse.Namespace) -> Options:
    """The paper's numbers with what the command line says on top."""
    return flags.options(arguments, {"clip": math.inf, **COMMON, **DEFAULTS[arguments.stage]})


def _check_order(arguments: argparse.Namespace, store: Store) -> None:
    if arguments.stage != "stage2":
        return
    if arguments.skip_stage1 and store.has("stage1_inversion"):
        raise EditError(f"{store.root} holds a stage 1; with --skip-stage1 name another --state.")
    if not arguments.skip_stage1 and not store.has("stage1_inversion"):
        raise EditError(f"{store.root} holds no stage 1; train stage1 first, or say --skip-stage1.")


def _keep_card(store: Store, folders: Folders, family: OneStep, recipe: Recipe) -> None:
    """Notes what the state is of; EditError when it is of something else."""
    config = {k: v for k, v in read_json(folders.generator / "config.json").items() if not k.startswith("_")}
    card = {"generator": family.name, "image_branch": recipe.image_branch, "unet": config}
    if store.has_card(CARD) and (noted := card_of(store)) != card:
        what = "generator" if noted.get("unet") != config else "choice of --no-image-branch"
        raise EditError(f"{store.root} was trained with another {what}; name another --state.")
    store.write_card(CARD, card)


def card_of(store: Store) -> dict:
    """What a state folder was trained on. EditError when nothing was."""
    return store.card(CARD, "stage1")
