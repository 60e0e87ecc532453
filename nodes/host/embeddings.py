"""What pictures and faces are, as vectors: by a CLIP_VISION, and by local ONNX files where onnxruntime is installed."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.errors import EditError
from ...models.kontext import face as faces
from .folders import roots

NONE = "none"
PACKAGE = "Face similarity was left out: onnxruntime is not installed (pip install onnxruntime)."
MARKED = "Faces were cut out by the marks and not turned upright, so their cosines are lower than the paper's."
NO_FACE = "Face similarity was left out: no face detector was chosen and no face is marked."


def networks() -> dict[str, Path]:
    """Name -> file of every ONNX network below models/editkit and models/insightface."""
    found: dict[str, Path] = {}
    for root in [*roots(), *(root.parent / "insightface" for root in roots())]:
        for path in sorted(root.glob("**/*.onnx")) if root.is_dir() else []:
            if not path.name.startswith("."):
                found.setdefault(path.relative_to(root).as_posix(), path)
    return found


def choices() -> list[str]:
    """What a widget offers."""
    return [NONE, *networks()]


def by_clip(clip_vision: Any, pictures: list[Tensor]) -> Tensor | None:
    """Embeddings [n, d] of pictures [3, h, w], squashed to the network's square so that nothing is cut off."""
    if clip_vision is None:
        return None
    rows = []
    for picture in pictures:
        found = clip_vision.encode_image(picture.movedim(0, -1)[None], crop=False)["image_embeds"]
        if found is None:
            raise EditError("This CLIP_VISION gives no embedding of a whole picture; load a CLIP ViT with projection.")
        rows.append(found.reshape(1, -1).float().cpu())
    return torch.cat(rows)


def by_face(model: str, detector: str, pictures: list[Tensor], marks: Tensor | None):
    """(the face's embedding or None for each picture [3, h, w], notes), or (None, notes) where faces are left out.

    marks: [1 or n, h, w], white on the face, in place of the detector. EditError for a file that is gone or is none.
    """
    if model == NONE:
        return None, []
    if not faces.can_run():
        return None, [PACKAGE]
    if detector == NONE and marks is None:
        return None, [NO_FACE]
    embed, find = faces.Embedder(_file(model)), None if detector == NONE else faces.Detector(_file(detector))
    out, notes = [], [] if find else [MARKED]
    for number, picture in enumerate(pictures):
        crop = _crop(picture, find, None if marks is None else marks[min(number, len(marks) - 1)])
        if crop is None:
            notes.append(f"No face was found in picture {number}.")
        out.append(None if crop is None else embed(crop))
    return out, notes


def _crop(picture: Tensor, find, mark: Tensor | None) -> Tensor | None:
    """The largest face, or the marked one; None where there is none."""
    picture = picture.cpu()
    if find is None:
        return faces.cut_out(picture, mark) if bool((mark > 0).any()) else None
    found = find(picture)
    return faces.upright(picture, found[0].points) if found else None


def _file(name: str) -> Path:
    found = networks()
    if name not in found:
        raise EditError(f"There is no ONNX file {name!r}; put it into {roots()[0]}.")
    return found[name]
