"""The family `editmgt_smoothing` of `bench parity`: the released code's filters of the localisation map against ours.

One file holds a raw map of 32x32 tokens, what stretching it to 0..1 gave, and that through three of the four filters;
the released `morphology` was not recorded (the tests compare ours with scikit-image). A second map has 64x64 tokens.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch import Tensor

from ..models.editmgt import smoothing
from .parity import Quantity, case, compared, read

FILE = "fixture.safetensors"
TOLERANCE = {
    "gaussian": 1e-6,
    "adaptive": 1e-6,
    "bilateral": 8e-3,
}  # OpenCV's bilateral filter rounds to 256 greys
STRENGTHS, PEAKS = ("1.0", "3.0"), ("0", "1")


def square(x: Tensor) -> Tensor:
    """Tokens [b, n] as a square map [b, h, w]."""
    side = round(x.shape[-1] ** 0.5)
    return x.unflatten(-1, (side, side))


@case("editmgt_smoothing", "rescale", files=(FILE,))
def rescale(folder: Path) -> Iterator[Quantity]:
    tensors = read(folder / FILE)
    yield compared("rescaled", smoothing.rescale(tensors["raw"]), tensors["rescaled"], 1e-6)


def filtered(method: str, folder: Path) -> Iterator[Quantity]:
    """One filter at every recorded strength, with and without peak preservation."""
    tensors, tolerance = read(folder / FILE), TOLERANCE[method]
    x = square(tensors["rescaled"])
    for strength in STRENGTHS:
        for peaks in PEAKS:
            name = f"{method}.s{strength}.peaks{peaks}"
            made = smoothing.smooth(x, method, float(strength), peaks == "1").flatten(1)
            yield compared(name, made, tensors[name], tolerance)
    if method == "adaptive":
        made = smoothing.smooth(square(tensors["raw4096"])).flatten(1)
        yield compared("adaptive4096", made, tensors["adaptive4096"], tolerance)


def _register() -> None:
    for method in TOLERANCE:
        case("editmgt_smoothing", method, files=(FILE,))(partial(filtered, method))


_register()
