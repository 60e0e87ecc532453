"""What the words of `python . train icedit` do."""

import argparse
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from ...models.errors import EditError
from .. import flags, loop
from ..kontext import flux
from ..kontext.running import frozen
from ..store import Store
from . import adapters, fill, stages, world
from .data import Prepared
from .examples import Examples
from .stages import Diptychs, Recipe

CARD = "icedit"  # its name in the state's folder: what was trained
BASE = "base"
COMMON = {"batch": 1, "accumulate": 2, "lr": 1.0, "weight_decay": 0.01, "ema": 0.0, "warmup": 0, "clip": 0.5,
          "steps": 20_000}  # fmt: skip
ADAMW_LR = 1e-4
TINY = {"batch": 32, "accumulate": 1}
TINY_BASE = TINY | {"lr": 2.5e-3, "clip": 1.0, "ema": 0.99, "warmup": 50, "steps": 1000}


def run(arguments: argparse.Namespace) -> dict:
    """Runs a stage, the preparation or the export. Returns its summary. EditError for what cannot be run."""
    if arguments.stage == "prepare":
        from . import preparing

        return preparing.run(arguments)
    store = Store(arguments.state, "icedit")
    if arguments.stage == "export":
        from .exporting import export

        return export(arguments, store)
    recipe, chosen = recipe_of(arguments), options(arguments)
    stage = build(arguments, examples_of(arguments), recipe, store)
    if arguments.gradient_checkpointing:
        stage.enable_checkpointing()
    return loop.run(stage, store, chosen) or {}  # other processes of a launch measure nothing


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the flags describe. EditError for numbers that are none, and where Prodigy is missing."""
    dropout, balance = arguments.text_dropout, getattr(arguments, "balance", 0.0)
    if not 0 <= dropout <= 1:
        raise EditError(f"--text-dropout {dropout} is no share; use 0 to 1.")
    if balance < 0:
        raise EditError(f"--balance {balance} is no weight; use 0 or more.")
    optimizer = stages.ADAMW if arguments.stage == BASE else arguments.optimizer
    if optimizer == stages.PRODIGY:
        stages.prodigy()
    guidance = arguments.sample_guidance or (1.0 if arguments.config else Recipe.sample_guidance)
    return Recipe(
        dropout, arguments.guidance, optimizer, balance, arguments.sample,
        arguments.sample_steps or Recipe.sample_steps, guidance,
    )  # fmt: skip


def options(arguments: argparse.Namespace) -> loop.Options:
    """The usual numbers (for the small world its own), with what the command line says on top."""
    usual = COMMON | (TINY if arguments.config else {})
    if arguments.stage == BASE:
        usual = COMMON | TINY_BASE
    elif arguments.optimizer == stages.ADAMW:
        usual |= {"lr": ADAMW_LR}
    return flags.options(arguments, usual)


def examples_of(arguments: argparse.Namespace) -> Examples:
    """What the stage draws from. EditError where nothing is named, and for what is not there."""
    if arguments.stage == BASE:
        return world.World("fill")
    if bool(arguments.model) == bool(arguments.config):
        raise EditError("Name FLUX.1 Fill with --model, or say --config tiny for the small world.")
    if arguments.data:
        return Prepared(arguments.data)
    if arguments.config:
        return world.World("edit")
    raise EditError("Name what to train on with --data, a folder that `train icedit prepare` wrote.")


def build(arguments, found: Examples, recipe: Recipe, store: Store) -> Diptychs:
    """The stage with its network. EditError where the small world has no base yet, and for what is no Fill."""
    name, choice = arguments.stage, choice_of(arguments)
    config, state = start(arguments, store)
    check_fits(config, found)
    net = flux.build(config, state, arguments.seed)
    if choice is not None:
        net = adapters.attach(frozen(net, arguments), choice, arguments.seed)
    keep_card(store, arguments, config, choice, recipe)
    return Diptychs(name, net, found, recipe, choice)


def choice_of(arguments: argparse.Namespace) -> adapters.Choice | None:
    """What the flags say of the LoRA or mixture. EditError for no experts."""
    if arguments.stage == BASE:
        return None
    if arguments.stage == "lora":
        return adapters.Choice(arguments.rank)
    if arguments.experts < 1:
        raise EditError(f"--experts {arguments.experts} is none; use 1 or more, or train lora.")
    return adapters.Choice(arguments.rank, arguments.experts, arguments.experts_per_token, arguments.softmax_first)


def start(arguments, store: Store) -> tuple[dict, dict[str, Tensor] | None]:
    """Config and weights of the transformer."""
    if arguments.stage == BASE:
        return world.CONFIG, None
    if not arguments.config:
        return flux.read(arguments.model)
    if not store.has(BASE):
        raise EditError(
            f"{store.root} holds no small Fill; train it first with `train icedit {BASE}`, and name the same --state."
        )
    return card_of(store)["stages"][BASE], store.read_part(BASE)


def check_fits(config: dict, found: Examples) -> None:
    """EditError for a transformer that is none of Fill's, and for latents or texts that it does not take."""
    fill.check(config, found.scale)
    if not isinstance(found, Prepared):
        return
    wanted = (config["out_channels"] // 4, config["joint_attention_dim"], config["pooled_projection_dim"])
    for what, has, takes in zip(("latent channels", "text states", "pooled text"), found.widths(), wanted):
        if has != takes:
            raise EditError(
                f"{found.root} was prepared with {what} {has} wide, and the transformer takes {takes}; use the "
                "encoders that were published with it."
            )


def keep_card(store: Store, arguments, config: dict, choice: adapters.Choice | None, recipe: Recipe) -> None:
    """Notes what the state is of; EditError when it is of something else."""
    card = card_of(store) if store.has_card(CARD) else {"stages": {}, "choices": {}, "recipes": {}}
    name, noted = arguments.stage, None if choice is None else asdict(choice)
    if card["stages"].get(name, config) != config:
        raise EditError(f"{store.root} was trained on another model; name another --state.")
    if card["choices"].get(name, noted) != noted:
        raise EditError(f"{store.root} was trained with another rank or other experts; name another --state.")
    if name in card["recipes"] and card["recipes"][name]["optimizer"] != recipe.optimizer:
        raise EditError(f"{store.root} was trained with another --optimizer; name another --state.")
    card["stages"][name], card["choices"][name], card["recipes"][name] = config, noted, asdict(recipe)
    given = arguments.model and str(Path(arguments.model).expanduser().resolve())
    store.write_card(CARD, card | {"model": given, "seed": arguments.seed})


def card_of(store: Store) -> dict:
    """What a state folder was trained on. EditError when nothing was."""
    return store.card(CARD, "lora or mixture")
