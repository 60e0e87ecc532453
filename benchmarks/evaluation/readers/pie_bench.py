"""PIE-Bench (Ju et al. 2023): mapping_file.json and annotation_images/, 700 pictures in ten kinds of edit."""

from pathlib import Path

from ....models.errors import EditError
from ..samples import Found, Picture, Sample, checked, on_disk
from . import files
from .masks import from_runs

FIELDS = ("image_path", "original_prompt", "editing_prompt", "editing_instruction", "editing_type_id", "mask")
SIDE = 512  # px: what the run lengths count
TYPES = {
    "0": "random", "1": "change object", "2": "add object", "3": "delete object", "4": "change content",
    "5": "change pose", "6": "change color", "7": "change material", "8": "change background", "9": "change style",
}  # fmt: skip


def read(folder: Path, options) -> Found:
    """Prompts without the square brackets that mark their difference; masks for the metrics with a border of 1 px."""
    mapping = folder / "mapping_file.json"
    if not mapping.is_file():
        raise EditError(f"{folder} is not laid out as PIE-Bench is: there is no mapping_file.json.")
    found = files.read_json(mapping)
    if not isinstance(found, dict):
        raise EditError(f"{mapping} is not PIE-Bench's: it is no object of samples by their ids.")
    samples = [_sample(key, files.having(row, FIELDS, mapping), folder) for key, row in found.items()]
    return checked(samples, folder, "PIE-Bench")


def _sample(key: str, row: dict, folder: Path) -> Sample:
    runs = row["mask"]
    source = on_disk(folder / "annotation_images" / row["image_path"])
    return Sample(
        id=key,
        source=source,
        instruction=files.text(row["editing_instruction"]),
        source_caption=_plain(row["original_prompt"]),
        target_caption=_plain(row["editing_prompt"]),
        mask=_mask(key, runs, border=False),
        scored=_mask(key, runs, border=True),
        category=TYPES.get(str(row["editing_type_id"]), str(row["editing_type_id"])),
    )


def _mask(key: str, runs: list, border: bool) -> Picture:
    name = f"the mask of {key} in mapping_file.json"
    return Picture(name, lambda: from_runs(runs, SIDE, SIDE, border), content=lambda: str(runs).encode())


def _plain(prompt: str) -> str:
    return prompt.replace("[", "").replace("]", "").strip()
