"""`train swiftedit export`: the trained averages as a folder that Load SwiftEdit reads."""

import argparse
from pathlib import Path

from torch import Tensor

from ...models.errors import EditError
from ...models.swiftedit import checkpoint, unets
from ...models.swiftedit.generators import OneStep
from ..store import Store
from .folders import unet_folder


def export(arguments: argparse.Namespace, family: OneStep, store: Store) -> dict:
    """Writes inverse/unet_ema, ip_adapter and the card, and with --with-generator the generator too.

    Takes stage 2's weights where there are any, unless --skip-stage2. EditError when nothing was trained.
    """
    from .running import card_of

    card = card_of(store)
    out = Path(arguments.out).expanduser() if arguments.out else store.root / "export"
    generator = _generator(arguments)
    stage, inversion = _part(store, "inversion", not arguments.skip_stage2)
    checkpoint.save_unet(out / "inverse/unet_ema", card["unet"], inversion)
    if card["image_branch"]:
        _, branch = _part(store, "branch", not arguments.skip_stage2)
        checkpoint.save_branch(out, branch_state(branch, inversion), family.name)
    else:
        checkpoint.save_card(out, family.name)
    if generator is not None:
        checkpoint.save_unet(out / "generator", *checkpoint.read_unet(generator))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    return {"written": str(out), "stage": stage, "megabytes": size}


def branch_state(branch: dict[str, Tensor], inversion: dict[str, Tensor]) -> dict[str, Tensor]:
    """The image branch by the release's names; its layers are numbered in the order of the UNet's."""
    names = unets.attn2_layers(inversion)
    out = {}
    for name, value in branch.items():
        first, _, rest = name.partition(".")
        number, _, part = rest.partition(".")
        layer = (
            f"unet.{names[int(number)]}.processor.{part}" if first == "layers" else f"image_proj_model.{rest}"
        )
        out[layer] = value
    return out


def _part(store: Store, name: str, stage2: bool) -> tuple[str, dict[str, Tensor]]:
    for stage in ("stage2", "stage1") if stage2 else ("stage1",):
        if store.has(f"{stage}_{name}"):
            return stage, store.read_part(f"{stage}_{name}")
    raise EditError(f"{store.root} holds no trained {name}; train stage1 first, and name the same --state.")


def _generator(arguments: argparse.Namespace) -> Path | None:
    if not arguments.with_generator:
        return None
    if not arguments.generator:
        raise EditError("--with-generator writes the generator too; name its folder with --generator.")
    return unet_folder(arguments.generator, "--generator")
