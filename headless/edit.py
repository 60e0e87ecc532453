"""`edit`: one task on one photo or on a folder of them."""

import copy
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import pictures, shipped, workflow
from .credentials import SIGNED, choose, sign_results
from .errors import EditError
from .execute import Runner
from .files import check_writable
from .graph import InputSpec, input_spec, link
from .photos import listed, mask_for
from .workflow import Workflow, titled


@dataclass(frozen=True)
class Options:
    """What the command line said about the edit; None leaves the workflow's own value."""

    task: str
    to: str | None = None
    shadow: bool = True
    strength: float | None = None
    seed: int | None = None
    engine: str | None = None
    c2pa: bool = False

    def settings(self) -> dict:
        """Input name -> value, of those that were given."""
        given = {"strength": self.strength, "seed": self.seed, "shadow": None if self.shadow else False,
                 "engine": self.engine}  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


FLAGS = {"strength": "--strength", "seed": "--seed", "shadow": "--no-shadow", "engine": "--engine"}
RATIO = re.compile(r"\s*(\d+(?:\.\d+)?)\s*:\s*(\d+(?:\.\d+)?)\s*")
SIZE = re.compile(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*")


@dataclass(frozen=True)
class Job:
    """One photo, its mask if it has one, and where the result goes."""

    photo: Path
    mask: Path | None
    output: Path


def edit(
    source: Path, masks: Path | None, output: Path, options: Options, registry: Mapping[str, type]
) -> int:
    """Edits a photo or every photo of a folder; one that cannot be edited is reported and the rest goes on.

    Returns 0, or 1 when a file failed. EditError for what is wrong with the request as a whole.
    """
    work = prepare(options, registry)
    if (
        masks is not None
        and not titled(work.prompt, "mask")
        and not _declaring(work.prompt, "mask", registry)
    ):
        raise EditError(f"The task {options.task} takes no mask; leave --mask out.")
    jobs = (
        _folder_jobs(source, masks, output)
        if source.is_dir()
        else [_single_job(source, masks, output, options)]
    )
    check_writable(jobs[0].output.parent)
    runner, failed = Runner(registry), 0
    for number, job in enumerate(jobs, 1):
        start = time.perf_counter()
        label = f"[{number}/{len(jobs)}] {job.photo.name}" if len(jobs) > 1 else job.photo.name
        try:
            _edit_one(runner, work, job, options, registry, label)
        except EditError as problem:
            if len(jobs) == 1:
                raise
            failed += 1
            print(f"{label}: {problem}", file=sys.stderr, flush=True)
        else:
            print(f"{label} -> {job.output} ({time.perf_counter() - start:.1f} s)", flush=True)
    if failed:
        print(f"{failed} of {len(jobs)} photos could not be edited.", file=sys.stderr)
    return 1 if failed else 0


def prepare(options: Options, registry: Mapping[str, type]) -> Workflow:
    """The shipped workflow of the task with these settings; EditError for one that the task does not have."""
    work = copy.deepcopy(shipped.read(options.task))
    for name, value in options.settings().items():
        nodes = _declaring(work.prompt, name, registry)
        if not nodes and (name, value) != ("engine", "auto"):  # there is nothing to choose from
            raise EditError(f"The task {options.task} has no {name}; leave {FLAGS[name]} out.")
        for node in nodes:
            node["inputs"][name] = value
    if options.to is not None and options.task != "outpaint":
        raise EditError(
            f"The task {options.task} does not change the picture's shape; --to belongs to outpaint."
        )
    if options.c2pa:
        choose()  # without the library or a certificate nothing is edited
    return work


def _declaring(prompt: Mapping, name: str, registry: Mapping[str, type]) -> list[dict]:
    """The nodes of the workflow whose class has an input of that name."""
    return [n for n in prompt.values() if _spec(n, name, registry).category in ("required", "optional")]


def _spec(node: Mapping, name: str, registry: Mapping[str, type]) -> InputSpec:
    kind = registry.get(node["class_type"])
    return input_spec(kind.INPUT_TYPES() if kind else {}, name)


def _edit_one(
    runner: Runner, work: Workflow, job: Job, options: Options, registry: Mapping[str, type], label: str
) -> None:
    if not job.photo.is_file():
        raise EditError(f"There is no photo {job.photo}.")
    if job.mask is None and options.task in shipped.NEED_MASK:
        raise EditError(
            f"The task {options.task} needs a mask: add --mask FILE, white where the photo is to change."
        )
    if job.mask is not None and not job.mask.is_file():
        raise EditError(f"There is no mask {job.mask}.")
    if job.output.exists() and any(
        p.exists() and job.output.samefile(p) for p in (job.photo, job.mask or job.photo)
    ):
        raise EditError(f"The result would overwrite {job.output}, which is an input; choose another -o.")
    prompt = copy.deepcopy(work.prompt)
    prompt[shipped.node(prompt, "image", "the photo")]["inputs"]["image"] = str(job.photo)
    shipped.set_mask(prompt, None if job.mask is None else str(job.mask))
    if options.to is not None:
        _set_shape(prompt, options.to, job.photo, registry)
    if options.c2pa:
        sign_results(prompt, registry)
    icc = pictures.profile(job.photo)
    shipped.run_to(runner, workflow.Workflow(prompt, work.extra_data), job.output, label, profile=icc)


def _set_shape(prompt: dict, to: str, photo: Path, registry: Mapping[str, type]) -> None:
    """Puts an aspect ratio or a size into the outpainting node, by whichever inputs it has for that."""
    width, height = pictures.size(photo)
    sides = margins(to, width, height)
    aspect = [n for n in _declaring(prompt, "aspect", registry) if link(n["inputs"].get("aspect")) is None]
    by_sides = [n for n in _declaring(prompt, "left", registry) if _spec(n, "right", registry).category]
    if RATIO.fullmatch(to) and aspect:
        aspect[0]["inputs"]["aspect"] = _choice(aspect[0], to, registry)
        by_sides = []
    elif by_sides:
        if "aspect" in by_sides[0]["inputs"]:
            by_sides[0]["inputs"]["aspect"] = _choice(by_sides[0], "none", registry)
        by_sides[0]["inputs"] |= sides
    else:
        raise EditError(f"The outpaint workflow has no inputs that --to {to} could set.")


def _choice(node: dict, text: str, registry: Mapping[str, type]) -> str:
    kind = _spec(node, "aspect", registry).type
    if not isinstance(kind, list) or text in kind:
        return text
    custom = [c for c in kind if c.lower() in ("none", "custom", "margins", "off", "by margins")]
    if text == "none" and custom:
        return custom[0]
    raise EditError(
        f"--to {text} is not one of the aspect ratios {', '.join(kind)}; give a size, such as 1920x1080."
    )


def margins(to: str, width: int, height: int) -> dict[str, int]:
    """Pixels to add around a photo in the middle, for `16:9` (the smallest canvas) or a size `1920x1080`.

    EditError for anything else, and for a size that is smaller than the photo.
    """
    ratio, size = RATIO.fullmatch(to), SIZE.fullmatch(to)
    if ratio and float(ratio[1]) > 0 and float(ratio[2]) > 0:
        aspect = float(ratio[1]) / float(ratio[2])
        new_width, new_height = max(width, round(height * aspect)), max(height, round(width / aspect))
    elif size:
        new_width, new_height = int(size[1]), int(size[2])
    else:
        raise EditError(f"--to {to} is neither an aspect ratio such as 16:9 nor a size such as 1920x1080.")
    x, y = new_width - width, new_height - height
    if x < 0 or y < 0:
        raise EditError(
            f"--to {to} is smaller than the photo ({width}x{height}); outpainting only adds to it."
        )
    return {"left": x // 2, "top": y // 2, "right": x - x // 2, "bottom": y - y // 2}


def _single_job(photo: Path, mask: Path | None, output: Path, options: Options) -> Job:
    if mask is not None and mask.is_dir():
        mask = mask_for(photo, mask)
    if output.is_dir() or not output.suffix:
        output = output / f"{photo.stem}_{options.task}.png"
    pictures.check_suffix(output)
    if options.c2pa and output.suffix.lower() not in SIGNED:
        raise EditError(f"--c2pa signs PNG and JPEG, not {output.name}; end it in .png or .jpg.")
    return Job(photo, mask, output)


def _folder_jobs(folder: Path, masks: Path | None, output: Path) -> list[Job]:
    if output.is_file() or output.suffix.lower() in pictures.SUFFIXES:
        raise EditError(f"{folder} is a folder, so -o must name a folder too, not {output}.")
    photos = listed(folder, masks)
    stems = [p.stem.lower() for p in photos]
    return [
        Job(
            photo,
            mask_for(photo, masks) if masks is not None and masks.is_dir() else masks,
            output / (f"{photo.stem}.png" if stems.count(photo.stem.lower()) == 1 else f"{photo.name}.png"),
        )
        for photo in photos
    ]
