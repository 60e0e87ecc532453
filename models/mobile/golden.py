"""One edit per task in the bundle, for anyone to check their loop with: inputs, noise, and torch's results."""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import EditError
from .samples import Case

FOLDER = "golden"


def names(cases: list[Case]) -> dict[str, Case]:
    """What the edits are called: by their task, and of further canvas sizes by task and size."""
    first = cases[0].size
    out: dict[str, Case] = {}
    for case in cases:
        out.setdefault(case.task if case.size == first else f"{case.task}_{case.size}", case)
    return out


def write(folder: Path, cases: list[Case]) -> dict[str, dict]:
    """Writes the first case of every name below folder/golden. Returns the manifest's entries."""
    (folder / FOLDER).mkdir()
    return {name: _write_one(folder, name, case) for name, case in names(cases).items()}


def _write_one(folder: Path, name: str, case: Case) -> dict:
    def png(what: str, picture: Tensor | None) -> str | None:
        return None if picture is None else _save_png(folder, f"{FOLDER}/{name}_{what}.png", picture)

    def raw(what: str) -> str | None:
        return (
            _save_raw(folder, f"{FOLDER}/{name}_{what}.f32", case.expected[what])
            if what in case.expected
            else None
        )

    noise = [_save_raw(folder, f"{FOLDER}/{name}_noise_{i}.f32", n) for i, n in enumerate(case.noise)]
    gain = None
    if case.gain is not None:
        head, image, mask = case.gain
        gain = {"file": head, "image": png("gain_image", image), "mask": png("gain_mask", mask[:, None]),
                "log_gain": raw("log_gain")}  # fmt: skip
    return {
        "task": case.task, "size": case.size, "steps": len(case.noise), "image": png("image", case.image),
        "mask": png("mask", case.mask[:, None]), "guess": png("guess", case.guess), "noise": noise,
        "features": raw("features"), "guess_latent": raw("guess_latent"),
        "latent": [raw(f"latent_{i}") for i in range(len(case.noise))], "decoded": raw("decoded"), "gain": gain,
    }  # fmt: skip


def read(folder: Path, manifest) -> list[Case]:
    """The golden edits of a bundle with their expected results. EditError for a file that does not fit."""
    return [_read_one(folder, manifest, entry) for entry in manifest.data["golden"].values()]


def _read_one(folder: Path, manifest, entry: dict) -> Case:
    model, side = manifest.data["model"], entry["size"]
    cells = side // model["downscale"]
    latent, features = model["latent_channels"], model["feature_channels"]

    def raw(path: str, channels: int, size: int = cells) -> Tensor:
        return _load_raw(folder, path, size, channels)

    noise = [raw(path, latent) for path in entry["noise"]]
    rows = [tuple(row) for row in manifest.data["schedule"]["steps"][str(entry["steps"])]]
    expected = {"features": raw(entry["features"], features), "decoded": raw(entry["decoded"], 3, side)}
    expected |= {f"latent_{i}": raw(path, latent) for i, path in enumerate(entry["latent"])}
    if entry["guess_latent"]:
        expected["guess_latent"] = raw(entry["guess_latent"], latent)
    gain = None
    if entry["gain"]:
        small = manifest.file(entry["gain"]["file"])["signatures"][0]["size"]
        image, mask = (_load_png(folder, entry["gain"][k], small, c) for k, c in (("image", 3), ("mask", 1)))
        gain = (entry["gain"]["file"], image, mask[:, 0])
        expected["log_gain"] = raw(entry["gain"]["log_gain"], 3, small)
    guess = _load_png(folder, entry["guess"], side, 3) if entry["guess"] else None
    image, mask = _load_png(folder, entry["image"], side, 3), _load_png(folder, entry["mask"], side, 1)[:, 0]
    return Case(entry["task"], side, image, mask, guess, noise, rows, gain, expected)


def _save_png(folder: Path, name: str, picture: Tensor) -> str:
    from PIL import Image

    pixels = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG", optimize=True)
    (folder / name).write_bytes(buffer.getvalue())
    return name


def _load_png(folder: Path, name: str, side: int, channels: int) -> Tensor:
    from PIL import Image

    try:
        with Image.open(folder / name) as picture:
            size, pixels = picture.size, np.asarray(picture.convert("L" if channels == 1 else "RGB"), np.float32) / 255
    except OSError as error:
        raise EditError(f"{name} is not a picture ({error}); export the bundle again.") from None
    if size != (side, side):
        raise EditError(f"{name} has {size[0]}x{size[1]} px, not {side}x{side}; export the bundle again.")
    return torch.from_numpy(pixels.reshape(side, side, channels)).permute(2, 0, 1)[None]


def _save_raw(folder: Path, name: str, value: Tensor) -> str:
    array = value.permute(0, 2, 3, 1).contiguous().numpy().astype("<f4")
    (folder / name).write_bytes(array.tobytes())
    return name


def _load_raw(folder: Path, name: str, side: int, channels: int) -> Tensor:
    data = np.frombuffer((folder / name).read_bytes(), "<f4")
    if data.size != side * side * channels:
        raise EditError(
            f"{name} holds {data.size} numbers, not {side}x{side}x{channels}; export the bundle again."
        )
    return (
        torch.from_numpy(data.astype(np.float32).reshape(1, side, side, channels))
        .permute(0, 3, 1, 2)
        .contiguous()
    )
