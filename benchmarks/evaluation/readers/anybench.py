"""AnyBench (AnyEdit-Test, Yu et al. 2024): a folder of each kind of edit with edit_result.json."""

from pathlib import Path

from ....models.errors import EditError
from ..samples import Found, Picture, Sample, checked, on_disk
from . import files

FIELDS = ("edit", "image_file", "edited_file")
VISUAL = "visual_"
LISTS = ("edit_result.json", "*.json")


def read(folder: Path, options) -> Found:
    """Kinds guided by a further picture carry it as `reference`; the run leaves them out where nothing takes it."""
    lists = _lists(folder)
    if not lists:
        raise EditError(f"{folder} is not laid out as AnyBench is: no folder in it has an edit_result.json.")
    samples = []
    for path in lists:
        rows = files.records(path, FIELDS)
        samples += [_sample(row, number, path, folder) for number, row in enumerate(rows)]
    return checked(samples, folder, "AnyBench")


def _lists(folder: Path) -> list[Path]:
    for name in LISTS:
        found = sorted(folder.rglob(name))
        if found:
            return found
    return []


def _sample(row: dict, number: int, path: Path, folder: Path) -> Sample:
    kind = files.text(row.get("edit_type")) or path.parent.name
    stem = Path(str(row["edited_file"])).stem
    visual = files.text(row.get("visual_input"))
    return Sample(
        id=f"{kind}-{number:04d}-{stem}",
        source=_below(folder, path, row["image_file"]),
        instruction=files.text(row["edit"]),
        source_caption=files.text(row.get("input")),
        target_caption=files.text(row.get("output")),
        target=_below(folder, path, row["edited_file"]),
        reference=_below(folder, path, visual) if visual else None,
        category=kind,
    )


def _below(folder: Path, path: Path, name: str) -> Picture:
    """A file by the first of the places that its name may count from: the benchmark, its parent, the list's folder."""
    places = (folder, folder.parent, path.parent, path.parent.parent)
    found = next((place / name for place in places if (place / name).is_file()), folder / name)
    return on_disk(found)
