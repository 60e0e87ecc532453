"""`queue`: a workflow, or one per photo of a folder, through a ComfyUI server."""

import copy
import sys
from pathlib import Path

from . import described, folders, jobs, workflow
from .errors import EditError, not_on_server
from .files import check_writable
from .queueing import Options, Queue
from .record import Record
from .remote import Remote, Unreachable
from .validate import output_nodes


def queue(file: Path, url: str, wanted: jobs.Wanted, places: folders.Folders, options: Options) -> int:
    """Does every job that is not done already, and prints its results. Returns 1 when one has failed.

    EditError when there is no server, when the workflow cannot run on it, and when results cannot be written.
    """
    if any(folder.is_dir() and places.output.resolve() == folder.resolve() for folder in wanted.batch):
        raise EditError(f"{places.output} holds the photos; give --out another folder, or results become photos.")
    remote = Remote(url)
    work = workflow.read(file)
    registry = classes(remote)
    output_nodes(copy.deepcopy(work.prompt), registry, missing=not_on_server)
    with folders.use(places):
        todo = jobs.plan(work, file.stem, wanted, registry)
    check_writable(places.output)
    with Record(places.output) as record:
        line = Queue(remote, record, options)
        line.run(todo)
    _sum_up(line, record.path)
    return 1 if line.failed else 0


def classes(remote: Remote) -> dict[str, type]:
    """Class name -> what a server says that a node class declares. EditError when there is no server."""
    return described.classes(_object_info(remote))


def _object_info(remote: Remote) -> dict:
    try:
        found = remote.get("/object_info", seconds=60)
    except Unreachable as problem:
        raise EditError(
            f"There is no ComfyUI server at {remote.address} ({problem}); start it, or give its address with --server."
        ) from problem
    if not isinstance(found, dict) or not all(isinstance(info, dict) for info in found.values()):
        raise EditError(f"What answers at {remote.address} is no ComfyUI server; check --server.")
    return found


def _sum_up(line: Queue, record: Path) -> None:
    if line.before:
        print(f"{line.before} of {line.total} were done before ({record}); --again does them anew.")
    if line.failed and line.total > 1:
        print(f"{line.failed} of {line.total} failed.", file=sys.stderr)
