"""What `queue` is asked to do, as a list of jobs: one workflow with one set of pictures each."""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from . import described, folders, photos, pictures, shipped, workflow
from .described import Picture
from .errors import EditError, named
from .workflow import Workflow

SAVING = ("SaveImage", "EditKitSaveEditedImage")
SUBFOLDER = "editkit"  # of the server's input folder
SERVERS_OWN = ("[output]", "[temp]")  # what a name ends in that means a file on the server


@dataclass(frozen=True)
class Wanted:
    """What the command line asked for, besides the workflow: settings, folders of photos, a folder of masks."""

    assignments: Sequence[str] = ()
    batch: Sequence[Path] = ()
    batch_input: str = "image"
    masks: Path | None = None


@dataclass
class Job:
    """One workflow to queue. `item` and `turn` tell it from others like it; results begin with `stem`."""

    item: str
    stem: str
    prompt: dict
    files: dict[Picture, Path]
    extra_data: dict = field(default_factory=dict)
    own: frozenset[str] = frozenset()  # the nodes that this job's photo and mask go to
    looked: dict[Picture, str] = field(default_factory=dict)  # where a picture was not found
    painted: set[Picture] = field(default_factory=set)  # those that are masks, which their nodes check themselves
    turn: int = 0
    hashes: dict[Path, str] = field(default_factory=dict)

    def key(self) -> str:
        """The same for the same workflow with the same pictures, on any server, from any folder."""
        nodes = {i: {"class_type": n.get("class_type"), "inputs": n["inputs"]} for i, n in self.prompt.items()}
        nodes = copy.deepcopy(nodes)
        for at, path in self.files.items():
            nodes[at.node]["inputs"][at.input] = f"sha256:{self.hash(path)}"
        text = json.dumps([self.item, self.turn, nodes], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def hash(self, path: Path) -> str:
        """SHA-256 of a picture's bytes; of one that cannot be read the word `unreadable`."""
        if path not in self.hashes:
            digest = hashlib.sha256()
            try:
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
                self.hashes[path] = digest.hexdigest()
            except OSError:
                self.hashes[path] = "unreadable"
        return self.hashes[path]

    def check(self, at: Picture) -> None:
        """EditError, in the words of the in-process runner, for a photo that cannot be read."""
        if at in self.painted:
            return
        try:
            pictures.check(self.files[at])
        except EditError as problem:
            raise EditError(f"{self.name_of(at.node)}: {problem}") from problem

    def sent_name(self, at: Picture) -> str:
        """A picture's file name on the server: its content's, so that the same one is sent and kept once."""
        suffix = self.files[at].suffix.lower()
        return f"{self.hash(self.files[at])[:32]}{suffix if suffix.isascii() else ''}"

    def by_own_names(self, text: str) -> str:
        """What a server says, with the pictures called as they are called here."""
        for at in self.files:
            text = text.replace(f"{SUBFOLDER}/{self.sent_name(at)}", str(self.prompt[at.node]["inputs"][at.input]))
        return text

    def explained(self, node_errors: dict, server: str) -> dict:
        """A server's complaints by our names; those of a missing picture with the places where it was looked for."""
        found = copy.deepcopy(node_errors)
        for reason in (reason for node in found.values() for reason in node.get("errors", [])):
            reason["details"] = self.by_own_names(str(reason.get("details")))
        for at, said in self.looked.items():
            for reason in found.get(at.node, {}).get("errors", []):
                if reason.get("details") == f"{at.input} - {said.partition(' (looked in')[0]}":
                    reason["details"] = f"{at.input} - {said.removesuffix(')')}, {server})"
        return found

    def title(self, node_id: str) -> str | None:
        return ((self.prompt.get(node_id) or {}).get("_meta") or {}).get("title")

    def name_of(self, node_id: str) -> str:
        return named(str(self.prompt[node_id].get("class_type")), self.title(node_id))


def plan(work: Workflow, name: str, wanted: Wanted, registry: Mapping[str, type]) -> list[Job]:
    """The jobs that a command line means, in order; `name` is the workflow's. Reads no picture yet.

    Pictures are looked for in the folders in use (folders.use). EditError for what is wrong with the request as
    a whole: an unknown name, an empty folder, a picture outside the folders that only the workflow's file names.
    """
    prompt = copy.deepcopy(work.prompt)
    said = {Picture(*workflow.assign(prompt, a, registry)) for a in wanted.assignments}
    if not wanted.batch:
        if wanted.masks is not None:
            raise EditError("--masks pairs masks with the photos of --batch; set a single one with --set mask=FILE.")
        return [_located(Job(name, _stem(prompt, name), prompt, {}, work.extra_data), said, registry)]
    at = Picture(*workflow.target(prompt, wanted.batch_input, registry))
    turns: Counter[str] = Counter()
    jobs = []
    for photo in (photo for folder in wanted.batch for photo in photos.listed(folder, wanted.masks)):
        job = Job(photo.name, photo.stem, copy.deepcopy(prompt), {}, work.extra_data, turn=turns[photo.name])
        turns[photo.name] += 1  # two folders may each have an a.jpg
        jobs.append(_of_photo(job, at, photo, said, wanted.masks, registry))
    return jobs


def _of_photo(
    job: Job, at: Picture, photo: Path, said: set[Picture], masks: Path | None, registry: Mapping[str, type]
) -> Job:
    prompt, own = job.prompt, {at}
    prompt[at.node]["inputs"][at.input] = str(photo)
    if at not in described.pictures(prompt, registry):
        kind = prompt[at.node].get("class_type")
        raise EditError(f"--batch-input must name an input for pictures, and {at.input} of {kind} is none.")
    if masks is not None:
        shipped.set_mask(prompt, str(photos.mask_for(photo, masks) if masks.is_dir() else masks))
        own.add(Picture(workflow.titled(prompt, "mask") or "mask", "image"))
    job.own = frozenset(each.node for each in own)
    _located(job, said | own, registry)
    job.files[at] = photo  # also when it has vanished since: reading it will say so
    job.looked.pop(at, None)
    return job


def _stem(prompt: dict, name: str) -> str:
    """How the results of a single job begin: as SaveImage's own prefix, else as the workflow's file."""
    saves = [n for n in prompt.values() if n.get("class_type") in SAVING]
    prefix = saves[0]["inputs"].get("filename_prefix") if len(saves) == 1 else None
    last = PurePosixPath(prefix.replace("\\", "/")).name if isinstance(prefix, str) else ""
    return last if last and "%" not in last and last != ".." else name


def _located(job: Job, said: set[Picture], registry: Mapping[str, type]) -> Job:
    """Finds the pictures of a job that are files here; others are left to the server, which may have them."""
    for at in described.pictures(job.prompt, registry):
        value = job.prompt[at.node]["inputs"][at.input]
        if described.painted(job.prompt, at, registry):
            job.painted.add(at)
        elif at not in said and _leads_out(value):
            raise EditError(_not_yours(job.prompt, at, value))
        path = _found(value, at in said, at in job.painted)
        if path is not None:
            job.files[at] = path
        elif not value.endswith(SERVERS_OWN):
            job.looked[at] = folders.not_found(value)
    return job


def _found(value: str, said: bool, painted: bool) -> Path | None:
    """The file that a picture's name means, if it is one here and may be sent."""
    if value.endswith(SERVERS_OWN):
        return None
    path = folders.find_picture(value)
    if painted:  # its node takes none from outside, whoever names it
        places = [place.resolve() for place in (Path(), *folders.input_folders())]
        inside = path is not None and any(path.absolute().is_relative_to(place) for place in places)
        return path if inside and (said or not _leads_out(value)) and ".." not in Path(value).parts else None
    if path is None and said and _leads_out(value):
        return Path(value)  # reading it says what is wrong; on the server that name would mean another place
    return path


def _leads_out(name: str) -> bool:
    """Whether a picture's name leads out of the folder that it is looked for in, on whichever system."""
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or name.startswith(("/", "\\", "~")) or bool(PureWindowsPath(name).drive)


def _not_yours(prompt: dict, at: Picture, value: str) -> str:
    """A workflow may be somebody else's: it must not choose which files leave this machine."""
    return (
        f"{named(str(prompt[at.node].get('class_type')), None)}: the workflow itself names the picture {value}, which "
        f"leads out of the folder for pictures; if you mean to send that file, say --set {at.node}.{at.input}={value}."
    )
