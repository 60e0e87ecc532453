"""All that the ledgers of a build hold, joined: its triplets, and what was rejected, by stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import ledger
from .editing import key_of
from .layout import STAGES

STATE = "state"
NAMES = {"curation": "1_curation", "instructions": "2_instructions", "edits": "3_choice", "checks": "4_checks"}


def place(out: Path, stage: str) -> Path:
    """The ledger of a stage."""
    return out / STATE / f"{NAMES[stage]}.jsonl"


def editor_place(out: Path, number: int) -> Path:
    """The ledger of an editor, from 1."""
    return out / STATE / f"3_editor_{number}.jsonl"


@dataclass(frozen=True)
class Gathered:
    """triplets: rows with all that is known; rejects: with `stage` and `reason` too; pictures: how many there were."""

    triplets: list[dict]
    rejects: list[dict]
    pictures: int


def gather(out: Path) -> Gathered:
    """Reads the ledgers. Rows of an instruction that has since been written anew are left out."""
    rows = {stage: ledger.read(place(out, stage)) for stage in STAGES}
    rejects = [{**row, "stage": "curation", "picture": key} for key, row in rows["curation"].items() if _bad(row)]
    origins = {row["digest"]: row for row in rows["curation"].values() if not _bad(row)}
    triplets: list[dict] = []
    for row in rows["instructions"].values():
        if row["digest"] not in origins:
            continue
        told = _origin(origins[row["digest"]]) | row
        if _bad(row):
            rejects.append({**told, "stage": "instructions"})
            continue
        key = key_of(row)
        chosen, checked = rows["edits"].get(key), rows["checks"].get(key)
        for stage, found in (("edits", chosen), ("checks", checked)):
            if found is not None and _bad(found):
                rejects.append({**told, "target": (chosen or {}).get("result"), **found, "stage": stage})
        if checked is not None and not _bad(checked):
            triplets.append({**told, "verdict": (chosen or {}).get("verdict"), **checked})
    return Gathered(triplets, rejects, len(rows["curation"]))


def _bad(row: Mapping) -> bool:
    return row["status"] == ledger.REJECTED


def _origin(row: Mapping) -> dict:
    """What is passed on of a curated picture: where it was found, and where it lies now."""
    names = ("caption", "aesthetic", "digest")
    return {"picture": row["key"], "source": row["picture"]} | {name: row[name] for name in names if name in row}
