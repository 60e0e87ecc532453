"""KontextBench (Black Forest Labs 2025): test/metadata.jsonl beside its pictures, 1,026 edits in five categories."""

from pathlib import Path

from ....models.errors import EditError
from ..samples import Found, Sample, checked
from . import files

FIELDS = ("instruction", "category", "key")


def read(folder: Path, options) -> Found:
    """Also parquet files of the same columns, with the picture in `image` or `file_name`."""
    paths = files.tables_below(folder, (".jsonl",), ("metadata.jsonl",)) or files.tables_below(folder, (".parquet",))
    if not paths:
        raise EditError(f"{folder} is not laid out as KontextBench is: there is no metadata.jsonl and no parquet file.")
    return checked([_sample(row) for row in files.rows_of(paths, FIELDS)], folder, "KontextBench")


def _sample(row: dict) -> Sample:
    key = str(row["key"])
    cell = row.get("file_name", row.get("image"))
    source = files.picture(cell, row["_folder"], f"image of {key}")
    if source is None:
        raise EditError(f"The sample {key} of KontextBench has no file_name and no image.")
    return Sample(id=key, source=source, instruction=files.text(row["instruction"]), category=str(row["category"]))
