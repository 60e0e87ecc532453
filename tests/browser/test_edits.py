"""Whole edits of the page against the Python pipeline, both with the same answers of pretended networks.

A picture of bytes goes in, so that what is compared is what a user downloads: bytes, at most one grey level apart.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from editkit.models.blazeedit import cutout, pipeline
from editkit.models.blazeedit.config import CONFIGS
from editkit.models.blazeedit.tasks import TASKS
from editkit.tests.browser.conftest import K, disc, rectangle, smooth_picture, worst

GAIN_HEADS = {"remove": "shadow", "relight": "relight"}
SIZES = {"remove": 192, "outpaint": 192, "tone": 256, "relight": 256, "sticker": 512}
MANIFEST = {
    "constants": K,
    "mask": {"white": "edit", "binarise_above": 0.0},
    "tasks": {
        name: {"tau": task.tau, "steps": 1, "working_size": SIZES[name], "delivery": task.delivery,
               "gain_head": GAIN_HEADS.get(name)}
        for name, task in TASKS.items()
    },
}  # fmt: skip


class Pretended:
    """A model that answers like the adapter of run.mjs: `edited` decodes the edit, `own` the first guess."""

    def __init__(self, answers: dict):
        self.config = CONFIGS["blazeedit-small"]
        self.answers, self.images, self.guesses = answers, [], []
        self.autoencoder = SimpleNamespace(
            mean=torch.zeros(1), encode=self._encode, decode=lambda latent: answers[latent].clone()
        )
        self.shadow_head, self.relight_head = (
            (lambda image, signal, n=name: answers[n].clone()) if name in answers else None
            for name in ("shadow", "relight")
        )

    def _encode(self, image):
        self.guesses.append(image)
        return "own"

    def features(self, image, mask, tau):
        self.images.append(image)
        return torch.zeros(1, 1, 1, 1)

    def conditions(self, image, mask, tau, guess):
        return self.features(image, mask, tau), self._encode(guess)


@pytest.fixture
def pretend(monkeypatch):
    """The pipeline without networks: sampling gives the name of an answer."""
    monkeypatch.setattr(pipeline, "sample", lambda model, conditioning, **_: ["edited"] * len(conditioning.works))
    return Pretended


def photo_bytes(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An opaque RGBA photo [h, w, 4]."""
    colours = smooth_picture(height, width, seed)[0].permute(1, 2, 0).mul(255).round().numpy().astype(np.uint8)
    return np.dstack([colours, np.full((height, width), 255, np.uint8)])


def tensor(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo[..., :3].astype(np.float32) / 255).permute(2, 0, 1)[None]


def grey(mask: torch.Tensor) -> np.ndarray:
    return mask[0].mul(255).round().numpy().astype(np.uint8)


def delivered(result: dict) -> np.ndarray:
    """The page's RGBA bytes as [h, w, 4] int."""
    return result["data"].astype(np.int64).reshape(int(result["height"]), int(result["width"]), 4)


def as_bytes(image: torch.Tensor) -> np.ndarray:
    return image[0].mul(255).add(0.5).floor().clamp(0, 255).permute(1, 2, 0).numpy().astype(np.int64)


def answers_for(size: tuple[int, int]) -> dict:
    """What the pretended decoder makes of the edit and of the first guess: alike, but for a broad difference."""
    own = smooth_picture(*size, seed=7)
    broad = F.interpolate(smooth_picture(48, 48, seed=8, grain=0), size=size, mode="bilinear") - 0.5
    return {"own": own, "edited": (own + 0.25 * broad).clamp(0, 1)}


REMOVALS = [
    ((300, 400), disc(300, 400, 150, 190, 40)),
    ((420, 340), rectangle(420, 340, 0, 110, 200, 340)),
    ((500, 700), disc(500, 700, 260, 330, 120)),
]


@pytest.mark.parametrize(("size", "hole"), REMOVALS)
def test_removal(js, pretend, size, hole):
    photo = photo_bytes(*size)
    canvas = {(300, 400): (160, 160), (420, 340): (152, 192), (500, 700): (192, 192)}[size]
    answers = answers_for(canvas)
    wanted = as_bytes(pipeline.remove(pretend(answers), tensor(photo), hole, shadow=False).image)
    found = js("", "edit", "remove", {"photo": photo, "mask": grey(hole), "shadow": False}, MANIFEST, answers)
    assert found["stages"][0]["image"].shape[-2:] == canvas
    found = delivered(found)
    assert np.array_equal(found[grey(hole) == 0], photo[grey(hole) == 0])
    assert np.abs(found[..., :3] - wanted).max() <= 1
    assert (found[..., :3] != wanted).mean() < 0.002


def test_removal_with_its_shadow(js, pretend):
    size, hole = (300, 400), disc(300, 400, 120, 190, 34)
    photo, answers = photo_bytes(*size), answers_for((136, 136))
    shadow = disc(96, 96, 70, 60, 16)[0] * 0.4
    answers |= {"shadow": torch.stack([shadow, shadow * 0.9, shadow * 0.8])[None], "gain_size": 96}
    model = pretend(answers)
    wanted = pipeline.remove(model, tensor(photo), hole)
    found = js("", "edit", "remove", {"photo": photo, "mask": grey(hole)}, MANIFEST, answers)
    assert np.abs(as_bytes(found["stages"][0]["image"]) - as_bytes(model.images[0])).max() <= 1
    found, before = delivered(found)[..., :3], as_bytes(tensor(photo))
    lifted = (hole == 0) & (wanted.changed == 1)
    assert int(lifted.sum()) > 500
    untouched = (wanted.changed == 0)[0].numpy()
    assert np.array_equal(found[untouched], before[untouched])
    assert np.abs(found - as_bytes(wanted.image)).max() <= 1


