"""A user's way through the canvas in every front end: from the template browser to a result, and dropped files."""

import base64
import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.headless import folders
from editkit.headless.execute import Runner
from editkit.headless.registry import node_classes
from editkit.models import picture_file
from editkit.tests.browser.comfy.test_templates import STEPS, TEMPLATES, differing, twin
from editkit.tests.comfyui.server import FOLDER_NAME
from editkit.tests.house import pack

DROPPED = ("remove_object", "kontext_local_edit")
FRONT_ENDS_OWN = (
    "/api/jobs", "JobsApiError", "/templates/index_logo.json", "ERR_NAME_NOT_RESOLVED", "ERR_INTERNET_DISCONNECTED",
)  # fmt: skip


def shrunk(name: str, folder) -> bytes:
    """A sample photograph at a third of its size, as PNG."""
    image = Image.open(pack.ROOT / "workflows/media" / name).convert("RGB")
    image.resize((image.width // 3, image.height // 3)).save(folder / "own photo.png")
    return (folder / "own photo.png").read_bytes()


def saved(page, stored: dict) -> bytes:
    """The file that a SaveImage says it stored."""
    return (page.server.base / "output" / stored["subfolder"] / stored["filename"]).read_bytes()


def unexpected(problems: list[str]) -> list[str]:
    """The errors but those of routes that are newer than the server, and of the network that tests do not have."""
    return [problem for problem in problems if not any(words in problem for words in FRONT_ENDS_OWN)]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_from_the_template_browser_over_an_own_photo_to_the_result(page, tmp_path):
    """Templates, click; drop a photo on the loader; Run; the corrected photo is shown, at its own size."""
    seen = dict(page.run(STEPS, "browse", pack=FOLDER_NAME, count=len(TEMPLATES)))
    page.screenshot("template-browser")
    assert set(seen) == set(TEMPLATES) and min(seen.values()) >= 300
    graph = page.run(STEPS, "choose", name="tone", type="EditKitTone")
    assert differing(graph["prompt"], twin("tone")) == {}
    photo = shrunk("room_with_chair.jpg", tmp_path)
    page.run(STEPS, "drop", name="own photo.png", type="image/png", base64=encoded(photo), at="image")
    page.run(STEPS, "named", title="image", words="own photo")
    result = page.run(STEPS, "run", title="result")
    page.screenshot("tone-result")
    before = np.asarray(Image.open(io.BytesIO(photo)))
    after = np.asarray(Image.open(io.BytesIO(saved(page, result["stored"]))))
    assert after.shape == before.shape and result["shown"] == [before.shape[1], before.shape[0]]
    assert np.abs(after.astype(int) - before).mean() > 1  # it was corrected
    assert unexpected(page.problems()) == []


@pytest.mark.parametrize("name", DROPPED)
def test_a_dropped_template_restores_the_graph(page, name):
    workflow = TEMPLATES[name]
    page.run(STEPS, "clear")
    graph = page.run(STEPS, "drop", name=f"{name}.json", type="application/json", nodes=len(workflow["nodes"]),
                     base64=encoded(json.dumps(workflow).encode()))  # fmt: skip
    assert differing(graph["prompt"], twin(name)) == {}
    assert graph["groups"] == sorted(group["title"] for group in workflow["groups"])
    assert len(graph["links"]) == len(workflow["links"])


@pytest.mark.parametrize("name", DROPPED)
def test_a_dropped_api_twin_restores_its_nodes_links_and_values(page, name):
    page.run(STEPS, "clear")
    prompt = twin(name)
    graph = page.run(STEPS, "drop", name=f"{name}.json", type="application/json", nodes=len(prompt),
                     base64=encoded(json.dumps(prompt).encode()))  # fmt: skip
    assert differing(graph["prompt"], prompt) == {}


def test_a_dropped_result_restores_the_graph_that_made_it(page, tmp_path):
    """The PNG that Run saved brings its whole graph back, notes and groups too."""
    page.run(STEPS, "open", pack=FOLDER_NAME, name="tone")
    (page.server.base / "input" / "small.png").write_bytes(shrunk("dandelions.jpg", tmp_path))
    page.run(STEPS, "set", title="image", values={"image": "small.png"})
    page.run(STEPS, "set", title="Correct Tone", values={"strength": 0.4})
    stored = page.run(STEPS, "run", title="result")["stored"]
    page.run(STEPS, "clear")
    graph = page.run(STEPS, "drop", name="result.png", type="image/png", nodes=len(TEMPLATES["tone"]["nodes"]),
                     base64=encoded(saved(page, stored)))  # fmt: skip
    changed = twin("tone")
    changed["1"]["inputs"]["image"], changed["2"]["inputs"]["strength"] = "small.png", 0.4
    assert differing(graph["prompt"], changed) == {}
    assert graph["groups"] == sorted(group["title"] for group in TEMPLATES["tone"]["groups"])
    page.screenshot("dropped-result")


def signed(folder, workflow: dict, prompt: dict) -> Path:
    """The PNG that Save Edited Image writes and signs for this workflow."""
    with folders.use(folders.Folders((folder,), folder / "output")):
        run = Runner(node_classes()).run(prompt, extra_data={"extra_pnginfo": {"workflow": workflow}})
    (shown,) = run.outputs["3"]["images"]
    return folder / "output" / shown["subfolder"] / shown["filename"]


def test_a_dropped_signed_result_restores_the_graph_and_stays_valid(page, tmp_path, settings):
    """C2PA's chunk stands before the texts that the canvas looks for, and the node's own values come back too."""
    pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")
    from editkit.models.provenance import reading

    workflow, prompt = copy.deepcopy(TEMPLATES["batch_example"]), copy.deepcopy(twin("batch_example"))
    (tmp_path / "small.png").write_bytes(shrunk("dandelions.jpg", tmp_path))
    (page.server.base / "input" / "small.png").write_bytes((tmp_path / "small.png").read_bytes())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    changes = (1, 0, "image", "small.png"), (2, 0, "strength", 0.4), (3, 3, "credentials", "self-signed")
    for node, at, name, value in changes:
        nodes[node]["widgets_values"][at] = prompt[str(node)]["inputs"][name] = value
    result = signed(tmp_path, workflow, prompt)
    data = result.read_bytes()
    assert data.index(b"caBX") < data.index(b"tEXt") < data.index(b"IDAT")
    page.run(STEPS, "clear")
    graph = page.run(STEPS, "drop", name="signed.png", type="image/png", nodes=len(workflow["nodes"]),
                     base64=encoded(data))  # fmt: skip
    page.screenshot("dropped-signed-result")
    assert differing(graph["prompt"], prompt) == {}
    assert len(graph["links"]) == len(workflow["links"]) == 3
    assert graph["groups"] == sorted(group["title"] for group in workflow["groups"])
    assert picture_file.workflow(result) == {"prompt": prompt, "workflow": workflow}
    found = reading.read(result, "image/png")
    assert found.state == reading.VALID and [s.title for s in found.entry.sources] == ["small.png"]
    assert unexpected(page.problems()) == []
