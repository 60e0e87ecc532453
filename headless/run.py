"""`run`: one workflow from a file, with some of its inputs set by name."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import folders, progress, workflow
from .credentials import sign_results
from .errors import PromptRefused
from .execute import Run, Runner
from .files import check_writable
from .registry import node_classes


def run(file: Path, assignments: Sequence[str], places: folders.Folders, c2pa: bool = False) -> int:
    """Runs it and prints what was saved. Returns 1 when some of its outputs could not be made.

    c2pa: signs what it saves.
    """
    registry = node_classes()
    work = workflow.read(file)
    with folders.use(places), progress.shown(file.stem):
        for assignment in assignments:
            workflow.assign(work.prompt, assignment, registry)
        if c2pa:
            sign_results(work.prompt, registry)
        check_writable(places.output)
        done = Runner(registry).run(work.prompt, extra_data=work.extra_data)
    for line in shown(done, places):
        print(line)
    for problem in problems(done):
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems(done) else 0


def shown(done: Run, places: folders.Folders) -> list[str]:
    """The files that were saved, and the texts that nodes showed."""
    lines = []
    for ui in done.outputs.values():
        for image in pictures(ui):
            base = places.output if image["type"] == "output" else places.temp
            lines.append(str(base / image["subfolder"] / image["filename"]))
        lines += [str(text) for text in ui.get("text", [])]
    return lines


def pictures(ui: Mapping) -> list[dict]:
    """The files among a node's ui results, each once: `images` and keys such as Compare's `a_images`."""
    listed = [item for items in ui.values() if isinstance(items, list) for item in items]
    files = [item for item in listed if isinstance(item, dict) and {"filename", "subfolder", "type"} <= item.keys()]
    return [file for place, file in enumerate(files) if file not in files[:place]]


def problems(done: Run) -> list[str]:
    """What kept some of the outputs from being made, while others were."""
    refused = []
    if done.node_errors:
        empty = {"type": "", "message": "", "details": "", "extra_info": {}}
        refused = [str(PromptRefused(empty, done.node_errors))]
    return refused + done.blocked
