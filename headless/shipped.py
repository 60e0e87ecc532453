"""The workflows in the box, one per task, and running one of them on somebody's photo."""

from collections.abc import Callable, Mapping
from pathlib import Path

from . import folders, progress, workflow
from .errors import EditError
from .execute import Run, Runner
from .graph import link
from .workflow import Workflow, titled

WORKFLOWS = folders.PACK / "workflows" / "api"
FILES = {  # task of `edit --task` -> its workflow
    "remove": "remove_object",
    "outpaint": "outpaint",
    "tone": "tone",
    "relight": "relight",
    "sticker": "sticker",
}
NEED_MASK = ("remove", "sticker")


def read(task: str) -> Workflow:
    """The shipped workflow of a task. EditError for an unknown task, naming those that exist."""
    if task not in FILES:
        raise EditError(f"There is no task {task!r}; choose one of {', '.join(FILES)}.")
    return workflow.read(WORKFLOWS / f"{FILES[task]}.json")


def node(prompt: Mapping, title: str, why: str) -> str:
    """The id of the node with that title; EditError that says what it would be for."""
    found = titled(prompt, title)
    if found is None:
        raise EditError(f"The workflow needs exactly one node titled {title!r}, {why}.")
    return found


def set_mask(prompt: dict, mask: str | None) -> None:
    """Names the mask's file; without one the node titled `mask` goes away, and with it what hangs on it."""
    found = titled(prompt, "mask")
    if mask is not None and found is not None:
        prompt[found]["inputs"]["image"] = mask
    elif mask is not None:
        _add_mask(prompt, mask)
    elif found is not None:
        _remove(prompt, found)


def _add_mask(prompt: dict, mask: str) -> None:
    """Wires a mask into the node that edits the picture titled `image`."""
    image = node(prompt, "image", "the photo")
    users = [n for n in prompt.values() if any(link(v) == (image, 0) for v in n["inputs"].values())]
    if len(users) != 1:
        raise EditError(
            "This workflow has no node titled 'mask', and no single node that a mask could go to."
        )
    prompt["mask"] = {
        "class_type": "LoadImageMask",
        "inputs": {"image": mask, "channel": "red"},
        "_meta": {"title": "mask"},
    }
    users[0]["inputs"]["mask"] = ["mask", 0]


def _remove(prompt: dict, node_id: str) -> None:
    """Takes a node out, and every node behind it that did nothing but turn it into a mask."""
    del prompt[node_id]
    for other_id, other in list(prompt.items()):
        names = [name for name, value in other["inputs"].items() if (link(value) or ("",))[0] == node_id]
        for name in names:
            del other["inputs"][name]
        if names and other["class_type"] in ("ImageToMask", "ImageScale", "MaskToImage"):
            _remove(prompt, other_id)


def run_to(runner: Runner, work: Workflow, output: Path, label: str, **settings) -> Run:
    """Runs a workflow up to its node titled `result` and saves that as `output`.

    More frames become output_2, output_3, and so on. settings: further fields of Folders.
    """
    result = node(work.prompt, "result", "the SaveImage whose picture is wanted")
    places = folders.Folders(output=output.parent, name=numbered(output), **settings)
    with folders.use(places), progress.shown(label):
        run = runner.run(work.prompt, extra_data=work.extra_data, partial_execution_targets=[result])
    if run.blocked:
        raise EditError(run.blocked[0])
    return run


def numbered(path: Path) -> Callable[[int], Path]:
    """Names the pictures of a batch: the path itself, then path_2, path_3, …"""
    return lambda number: path if number == 0 else path.with_name(f"{path.stem}_{number + 1}{path.suffix}")
