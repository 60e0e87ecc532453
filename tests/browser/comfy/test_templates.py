"""Every template in every front end opens whole and in order, and its API twin is what that front end would queue."""

import json
import re
import urllib.request

import pytest

from editkit.tests.browser.comfy.front_ends import newest
from editkit.tests.comfyui.server import FOLDER_NAME
from editkit.tests.house import pack
from editkit.tests.house.twin import NOTES
from editkit.tests.house.workflow_checks import MEDIA_INPUTS

STEPS = pack.ROOT / "tests/browser/comfy/canvas.mjs"
TEMPLATES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in pack.workflows()}
KEPT = ("tone", "remove_object", "swiftedit_graph", "kontext_multi_turn", "icedit_early_filter", "editmgt_localise")


def twin(name: str) -> dict:
    return json.loads((pack.ROOT / "workflows/api" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def opened(page):
    """What came of opening each template, one after the other: name -> its graph, what was said, and the errors."""
    seen = {}
    for name in TEMPLATES:
        picture = f"{page.front_end.name}-template-{name}.png" if name in KEPT else None
        seen[name] = page.run(STEPS, "open", pack=FOLDER_NAME, name=name, picture=picture)
        seen[name] |= {"name": name, "problems": page.problems()}
    return seen


def faults(opened: dict, what) -> dict:
    """name -> what(graph) of the templates where that is not empty."""
    return {name: found for name, graph in opened.items() if (found := what(graph))}


def test_no_node_is_missing_and_nothing_is_complained_of(opened):
    assert faults(opened, lambda graph: [n["type"] for n in graph["nodes"] if not n["known"]]) == {}
    assert faults(opened, lambda graph: graph["said"]) == {}
    assert faults(opened, lambda graph: graph["problems"]) == {}


def test_each_node_link_value_and_group_is_as_the_file_says(opened):
    for name, workflow in TEMPLATES.items():
        graph, nodes = opened[name], {node["id"]: node for node in workflow["nodes"]}
        assert [n["type"] for n in graph["nodes"]] == [nodes[i]["type"] for i in sorted(nodes)], name
        links = sorted((link[1:] for link in workflow["links"]), key=lambda link: link[2:4])
        assert graph["links"] == links, name
        assert graph["groups"] == sorted(group["title"] for group in workflow["groups"]), name
        stored = {n["id"]: n["values"] for n in graph["nodes"] if n["type"] not in NOTES}
        assert {i: shown(values, nodes[i]) for i, values in stored.items()} == {
            i: shown(nodes[i].get("widgets_values") or [], nodes[i]) for i in stored
        }, name


def shown(values: list, node: dict) -> list:
    """A node's widget values without the upload button, which front ends store differently."""
    return [v for v in values if v != "image"] if node["type"] in MEDIA_INPUTS else values


def test_the_front_end_would_queue_what_the_api_twin_says(opened):
    """graphToPrompt is the judge of the twins; tests/house/twin.py is its quick imitation."""
    assert faults(opened, lambda graph: differing(graph["prompt"], twin(graph["name"]))) == {}


def differing(prompt: dict, expected: dict) -> dict:
    """id -> (node, expected node) where two prompts differ.

    1.27.10 also sends the empty text field of Preview Any, which is no input of that node; servers pass over it.
    """
    for node in prompt.values():
        if node["class_type"] == "PreviewAny":
            node["inputs"].pop("preview", None)
    return {i: (prompt.get(i), expected.get(i)) for i in prompt | expected if prompt.get(i) != expected.get(i)}


def test_nodes_as_drawn_lie_in_their_groups_and_apart(opened):
    assert faults(opened, lambda graph: graph["disorder"]) == {}


def test_the_sample_photographs_are_in_the_input_folder(opened, page):
    samples = {name for workflow in TEMPLATES.values() for name in workflow["extra"]["editkit_samples"]}
    for name in samples:
        shipped = (pack.ROOT / "workflows/media" / name).read_bytes()
        assert (page.server.base / "input" / name).read_bytes() == shipped


@newest
def test_a_note_leads_to_weights_and_photographs(page):
    page.run(STEPS, "open", pack=FOLDER_NAME, name="kontext_local_edit")
    found = {href: (target, status) for href, target, status in page.run(STEPS, "links")}
    media = f"{page.server.url}/api/workflow_templates/{FOLDER_NAME}/media"
    own = [f"{media}/fig_bowl.jpg", f"{media}/fig_bowl_mask.png"]
    assert {href: found.pop(href) for href in own} == dict.fromkeys(own, ("_blank", 200))
    assert len(found) == 3 and all(href.startswith("https://huggingface.co/") for href in found)


@newest
def test_the_server_lists_every_template_with_its_thumbnail(page):
    assert sorted(page.server.get("/workflow_templates")[FOLDER_NAME]) == sorted(TEMPLATES)
    for name in TEMPLATES:
        address = f"{page.server.url}/api/workflow_templates/{FOLDER_NAME}/{name}.jpg"
        with urllib.request.urlopen(address, timeout=60) as reply:
            assert reply.headers["Content-Type"] == "image/jpeg" and len(reply.read()) > 5000, name


@newest
def test_an_own_photograph_of_a_samples_name_is_kept(page, tmp_path):
    """Who has another fig_bowl.jpg keeps it, and the template opens with that."""
    file = page.server.base / "input" / "fig_bowl.jpg"
    shipped = file.read_bytes()
    try:
        file.write_bytes((pack.ROOT / "workflows/media/dandelions.jpg").read_bytes())
        own = file.read_bytes()
        graph = page.run(STEPS, "open", pack=FOLDER_NAME, name="outpaint")
        assert file.read_bytes() == own and graph["prompt"] == twin("outpaint")
        assert not [p for p in file.parent.iterdir() if re.match(r"fig_bowl \(", p.name)]
    finally:
        file.write_bytes(shipped)
