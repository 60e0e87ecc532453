"""`train editmgt export`: the averages as a folder that Load EditMGT reads, or a LoRA as the official trainer's."""

import argparse
import os
import shutil
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from ...models.editmgt import checkpoint, files
from ...models.editmgt.adapters import loras
from ...models.editmgt.config import MGTConfig
from ...models.editmgt.lora import CONFIG, Lora, merged
from ...models.editmgt.transformer import EditMGT
from ...models.errors import EditError
from ...models.files import save_tensors
from ..store import Store
from . import release, running
from .stages import PHASES

PREFIX = "unet._orig_mod."  # before the official trainer's names
LORA = "pytorch_lora_weights.safetensors"  # as diffusers calls it


def export(arguments: argparse.Namespace, store: Store) -> dict:
    """Writes editmgt/, scheduler/ and the frozen parts, or lora_config.json and the LoRA's file. EditError for no
    trained phase, and for a LoRA that cannot be merged."""
    card = running.card_of(store)
    out = Path(arguments.out).expanduser() if arguments.out else store.root / "export"
    phase, kind = _trained(store, arguments.phase)
    if kind == "lora" and not arguments.merge:
        _write_lora(out, store.read_part(f"{phase}_lora"), shape_of(card), card["lora"][phase])
        _note(out, card, phase)
    else:
        _write_model(out, arguments, store, card, phase, kind)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    return {"written": str(out), "phase": phase, "sample with time": card["time"], "megabytes": size}


def _trained(store: Store, wanted: str | None) -> tuple[str, str]:
    """The phase and whether it left a transformer or a LoRA."""
    if wanted is not None and wanted not in PHASES:
        raise EditError(f"--phase {wanted} is none; use {', '.join(PHASES)}.")
    for phase in [wanted] if wanted else reversed(PHASES):
        for kind in ("lora", "transformer"):
            if store.has(f"{phase}_{kind}"):
                return phase, kind
    raise EditError(f"{store.root} holds no trained {wanted or 'phase'}; train it first, and name the same --state.")


def _write_model(out: Path, arguments, store: Store, card: dict, phase: str, kind: str) -> None:
    start = _start(arguments, card)  # before anything is written
    shape, state = shape_of(card), _weights(arguments, store, card, phase, kind, start)
    checkpoint.save_transformer(out / "editmgt", shape, state)
    checkpoint.save_settings(out / "scheduler", checkpoint.Settings(shape.mask_token, card["mask_schedule"]))
    _note(out, card, phase)
    if start is not None and not arguments.transformer_only:
        parts = start.parts
        for name in ("text_encoder", "tokenizer", "vqvae", "llm_encoder"):
            _link(getattr(parts, name), out / name)


def _note(out: Path, card: dict, phase: str) -> None:
    """How it was trained, of which Load EditMGT and EditMGT LoRA take what a step is told."""
    told = {name: card[name] for name in ("time", "mask_schedule", "negative")} | {"phase": phase}
    files.save_json(out / checkpoint.TRAINING, told)


def _weights(arguments, store: Store, card: dict, phase: str, kind: str, start) -> dict[str, Tensor]:
    if kind == "transformer":
        return store.read_part(f"{phase}_transformer")
    chosen = card["lora"][phase]
    if chosen["part"] != "all":
        raise EditError("A LoRA on the reference's path alone cannot be merged; leave --merge out.")
    base = _base(store, card, phase, start)
    return merged(base, _loras(shape_of(card), chosen, store.read_part(f"{phase}_lora")))


def _loras(shape: MGTConfig, lora: dict, state: dict[str, Tensor]) -> dict[str, Lora]:
    """A stored LoRA by its layers' names."""
    with torch.device("meta"):
        names = running.adapters_of(EditMGT(shape), lora, 0).names
    return loras(names, state, lora["alpha"] / lora["rank"])


def _base(store: Store, card: dict, phase: str, start) -> dict[str, Tensor]:
    """What the LoRA was trained on."""
    before = running.last(store, PHASES[: PHASES.index(phase)], "transformer")
    if before:
        return store.read_part(f"{before}_transformer")
    if start is None:
        raise EditError("The LoRA was trained on weights at random, so there is nothing to merge it with.")
    return {k: v.float() for k, v in release.read(start.parts.transformer)[1].items()}


def _start(arguments, card: dict):
    """The folders that were trained from, or None in the small world. EditError where they are gone."""
    model, llm = arguments.model or card["model"], arguments.llm or card["llm"]
    return release.find(model, llm) if model else None


def shape_of(card: dict) -> MGTConfig:
    """The transformer that a state's card tells of."""
    known = {field.name for field in fields(MGTConfig)}
    chosen = {k: tuple(v) if isinstance(v, list) else v for k, v in card["config"].items() if k in known}
    return MGTConfig(**chosen)


def _write_lora(out: Path, state: dict[str, Tensor], shape: MGTConfig, lora: dict) -> None:
    """As the official trainer writes it: names below `unet._orig_mod.`, rank and targets beside it."""
    found = _loras(shape, lora, state).items()
    halves = {f"{PREFIX}{n}.lora_{h}.weight": getattr(one, h) for n, one in found for h in "AB"}
    save_tensors(out / LORA, halves)
    files.save_json(out / CONFIG, {
        "r": lora["rank"], "lora_alpha": lora["alpha"], "target_modules": lora["targets"],
        "lora_part_enable": lora["part"] == "reference",
    })  # fmt: skip


def _link(source: Path, out: Path) -> None:
    """The files of a folder under another name, where the disk can, else copies: Gemma alone has 5 GB."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        target = out / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copy2(path, target)
