"""Kontext's picture tools from a workflow file, without ComfyUI and without a browser."""

import json

import numpy as np
import pytest
from PIL import Image

from editkit.headless import folders, run
from editkit.headless.errors import EditError

PLACE = {"shape": "box", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "units": "relative", "colour": "lime", "width": 2,
         "fill": 0.5, "margin": 0}  # fmt: skip


def prompt(**changes) -> dict:
    """Marks a photo in a mask at Kontext's size, brings it back, and measures the drift against two more turns."""
    nodes = {
        "1": ("LoadImage", {"image": "photo.png"}),
        "2": ("LoadImageMask", {"image": "mask.png", "channel": "red"}),
        "3": ("EditKitKontextFit", {"image": ["1", 0], "mask": ["2", 0], "size": "own size", "multiple": 16}),
        "4": ("EditKitVisualCue", {"image": ["3", 0], "mask": ["3", 2], **PLACE, **changes}),
        "5": ("EditKitKontextUnfit", {"image": ["4", 0], "fit": ["3", 1], "mask": ["2", 0], "feather": 0}),
        "6": ("EditKitDriftMeter", {"images": ["5", 0], "first": ["1", 0], "mask": ["2", 0], "face_model": "none",
                                    "face_detector": "none"}),
        "7": ("SaveImage", {"images": ["5", 0], "filename_prefix": "edit"}),
        "8": ("SaveImage", {"images": ["6", 0], "filename_prefix": "plot"}),
    }  # fmt: skip
    return {i: {"class_type": kind, "inputs": inputs} for i, (kind, inputs) in nodes.items()}


@pytest.fixture
def places(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (60, 84, 3), np.uint8)).save(tmp_path / "photo.png")
    mask = np.zeros((60, 84), np.uint8)
    mask[20:40, 30:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return folders.Folders(inputs=(tmp_path,), output=tmp_path / "out")


def written(places, **changes):
    file = places.inputs[0] / "work.json"
    file.write_text(json.dumps(prompt(**changes)), encoding="utf-8")
    return file


def test_a_marked_photo_keeps_every_pixel_outside_the_mask(places):
    assert run.run(written(places), [], places) == 0
    files = places.inputs[0] / "photo.png", places.output / "edit_00001_.png"
    photo, made = (np.asarray(Image.open(file)) for file in files)
    inside = np.zeros(photo.shape[:2], bool)
    inside[20:40, 30:60] = True
    assert np.array_equal(made[~inside], photo[~inside])
    greener = made.astype(int)[inside] - photo.astype(int)[inside]
    assert greener[:, 1].mean() > 30 and greener[:, 0].mean() < -30
    assert Image.open(places.output / "plot_00001_.png").width > 600


def test_bad_input_is_one_sentence(places):
    with pytest.raises(EditError, match="'limy' is unknown"):
        run.run(written(places, colour="limy"), [], places)
