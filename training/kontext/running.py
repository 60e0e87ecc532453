"""What the words of `python . train kontext` do."""

import argparse
import copy
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from ...models.errors import EditError
from .. import flags, loop
from ..store import Store
from . import adapters, flux, world
from .data import Prepared
from .examples import Examples
from .ladd import Few, Ladd
from .stages import STAGES, Flow, Guidance, KontextStage, Recipe

CARD = "kontext"  # its name in the state's folder: what was trained
STEPS = {"flow": 50_000, "guidance": 20_000, "ladd": 10_000}  # our choice; the paper says none
COMMON = {"batch": 4, "accumulate": 4, "lr": 1e-5, "weight_decay": 1e-2, "ema": 0.9999, "warmup": 500, "clip": 1.0}
TINY = {"batch": 32, "accumulate": 1, "ema": 0.995, "warmup": 50}
TINY_LR = {"flow": 2.5e-3, "guidance": 1e-3, "ladd": 1e-4}


def run(arguments: argparse.Namespace) -> dict:
    """Runs a stage, the preparation or the export. Returns its summary. EditError for what cannot be run."""
    if arguments.stage == "prepare":
        from . import preparing

        return preparing.run(arguments)
    store = Store(arguments.state, "kontext")
    if arguments.stage == "export":
        from .exporting import export

        return export(arguments, store)
    recipe, chosen = recipe_of(arguments), options(arguments)
    found = examples_of(arguments)  # what is missing is said before anything heavy is loaded
    stage, started = build(arguments, found, recipe, store)
    if arguments.gradient_checkpointing:
        stage.enable_checkpointing()
    summary = loop.run(stage, store, chosen)
    return {"from": started, **summary} if summary else {}  # other processes of a launch measure nothing


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the flags describe. EditError for numbers that are none."""
    shares = ("text_to_image", "text_dropout", "first")
    for name in shares:
        value = getattr(arguments, name, 0)
        if value is not None and not 0 <= value <= 1:
            raise EditError(f"--{name.replace('_', '-')} {value} is no share; use 0 to 1.")
    if arguments.sigma <= 0:
        raise EditError(f"--sigma {arguments.sigma} is no spread; use a number above 0; the paper's is 1.")
    low, high = scales = tuple(getattr(arguments, "scales", None) or Recipe.scales)
    if low > high:
        raise EditError(f"--scales {low:g} {high:g} is no range; put the lower one first.")
    share = arguments.text_to_image if arguments.stage == "flow" else 0.0
    return Recipe(
        share, getattr(arguments, "text_dropout", 0.0), arguments.mu, arguments.sigma, arguments.placement,
        arguments.guidance, scales, arguments.sample, arguments.sample_steps or sample_steps(arguments),
        arguments.sample_guidance or arguments.guidance,
    )  # fmt: skip


def sample_steps(arguments: argparse.Namespace) -> int:
    return arguments.student_steps if arguments.stage == "ladd" else Recipe.sample_steps


def options(arguments: argparse.Namespace) -> loop.Options:
    """The usual numbers (for the small world its own), with what the command line says on top."""
    tiny = TINY | {"lr": TINY_LR[arguments.stage]} if arguments.config else {}
    return flags.options(arguments, COMMON | tiny | {"steps": STEPS[arguments.stage]})


def examples_of(arguments: argparse.Namespace) -> Examples:
    """What the stage draws from. EditError where nothing is named, and for what is not there."""
    if bool(arguments.model) == bool(arguments.config):
        raise EditError("Name the model to start from with --model, or say --config tiny for the small world.")
    if arguments.config and not arguments.data:
        return world.World()
    if not arguments.data:
        raise EditError("Name what to train on with --data, a folder that `train kontext prepare` wrote.")
    found = Prepared(arguments.data)
    if arguments.stage != "flow" and "edit" not in found.kinds:
        raise EditError(f"{arguments.data} holds no edits, which is what {arguments.stage} trains on.")
    return found


def build(arguments, found: Examples, recipe: Recipe, store: Store) -> tuple[KontextStage, str]:
    """The stage with its networks and what it starts from: the last stage before it in this state, or the model."""
    name, started = arguments.stage, store.last(before(arguments.stage)) or "model"
    config, state = start(arguments, store, started)
    check_fits(config, found)
    lora = lora_of(arguments) if name == "flow" and arguments.lora is not None else None
    if name == "guidance":
        net, teacher = flux.with_guidance(config, state, arguments.seed), flux.build(config, state)
        stage = Guidance(net, frozen(teacher, arguments), found, recipe)
    else:
        net = flux.build(config, state, arguments.seed)
        if name == "ladd":
            stage = Ladd(net, frozen(copy.deepcopy(net), arguments), found, recipe, few_of(arguments), arguments.seed)
        else:
            stage = Flow(name, _with_lora(net, lora, arguments), found, recipe, lora)
    keep_card(store, arguments, flux.config_of(stage.net), lora, recipe)
    return stage, started.removesuffix("_transformer")


def before(stage: str) -> list[str]:
    """Weights that a stage goes on from, the last first choice."""
    return [f"{name}_transformer" for name in STAGES[: STAGES.index(stage)]]


def start(arguments, store: Store, started: str) -> tuple[dict, dict[str, Tensor]]:
    """Config and weights of what a stage starts from."""
    if started != "model":
        return card_of(store)["stages"][started.removesuffix("_transformer")], store.read_part(started)
    if arguments.config:
        net = flux.build(world.CONFIG, None, arguments.seed)
        return flux.config_of(net), net.state_dict()
    return flux.read(arguments.model)


def check_fits(config: dict, found: Examples) -> None:
    """EditError for latents or texts that the transformer does not take."""
    if not isinstance(found, Prepared):
        return
    channels, joint, pooled = found.widths()
    wanted = (config["in_channels"] // 4, config["joint_attention_dim"], config["pooled_projection_dim"])
    for what, has, takes in zip(("latent channels", "text states", "pooled text"), (channels, joint, pooled), wanted):
        if has != takes:
            raise EditError(
                f"{found.root} was prepared with {what} {has} wide, and the transformer takes {takes}; use the "
                "encoders that were published with it."
            )


def frozen(net: nn.Module, arguments) -> nn.Module:
    """A network that only judges or teaches: in bf16 where the run was told so, to halve its memory."""
    return net.requires_grad_(False).to(torch.bfloat16 if arguments.precision == "bf16" else torch.float32)


def _with_lora(net: nn.Module, lora: adapters.Choice | None, arguments) -> nn.Module:
    return net if lora is None else adapters.attach(frozen(net, arguments), lora, arguments.seed)


def lora_of(arguments: argparse.Namespace) -> adapters.Choice:
    """What the flags say of the LoRA."""
    targets = tuple(t.strip() for t in arguments.lora_targets.split(",") if t.strip())
    return adapters.Choice(arguments.lora, float(arguments.lora_alpha or arguments.lora), targets)


def few_of(arguments: argparse.Namespace) -> Few:
    """What the flags say of the adversarial distillation. EditError for no steps."""
    if arguments.student_steps < 1:
        raise EditError(f"--student-steps {arguments.student_steps} is none; use 1 or more.")
    return Few(
        arguments.student_steps, arguments.first, arguments.critic_mu, arguments.critic_sigma, arguments.adversarial,
        arguments.distillation, arguments.r1, arguments.critic_width, arguments.critic_rate, arguments.critic_every,
    )  # fmt: skip


def keep_card(
    store: Store, arguments, config: dict, lora: adapters.Choice | None, recipe: Recipe
) -> None:
    """Notes what the state is of; EditError when it is of something else."""
    card = card_of(store) if store.has_card(CARD) else {"stages": {}, "lora": {}, "recipes": {}}
    name, noted = arguments.stage, None if lora is None else asdict(lora) | {"targets": list(lora.targets)}
    if card["stages"].get(name, config) != config:
        raise EditError(f"{store.root} was trained with another model; name another --state.")
    if card["lora"].get(name, noted) != noted:
        raise EditError(f"{store.root} was trained with another choice of --lora; name another --state.")
    card["stages"][name], card["lora"][name] = config, noted
    card["recipes"][name] = asdict(recipe) | {"student_steps": getattr(arguments, "student_steps", None)}
    given = arguments.model and str(Path(arguments.model).expanduser().resolve())
    store.write_card(CARD, card | {"model": given, "seed": arguments.seed})


def card_of(store: Store) -> dict:
    """What a state folder was trained on. EditError when nothing was."""
    return store.card(CARD, "a stage")
