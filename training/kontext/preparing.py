"""`train kontext prepare`: tables of pictures and texts become a folder of latents and encoded texts, once.

OUT/index.jsonl           a line for each example: file, kind, text, the sizes of its latents
OUT/<number>.safetensors  target, states, pooled, reference_1 …
OUT/empty.safetensors     states and pooled of the empty prompt
"""

import argparse
import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.kontext import ids
from .. import tables
from .encoders import Encoders, find

INDEX, EMPTY, CARD = "index.jsonl", "empty.safetensors", "prepared.json"
EDIT, PAIR = ("source", "target", "instruction"), ("image", "caption")
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
RATIOS = 8  # shapes on each side of the square, of the same area, up to RATIO
RATIO = 2.25  # of the longest side to the shortest; the released model's is 2.33


def run(arguments: argparse.Namespace) -> dict:
    """Writes the folder; what is there already is kept, so a run that was stopped goes on. Returns its summary."""
    rows = rows_of(arguments)
    folders = find(arguments.model, {"vae": arguments.vae, "text": arguments.text})
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoders = Encoders(folders, device, TYPES[arguments.dtype], arguments.text_tokens)
    out = Path(arguments.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    _check_card(out, _plain(arguments, folders))
    _write(out / EMPTY, lambda: dict(zip(("states", "pooled"), encoders.text(""))))
    return {"written": str(out), "examples": write(out, rows, encoders, arguments.area)}


def rows_of(arguments: argparse.Namespace) -> list[tuple[str, dict]]:
    """(kind, row) of both tables. EditError where none is named, and for what is not there."""
    out: list[tuple[str, dict]] = []
    if arguments.edits:
        rows = tables.read(arguments.edits, "--edits", EDIT, tables.SOURCES[1:])
        out += [("edit", row) for row in rows]
    if arguments.pairs:
        out += [("pair", row) for row in tables.read(arguments.pairs, "--pairs", PAIR)]
    if not out:
        raise EditError("Name what to prepare with --edits, --pairs or both.")
    return out


def write(out: Path, rows: list[tuple[str, dict]], encoders: Encoders, area: int) -> int:
    """Every row's file, and then the index. Returns how many."""
    from tqdm import tqdm

    lines = []
    for number, (kind, row) in enumerate(tqdm(rows, desc="prepare", unit="example")):
        path = out / f"{number:07d}.safetensors"
        _write(path, lambda k=kind, r=row: example(k, r, encoders, area))
        lines.append({"file": path.name, "kind": kind, "text": _text(kind, row), "shapes": _shapes(path)})
    part = out / f"{INDEX}.part"
    part.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    os.replace(part, out / INDEX)
    return len(lines)


def _text(kind: str, row: dict) -> str:
    text = row["instruction" if kind == "edit" else "caption"]
    return str(text[0] if isinstance(text, (list, tuple)) and text else text)


def example(kind: str, row: dict, encoders: Encoders, area: int) -> dict[str, Tensor]:
    """The tensors of a row: target and references each of their own shape, at about area² pixels."""
    names = ["image"] if kind == "pair" else ["target", *(name for name in tables.SOURCES if name in row)]
    step = encoders.scale * ids.PATCH
    latents = [encoders.latent(fitted(tables.opened(row[name]), area, step)) for name in names]
    states, pooled = encoders.text(_text(kind, row))
    found = {"target": latents[0], "states": states, "pooled": pooled}
    return found | {f"reference_{i}": latent for i, latent in enumerate(latents[1:], 1)}


def fitted(picture, area: int, step: int) -> Tensor:
    """A picture [3, h, w] in 0..1: scaled to the nearest of `sizes`, its middle cut out where the shape differs."""
    import numpy as np
    from PIL import Image, ImageOps

    ratio = math.log(picture.width / picture.height)
    size = min(sizes(area, step), key=lambda s: abs(math.log(s[0] / s[1]) - ratio))
    pixels = np.asarray(ImageOps.fit(picture, size, Image.Resampling.LANCZOS), dtype=np.float32) / 255
    return torch.from_numpy(pixels).movedim(-1, 0)


def sizes(area: int, step: int) -> list[tuple[int, int]]:
    """(width, height) of about area² pixels in multiples of `step`, from tall to wide: few, so that batches fill."""
    ratios = [RATIO ** (i / RATIOS) for i in range(-RATIOS, RATIOS + 1)]
    rounded = lambda side: max(step, round(side / step) * step)  # noqa: E731
    return sorted({(rounded(area * r**0.5), rounded(area / r**0.5)) for r in ratios}, key=lambda s: s[0] / s[1])


def _write(path: Path, make) -> None:
    """A file of tensors, whole or not at all, unless it is there."""
    from safetensors.torch import save_file

    if path.is_file():
        return
    part = path.with_suffix(".part")
    save_file({name: value.contiguous() for name, value in make().items()}, part)
    os.replace(part, path)


def _shapes(path: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        names = [n for n in file.keys() if n not in ("states", "pooled")]  # noqa: SIM118 - no mapping
        return {name: list(file.get_slice(name).get_shape()) for name in sorted(names)}


def _plain(arguments: argparse.Namespace, folders: dict[str, Path]) -> dict:
    named = {name: getattr(arguments, name) for name in ("edits", "pairs", "area", "text_tokens", "dtype")}
    return named | {"folders": {name: str(path) for name, path in folders.items()}}


def _check_card(out: Path, card: dict) -> None:
    """EditError when the folder holds what was prepared otherwise."""
    path = out / CARD
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != card:
        raise EditError(f"{out} was prepared from other tables or with other flags; name another --out.")
    path.write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8")
