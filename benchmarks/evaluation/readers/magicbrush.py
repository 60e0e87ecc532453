"""MagicBrush (Zhang et al. 2023): the released dev and test folders, and the parquet files of its dataset page."""

from pathlib import Path

from ....models.errors import EditError
from ..samples import Found, Sample, checked, on_disk
from . import files
from .masks import holes

TURN = ("input", "mask", "output", "instruction")
ROW = ("img_id", "turn_index", "source_img", "mask_img", "instruction", "target_img")


def read(folder: Path, options) -> Found:
    """options.turns: single gives every turn its own true input, multi the result of the turn before."""
    sessions = _released(folder) if _has_json(folder) else _parquet(folder)
    multi = options.turns == "multi"
    samples = [
        _placed(sample, number, number == len(turns), multi)
        for turns in sessions for number, sample in enumerate(turns, 1)
    ]  # fmt: skip
    return checked(samples, folder, "MagicBrush")


def _placed(sample: Sample, turn: int, final: bool, multi: bool) -> Sample:
    from dataclasses import replace

    return replace(sample, session=sample.session if multi else "", turn=turn, final=final or not multi)


def _has_json(folder: Path) -> bool:
    return (folder / "edit_sessions.json").is_file() or (folder / "edit_turns.json").is_file()


def _released(folder: Path) -> list[list[Sample]]:
    """edit_sessions.json or edit_turns.json, images/ID/…, local_descriptions.json and global_descriptions.json."""
    local, whole = (_descriptions(folder / f"{kind}_descriptions.json") for kind in ("local", "global"))
    return [[_turn(row, folder, local, whole) for row in turns] for turns in _sessions(folder)]


def _sessions(folder: Path) -> list[list[dict]]:
    path = folder / "edit_sessions.json"
    if path.is_file():
        found = files.read_json(path)
        if not isinstance(found, dict) or not all(isinstance(turns, list) for turns in found.values()):
            raise EditError(f"{path} is not MagicBrush's: it is no object of sessions, each a list of turns.")
        return [[files.having(row, TURN, path) for row in turns] for turns in found.values()]
    sessions: dict[str, list[dict]] = {}
    for row in files.records(folder / "edit_turns.json", TURN):
        sessions.setdefault(_session(row), []).append(row)
    return list(sessions.values())


def _session(row: dict) -> str:
    return str(row["input"]).split("-")[0]


def _descriptions(path: Path) -> dict[str, str]:
    """File name of a picture -> its caption, of all sessions."""
    found = files.read_json(path) if path.is_file() else {}
    return {name: caption for captions in found.values() for name, caption in captions.items()}


def _turn(row: dict, folder: Path, local: dict, whole: dict) -> Sample:
    session = _session(row)
    source, mask, target = (on_disk(folder / "images" / session / row[name]) for name in ("input", "mask", "output"))
    return Sample(
        id=Path(row["output"]).stem,
        source=source,
        instruction=files.text(row["instruction"]),
        source_caption=files.text(whole.get(row["input"])),
        target_caption=files.text(local.get(row["output"])),
        mask=holes(mask, source),
        target=target,
        session=session,
    )


def _parquet(folder: Path) -> list[list[Sample]]:
    paths = files.tables_below(folder, (".parquet",))
    if not paths:
        raise EditError(
            f"{folder} is not laid out as MagicBrush is: there is no edit_sessions.json, no edit_turns.json and no "
            "parquet file."
        )
    sessions: dict[str, list[dict]] = {}
    for row in files.rows_of(paths, ROW):
        sessions.setdefault(str(row["img_id"]), []).append(row)
    return [[_row(row) for row in sorted(turns, key=lambda row: int(row["turn_index"]))] for turns in sessions.values()]


def _row(row: dict) -> Sample:
    name = f"{row['img_id']}-output{row['turn_index']}"
    source, mask, target = (
        files.picture(row[column], row["_folder"], f"{column} of {name}")
        for column in ("source_img", "mask_img", "target_img")
    )
    return Sample(
        id=name,
        source=source,
        instruction=files.text(row["instruction"]),
        mask=None if mask is None else holes(mask, source),
        target=target,
        session=str(row["img_id"]),
    )
