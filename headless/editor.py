"""A workflow as a function: one picture in, the edited one out, with the models kept in memory in between.

The workflow says by titles where they go: its node titled `image` reads the picture, the one titled `result` saves
or shows the edited one. Everything that edits many pictures drives workflows through Editor.
"""

import copy
import hashlib
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import folders, jobs, queue, workflow
from .credentials import sign_results
from .errors import EditError, needs_server, not_on_server
from .execute import Runner
from .folders import Folders
from .graph import linked_inputs
from .queueing import Options, Queue
from .record import Record
from .registry import node_classes
from .remote import Remote
from .workflow import Workflow

if TYPE_CHECKING:
    from PIL import Image

IMAGE, RESULT, SEED = "image", "result", "seed"  # titles
SEEDS = ("seed", "noise_seed")  # inputs


class Editor:
    """Runs one workflow on any number of pictures, in this process or on a ComfyUI server."""

    def __init__(
        self, file: Path, *, server: str | None = None, sets: Sequence[str] = (), places: Folders | None = None,
        c2pa: bool = False,
    ):  # fmt: skip
        """file: a workflow in API format. sets: NAME=VALUE as in `run --set`. server: a ComfyUI server's address.
        places: where pictures that the workflow itself names, such as masks, are looked for. c2pa: signs results.

        EditError for a workflow that cannot be read or cannot run here, or without exactly one node titled `image`
        and one titled `result`.
        """
        self.server, self.places = None if server is None else Remote(server), places or Folders()
        self.registry = node_classes() if self.server is None else queue.classes(self.server)
        self.work = workflow.read(Path(file))
        self.image, self.result = (_only(self.work.prompt, title, file) for title in (IMAGE, RESULT))
        self.sets = list(sets)
        for assignment in self.sets:
            workflow.assign(self.work.prompt, assignment, self.registry)
        self._check_classes()
        if c2pa:
            self._sign()
        self.workflow_hash = workflow_hash(self.work.prompt, self.image, self.result)
        self.clock = Clock({self.image, self.result})
        self._runner = Runner(self.registry, self.clock.hear)

    def edit(self, image: Path, *, sets: Mapping[str, str] | None = None) -> "Image.Image":
        """Edits one picture (any path) and returns the first one that the node titled `result` made.

        sets: NAME -> VALUE for this picture alone, on top of the workflow's own. EditError when it cannot be edited.
        """
        from PIL import Image

        with tempfile.TemporaryDirectory(prefix="editkit") as folder:
            with Image.open(self.save(image, Path(folder), sets=sets)[0]) as picture:
                picture.load()
            return picture

    def save(self, image: Path, folder: Path, *, sets: Mapping[str, str] | None = None) -> list[Path]:
        """As edit, but leaves the files as the node titled `result` wrote them, byte for byte those of `run`.

        folder: an empty one, for this picture alone. Returns the files, one per frame.
        """
        run = self._in_process if self.server is None else self._on_server
        given = [f"{name}={value}" for name, value in {IMAGE: str(image), **(sets or {})}.items()]
        began = time.perf_counter()
        saved = [p for p in run(given, folder) if p.is_file()]
        self.clock.seconds += 0.0 if self.server is None else time.perf_counter() - began
        if not saved:
            raise EditError("The node titled 'result' made no picture; title a node that saves one so.")
        return saved

    @property
    def seeds(self) -> dict[str, int]:
        """NAME -> value of the inputs that a seed goes to: of the node titled `seed`, else all that are called so."""
        titled = workflow.titled(self.work.prompt, SEED)
        nodes = {titled: self.work.prompt[titled]} if titled else self.work.prompt
        names = (*SEEDS, "value") if titled else SEEDS
        found = {f"{key}.{n}": node["inputs"].get(n) for key, node in nodes.items() for n in names}
        return {name: int(value) for name, value in found.items() if str(value).lstrip("-").isdecimal()}

    def close(self) -> None:
        """Gives the models' memory back."""
        self._runner = Runner(self.registry, self.clock.hear)

    def __enter__(self) -> "Editor":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _sign(self) -> None:
        """EditError on a server, whose certificate is its own affair, and for what keeps this machine from signing."""
        if self.server is not None:
            raise EditError(
                "--c2pa signs on this machine, and a server saves on its own; give the workflow a Save Edited Image "
                "with its credentials switched on."
            )
        sign_results(self.work.prompt, self.registry)

    def _check_classes(self) -> None:
        """EditError for a node that cannot run where this runs, before the first of a million pictures."""
        missing = needs_server if self.server is None else not_on_server
        for node in self.work.prompt.values():
            if node.get("class_type") not in self.registry:
                raise EditError(missing(str(node.get("class_type"))))

    def _in_process(self, given: Sequence[str], folder: Path) -> list[Path]:
        prompt = copy.deepcopy(self.work.prompt)
        for assignment in given:
            workflow.assign(prompt, assignment, self.registry)
        places = replace(self.places, output=folder / "output", temp=folder / "temp", name=None)
        with folders.use(places):
            run = self._runner.run(prompt, extra_data=self.work.extra_data, partial_execution_targets=[self.result])
        if run.blocked:
            raise EditError(run.blocked[0])
        shown = run.outputs.get(self.result, {}).get("images", [])
        return [getattr(places, s["type"]) / s["subfolder"] / s["filename"] for s in shown]

    def _on_server(self, given: Sequence[str], folder: Path) -> list[Path]:
        """A job in the server's queue; its pictures come into the folder, which also holds the queue's record."""
        wanted = Workflow(_upstream(self.work.prompt, self.result), self.work.extra_data)
        sets = [text for text in (*self.sets, *given) if self._node(text) in wanted.prompt]
        with folders.use(self.places):
            (job,) = jobs.plan(wanted, RESULT, jobs.Wanted(sets), self.registry)
        job.stem = RESULT
        with Record(folder) as record:
            Queue(self.server, record, Options(), silent=True).run([job])
            names = [file["name"] for file in record.get(job.key())["files"]]
        return [folder / name for name in names if re.fullmatch(rf"{RESULT}(_\d+)?", Path(name).stem)]

    def _node(self, assignment: str) -> str:
        """The node that NAME=VALUE sets, which the result need not depend on, such as another branch's seed."""
        return workflow.target(self.work.prompt, assignment.partition("=")[0].strip(), self.registry)[0]


