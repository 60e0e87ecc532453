"""What Ray sends to its worker processes: functions that find the pack there, whatever its folder is called.

They travel by value, since a worker cannot import the pack before it has been told where that is; so nothing of the
pack is imported at the top of this file.
"""

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path

FOLDER = "EDITKIT_FOLDER"  # environment of a worker: where the pack is on that machine, if not where the driver has it


def pack(folder: str, name: str, module: str):
    """A module of the pack's headless/batch, on whatever machine this runs. RuntimeError when the pack is not there."""
    place = Path(os.environ.get(FOLDER) or folder)
    if not (place / "__init__.py").is_file():
        raise RuntimeError(f"{os.uname().nodename} has no EditKit in {place}; put it there, or set {FOLDER} there.")
    if name not in sys.modules:
        found = importlib.util.spec_from_file_location(
            name, place / "__init__.py", submodule_search_locations=[str(place)]
        )
        sys.modules[name] = importlib.util.module_from_spec(found)
    return importlib.import_module(f"{name}.headless.batch.{module}")


def read(table, *, folder: str, name: str, task: str):
    """A task that streams one leg of the input as tables of one row: a chunk each, and the leg's end."""
    import pyarrow as pa

    cursor = json.loads(table.column("cursor")[0].as_py())
    wire = pack(folder, name, "wire")
    for row in wire.rows(task, cursor):
        yield pa.table({key: pa.array([value], wire.kinds()[key]) for key, value in row.items()})


class Edit:
    """An actor of the pool: holds one Worker, and answers a chunk with a report."""

    def __init__(self, *, folder: str, name: str, task: str, servers):
        self.wire = self.problem = None
        try:
            self.wire = pack(folder, name, "wire").Desk(task, servers)
        except Exception as problem:  # raised here, it would be restarted without end
            self.problem = " ".join(str(problem).split())

    def __call__(self, table):
        import pyarrow as pa

        reports = [self.wire.edit(row) if self.wire else self.refusal() for row in table.to_pylist()]
        return pa.table({"report": pa.array(reports, pa.string())})

    def refusal(self) -> str:
        return json.dumps({"stop": self.problem})


class Servers:
    """Deals ComfyUI servers out to workers, evenly; a worker that is started again gets the one that it had."""

    def __init__(self, addresses: list[str]):
        self.addresses, self.given = addresses, {}

    def of(self, worker: str) -> str:
        if worker not in self.given:
            held = list(self.given.values())
            self.given[worker] = min(self.addresses, key=held.count)
        return self.given[worker]
