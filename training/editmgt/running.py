"""What the four words of `python . train editmgt` do."""

import argparse
import json
from dataclasses import asdict, dataclass, replace

import torch

from ...models.editmgt.adapters import Adapters
from ...models.editmgt.config import MGTConfig
from ...models.editmgt.options import Options as Sampling
from ...models.editmgt.transformer import EditMGT
from ...models.errors import EditError
from .. import flags, loop
from ..store import Store
from . import data, release, world
from .examples import Encoders, Examples
from .stages import PHASES, Phase, Recipe

CARD = "editmgt"  # its name in the state's folder: what was trained
# Sec. C.1. Its EMA has no decay given, its rate neither warm-up nor fall.
STEPS = {"phase1": 5_000, "phase2": 50_000, "phase3": 1_000}
COMMON = {"batch": 4, "accumulate": 4, "lr": 1e-4, "weight_decay": 1e-2, "ema": 0.9999, "size": 64, "warmup": 0}
TINY = {"batch": 32, "accumulate": 1, "lr": 2e-3, "ema": 0.99, "size": world.SIDE, "warmup": 50}


@dataclass(frozen=True)
class Ground:
    """What a run stands on: the transformer as it was before any phase, where it came from, and the encoders."""

    shape: MGTConfig
    state: dict | None  # None: weights at random
    encoders: Encoders
    joint: int


def run(arguments: argparse.Namespace) -> dict:
    """Runs a phase or the export. Returns its summary. EditError for what cannot be run."""
    store = Store(arguments.state, "editmgt")
    if arguments.stage == "export":
        from .exporting import export

        return export(arguments, store)
    recipe, chosen, start = recipe_of(arguments), options(arguments), start_of(arguments)
    rows = rows_of(arguments)  # what is missing is said before anything heavy is loaded
    ground = ground_of(start)
    found = examples(arguments, rows, ground.encoders)
    stage, started = build(arguments, ground, found, recipe, chosen.size, store)
    if arguments.gradient_checkpointing:
        stage.enable_checkpointing()
    summary = loop.run(stage, store, chosen)
    return {"from": started, **summary} if summary else {}  # other processes of a launch measure nothing


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the flags describe. EditError for a share that is none."""
    if not 0 <= arguments.text_dropout <= 1:
        raise EditError(f"--text-dropout {arguments.text_dropout} is no share; use 0 to 1.")
    recipe = Recipe(arguments.text_dropout, arguments.negative, arguments.mask_schedule, arguments.time)
    if arguments.stage == "phase1":
        return recipe
    sampling = Sampling(steps=arguments.follow_steps, guidance=arguments.follow_guidance, gamma=1.0)
    return replace(recipe, follow=arguments.follow, sampling=sampling)


def options(arguments: argparse.Namespace) -> loop.Options:
    """The paper's numbers (for the small world its own), with what the command line says on top."""
    usual = {"clip": 10.0} | COMMON | (TINY if arguments.config else {}) | {"steps": STEPS[arguments.stage]}
    return flags.options(arguments, usual)


def start_of(arguments: argparse.Namespace) -> release.Start | None:
    """The folders to start from, or None for the small world. EditError for one that is missing."""
    if bool(arguments.model) == bool(arguments.config):
        raise EditError("Name the folder to start from with --model, or say --config tiny for the small world.")
    return None if arguments.config else release.find(arguments.model, arguments.llm)


def ground_of(start: release.Start | None) -> Ground:
    """The model and its encoders. EditError for what does not fit."""
    if start is None:
        return Ground(world.CONFIG, None, world.World(), world.JOINT)
    shape, state = release.read(start.parts.transformer)
    encoders = release.Release(start)
    joint, pooled = encoders.widths()
    if pooled != shape.pooled_projection_dim:
        raise EditError(
            f"{start.parts.text_encoder} gives a vector {pooled} wide, and the transformer takes "
            f"{shape.pooled_projection_dim}; use the folders that were published together."
        )
    return Ground(shape, state, encoders, joint)


def rows_of(arguments: argparse.Namespace) -> data.Rows | None:
    """The table that is trained on; None in the small world, which has its own. EditError for what is not there."""
    edits = arguments.stage != "phase1"
    path = arguments.edits if edits else arguments.pairs
    if path:
        share, column = (arguments.best, arguments.score_column) if edits else (1.0, None)
        return data.read(path, edits=edits, share=share, column=column)
    if not arguments.config:
        raise EditError(f"Name what to train on with --{'edits' if edits else 'pairs'}.")
    return None