def _upstream(prompt: Mapping, node: str) -> dict:
    """The part of a workflow that a node needs, itself included."""
    kept, todo = set(), [node]
    while todo:
        kept.add(one := todo.pop())
        sources = {each.node for each in linked_inputs(prompt[one]).values()}
        todo += [node for node in sources if node in prompt and node not in kept]
    return {key: copy.deepcopy(value) for key, value in prompt.items() if key in kept}


class Clock:
    """Adds up in `seconds` what the nodes of all runs took, but for those that read and save (`outside`); of a server
    all that it took."""

    def __init__(self, outside: set[str]):
        self.seconds, self._outside = 0.0, outside
        self._node, self._since = None, 0.0

    def hear(self, event: str, data: dict) -> None:
        """What a Runner tells: a node's time lasts until the next event."""
        now = time.perf_counter()
        if self._node is not None and self._node not in self._outside:
            self.seconds += now - self._since
        self._node, self._since = data["node"] if event == "executing" else None, now


def workflow_hash(prompt: Mapping, image: str, result: str) -> str:
    """SHA-256 of what a workflow does, in hex: its nodes without titles, without which picture stands in its node
    `image` and without how the node `result` names its files."""
    nodes = {key: {"class_type": n.get("class_type"), "inputs": dict(n["inputs"])} for key, n in prompt.items()}
    nodes[image]["inputs"].pop(workflow.MAIN_INPUTS.get(nodes[image]["class_type"], "image"), None)
    nodes[result]["inputs"].pop("filename_prefix", None)
    text = json.dumps(nodes, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _only(prompt: Mapping, title: str, file: Path) -> str:
    """The id of the one node with that title. EditError that says what the title is for."""
    ids = workflow.titles(prompt).get(title, [])
    if len(ids) == 1:
        return ids[0]
    found = f"{len(ids)} nodes" if ids else "no node"
    does = "reads the picture to edit" if title == IMAGE else "saves the edited picture"
    raise EditError(f"{file} has {found} titled {title!r}; title the one that {does} so, and no other.")
