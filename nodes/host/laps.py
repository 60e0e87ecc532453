"""What each system of a race takes: its seconds and its memory, measured between asking for its picture and having it.

A node with lazy inputs is asked which of them it needs (`check_lazy_status`); asking for one at a time has each one's
subgraph run alone, between two questions. What is measured on the way is kept for the graph that is being run (weakly:
ComfyUI and the headless runner make a new graph object for every run), never on a class or a node.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ...models.race.entries import Lap
from .devices import load_device

_running: WeakKeyDictionary = WeakKeyDictionary()
_made = WeakTensorKeyDictionary()  # picture -> what it took; a cached one comes again as the same tensor


def watch(graph, node_id: str) -> "Stopwatch":
    """The stopwatch of a node for as long as this graph is run. graph: the hidden input DYNPROMPT."""
    return _running.setdefault(graph, {}).setdefault(node_id, Stopwatch(node_id))


@dataclass
class Stopwatch:
    """Asks for a node's lazy inputs one by one. Holds nothing of the graph, which it would keep alive."""

    node_id: str
    laps: dict[str, Lap] = field(default_factory=dict)
    _asked: str | None = None
    _start: "Start | None" = None

    def next(self, graph, inputs: Mapping[str, object]) -> list[str]:
        """What `check_lazy_status` answers. inputs: the wired lazy inputs in order; None for one that is not there."""
        if self._asked is not None:
            if inputs[self._asked] is None:  # asked again before it came, as for each item of a list
                return [self._asked]
            self.laps[self._asked] = _lap(self._start, graph, self.node_id, self._asked)
            self._asked = None
        for name, value in inputs.items():
            if value is None:
                self._asked, self._start = name, Start.now(graph)
                return [name]
        return []

    def lap(self, name: str, image: torch.Tensor) -> Lap:
        """What a picture took: now, or in an earlier run that made the same tensor; else unknown."""
        if name in self.laps:
            _made[image] = self.laps[name]
            return self.laps[name]
        known = _made.get(image)
        if known is None:
            return Lap(note="was there already, so not timed")
        return replace(known, note="; ".join(filter(None, (known.note, "timed in an earlier run"))))


@dataclass(frozen=True)
class Start:
    """When an input was asked for, which nodes had run by then, and the most memory that the process had held."""

    seconds: float
    ran: frozenset[str] | None
    peak: int | None

    @classmethod
    def now(cls, graph) -> "Start":
        device = load_device()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        return cls(time.perf_counter(), finished(graph), process_peak())


def _lap(start: Start, graph, node_id: str, name: str) -> Lap:
    device, memory = load_device(), process_peak()
    on_gpu, at_most = device.type == "cuda", memory == start.peak
    if on_gpu:
        torch.cuda.synchronize(device)
        memory, at_most = torch.cuda.max_memory_allocated(device), False
    seconds = time.perf_counter() - start.seconds
    bound, note = _bound(start, graph, node_id, name)
    return Lap(seconds, bound, memory, on_gpu, at_most, note)


def _bound(start: Start, graph, node_id: str, name: str) -> tuple[str, str]:
    """How the time relates to that of the input's own nodes, and why."""
    after = finished(graph)
    if start.ran is None or after is None:
        return "~", "what else ran meanwhile is not known"
    wired = _sources(graph, node_id)
    own = _upstream(graph, wired[name])
    others = set().union(*(_upstream(graph, source) for key, source in wired.items() if key != name))
    ran = {graph.get_real_node_id(node) for node in after - start.ran} - {node_id}
    lacking, foreign = len(own - others - ran), len(ran - (own - others))
    notes = [f"{lacking} of its nodes had run before"] if lacking else []
    notes += [f"with {foreign} node{'s' * (foreign > 1)} that others need"] if foreign else []
    return {(0, 0): "", (1, 0): ">=", (0, 1): "<="}.get((bool(lacking), bool(foreign)), "~"), ", ".join(notes)


def _sources(graph, node_id: str) -> dict[str, str]:
    """Input name -> id of the node that feeds it."""
    inputs = graph.get_node(node_id)["inputs"].items()
    return {name: value[0] for name, value in inputs if _is_link(value)}


def _is_link(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and not isinstance(value[1], str)


def _upstream(graph, node_id: str) -> set[str]:
    """A node and everything before it."""
    return set(_walk(graph, node_id))


def _walk(graph, node_id: str) -> Iterator[str]:
    """A node and everything before it, the nearest first."""
    seen, queue = {node_id}, [node_id]
    for current in queue:
        yield current
        fresh = [source for source in _sources(graph, current).values() if source not in seen]
        seen.update(fresh)
        queue.extend(dict.fromkeys(fresh))


def names(graph, node_id: str, wired: list[str]) -> list[str]:
    """What to call each input: the title of the nearest node of the pack before it, else of its source."""
    sources, found = _sources(graph, node_id), []
    for name in wired:
        nodes = [graph.get_node(node) for node in _walk(graph, sources[name])] if name in sources else []
        own = [node for node in nodes if node["class_type"].startswith("EditKit")]
        found.append(_title((own or nodes)[0]) if nodes else name)
    counted = [f"{title} ({found[: place + 1].count(title)})" for place, title in enumerate(found)]
    return [many if found.count(title) > 1 else title for title, many in zip(found, counted, strict=True)]


def _title(node: Mapping) -> str:
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    return str(title or node["class_type"].removeprefix("EditKit"))


def finished(graph) -> frozenset[str] | None:
    """The ids of the nodes that have run so far in this run; None where the host does not tell."""
    if hasattr(graph, "executed"):  # the headless runner's
        return frozenset(graph.executed)
    if "comfy_execution.progress" not in sys.modules:
        return None
    from comfy_execution.progress import get_progress_state

    states = getattr(get_progress_state(), "nodes", None)
    if states is None:
        return None
    return frozenset(node for node, state in states.items() if state["state"].value == "finished")


def process_peak() -> int | None:
    """The most bytes that this process ever held; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = [line.split() for line in status.read_text(encoding="ascii").splitlines()]
        return next((int(line[1]) * 1024 for line in lines if line and line[0] == "VmHWM:"), None)
    try:
        import resource
    except ImportError:  # Windows
        return _windows_peak()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _windows_peak() -> int | None:
    try:
        import psutil
    except ImportError:  # ComfyUI has it, the pack does not ask for it
        return None
    return getattr(psutil.Process().memory_info(), "peak_wset", None)
