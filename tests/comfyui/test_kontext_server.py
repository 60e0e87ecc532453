"""Kontext's templates queued on a real server, with a tiny FLUX in the places of what is downloaded."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.tests.comfyui.server import pixels
from editkit.tests.house import pack
from editkit.tests.house.workflow_checks import MEDIA_INPUTS

TEMPLATES = (
    "kontext_local_edit", "kontext_multi_turn", "kontext_style_reference", "kontext_text_edit",
    "kontext_two_references", "kontext_visual_cue",
)  # fmt: skip
TINY = {"UNETLoader": "TinyFlux", "DualCLIPLoader": "TinyFluxClip", "VAELoader": "TinyFluxVae"}
API, MEDIA = pack.ROOT / "workflows/api", pack.ROOT / "workflows/media"
SMALL = {"size": "own size", "steps": 2, "width": 80, "height": 64}


@pytest.fixture(scope="module")
def flux(serve):
    """A server with the tests' own loaders."""
    brought = Path(__file__).parent / "inside" / "tiny_flux.py"
    with serve(lambda base: shutil.copy(brought, base / "custom_nodes")) as server:
        yield server


def small_copy(name: str, folder: Path) -> Path:
    """A sample picture at a fourteenth of its size, in a format that keeps its pixels."""
    with Image.open(MEDIA / name) as photo:
        made = photo.convert("RGB").resize((photo.width // 14, photo.height // 14), Image.Resampling.BOX)
    made.save(folder / f"{Path(name).stem}.png")
    return folder / f"{Path(name).stem}.png"


def prepared(server, name: str, folder: Path) -> dict:
    """A template's API twin for this server: small, with the tiny loaders."""
    prompt = json.loads((API / f"{name}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        kind, inputs = node["class_type"], node["inputs"]
        if kind in TINY:
            node.update(class_type=TINY[kind], inputs={})
        elif kind in MEDIA_INPUTS:
            inputs["image"] = server.upload(small_copy(inputs["image"], folder))
        elif kind != "EditKitVisualCue":
            inputs.update({k: v for k, v in SMALL.items() if not isinstance(inputs.get(k, []), list)})
    return prompt


def results(server, prompt: dict) -> dict:
    """What each node saved or showed, by its title."""
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    return {prompt[i]["_meta"]["title"]: [server.picture(stored) for stored in found["images"]]
            for i, found in entry["outputs"].items()}  # fmt: skip


@pytest.mark.parametrize("name", ["kontext_local_edit", "kontext_visual_cue"])
def test_outside_the_mask_the_template_gives_the_photographs_own_pixels(flux, tmp_path, name):
    (made,) = results(flux, prepared(flux, name, tmp_path))["result"]
    photo, mask = (pixels(small_copy(file, tmp_path)) for file in ("fig_bowl.jpg", "fig_bowl_mask.png"))
    assert made.shape == photo.shape
    if name == "kontext_local_edit":
        outside = mask[..., 0] == 0
        assert np.array_equal(made[outside], photo[outside]) and outside.mean() > 0.5
    same = (made == photo).all(-1)
    assert 0.5 < same.mean() < 0.99  # an edit, and a photograph around it


def test_a_session_of_three_turns_gives_a_picture_and_its_drift(flux, tmp_path):
    found = results(flux, prepared(flux, "kontext_multi_turn", tmp_path))
    assert found["result"][0].shape == pixels(small_copy("fig_bowl.jpg", tmp_path)).shape
    assert found["drift"][0].shape[1] > 600 and float(found["drift"][0].min()) < 0.5


def test_two_references_make_a_picture_of_the_first_ones_size(flux, tmp_path):
    (made,) = results(flux, prepared(flux, "kontext_two_references", tmp_path))["result"]
    height, width = pixels(small_copy("room_with_chair.jpg", tmp_path)).shape[:2]
    assert made.shape[:2] == (-(-height // 16) * 16, -(-width // 16) * 16)


def test_a_style_is_given_to_a_picture_of_any_size(flux, tmp_path):
    (made,) = results(flux, prepared(flux, "kontext_style_reference", tmp_path))["result"]
    assert made.shape == (64, 80, 3)


def test_an_edit_of_the_whole_picture_has_its_size(flux, tmp_path):
    (made,) = results(flux, prepared(flux, "kontext_text_edit", tmp_path))["result"]
    assert made.shape == pixels(small_copy("dog_in_doorway.jpg", tmp_path)).shape
