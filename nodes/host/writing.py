"""Writing the pictures of Save Edited Image, signed where that is wanted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ...models import masks
from ...models.errors import EditError
from ...models.image import from_host
from ...models.picture_file import JPEG, PNG, SUFFIXES, encode, is_transparent, kind_of, to_pillow
from ...models.provenance.certificate import Certificate
from ...models.provenance.story import Region, Source, Story, region, systems, upstream
from . import saving
from .sources import sources

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Request:
    """What the node was asked for. certificate: None leaves pictures unsigned.

    categories, names: class → category and display name of EditKit's nodes.
    """

    prefix: str
    kind: str
    quality: int
    certificate: Certificate | None
    source: Tensor | None
    mask: Tensor | None
    prompt: Mapping
    extra: Mapping
    node_id: str
    categories: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def save(images: Tensor, wanted: Request) -> tuple[list[dict], list[str]]:
    """Saves a batch. Returns what ComfyUI shows of each file, and sentences on what was not done as asked.

    EditError where a file cannot be written; one that cannot be signed is saved unsigned, and then that is the error.
    """
    from_host(images)  # refuses shapes that are no picture, and NaN
    host = saving.current()
    places = host.places(wanted.prefix, images.shape[2], images.shape[1])
    details = _details(images, wanted)
    metadata = ({"prompt": wanted.prompt} | dict(wanted.extra)) if saving.keeps_metadata() and wanted.prompt else {}
    shown, notes = [], []
    for number, image in enumerate(images):
        picture = to_pillow(image)
        place, kind = _placed(places, number, picture, wanted.kind, notes)
        data, left_out = encode(picture, kind, metadata, wanted.quality, host.profile)
        notes += [_does_not_fit(place.path, left_out)] if left_out else []
        _write(place.path, data, kind, wanted, details[number] if details else None)
        shown.append({"filename": place.path.name, "subfolder": place.subfolder, "type": "output"})
    for note in notes:
        saving.tell(note)
    return shown, notes


def _placed(places: saving.Places, number: int, picture: "Image.Image", kind: str, notes: list) -> tuple:
    """Where a picture goes and as what; what a JPEG would lose of it is kept in a PNG."""
    if kind == JPEG and is_transparent(picture):
        kind = PNG
        place = places(number, SUFFIXES[kind])
        if not place.decided:
            notes.append(f"{place.path.name} is a PNG, because a JPEG cannot hold its transparency.")
    else:
        place = places(number, SUFFIXES[kind])
    return place, kind_of(place.path) if place.decided else kind


def _does_not_fit(path: Path, keys: list[str]) -> str:
    return f"{path.name} carries no {' and '.join(keys)}: a JPEG has room for 64 kB; save as PNG to keep the workflow."


def _write(path: Path, data: bytes, kind: str, wanted: Request, details: tuple | None) -> None:
    write = saving.current().write
    if wanted.certificate is None:
        write(path, data)
        return
    from ...models.provenance.signing import sign

    source, changed = details
    try:
        signed = sign(data, kind, _story(path, wanted, source, changed), wanted.certificate)
    except EditError as problem:
        write(path, data)
        raise EditError(f"{str(problem).rstrip('.')}; {path.name} was saved without credentials.") from problem
    write(path, signed)


def _details(images: Tensor, wanted: Request) -> list[tuple[Source | None, Region | None]]:
    """The source and the region of each picture, for those that are signed. EditError for a batch that does not fit."""
    if wanted.certificate is None:
        return []
    from ...models.provenance.signing import readable

    found: list = [None]
    if wanted.source is not None:
        from_host(wanted.source)
        found = sources(wanted.source, wanted.prompt, wanted.node_id, readable)
    changed = _each(_regions(images, wanted.mask), images, "masks")
    return list(zip(_each(found, images, "sources"), changed, strict=True))


def _regions(images: Tensor, mask: Tensor | None) -> list[Region | None]:
    if mask is None:
        return [None]
    fitted = masks.fit(masks.checked(mask), *images.shape[1:3])
    return [region(one) for one in fitted]


def _each(found: list, images: Tensor, what: str) -> list:
    """One for each picture; a single one serves all."""
    if len(found) not in (1, len(images)):
        raise EditError(f"{len(found)} {what} do not fit {len(images)} pictures; give one, or one per picture.")
    return found * len(images) if len(found) == 1 else found


def _story(path: Path, wanted: Request, source: Source | None, changed: Region | None) -> Story:
    nodes = upstream(wanted.prompt, wanted.node_id, ("images",))
    found = systems(wanted.prompt, nodes, wanted.categories, wanted.names)
    loaded = any(wanted.prompt[n].get("class_type", "").startswith("LoadImage") for n in nodes)
    return Story(path.name, tuple(found), source, changed, loaded, saving.software())
