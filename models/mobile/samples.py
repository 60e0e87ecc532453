"""What a bundle is checked on: three sample photographs per task, with their masks."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import masks
from ..blazeedit import pipeline
from ..blazeedit.model import BlazeEdit
from ..blazeedit.schedule import SCHEDULES, times
from ..blazeedit.tasks import TASKS
from ..errors import EditError
from ..image import resize
from .canvas import mirrored

MEDIA = Path(__file__).resolve().parents[2] / "workflows" / "media"
# photograph, and either its mask's file or the (y, x, height, width) of an ellipse, in shares of the picture
SAMPLES = {
    "remove": [("mountain_path.jpg", "mountain_path_mask.png"), ("sunset_hill.jpg", (0.5, 0.4, 0.2, 0.25)),
               ("room_with_chair.jpg", (0.6, 0.5, 0.35, 0.2))],
    "outpaint": [("dandelions.jpg", None), ("mountain_path.jpg", None), ("sunset_hill.jpg", None)],
    "tone": [("room_with_chair.jpg", None), ("dog_in_doorway.jpg", None), ("dandelions.jpg", None)],
    "relight": [("dog_in_doorway.jpg", None), ("room_with_chair.jpg", None), ("fig_bowl.jpg", None)],
    "sticker": [("fig_bowl.jpg", "fig_bowl_mask.png"), ("dog_in_doorway.jpg", (0.55, 0.5, 0.6, 0.4)),
                ("dandelions.jpg", (0.5, 0.5, 0.5, 0.5))],
}  # fmt: skip
PHOTOS, MOST_PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}, 20
MARGIN = 0.2  # of the width, outpainted on the right
HEADS = {"remove": "shadow", "relight": "relight"}
GOLDEN_STEPS = {"remove": 2, "outpaint": 2}  # so that the whole loop is checked; the other tasks take one


@dataclass
class Case:
    """One edit on a bundle's canvas: inputs of eight bits, and the noise of each step. Pictures [1, 3, s, s]."""

    task: str
    size: int
    image: Tensor
    mask: Tensor  # [1, s, s]
    guess: Tensor | None
    noise: list[Tensor]  # [1, c, s/8, s/8]
    rows: list[tuple[float, float, float]]  # t, α, σ of each step
    gain: tuple[str, Tensor, Tensor] | None = (
        None  # which gain head, and its image [1, 3, g, g] and mask [1, g, g]
    )
    expected: dict[str, Tensor] = field(default_factory=dict)

    @property
    def tau(self) -> float:
        return TASKS[self.task].tau


def schedule_rows(name: str, steps: int) -> list[tuple[float, float, float]]:
    """(t, α, σ) of an n-step sampler."""
    rows = []
    for t in times(steps):
        alpha, sigma = SCHEDULES[name](torch.tensor([t]))
        rows.append((t, float(alpha), float(sigma)))
    return rows


@torch.no_grad()
def cases(model: BlazeEdit, size: int, per_task: int = 3) -> list[Case]:
    """The first `per_task` samples of every task with what torch makes of them. EditError when a photo is missing."""
    out = []
    for task, samples in SAMPLES.items():
        for index, (photo, region) in enumerate(samples[:per_task]):
            out.append(_case(model, task, size, _photo(photo), region, seed=index))
    for case in out:
        case.expected = expected(model, case)
    return out


def _photo(name: str | Path) -> Tensor:
    """A sample by its name, or any photograph by its path. EditError when it cannot be read."""
    from PIL import Image, ImageOps

    path = MEDIA / name  # an absolute path stays itself
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), np.float32) / 255
    except FileNotFoundError:
        raise EditError(f"The sample photograph {path} is missing; install EditKit again.") from None
    except OSError as error:
        raise EditError(f"{path} cannot be read as a photograph ({error}); leave it out.") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _mask(region, height: int, width: int) -> Tensor | None:
    if region is None:
        return None
    if isinstance(region, str):
        return (_photo(region)[:, 0] > 0.5).float()
    y, x, tall, wide = region
    rows = (torch.arange(height)[:, None] / height - y) / (tall / 2)
    columns = (torch.arange(width)[None] / width - x) / (wide / 2)
    return (rows**2 + columns**2 < 1).float()[None]


