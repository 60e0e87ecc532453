"""A plain folder: a table of edits beside the pictures that it names."""

from pathlib import Path

from ....models.errors import EditError
from ..samples import Found, Sample, checked
from . import files

KINDS = (".jsonl", ".csv", ".parquet")
NAMES = {  # what a column may be called; the first is ours
    "source": ("source", "image", "source_image", "source_img", "input", "input_image", "file_name"),
    "instruction": ("instruction", "edit", "editing_instruction"),
    "source_caption": ("source_caption", "input_caption", "original_prompt", "source_prompt"),
    "target_caption": ("target_caption", "output_caption", "editing_prompt", "target_prompt"),
    "mask": ("mask", "mask_image", "mask_img"),
    "target": ("target", "target_image", "target_img", "output", "edited_image"),
    "reference": ("reference",),
    "category": ("category", "task", "edit_type"),
    "session": ("session",),
    "turn": ("turn",),
    "id": ("id", "key"),
}


def read(folder: Path, options) -> Found:
    """Each row needs a source; all else is optional. Rows of one session are edited in the order of their turns."""
    tables = [p for kind in KINDS for p in sorted(folder.glob(f"*{kind}")) if not p.name.startswith(".")]
    if len(tables) != 1:
        there = f"{len(tables)} of them" if tables else "none"
        raise EditError(
            f"{folder} needs one table (.csv, .jsonl or .parquet) of the pictures to edit, with the column source and, "
            f"as you have them, mask, instruction, target; it has {there}."
        )
    rows = [_named(row) for row in files.rows_of(tables, ())]
    lacking = next((number for number, row in enumerate(rows, 1) if row["source"] is None), None)
    if lacking is not None:
        raise EditError(f"Row {lacking} of {tables[0]} names no source; the column is called source, or image.")
    samples = [_sample(row, number) for number, row in enumerate(rows, 1)]
    return checked(_ordered(samples), folder, "edits")


def _named(row: dict) -> dict:
    found = {ours: next((row[n] for n in names if row.get(n) not in (None, "")), None) for ours, names in NAMES.items()}
    return found | {"_folder": row["_folder"]}


def _sample(row: dict, number: int) -> Sample:
    name = files.text(row["id"]) or f"{number:04d}"
    pictures = {
        kind: files.picture(row[kind], row["_folder"], f"{kind} of {name}")
        for kind in ("source", "mask", "target", "reference")
    }
    words = {kind: files.text(row[kind]) for kind in ("instruction", "source_caption", "target_caption", "category")}
    turn = files.text(row["turn"])
    if turn and not turn.lstrip("-").replace(".0", "").isdigit():
        raise EditError(f"The turn of {name} is {turn!r}; number a session's turns from 1.")
    return Sample(
        id=name, session=files.text(row["session"]), turn=int(float(turn)) if turn else 0, **pictures, **words
    )


def _ordered(samples: list[Sample]) -> list[Sample]:
    """Sessions in one piece, their turns in order and the last one marked."""
    from dataclasses import replace

    sessions: dict[str, list[Sample]] = {}
    for number, sample in enumerate(samples):
        sessions.setdefault(sample.session or f"\0{number}", []).append(sample)
    out = []
    for turns in sessions.values():
        turns = sorted(turns, key=lambda sample: sample.turn)
        out += [replace(t, turn=n if t.session else 0, final=n == len(turns)) for n, t in enumerate(turns, 1)]
    return out
