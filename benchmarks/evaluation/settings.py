"""What a run's folder was made with, so that another run goes on with it only when it asks the same."""

import json
from pathlib import Path

from ...headless.files import write
from ...models.errors import EditError

NAME = "run.json"
SAME = {  # what must be as it was -> how an error calls it
    "benchmark": "benchmark", "workflow_hash": "workflow", "turns": "--turns", "map": "--map", "split": "--split",
    "language": "--language",
}  # fmt: skip


def read(out: Path) -> dict:
    """The settings of a run's folder. EditError for a file that cannot be read, or holds something else."""
    path = out / NAME
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict) or not isinstance(known.get("benchmark"), str):
            raise ValueError("it is no record of a run")
    except (OSError, ValueError, RecursionError) as problem:
        raise EditError(f"{path} cannot be read ({problem}); put back a copy of it, or choose another --out.") from None
    return {"workflow": "", "set": [], "engines": {}} | known


def opened(out: Path, wanted: dict) -> dict:
    """The settings of the folder, which are the wanted ones. EditError when it holds results of others."""
    if not (out / NAME).is_file():
        return wanted
    known = read(out)
    for name, called in SAME.items():
        if known.get(name) != wanted[name]:
            was = f" ({known.get(name)})" if name not in ("workflow_hash", "map") else ""
            raise EditError(f"{out} holds results of another {called}{was}; choose another --out.")
    return wanted | {"engines": known["engines"]}


def check_engines(out: Path, settings: dict, loaded: dict[str, str]) -> dict:
    """The settings with the models that measure now. EditError when rows were measured by another one."""
    for name, identity in loaded.items():
        known = settings.get("engines", {}).get(name, identity)
        if known != identity:
            raise EditError(f"{out} was measured with {known} and not with {identity}; choose another --out.")
    return settings | {"engines": settings.get("engines", {}) | loaded}


def save(out: Path, settings: dict) -> None:
    write(out / NAME, lambda file: file.write(json.dumps(settings, indent=1).encode()))
