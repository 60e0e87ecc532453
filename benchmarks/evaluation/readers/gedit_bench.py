"""GEdit-Bench (Liu et al. 2025): parquet files, or what `datasets` saved, with eleven kinds in two languages."""

from pathlib import Path

from ....models.errors import EditError
from ..samples import Found, Sample, checked
from . import files

FIELDS = ("task_type", "key", "instruction", "instruction_language")
INTERSECTION = "intersection"  # the mark of what all models of the benchmark's authors could answer


def read(folder: Path, options) -> Found:
    """The samples of options.language. Edits start from input_image_raw, or from input_image where that is missing."""
    paths = files.tables_below(folder, (".parquet",)) or files.tables_below(folder, (".jsonl",))
    if not paths:
        arrow = " (it holds .arrow files; save it with to_parquet)" if any(folder.rglob("*.arrow")) else ""
        raise EditError(f"{folder} is not laid out as GEdit-Bench is: there is no parquet file and no .jsonl{arrow}.")
    rows = files.rows_of(paths, FIELDS)
    wanted = [r for r in rows if options.language in ("all", str(r["instruction_language"]))]
    if not wanted:
        there = ", ".join(sorted({str(r["instruction_language"]) for r in rows}))
        raise EditError(f"{folder} holds no instruction in {options.language!r}; it has {there or 'none'}.")
    return checked([_sample(row) for row in wanted], folder, "GEdit-Bench")


def _sample(row: dict) -> Sample:
    name = f"{row['key']}-{row['instruction_language']}"
    images = (row.get(column) for column in ("input_image_raw", "input_image", "file_name"))
    cell = next((image for image in images if image is not None), None)
    source = files.picture(cell, row["_folder"], f"input_image of {name}")
    if source is None:
        raise EditError(f"The sample {name} of GEdit-Bench has no input_image_raw and no input_image.")
    both = row.get("Intersection_exist", row.get("intersection_exist"))
    return Sample(
        id=name,
        source=source,
        instruction=files.text(row["instruction"]),
        category=files.text(row["task_type"]),
        marks=(INTERSECTION,) if str(both).lower() in ("true", "1") else (),
    )
