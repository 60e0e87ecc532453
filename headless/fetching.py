"""The results of a queued workflow: which files a history entry names, what they are called here, fetching them."""

import itertools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import EditError
from .files import write
from .jobs import Job
from .record import Record
from .remote import Remote

NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]+')
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


class Result(NamedTuple):
    """A file that a node has saved on the server: `key` is the list of its ui that it stands in, `number` its place."""

    node: str
    key: str
    number: int
    stored: dict


def results(outputs: Mapping, prompt: Mapping) -> list[Result]:
    """Every file of a history entry's outputs (images, a_images, …), each once, in the workflow's order."""
    order = [*(i for i in prompt if i in outputs), *sorted(i for i in outputs if i not in prompt)]
    found: list[Result] = []
    for node in order:
        for key, items in (outputs[node] or {}).items():
            for number, stored in enumerate(items if isinstance(items, list) else []):
                is_file = isinstance(stored, dict) and isinstance(stored.get("filename"), str)
                if is_file and stored not in [r.stored for r in found if r.node == node]:
                    found.append(Result(node, key, number, stored))
    return found


def texts(outputs: Mapping, prompt: Mapping) -> list[str]:
    """What the workflow's nodes showed as text."""
    return [str(t) for i in prompt for t in (outputs.get(i) or {}).get("text", []) or []]


def names(found: list[Result], job: Job, key: str, record: Record) -> list[str]:
    """A file name in the record's folder for each result: the same ones whenever it is asked for the same job.

    The workflow's main result is called like the photo, others add their node's title. No name is another job's,
    nor that of a file which was there before.
    """
    suffixes = [_suffix(r) for r in found]
    before = [file["name"] for file in record.get(key).get("files", [])]
    if [Path(name).suffix for name in before] == suffixes:
        return before
    main, chosen = _main(found, job), []
    for result, suffix in zip(found, suffixes):
        wish = _wish(result, job, main)
        for name in itertools.chain([f"{wish}{suffix}"], (f"{wish}_{n}{suffix}" for n in itertools.count(2))):
            if name.casefold() not in map(str.casefold, chosen) and _free(name, before, key, record):
                chosen.append(name)
                break
    return chosen


def _suffix(result: Result) -> str:
    """A name from elsewhere gives a suffix at most."""
    found = Path(result.stored["filename"]).suffix
    return found if SUFFIX.fullmatch(found) else ".bin"


def _main(found: list[Result], job: Job) -> str | None:
    titled = [r.node for r in found if job.title(r.node) == "result"]
    saved = [r.node for r in found if r.stored.get("type") == "output"]
    return next(iter([*titled, *saved, *(r.node for r in found)]), None)


def _wish(result: Result, job: Job, main: str | None) -> str:
    parts = []
    if result.node != main:
        parts.append(job.title(result.node) or str(job.prompt.get(result.node, {}).get("class_type", "node")))
    parts.append(result.key.removesuffix("images"))
    parts.append(str(result.number + 1) if result.number else "")
    plain = [re.sub(r"[^\w-]+", "_", part).strip("_")[:40] for part in parts]
    return "_".join([NOT_IN_NAMES.sub("_", job.stem), *filter(None, plain)])


def _free(name: str, before: list[str], key: str, record: Record) -> bool:
    """Whether a name is nobody else's: this job's own from last time may be there, another file may not."""
    return not record.claimed(name, key) and (name in before or not (record.path.parent / name).exists())


def complete(state: Mapping, folder: Path) -> bool:
    """Whether every result that a job's record names is there, in its full length."""
    return all(_size(folder / file["name"]) == file.get("size") for file in state.get("files", []))


def fetch(remote: Remote, result: Result, path: Path, patiently: Callable) -> dict:
    """Downloads one result, and returns what the record keeps of it. The file is whole or not there."""
    patiently(write, path, lambda file: remote.download(result.stored, file))
    return {"name": path.name, "size": _size(path)}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def failure_without_words() -> EditError:
    """For a history entry of an error that names none."""
    return EditError("The server failed without saying why; its log may.")
