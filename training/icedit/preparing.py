"""`train icedit prepare`: edits become a folder of diptychs as latents, with the encoded training prompt, once.

The index says each example's text; its file holds target, masked, states and pooled.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.icedit import prompts
from ...models.icedit.diptych import MULTIPLE, panel_size
from .. import prepared, tables
from ..kontext.encoders import Encoders, find
from ..prepared import EMPTY, TYPES

WANTED = ("source", "target", "instruction")
DROPPED = " "  # what stands for a dropped text
BORDER = 32  # MagicBrush's lowest 1/32 is left away
FOLDERS = ("image", "edited", "instruction")


def run(arguments: argparse.Namespace) -> dict:
    """Writes the folder; what is there already is kept, so a run that was stopped goes on. Returns its summary."""
    rows = rows_of(arguments.edits)
    panel = Panel(arguments.width, arguments.keep_shape, arguments.crop_bottom)
    folders = find(arguments.model, {"vae": arguments.vae, "text": arguments.text})
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    encoders = Encoders(folders, device, TYPES[arguments.dtype], arguments.text_tokens)
    out = Path(arguments.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    names = ("edits", "width", "keep_shape", "crop_bottom", "text_tokens", "dtype")
    card = {name: getattr(arguments, name) for name in names} | {"scale": encoders.scale}
    prepared.check_card(out, card | {"folders": {name: str(path) for name, path in folders.items()}})
    prepared.keep(out / EMPTY, lambda: dict(zip(prepared.TEXTS, encoders.text(DROPPED))))
    todo = [(said(row, number), row) for number, row in enumerate(rows)]
    made = prepared.write(out, [({"text": t}, lambda t=t, r=r: example(r, t, encoders, panel)) for t, r in todo])
    return {"written": str(out), "examples": made}


def rows_of(path: str | None) -> list[dict]:
    """The rows of a table, of a folder with one, or of the folders image/, edited/ and instruction/ with files of the
    same names, the last NAME.txt. EditError where none is named, and for what is not there."""
    if not path:
        raise EditError("Name what to prepare with --edits.")
    image, edited, instruction = (Path(path).expanduser() / name for name in FOLDERS)
    if not (image.is_dir() and edited.is_dir() and instruction.is_dir()):
        return tables.read(path, "--edits", WANTED)
    pictures = sorted(p for p in image.iterdir() if p.suffix.lower() in tables.PICTURES and not p.name.startswith("."))
    targets = {p.stem: p for p in edited.iterdir() if p.suffix.lower() in tables.PICTURES}
    rows = []
    for picture in pictures:
        text = instruction / f"{picture.stem}.txt"
        if picture.stem not in targets or not text.is_file():
            raise EditError(f"{picture} has no {edited.name}/{picture.stem} or no {instruction.name}/{text.name}.")
        words = text.read_text(encoding="utf-8").strip()
        rows.append({"source": picture, "target": targets[picture.stem], "instruction": words})
    if not rows:
        raise EditError(f"{image} holds no pictures; --edits names a table, or a folder of examples.")
    return rows


def said(row: dict, number: int) -> str:
    """The instruction of a row. Of several, as OmniEdit has them, the rows take one after the other."""
    text = row["instruction"]
    several = isinstance(text, (list, tuple, np.ndarray)) and len(text)
    return str(text[number % len(text)] if several else text)


class Panel:
    """How a picture becomes a panel: `width` px wide, square as in the released training, or of the source's shape."""

    def __init__(self, width: int, keep_shape: bool = False, crop_bottom: bool = False):
        """EditError for a width that is no multiple of 16."""
        if width < MULTIPLE or width % MULTIPLE:
            raise EditError(f"--width {width} is no multiple of {MULTIPLE} px; the released panels are 512 px wide.")
        self.width, self.keep_shape, self.crop_bottom = width, keep_shape, crop_bottom

    def pair(self, source, target) -> tuple[Tensor, Tensor]:
        """Both pictures as panels [3, h, w] in 0..1 of one size. Scaled, never cut but for MagicBrush's border."""
        cut = lambda p: p.crop((0, 0, p.width, p.height - p.height // BORDER)) if self.crop_bottom else p  # noqa: E731
        source, target = cut(source), cut(target)
        height = panel_size(source.height, source.width, self.width)[0] if self.keep_shape else self.width
        return self._scaled(source, height), self._scaled(target, height)

    def _scaled(self, picture, height: int) -> Tensor:
        from PIL import Image

        pixels = np.asarray(picture.resize((self.width, height), Image.Resampling.LANCZOS), dtype=np.float32) / 255
        return torch.from_numpy(pixels).movedim(-1, 0)


def example(row: dict, text: str, encoders: Encoders, panel: Panel) -> dict[str, Tensor]:
    """The tensors of a row. Both diptychs go through the autoencoder whole, as in sampling."""
    left, right = panel.pair(tables.opened(row["source"]), tables.opened(row["target"]))
    states, pooled = encoders.text(prompts.prompt(prompts.ICEDIT, text))
    return {
        "target": encoders.latent(torch.cat([left, right], -1)),
        "masked": encoders.latent(torch.cat([left, torch.full_like(right, 0.5)], -1)),
        "states": states, "pooled": pooled,
    }  # fmt: skip
