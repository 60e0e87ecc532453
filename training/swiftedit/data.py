"""What SwiftEdit trains on: captions for stage 1, photographs with captions for stage 2; some are held out."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...models.errors import EditError
from ..tables import PICTURES

TABLES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")  # the latter are Hugging Face's
FILE, TEXT = ("file", "file_name"), ("caption", "text")  # the names of their two columns


@dataclass(frozen=True)
class Photo:
    """A picture on disk and what it shows; an absent caption is the empty prompt."""

    path: Path
    caption: str = ""


def read_captions(path: str) -> list[str]:
    """One caption a line. EditError for a file that is missing, not text, or empty."""
    file = Path(path).expanduser()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        raise EditError(
            f"There is no text file {file}; --captions names one with a caption on each line."
        ) from None
    captions = [line.strip() for line in lines if line.strip()]
    if not captions:
        raise EditError(f"{file} holds no captions; write one on each line.")
    return captions


def read_photos(folder: str) -> list[Photo]:
    """The pictures of a folder and its subfolders, by name, with captions from NAME.txt or from a table.

    EditError for a folder that is missing or holds no picture.
    """
    root = Path(folder).expanduser()
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in PICTURES and not p.name.startswith("._"))
    if not paths:
        raise EditError(f"There are no pictures in {root}; --photos names a folder of photographs.")
    table = next((read_table(root / name) for name in TABLES if (root / name).is_file()), {})
    return [Photo(path, _caption(path, root, table)) for path in paths]


def _caption(path: Path, root: Path, table: dict[str, str]) -> str:
    beside = path.with_suffix(".txt")
    if beside.is_file():
        return beside.read_text(encoding="utf-8").strip()
    return table.get(path.relative_to(root).as_posix(), table.get(path.name, ""))


def read_table(path: Path) -> dict[str, str]:
    """File name -> caption of a CSV with a header, or of JSON lines. EditError for one without these columns."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = (
                list(csv.DictReader(file))
                if path.suffix == ".csv"
                else [json.loads(x) for x in file if x.strip()]
            )
        return {_column(row, FILE): _column(row, TEXT) for row in rows}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error):
        raise EditError(f"{path} is no table of captions; give it the columns file and caption.") from None


def _column(row: dict, names: tuple[str, ...]) -> str:
    return [row[name] for name in names if name in row][0].strip()


def read_pixels(path: Path, size: int, rng: np.random.Generator | None = None) -> Tensor:
    """A square of a picture, [3, size, size] in 0..1: its shorter side at `size`, cropped at random or in the middle.

    EditError for a picture that cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError):
        raise EditError(f"{path} cannot be read as a picture; take it away or replace it.") from None
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    across, down = (rng.random(), rng.random()) if rng else (0.5, 0.5)
    left, top = int(across * (width - size + 1)), int(down * (height - size + 1))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))[
        top : top + size, left : left + size
    ]
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)