@pytest.mark.parametrize("margins", [(0, 0, 120, 90), (60, 0, 0, 0), (40, 33, 52, 61)])
def test_outpainting(js, pretend, margins):
    size, names = (280, 360), ("left", "top", "right", "bottom")
    photo, margins = photo_bytes(*size), dict(zip(names, margins))
    height, width = size[0] + margins["top"] + margins["bottom"], size[1] + margins["left"] + margins["right"]
    answers = answers_for(pipeline.fitted(height, width, 192))
    model = pretend(answers)
    wanted = as_bytes(pipeline.outpaint(model, tensor(photo), **margins).image)
    found = js("", "edit", "outpaint", {"photo": photo, "margins": margins}, MANIFEST, answers)
    for name, wanted_one in (("image", model.images[0]), ("guess", model.guesses[0])):
        assert worst(found["stages"][0][name], wanted_one) < 1e-4, name
    found = delivered(found)
    rows, columns = (slice(margins[a], margins[a] + side) for a, side in (("top", size[0]), ("left", size[1])))
    assert np.array_equal(found[rows, columns], photo)
    assert np.abs(found[..., :3] - wanted).max() <= 1


@pytest.mark.parametrize("aspect", ["16:9", "1:1", "4:5", "9:16"])
@pytest.mark.parametrize("anchor", ["center", "left", "bottom"])
def test_outpaintings_margins(js, aspect, anchor):
    wanted = pipeline.outpaint_margins(301, 452, aspect, anchor)
    found = js("edit.js", "outpaintMargins", 301, 452, [float(v) for v in aspect.split(":")], anchor)
    assert tuple(found[k] for k in ("left", "top", "right", "bottom")) == wanted


@pytest.mark.parametrize("masked", [False, True])
def test_tone(js, pretend, masked):
    size, photo = (330, 460), photo_bytes(330, 460)
    answers = answers_for((184, 256))
    mask = 0.6 * disc(*size, 150, 200, 90) if masked else None
    weight = torch.from_numpy(grey(mask) / 255.0) if masked else None
    edit = pipeline.tone(pretend(answers), tensor(photo), weight)
    request = {"photo": photo, "mask": grey(mask) if masked else None}
    found = delivered(js("", "edit", "tone", request, MANIFEST, answers))[..., :3]
    assert np.abs(found - as_bytes(edit.image)).max() <= 1
    assert np.abs(found - photo[..., :3].astype(int)).max() > 10
    if masked:
        assert np.array_equal(found[grey(mask) == 0], photo[grey(mask) == 0][:, :3])


@pytest.mark.parametrize("head", [True, False])
def test_relighting(js, pretend, head):
    photo = photo_bytes(330, 460)
    answers = answers_for((184, 256))
    if head:
        gain = F.interpolate(smooth_picture(48, 48, 3, 0), size=(72, 96), mode="bilinear") - 0.4
        answers |= {"relight": gain, "gain_size": 96}
    wanted = as_bytes(pipeline.relight(pretend(answers), tensor(photo)).image)
    found = delivered(js("", "edit", "relight", {"photo": photo, "mask": None}, MANIFEST, answers))[..., :3]
    assert np.abs(found - wanted).max() <= 1
    assert np.abs(found - photo[..., :3].astype(int)).max() > 10


@pytest.mark.parametrize("shadow", [True, False])
def test_stickers(js, pretend, shadow):
    size, photo = (420, 560), photo_bytes(420, 560)
    mask = disc(*size, 200, 260, 110)
    answers = answers_for((256, 256))
    whole = pipeline.sticker(pretend(answers), tensor(photo), mask, shadow=shadow).image
    request = {"photo": photo, "mask": grey(mask), "shadow": shadow}
    found = js("", "edit", "sticker", request, MANIFEST, answers)
    crop = pipeline.sticker_canvas(tensor(photo), mask, *([512] if needs_size() else []))[2]
    m = cutout.margin(round(0.03 * 420), shadow)
    wanted = as_bytes(whole[..., crop.top : crop.top + crop.height + 2 * m, crop.left : crop.left + crop.width + 2 * m])
    found = delivered(found)
    assert np.abs(found - wanted).max() <= 2
    assert found[..., 3].max() == 255 and found[..., 3].min() == 0


def needs_size() -> bool:
    return pipeline.sticker_canvas.__code__.co_argcount == 3


@pytest.mark.parametrize(
    ("task", "mask", "sentence"),
    [("remove", 0.0, "mask is empty"), ("sticker", 0.0, "mask is empty"), ("remove", 1.0, "covers the whole photo")],
)
def test_a_mask_that_cannot_be_used_is_refused_in_one_sentence(js, task, mask, sentence):
    request = {"photo": photo_bytes(64, 64), "mask": grey(torch.full((1, 64, 64), mask))}
    with pytest.raises(AssertionError, match=sentence):
        js("", "edit", task, request, MANIFEST, answers_for((64, 64)))
