"""Folders of prepared examples: an index, and a file of latents and encoded texts for each example.

OUT/index.jsonl           a line for each example: its file, the sizes of its latents, what else a system notes
OUT/<number>.safetensors  its tensors
OUT/empty.safetensors     states and pooled of the empty prompt
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..models import files
from ..models.errors import EditError

INDEX, EMPTY, CARD = "index.jsonl", "empty.safetensors", "prepared.json"
TEXTS = ("states", "pooled")
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def write(out: Path, rows: Sequence[tuple[dict, Callable[[], dict[str, Tensor]]]]) -> int:
    """Every row's file, and then the index; (what the index says of it, what makes its tensors). Returns how many."""
    from tqdm import tqdm

    lines = []
    for number, (said, make) in enumerate(tqdm(rows, desc="prepare", unit="example")):
        path = out / f"{number:07d}.safetensors"
        keep(path, make)
        lines.append({"file": path.name, **said, "shapes": _shapes(path)})
    files.write(out / INDEX, "".join(json.dumps(line) + "\n" for line in lines))
    return len(lines)


def keep(path: Path, make: Callable[[], dict[str, Tensor]]) -> None:
    """A file of tensors, whole or not at all, unless it is there."""
    if not path.is_file():
        files.save_tensors(path, make())


def _shapes(path: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        names = [n for n in file.keys() if n not in TEXTS]  # noqa: SIM118 - no mapping
        return {name: list(file.get_slice(name).get_shape()) for name in sorted(names)}


def check_card(out: Path, card: dict) -> None:
    """Notes how the folder is prepared. EditError when it holds what was prepared otherwise."""
    path = out / CARD
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != card:
        raise EditError(f"{out} was prepared from other tables or with other flags; name another --out.")
    path.write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def rows(root: Path, command: str) -> list[dict]:
    """The index of a folder. EditError for one without. command: what makes it."""
    if not (root / INDEX).is_file():
        raise EditError(f"{root} holds no {INDEX}; make it with `{command}`.")
    return [json.loads(line) for line in (root / INDEX).read_text(encoding="utf-8").splitlines()]


def grouped(chosen: list[dict]) -> list[list[dict]]:
    """Rows of an index, those of the same shapes together."""
    groups: dict[str, list[dict]] = {}
    for row in chosen:
        groups.setdefault(json.dumps(row["shapes"]), []).append(row)
    return list(groups.values())


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. EditError for one that is not readable."""
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own kind, which has no common base
        raise EditError(f"{path} is not readable as safetensors ({error}); prepare it again.") from None
