"""`python . verify`: is this bundle whole, and does it make on this machine what torch made when it was exported?"""

from pathlib import Path

from . import accuracy, golden, manifest
from .packages import litert
from .runtime import BundleModel, open_interpreter


def verify(folder: Path | str) -> list[dict]:
    """Checks schema, then sizes and hashes, then tensors, then the golden edits end to end.

    Returns rows {"what", "kind", "db", "needed"}. EditError naming the file that is damaged or what falls short; no
    file but the manifest is opened before its hash was checked.
    """
    folder = Path(folder)
    found = manifest.read(folder)
    manifest.check_files(folder, found)
    litert()
    for entry in found.data["files"]:
        _check_tensors(folder, entry)
    bundle, cases = BundleModel(folder, found), golden.read(folder, found)
    kinds = {entry["name"]: entry["quantisation"] for entry in found.data["files"]}
    components = {name: (kind, accuracy.of_component(bundle, name, cases)) for name, kind in kinds.items()}
    edits = accuracy.of_edits(bundle, cases)
    accuracy.check(found.data["quantisation"], components, edits)
    rows = [
        {"what": name, "kind": kind, "db": db, "needed": accuracy.COMPONENT[kind]}
        for name, (kind, db) in components.items()
    ]
    for task, row in edits.items():
        needed = accuracy.EDIT[found.data["quantisation"]]
        rows.append({"what": f"edit {task}", "kind": "whole", "db": row["whole"], "needed": needed})
        rows.append({"what": f"edit {task}", "kind": "in the mask", "db": row["hole"], "needed": needed})
    return rows


def _check_tensors(folder: Path, entry: dict) -> None:
    """EditError when a file's signatures, names or shapes are not the manifest's."""
    from ..errors import EditError

    interpreter = open_interpreter(folder / entry["path"], 1)
    keys = interpreter.get_signature_list()
    for signature in entry["signatures"]:
        if signature["key"] not in keys:
            raise EditError(
                f"{entry['path']} has no signature {signature['key']!r}; export the bundle again."
            )
        runner = interpreter.get_signature_runner(signature["key"])
        for side, details in (
            ("inputs", runner.get_input_details()),
            ("outputs", runner.get_output_details()),
        ):
            wanted = {t["name"]: t["shape"] for t in signature[side]}
            have = {name: [int(n) for n in d["shape"]] for name, d in details.items()}
            if wanted != have:
                raise EditError(
                    f"{entry['path']} does not have the {side} that the manifest names ({have}); export it again."
                )


def lines(rows: list[dict]) -> list[str]:
    """The printed table."""
    return [
        f"{row['what']:16} {row['kind']:14} {row['db']:8.1f} dB   needed {row['needed']:g}" for row in rows
    ]