def examples(arguments: argparse.Namespace, rows: data.Rows | None, encoders: Encoders) -> Examples:
    """What the phase draws from."""
    if rows is not None:
        return data.Files(rows, encoders)
    if arguments.stage == "phase1":
        return world.Drawn(world.described)
    return world.Drawn(world.edited) if arguments.best == 1 else world.Scored(arguments.best)


def build(
    arguments, ground: Ground, found: Examples, recipe: Recipe, size: int, store: Store
) -> tuple[Phase, str]:
    """The phase with its network and what it starts from: the last phase before it in this state, or the model."""
    phase = arguments.stage
    before = None if phase == "phase1" else last(store, PHASES[: PHASES.index(phase)], "transformer")
    net = network(arguments, ground, store)
    _check_size(net, size)
    _keep_card(store, arguments, net.config)
    if before:
        store.load_part(f"{before}_transformer", net)
    adapters, started = None, before or "model"
    if phase != "phase1" and arguments.lora is not None:
        net.requires_grad_(False)
        adapters = adapters_of(net, lora_of(arguments), arguments.seed)
        if phase == "phase3" and store.load_part("phase2_lora", adapters):
            started = "phase2"
    return Phase(phase, net, ground.encoders, found, recipe, size, adapters), started


def network(arguments, ground: Ground, store: Store) -> EditMGT:
    """The transformer with the connector that phase 1 is told, or gave it. EditError for later ones without any."""
    if arguments.stage == "phase1":
        connector = release.CONNECTORS[arguments.connector]
    else:
        connector = card_of(store)["config"]["connector"] if store.has_card(CARD) else ground.shape.connector
        if connector == "none" and ground.state is not None:
            raise EditError("The model has no connector to a language model; train phase1 first.")
        connector = "linear" if connector == "none" else connector
    if ground.state is not None:
        return release.network(ground.shape, ground.state, connector, ground.joint, arguments.seed)
    torch.manual_seed(arguments.seed)
    return EditMGT(replace(ground.shape, connector=connector))


def _check_size(net: EditMGT, size: int) -> None:
    if net.config.downsample and size % 2:
        raise EditError(f"--size {size} cannot be halved, which this model does; use an even number.")


def last(store: Store, phases: tuple[str, ...], part: str) -> str | None:
    """The last of the phases that left weights of a part."""
    found = store.last([f"{phase}_{part}" for phase in phases])
    return found and found.removesuffix(f"_{part}")


def lora_of(arguments: argparse.Namespace) -> dict:
    """What the flags say of the LoRA, as it is noted."""
    targets = [t.strip() for t in arguments.lora_targets.split(",") if t.strip()]
    alpha = float(arguments.lora if arguments.lora_alpha is None else arguments.lora_alpha)
    return {"rank": arguments.lora, "alpha": alpha, "targets": targets, "part": arguments.lora_part}


def adapters_of(net: EditMGT, lora: dict, seed: int) -> Adapters:
    """A new LoRA on a transformer."""
    torch.manual_seed(seed + 1)
    return Adapters(net, lora["rank"], lora["alpha"], tuple(lora["targets"]), lora["part"])


def _keep_card(store: Store, arguments: argparse.Namespace, shape: MGTConfig) -> None:
    """Notes what the state is of; EditError when it is of something else."""
    card = card_of(store) if store.has_card(CARD) else {"config": _plain(shape), "lora": {}}
    if card["config"] != _plain(shape):
        raise EditError(f"{store.root} was trained with another model or connector; name another --state.")
    if arguments.stage != "phase1":
        lora, noted = None if arguments.lora is None else lora_of(arguments), card["lora"]
        before = noted.get("phase2") if arguments.stage == "phase3" else None  # a LoRA of phase 2 is gone on with
        if noted.get(arguments.stage, before or lora) != lora or before not in (None, lora):
            raise EditError(f"{store.root} was tuned with another choice of --lora; name another --state.")
        noted[arguments.stage] = lora
    given = {name: getattr(arguments, name) for name in ("model", "llm")}
    recipe = {"time": arguments.time, "mask_schedule": arguments.mask_schedule, "negative": arguments.negative}
    store.write_card(CARD, card | given | recipe)


def _plain(shape: MGTConfig) -> dict:
    return json.loads(json.dumps(asdict(shape)))


def card_of(store: Store) -> dict:
    """What a state folder was trained on. EditError when nothing was."""
    return store.card(CARD, "a phase")
