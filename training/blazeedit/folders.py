"""A user's own triplets: TASK/x, TASK/y and, where the task has masks, TASK/m, with same-named files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...models.errors import EditError
from .data.photos import list_pictures, read_image


class FolderTriplets:
    """Triplets from folders; gives batches as `TripletSource` does, as random windows of the same place in x, m, y.

    folder: holds one sub-folder per task. only: the tasks to read, if not all. EditError naming the file whose partner
    is missing, or whose size differs, and a task that there is not.
    """

    def __init__(self, folder: Path | str, only: Sequence[str] = ()):
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise EditError(
                f"There is no folder {self.folder}; give one that holds TASK/x, TASK/y and TASK/m."
            )
        found = [p for p in sorted(self.folder.iterdir()) if (p / "x").is_dir()]
        if missing := sorted(set(only) - {p.name for p in found}):
            has = ", ".join(p.name for p in found)
            raise EditError(f"There is no task {missing[0]} in {self.folder}; it has {has}.")
        self.tasks = {p.name: _partners(p) for p in found if not only or p.name in only}
        if not self.tasks:
            raise EditError(
                f"No task folder in {self.folder}; put pictures into {self.folder}/TASK/x and TASK/y."
            )

    def split(self) -> tuple["FolderTriplets", "FolderTriplets"]:
        """(training, validation): every ninth triplet of a task, at least one, is set aside. EditError below two."""
        train, held = (object.__new__(FolderTriplets) for _ in range(2))
        train.folder = held.folder = self.folder
        train.tasks, held.tasks = {}, {}
        for name, rows in self.tasks.items():
            if len(rows) < 2:
                raise EditError(
                    f"The task {name!r} has {len(rows)} triplet; give at least 2, better hundreds."
                )
            held.tasks[name] = rows[::9]
            train.tasks[name] = [row for i, row in enumerate(rows) if i % 9]
        return train, held

    def batch(
        self, task: str, count: int, rng: np.random.Generator, size: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [n, 3, s, s], mask [n, s, s], y [n, 3, s, s]."""
        rows = self.tasks[task]
        parts = [_window(rows[rng.integers(len(rows))], rng, size) for _ in range(count)]
        x, mask, y = (torch.from_numpy(np.stack(column)) for column in zip(*parts, strict=True))
        return x.permute(0, 3, 1, 2).contiguous(), mask, y.permute(0, 3, 1, 2).contiguous()


def _partners(folder: Path) -> list[tuple[Path, Path | None, Path]]:
    """(x, m or None, y) paths by file stem."""
    named = {kind: {p.stem: p for p in list_pictures(folder / kind)} for kind in ("x", "y")}
    if (folder / "m").is_dir():
        named["m"] = {p.stem: p for p in list_pictures(folder / "m")}
    for files in named.values():
        for other, others in named.items():
            alone = sorted(files.keys() - others.keys())
            if alone:
                raise EditError(
                    f"{files[alone[0]]} has no partner in {folder / other}; give files of the same name."
                )
    return [(named["x"][s], named.get("m", {}).get(s), named["y"][s]) for s in sorted(named["x"])]


def _window(row: tuple[Path, Path | None, Path], rng: np.random.Generator, size: int):
    """One random window of a triplet as float32 arrays, mirrored half of the time."""
    from PIL import Image

    x, y = read_image(row[0]), read_image(row[2])
    if x.shape != y.shape:
        raise EditError(f"{row[0]} is {x.shape[1]}x{x.shape[0]} px but {row[2]} is not; make them one size.")
    if row[1] is None:
        mask = np.full(x.shape[:2], 255, np.uint8)
    else:
        with Image.open(row[1]) as opened:
            mask = np.asarray(opened.convert("L").resize((x.shape[1], x.shape[0]), Image.Resampling.NEAREST))
    scale = rng.uniform(1.0, max(1.0, min(x.shape[:2]) / size))
    side = min(round(size * scale), *x.shape[:2])
    top, left = rng.integers(x.shape[0] - side + 1), rng.integers(x.shape[1] - side + 1)
    parts = [_resized(a[top : top + side, left : left + side], size) for a in (x, mask, y)]
    parts = [p[:, ::-1] for p in parts] if rng.random() < 0.5 else parts
    x, mask, y = (np.ascontiguousarray(p, np.float32) / 255 for p in parts)
    return x, (mask > 0).astype(np.float32), y


def _resized(pixels: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    method = Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize((size, size), method))
