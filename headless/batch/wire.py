"""Chunks and reports as rows of Ray Data, on the side of the workers."""

import json
from collections.abc import Iterator

from ..errors import EditError
from .chunks import Chunk, Item, leg
from .task import Report, Task
from .worker import Worker


def kinds() -> dict:
    """The columns of a row: a chunk's name, its pictures as JSON, their bytes or nothing; or a leg's end as JSON."""
    import pyarrow as pa

    return {"name": pa.string(), "items": pa.string(), "contents": pa.list_(pa.large_binary()), "end": pa.string()}


def rows(text: str, cursor: list | None) -> Iterator[dict]:
    """The rows of a leg of a task's input. What stops the reading is the last one, as the end's `stop`."""
    task = Task.read(text)
    try:
        task.enter()
        ledger, source = task.ledger(), task.source()
        stream = source.chunks(task.block, cursor, lambda name: ledger.finished(name, task.retry))
        for chunk, end in leg(stream, task.leg):
            yield _row(None, end) if chunk is None else _row(chunk, None)
    except EditError as problem:
        yield _row(None, {"stop": str(problem)})
    except OSError as problem:
        yield _row(None, {"stop": f"Cannot read {task.input}: {problem.strerror or problem}."})


def _row(chunk: Chunk | None, end: dict | None) -> dict:
    if chunk is None:
        return {"name": "", "items": "[]", "contents": None, "end": json.dumps(end)}
    items = json.dumps([item.plain() for item in chunk.items])
    return {"name": chunk.name, "items": items, "contents": chunk.contents, "end": None}


class Desk:
    """A Worker, behind rows and reports in text."""

    def __init__(self, text: str, servers):
        """servers: a Ray actor that says which ComfyUI server is this worker's, or None to edit here."""
        task = Task.read(text)
        task.enter()
        self.worker = Worker(task, _server(servers))

    def edit(self, row: dict) -> str:
        if row["end"] is not None:
            end = json.loads(row["end"])
            return Report(end=end, stop=end.pop("stop", None)).text()
        items = [Item(**plain) for plain in json.loads(row["items"])]
        return self.worker.edit(Chunk(row["name"], items, row["contents"])).text()


def _server(servers) -> str | None:
    if servers is None:
        return None
    import ray

    return ray.get(servers.of.remote(ray.get_runtime_context().get_actor_id()))
