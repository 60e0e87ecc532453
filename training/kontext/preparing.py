"""`train kontext prepare`: tables of pictures and texts become a folder of latents and encoded texts, once.

The index says each example's kind and text; its file holds target, states, pooled, reference_1 …
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.kontext import ids
from .. import prepared, tables
from ..prepared import EMPTY, TYPES
from .encoders import Encoders, find

EDIT, PAIR = ("source", "target", "instruction"), ("image", "caption")
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
    prepared.check_card(out, _plain(arguments, folders))
    prepared.keep(out / EMPTY, lambda: dict(zip(("states", "pooled"), encoders.text(""))))
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
    return prepared.write(out, [
        ({"kind": kind, "text": _text(kind, row)}, lambda k=kind, r=row: example(k, r, encoders, area))
        for kind, row in rows
    ])  # fmt: skip


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


def _plain(arguments: argparse.Namespace, folders: dict[str, Path]) -> dict:
    named = {name: getattr(arguments, name) for name in ("edits", "pairs", "area", "text_tokens", "dtype")}
    return named | {"folders": {name: str(path) for name, path in folders.items()}}
