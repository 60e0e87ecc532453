"""Reads, edits and keeps books on Ray Data: one task streams chunks to a pool of actors, whose reports are added up.

A million pictures pass in legs of a few thousand chunks, since Ray Data notes something about every block that it has
moved for as long as a pipeline runs; so what this process needs does not depend on how many there are.
"""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import EditError
from ..folders import PACK
from . import cluster, shipping
from .chunks import Folder, Total
from .progress import Progress, in_place
from .task import Report, Task

QUEUED = 1 << 20  # bytes of chunks that wait between reading and editing, and more for every worker:
AHEAD, ITEM = 4, 256  # so many chunks, of that many bytes per picture
CONTENTS = 256 << 20  # and this, where chunks hold the pictures themselves
LEG = 5000  # chunks, or a hundredth of it for every worker where that is more
READER = 0.01  # of a CPU: it waits most of the time


@dataclass(frozen=True)
class Resources:
    """What the pool is to have; None for what the cluster suggests."""

    workers: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    servers: tuple[str, ...] = ()


def run(task: Task, wanted: Resources, address: str | None) -> Progress:
    """Edits all pictures of a task's input that have no result yet. Returns the sums.

    EditError, in one sentence, for what stops the whole; then what is finished stays, and another run goes on there.
    """
    task.ledger().begin()
    held = 0 if isinstance(task.source(), Folder) else CONTENTS
    with cluster.connected(address, wanted, held) as ray:
        pool = cluster.fitted(ray, wanted, local=address is None)
        leg = max(LEG, LEG * pool.workers // 100)
        task = replace(task, threads=max(1, math.floor(pool.cpus)), leg=leg)
        progress, cursor = Progress(pool.workers), None
        in_place("Waiting for the first pictures …")
        try:
            while True:
                cursor = _leg(ray, task, pool, held, cursor, progress)
                if cursor is None:
                    break
        finally:
            progress.close()
    task.ledger().sweep()
    return progress


def _leg(ray, task: Task, pool: Resources, held: int, cursor: list | None, progress: Progress) -> list | None:
    """Runs a leg from a cursor on. Returns where the next one begins, or None after the last."""
    met, end = Total(), None
    for report in _reports(ray, task, pool, held, cursor):
        if report.stop:
            raise EditError(report.stop)
        if report.end is not None:
            end = report.end
            continue
        met.add(report.name, report.edited + report.found + report.failed)
        progress.add(report)
    if end is None or met.plain() != end["total"]:
        raise EditError(f"{task.input} changed while it was read; run again, what is finished stays.")
    return end["cursor"]


def _reports(ray, task: Task, pool: Resources, held: int, cursor: list | None) -> Iterator[Report]:
    """A leg's reports as they come, and its end as the last report of all but by chance in any place."""
    from ray.data import ActorPoolStrategy

    _configure(QUEUED + pool.workers * (AHEAD * ITEM * task.block + held))
    place = {"folder": str(PACK), "name": __package__.partition(".")[0], "task": task.text()}
    servers = cluster.servers(ray, pool.servers)
    pictures = ray.data.from_items([{"cursor": json.dumps(cursor)}]).map_batches(
        shipping.read, fn_kwargs=place, batch_size=None, batch_format="pyarrow", num_cpus=READER
    )
    reports = pictures.map_batches(
        shipping.Edit,
        fn_constructor_kwargs={**place, "servers": servers},
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=pool.workers, max_tasks_in_flight_per_actor=2),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )  # Ray Data starts a dead actor again, and gives it what it had, without end
    try:
        for batch in reports.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from (Report.read(text) for text in batch.column("report").to_pylist())
    except ray.exceptions.RayError as problem:
        raise EditError(f"Ray stopped: {cluster.first_line(problem)}") from problem


def _configure(most: int) -> None:
    """A block per chunk, and no more of them waiting than `most` bytes: Ray Data stops the reading by that."""
    from ray.data import DataContext, ExecutionResources

    context = DataContext.get_current()
    context.target_max_block_size = 1
    context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=most)
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
