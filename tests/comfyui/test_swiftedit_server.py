"""SwiftEdit's templates queued on a real server, with tiny networks in the places of the downloaded ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from editkit.tests.comfyui import diffusers_loop
from editkit.tests.comfyui.server import pixels
from editkit.tests.house import pack

TEMPLATES = ("swiftedit_graph", "swiftedit_one_step", "swiftedit_scale_sweep")
TINY = {"CLIPLoader": "TinyClip", "VAELoader": "TinyVae", "CLIPVisionLoader": "TinyVision"}
API, MEDIA = pack.ROOT / "workflows/api", pack.ROOT / "workflows/media"


@pytest.fixture(scope="module")
def swift(serve, tmp_path_factory):
    """A server with the tiny release in models/editkit/swiftedit and the tests' own loaders."""
    made = tmp_path_factory.mktemp("tiny")
    diffusers_loop.build(made)

    def add(base: Path) -> None:
        shutil.copytree(made / "release" / "tiny", base / "models" / "editkit" / "swiftedit")
        shutil.copytree(made, base / "tiny", ignore=shutil.ignore_patterns("release"))
        shutil.copy(Path(__file__).parent / "inside" / "tiny_parts.py", base / "custom_nodes")

    with serve(add) as server:
        yield server


def prepared(server, name: str, **changes) -> dict:
    """A template's API twin for this server: small, with the tiny loaders, and inputs changed by name."""
    prompt = json.loads((API / f"{name}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        if node["class_type"] in TINY:
            node.update(class_type=TINY[node["class_type"]], inputs={})
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = server.upload(MEDIA / node["inputs"]["image"])
        wanted = {"side": 64} | changes
        node["inputs"].update({key: value for key, value in wanted.items() if key in node["inputs"]})
    return prompt


def results(server, prompt: dict) -> list[np.ndarray]:
    """What the template's SaveImage saved."""
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    saving = next(i for i, node in prompt.items() if node["class_type"] == "SaveImage")
    return [server.picture(stored) for stored in entry["outputs"][saving]["images"]]


def cached(entry: dict) -> set[str]:
    """The nodes that a prompt did not run again."""
    return {i for kind, data in entry["status"]["messages"] if kind == "execution_cached" for i in data["nodes"]}


def test_the_template_of_one_node_edits_a_photograph_at_its_own_size(swift):
    (made,) = results(swift, prepared(swift, "swiftedit_one_step"))
    photo = pixels(MEDIA / "fig_bowl.jpg")
    assert made.shape == photo.shape
    differs = np.abs(made - photo).max(-1) > 1.5 / 255
    assert 0.01 < differs.mean() < 0.9  # an edit, and a photograph around it


def test_the_step_by_step_template_makes_every_edit_of_one_photograph(swift):
    made = results(swift, prepared(swift, "swiftedit_graph"))
    photo = pixels(MEDIA / "dandelions.jpg")
    assert [p.shape for p in made] == [photo.shape] * 3
    assert all((np.abs(p - photo).max(-1) < 1.5 / 255).mean() > 0.1 for p in made)
    assert np.abs(made[0] - made[1]).max() > 0.02 and np.abs(made[1] - made[2]).max() > 0.02


def test_another_edit_of_the_same_photograph_loads_and_encodes_nothing_again(swift):
    swift.run(prepared(swift, "swiftedit_graph"))
    prompt = prepared(swift, "swiftedit_graph", edits="a tulip in a green meadow at sunset")
    again = cached(swift.run(prompt))
    kinds = {prompt[i]["class_type"] for i in again}
    assert {"LoadImage", "EditKitLoadSwiftEdit", "CLIPTextEncode", *TINY.values()} <= kinds
    assert "EditKitSwiftEditInvert" not in kinds


def test_the_sheet_of_scales_is_drawn(swift):
    scales = {"edit_scales": "0, 1", "text_scales": "1, 2, 3", "cell": 96}
    (sheet,) = results(swift, prepared(swift, "swiftedit_scale_sweep", **scales))
    assert sheet.shape[1] > 3 * 96 and sheet.shape[0] > 2 * 60


def test_a_release_that_is_not_there_is_refused_before_anything_runs(swift):
    status, reply = swift.queue(prepared(swift, "swiftedit_one_step", release="elsewhere"))
    said = json.dumps(reply)
    assert status == 400 and "elsewhere" in said and "ip_adapter.bin" in said and "custom_validation_failed" in said
