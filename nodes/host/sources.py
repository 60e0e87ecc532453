"""The file behind a source picture, so that an edit of an edit keeps the credentials that the file carries."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.picture_file import PNG, encode, to_pillow
from ...models.provenance.story import Source, upstream
from . import saving

LOADERS = ("LoadImage", "LoadImageOutput")  # these give a file's pixels as they are


def sources(images: Tensor, prompt: Mapping, node_id: str, readable) -> list[Source]:
    """One source per picture of [b, h, w, c]: the loaded file whose pixels are these, else the pixels as a PNG.

    readable(kind) says whether a file of that type can carry credentials.
    """
    for name in _loaded(prompt, node_id):
        found = _file(name, images, readable)
        if found is not None:
            return [found] * len(images)
    return [Source("source.png", PNG, encode(to_pillow(one), PNG, {})[0]) for one in images]


def _loaded(prompt: Mapping, node_id: str) -> list[str]:
    """The names that the loaders before the input `source` read, nearest to it last in the list of nodes first."""
    nodes = [prompt[n] for n in reversed(upstream(prompt, node_id, ("source",)))]
    names = [n["inputs"].get("image") for n in nodes if n.get("class_type") in LOADERS]
    return [name for name in dict.fromkeys(names) if isinstance(name, str)]


def _file(name: str, images: Tensor, readable) -> Source | None:
    """The file of that name if it shows exactly these pictures."""
    host = saving.current()
    path = host.find(name)
    kind = None if path is None else _kind(path, images.shape[2], images.shape[1])
    if kind is None or not readable(kind):
        return None
    try:
        pixels, data = host.load(name), path.read_bytes()
    except (OSError, EditError):  # gone since it was loaded
        return None
    shown = images[..., :3].cpu()  # in half precision where ComfyUI keeps pictures so
    same = pixels.shape == shown.shape and torch.equal(pixels.to(shown), shown)
    return Source(path.name, kind, data) if same else None


def _kind(path: Path, width: int, height: int) -> str | None:
    """The type of a picture file of this size, turned or not; None for another one."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            fits = picture.size in ((width, height), (height, width))
            return {"MPO": "image/jpeg"}.get(picture.format, picture.get_format_mimetype()) if fits else None
    except (OSError, SyntaxError, ValueError):
        return None
