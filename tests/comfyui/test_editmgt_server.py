"""EditMGT's templates queued on a real server with a tiny release in the published layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.tests.comfyui.server import pixels
from editkit.tests.house import pack
from editkit.tests.tiny_editmgt_release import write_release

TEMPLATES = ("editmgt_instruction", "editmgt_localise", "editmgt_masked")
API, MEDIA = pack.ROOT / "workflows/api", pack.ROOT / "workflows/media"
RELEASE = "tiny_release"
SIZE = (120, 88)
SMALL = {"release": RELEASE, "side": 64, "steps": 3, "blocks": "all"}


@pytest.fixture(scope="module")
def small(server, tmp_path_factory):
    """The server with the release in models/editkit, and the folder of the small pictures."""
    write_release(server.base / "models/editkit" / RELEASE)
    return server, tmp_path_factory.mktemp("pictures")


def resized(folder: Path, name: str) -> Path:
    """A sample picture at a size that is quick to edit; of a mask no pixel is mixed."""
    with Image.open(MEDIA / name) as photo:
        how = Image.Resampling.NEAREST if "mask" in name else Image.Resampling.LANCZOS
        photo.resize(SIZE, how).save(folder / f"mgt_{Path(name).stem}.png")
    return folder / f"mgt_{Path(name).stem}.png"


def made(small, template: str, **changes) -> dict[str, list[np.ndarray]]:
    """What a template's API twin saves and shows, by node class."""
    server, folder = small
    prompt = json.loads((API / f"{template}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] in ("LoadImage", "LoadImageMask"):
            inputs["image"] = server.upload(resized(folder, inputs["image"]))
        wanted = SMALL | changes
        inputs.update({key: value for key, value in wanted.items() if key in inputs})
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    found: dict[str, list] = {}
    for node_id, given in sorted(entry["outputs"].items(), key=lambda pair: int(pair[0])):
        pictures = [server.picture(stored) for stored in given["images"]]
        found.setdefault(prompt[node_id]["class_type"], []).extend(pictures)
    return found


def test_an_instruction_makes_another_picture_of_the_photographs_size(small):
    (edited,) = made(small, "editmgt_instruction")["SaveImage"]
    (other,) = made(small, "editmgt_instruction", seed=1)["SaveImage"]
    assert edited.shape == (SIZE[1], SIZE[0], 3) and np.abs(edited - other).max() > 0.05


def test_a_word_is_localised_and_its_maps_are_shown(small):
    found = made(small, "editmgt_localise")
    assert found["SaveImage"][0].shape == (SIZE[1], SIZE[0], 3)
    assert len(found["PreviewImage"]) >= 3
    assert all(map_.shape[:2] == (SIZE[1], SIZE[0]) for map_ in found["PreviewImage"][-1:])
    assert max(map_.std() for map_ in found["PreviewImage"]) > 0.01


def test_outside_the_mask_the_photograph_stays(small):
    (edited,) = made(small, "editmgt_masked")["SaveImage"]
    photo, mask = (pixels(small[1] / f"mgt_{name}.png") for name in ("fig_bowl", "fig_bowl_mask"))
    same = (edited == photo).all(-1)
    assert same[mask[..., 0] == 0].mean() > 0.5 and not same.all()