def _case(model: BlazeEdit, task: str, size: int, image: Tensor, region, seed: int) -> Case:
    height, width = image.shape[-2:]
    mask = _mask(region, height, width)
    if task == "outpaint":
        margin = math.ceil(MARGIN * width)
        image = torch.nn.functional.pad(image, (0, margin), value=pipeline.BLANK)
        mask = torch.zeros(1, height, width + margin)
        mask[..., width:] = 1
    work = pipeline.encode(model, image, mask, task, shadow=False).works[0]
    steps = GOLDEN_STEPS.get(task, 1)
    shape = (1, model.config.latent_channels, size // 8, size // 8)
    generator = torch.Generator().manual_seed(seed)
    noise = [
        torch.randn(shape, generator=generator) if steps > 1 else torch.zeros(shape) for _ in range(steps)
    ]
    guess = on_canvas(work.guess, size) if model.config.guess else None
    rows = schedule_rows(model.config.schedule, steps)
    small, small_mask = on_canvas(work.small, size), mirrored(work.small_mask[..., :size, :size], size, size)
    return Case(task, size, small, small_mask, guess, noise, rows, _gain(model, task, small, small_mask))


def _gain(model: BlazeEdit, task: str, image: Tensor, mask: Tensor) -> tuple[str, Tensor, Tensor] | None:
    """What the task's gain head sees, where there is one."""
    name = HEADS.get(task)
    if name is None or getattr(model, f"{name}_head") is None:
        return None
    side = (model.config.gain_size,) * 2
    return name, (resize(image, side, "area") * 255).round() / 255, masks.fit(mask, *side, mode="nearest")


def on_canvas(image: Tensor, size: int) -> Tensor:
    """A picture mirrored up to the canvas, in steps of 1/255 as a PNG holds them; larger ones are cut."""
    image = image[..., :size, :size]
    return mirrored((image * 255).round() / 255, size, size)


@torch.no_grad()
def expected(model: BlazeEdit, case: Case) -> dict[str, Tensor]:
    """What torch makes of a case: features, guess_latent, latent_0.., log_gain, decoded (not clamped)."""
    features, guess_latent = model.conditions(case.image, case.mask, case.tau, case.guess)
    out = {"features": features} | ({} if guess_latent is None else {"guess_latent": guess_latent})
    latent = torch.zeros_like(case.noise[0])
    for index, ((t, alpha, sigma), noise) in enumerate(zip(case.rows, case.noise, strict=True)):
        latent = model.denoise(alpha * latent + sigma * noise, torch.tensor([t]), features, guess_latent)
        out[f"latent_{index}"] = latent
    if case.gain is not None:
        name, image, mask = case.gain
        out["log_gain"] = getattr(model, f"{name}_head")(image, mask * case.tau)
    return out | {"decoded": model.autoencoder.decode(latent)}


def photos(folder: Path) -> list[Path]:
    """The photographs to calibrate on. EditError when the folder is missing or holds none."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTOS) if folder.is_dir() else []
    if not paths:
        raise EditError(
            f"There are no photographs in {folder} to calibrate on; name a folder of JPEG or PNG files."
        )
    return [path.absolute() for path in paths[:MOST_PHOTOS]]


@torch.no_grad()
def of_folder(model: BlazeEdit, size: int, folder: Path) -> list[Case]:
    """Cases from a user's photographs, for calibration: the tasks in turn, each at least once, an ellipse as mask."""
    out, tasks, paths = [], list(SAMPLES), photos(folder)
    for index in range(max(len(paths), len(tasks))):
        task, path = tasks[index % len(tasks)], paths[index % len(paths)]
        region = (0.5, 0.5, 0.4, 0.3) if TASKS[task].needs_mask and task != "outpaint" else None
        case = _case(model, task, size, _photo(path), region, seed=index)
        case.expected = expected(model, case)
        out.append(case)
    return out


def inputs_of(case: Case) -> list[tuple[str, dict[str, np.ndarray]]]:
    """(file, its inputs as NHWC arrays) of every call that an edit makes, from torch's own tensors."""
    made, calls = case.expected, []
    tau = torch.full((1, 1), case.tau)
    guess = {"guess": case.guess} if case.guess is not None else {}
    calls.append(("encoder", {"image": case.image, "mask": case.mask[:, None], "tau": tau, **guess}))
    latent = torch.zeros_like(case.noise[0])
    shared = {k: made[k] for k in ("features", "guess_latent") if k in made}
    for index, (row, noise) in enumerate(zip(case.rows, case.noise, strict=True)):
        calls.append(("denoiser", {"latent": latent, "noise": noise, "time": torch.tensor([row]), **shared}))
        latent = made[f"latent_{index}"]
    calls.append(("decoder", {"latent": latent}))
    if case.gain is not None:
        name, image, mask = case.gain
        calls.append((name, {"image": image, "mask": mask[:, None], "tau": tau}))
    return [(name, {k: _array(v) for k, v in values.items()}) for name, values in calls]


def _array(value: Tensor) -> np.ndarray:
    value = value.permute(0, 2, 3, 1) if value.ndim == 4 else value
    return np.ascontiguousarray(value.numpy(), np.float32)
