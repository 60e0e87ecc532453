"""A finished picture as the bytes of a PNG or JPEG with its workflow inside, and that workflow read back."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import EditError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

PNG, JPEG = "image/png", "image/jpeg"
SUFFIXES = {PNG: ".png", JPEG: ".jpg"}
EXIF_LIMIT = 65533 - len(b"Exif\0\0")  # a JPEG segment ends there
FIRST_TAGS = {"prompt": 0x0110, "workflow": 0x010F}  # where ComfyUI's WEBP files have them
KEYS = ("prompt", "workflow")


def kind_of(path: Path) -> str:
    """The type of a picture by its suffix. EditError for one that is neither PNG nor JPEG."""
    found = {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG}.get(Path(path).suffix.lower())
    if found is None:
        raise EditError(f"{Path(path).name} is neither a PNG nor a JPEG by its name; end it in .png or .jpg.")
    return found


def to_pillow(image: "Tensor") -> "Image.Image":
    """One image [h, w, 1 | 3 | 4], 0..1, as 8 bits, by truncation as ComfyUI's SaveImage does."""
    import numpy
    from PIL import Image

    pixels = numpy.clip(255.0 * image.detach().float().cpu().numpy(), 0, 255).astype(numpy.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def is_transparent(picture: "Image.Image") -> bool:
    """Whether an alpha channel hides anything."""
    return picture.mode == "RGBA" and picture.getextrema()[3][0] < 255


def encode(
    picture: "Image.Image", kind: str, metadata: Mapping, quality: int = 95, icc: bytes | None = None
) -> tuple[bytes, list[str]]:
    """The file's bytes, and the keys of metadata (key → JSON-like) that do not fit into a JPEG's 64 kB.

    A PNG carries them as text chunks, a JPEG in EXIF as ComfyUI's WEBP files do. quality: 1 to 100, of a JPEG.
    EditError for transparency in a JPEG.
    """
    if kind == JPEG and is_transparent(picture):
        raise EditError("A JPEG cannot hold transparency; save this result as PNG.")
    picture = picture.convert("RGB") if kind == JPEG and picture.mode == "RGBA" else picture
    options, left_out = _png(metadata) if kind == PNG else _jpeg(metadata, quality)
    file = io.BytesIO()
    picture.save(file, **options, **({"icc_profile": icc} if icc and picture.mode != "L" else {}))
    return file.getvalue(), left_out


def _png(metadata: Mapping) -> tuple[dict, list[str]]:
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for key, value in metadata.items():
        texts.add_text(key, json.dumps(value))
    return {"format": "PNG", "pnginfo": texts, "compress_level": 4}, []


def _jpeg(metadata: Mapping, quality: int) -> tuple[dict, list[str]]:
    kept = {key: f"{key}:{json.dumps(value)}" for key, value in metadata.items()}
    left_out: list[str] = []
    while kept and len(_exif(kept)) > EXIF_LIMIT:  # the largest goes first; `prompt` alone can be run again
        largest = max(kept, key=lambda key: (key != "prompt", len(kept[key])))
        left_out.append(largest)
        del kept[largest]
    return {"format": "JPEG", "quality": quality, "subsampling": 0, **({"exif": _exif(kept)} if kept else {})}, left_out


def _exif(texts: Mapping[str, str]) -> bytes:
    from PIL import Image

    exif, spare = Image.Exif(), 0x010E
    for key, text in texts.items():
        tag = FIRST_TAGS.get(key, spare)
        spare -= tag == spare
        exif[tag] = text
    return exif.tobytes()


def workflow(path: Path) -> dict[str, dict]:
    """What a PNG, JPEG or WEBP carries under `prompt` and `workflow`, as JSON; {} when there is none.

    EditError for a file that is missing or is no picture, and for a text that is no JSON.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            texts = {k: v for k, v in picture.info.items() if k in KEYS and isinstance(v, str)}
            texts = {**_exif_texts(picture), **texts}
    except FileNotFoundError as problem:
        raise EditError(f"There is no picture {path}.") from problem
    except UnidentifiedImageError as problem:
        raise EditError(f"{path} is not a picture in a format that can be read.") from problem
    except (OSError, SyntaxError, ValueError) as problem:
        raise EditError(f"{path} is damaged, or cannot be read ({problem}).") from problem
    return {key: _parsed(text, key, path) for key, text in texts.items()}


def _exif_texts(picture: "Image.Image") -> dict[str, str]:
    found = {}
    for value in picture.getexif().values():
        key, colon, text = value.partition(":") if isinstance(value, str) else ("", "", "")
        if colon and key.lower() in KEYS:
            found[key.lower()] = text.rstrip("\0")
    return found


def _parsed(text: str, key: str, path: Path) -> dict:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise EditError(f"The {key} inside {path} is damaged ({problem}).") from problem
