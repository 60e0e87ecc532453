"""Every shipped workflow has its twin, thumbnail and pictures, and each check bites on a bad example."""

import json

import pytest

from editkit.tests.house import pack, twin, workflow_checks

FOLDER = pack.ROOT / "workflows"


@pytest.mark.parametrize("path", pack.workflows(), ids=lambda p: p.stem)
def test_a_workflow_is_complete(path):
    own = set(pack.node_classes())
    assert workflow_checks.workflow_problems(path, pack.classes(), pack.names(), own) == []


def test_no_twin_or_thumbnail_is_left_over():
    assert workflow_checks.stray_twins(FOLDER) == []


@pytest.fixture
def example(tmp_path):
    """A complete workflow in a folder of its own: (path, write(workflow), problems())."""
    sockets = [{"name": "images", "type": "IMAGE", "link": 1}]
    outputs = [
        {"name": "IMAGE", "type": "IMAGE", "links": [1]},
        {"name": "MASK", "type": "MASK", "links": None},
    ]
    ours = {"cnr_id": "editkit", "ver": "0.1.0"}
    load = {
        "id": 1,
        "type": "LoadImage",
        "widgets_values": ["dog.jpg", "image"],
        "inputs": [],
        "outputs": outputs,
    }
    save = {"id": 2, "type": "SaveImage", "widgets_values": ["out"], "inputs": sockets, "outputs": []}
    workflow = {"nodes": [load, save | {"properties": ours}], "links": [[1, 1, 0, 2, 0, "IMAGE"]]}
    for name in ("edit.jpg", "media/dog.jpg", "api/edit.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "api/edit.json").write_text(
        json.dumps(twin.convert(workflow, pack.classes())), encoding="utf-8"
    )

    def problems(changed=workflow):
        (tmp_path / "edit.json").write_text(json.dumps(changed), encoding="utf-8")
        return workflow_checks.workflow_problems(tmp_path / "edit.json", pack.classes(), {}, {"SaveImage"})

    return tmp_path, workflow, problems


def test_a_complete_workflow_passes(example):
    assert example[2]() == []


@pytest.mark.parametrize("name", ["edit.jpg", "media/dog.jpg", "api/edit.json"])
def test_each_missing_file_is_found(example, name):
    folder, _, problems = example
    (folder / name).unlink()
    assert len(problems()) == 1


def test_a_twin_that_differs_is_found(example):
    folder, workflow, problems = example
    workflow["nodes"][1]["widgets_values"] = ["other"]
    assert "is not what api/edit.json says" in problems()[0]


def test_a_node_without_its_registry_id_is_found(example):
    _, workflow, problems = example
    workflow["nodes"][1]["properties"] = {}
    assert "cnr_id" in problems()[0]


def test_left_over_files_are_found(example):
    folder = example[0]
    assert len(workflow_checks.stray_twins(folder)) == 2  # edit.json itself was not written yet
