"""Photos to ComfyUI's tensors and back, as core's LoadImage and SaveImage do it.

An image is [b, h, w, 3], float32, 0..1; a mask is [b, h, w], 1 where the picture is transparent. Two
differences from core, both where core damages the picture: 16-bit grey keeps its depth (core with a recent
Pillow clips it to white), and a truncated file is refused (core fills the rest with grey).
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.picture_file import to_pillow
from .errors import EditError
from .files import write

if TYPE_CHECKING:
    import numpy
    from PIL import Image
    from torch import Tensor

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".mpo",
    ".avif",
    ".heic",
    ".jfif",
)
QUALITY = 95  # of JPEG and lossy formats, where somebody asks for one


def read(path: Path) -> tuple["Tensor", "Tensor"]:
    """Reads a photo: its frames [b, h, w, 3] and 1 - alpha [b, h, w] (64×64 zeros when it has no alpha).

    EXIF rotation is applied; frames of another size than the first are left out. EditError for a file that is
    missing, truncated or not a picture.
    """
    import torch

    images, masks = [], []
    with _opened(path) as (photo, frames):
        only_first = photo.format == "MPO"  # the other frames of a phone's MPO are depth maps or previews
        for frame in frames:
            image, mask = _rgb(frame), _transparency(frame)
            if images and image.shape != images[0].shape:
                continue
            images.append(torch.from_numpy(image))
            masks.append(torch.zeros(64, 64) if mask is None else torch.from_numpy(mask))
            if only_first:
                break
    if any(m.shape != masks[0].shape for m in masks):  # only some frames have alpha
        masks = [m if m.shape == images[0].shape[:2] else torch.zeros(images[0].shape[:2]) for m in masks]
    return torch.stack(images), torch.stack(masks)


def read_channel(path: Path, channel: str) -> "Tensor":
    """Reads one channel as a mask [1, h, w]: red, green, blue or alpha (1 - alpha, as in ComfyUI)."""
    import numpy
    import torch

    with _opened(path) as (_, frames):
        frame = next(frames)
        if channel == "alpha":
            mask = _transparency(frame.convert("RGBA"))  # without alpha: zeros, at the picture's own size
        else:
            mask = numpy.ascontiguousarray(_rgb(frame)[..., ("red", "green", "blue").index(channel)])
    return torch.from_numpy(mask)[None]


def size(path: Path) -> tuple[int, int]:
    """Width and height of a photo as it is seen, EXIF rotation applied."""
    with _opened(path) as (photo, _):
        turned = photo.getexif().get(0x0112, 1) >= 5  # Orientation 5 to 8 swap the sides
        return photo.size[::-1] if turned else photo.size


def check(path: Path) -> None:
    """Reads a photo to its end. EditError as from read(); where Pillow is missing, nothing is said."""
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError:
        return
    with _opened(path) as (_, frames):
        for _ in frames:
            pass


def profile(path: Path) -> bytes | None:
    """The ICC profile of an RGB photo, or None."""
    with _opened(path) as (photo, _):
        return photo.info.get("icc_profile") if photo.mode in ("RGB", "RGBA") else None


def save(
    path: Path, image: "Tensor", metadata: Mapping | None = None, icc: bytes | None = None, level: int = 4
) -> Path:
    """Writes one image [h, w, 1 | 3 | 4], 0..1, in the format that its suffix names.

    PNG carries metadata as text chunks of JSON (`prompt`, `workflow`), which ComfyUI reads when the file is
    dropped on its canvas. EditError for a suffix that is unknown, or that cannot hold the image's alpha.
    """
    picture = to_pillow(image)
    options = _options(path, picture, metadata or {}, level)
    if icc:
        options["icc_profile"] = icc
    kind = options.pop("format")
    return write(path, lambda file: picture.save(file, kind, **options))


def check_suffix(path: Path) -> None:
    """EditError when no picture can be written under this name."""
    from PIL import Image

    Image.init()
    kind = Image.EXTENSION.get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise EditError(
            f"{path.name} has no suffix that a picture can be saved as; end it in .png, .jpg or .webp."
        )


def _options(path: Path, picture: "Image.Image", metadata: Mapping, level: int) -> dict:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    check_suffix(path)
    kind = Image.EXTENSION[path.suffix.lower()]
    if picture.mode == "RGBA" and kind in ("JPEG", "BMP"):
        raise EditError(f"{path.name} cannot hold transparency; save this result as .png or .webp.")
    if kind == "PNG":
        texts = PngInfo()
        for key, value in metadata.items():
            texts.add_text(key, json.dumps(value))
        return {"format": kind, "pnginfo": texts, "compress_level": level}
    if kind == "JPEG":
        return {"format": kind, "quality": QUALITY, "subsampling": 0}
    return {"format": kind, "lossless": True} if kind == "WEBP" else {"format": kind}


class _opened:
    """Opens a photo for `with`; every way in which Pillow can fail on a file becomes one sentence."""

    def __init__(self, path: Path):
        self.path, self.photo, self.quiet = Path(path), None, warnings.catch_warnings()

    def __enter__(self) -> tuple["Image.Image", Iterator["Image.Image"]]:
        from PIL import Image

        self.quiet.__enter__()
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a 100-megapixel photo is no attack
        try:
            self.photo = Image.open(self.path)
            return self.photo, self._frames()
        except BaseException as problem:
            self.__exit__(type(problem), problem, None)
            raise

    def _frames(self) -> Iterator["Image.Image"]:
        from PIL import ImageOps, ImageSequence

        for frame in ImageSequence.Iterator(self.photo):
            frame.load()
            yield ImageOps.exif_transpose(frame)

    def __exit__(self, kind, problem, trace) -> None:
        from PIL import Image, UnidentifiedImageError

        if self.photo is not None:
            self.photo.close()
        self.quiet.__exit__(None, None, None)
        if isinstance(problem, (EditError, MemoryError)) or not isinstance(problem, Exception):
            return
        if isinstance(problem, FileNotFoundError):
            reason = "there is no such file"
        elif isinstance(problem, Image.DecompressionBombError):
            reason = "it has too many pixels; scale it down below 170 megapixels"
        elif isinstance(problem, UnidentifiedImageError):
            reason = "it is not a picture in a format that can be read; save it as PNG or JPEG"
        elif isinstance(problem, (PermissionError, IsADirectoryError)):
            reason = problem.strerror
        else:
            reason = f"the file is damaged or cut off ({problem}); fetch it again"
        raise EditError(f"Cannot read {self.path}: {reason}.") from problem


def _rgb(frame: "Image.Image") -> "numpy.ndarray":
    """One frame as float32 [h, w, 3], 0..1."""
    import numpy

    if frame.mode.startswith("I;16"):
        grey = numpy.asarray(frame).astype(numpy.float32) / 65535.0
        return numpy.repeat(grey[..., None], 3, axis=-1)
    if frame.mode == "I":
        frame = frame.point(lambda value: value * (1 / 255))
    pixels = numpy.array(frame.convert("RGB")).astype(numpy.float32)
    pixels /= 255.0  # in place: a 30-megapixel photo is 360 MB here
    return pixels


def _transparency(frame: "Image.Image") -> "numpy.ndarray | None":
    """1 - alpha of one frame as float32 [h, w], or None when it has none."""
    import numpy

    if frame.mode == "P" and "transparency" in frame.info:
        frame = frame.convert("RGBA")
    if "A" not in frame.getbands():
        return None
    return 1.0 - numpy.array(frame.getchannel("A")).astype(numpy.float32) / 255.0
