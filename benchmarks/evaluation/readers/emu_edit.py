"""Emu Edit's test set (Sheynin et al. 2023): parquet files, or metadata.jsonl beside pictures."""

from pathlib import Path

from ....models.errors import EditError
from ..samples import Found, Sample, checked
from . import files

FIELDS = ("instruction", "input_caption", "output_caption", "task", "idx")
SPLITS = ("validation", "test")
PLACEHOLDER = "a train station in city"


def read(folder: Path, options) -> Found:
    """The split that options name, or the only one there. Samples with captions that cannot be right are left out.

    `edited_image`, of the published generations of Emu Edit, becomes the target where it is there.
    """
    paths = files.tables_below(folder, (".parquet",)) or files.tables_below(folder, (".jsonl",))
    if not paths:
        raise EditError(f"{folder} is not laid out as Emu Edit's test set is: there is no parquet file and no .jsonl.")
    rows = files.rows_of(paths, FIELDS)
    rows = [row for row in rows if not options.split or _split(row) in (options.split, "")]
    splits = sorted({_split(row) for row in rows} - {""})
    if len(splits) > 1:
        raise EditError(f"{folder} holds the splits {' and '.join(splits)}; choose one with --split.")
    kept = rows if options.keep_flawed else [row for row in rows if not flawed(row)]
    notes = []
    if len(kept) < len(rows):
        notes = [f"{len(rows) - len(kept)} of {len(rows)} samples have a placeholder or two equal captions and are "
                 "left out, as ICEdit does (B.4.2); --keep-flawed keeps them."]  # fmt: skip
    return checked([_sample(row) for row in kept], folder, "Emu Edit's test set", notes)


def flawed(row: dict) -> bool:
    """Whether a sample's captions cannot be right: a placeholder, or the same before and after."""
    before, after = (files.text(row[name]).strip(" .").lower() for name in ("input_caption", "output_caption"))
    return before == after or PLACEHOLDER in (before, after)


def _split(row: dict) -> str:
    """Of a row, or else of its file's name."""
    named = str(row.get("split") or row["_file"])
    return next((split for split in SPLITS if named.startswith(split)), "")


def _sample(row: dict) -> Sample:
    name = f"{row['task']}-{row['idx']}"
    image = row.get("image", row.get("file_name"))
    source = files.picture(image, row["_folder"], f"image of {name}")
    if source is None:
        raise EditError(f"The sample {name} of Emu Edit's test set has no image and no file_name.")
    return Sample(
        id=name,
        source=source,
        instruction=files.text(row["instruction"]),
        source_caption=files.text(row["input_caption"]),
        target_caption=files.text(row["output_caption"]),
        target=files.picture(row.get("edited_image"), row["_folder"], f"edited_image of {name}"),
        category=files.text(row["task"]),
    )
