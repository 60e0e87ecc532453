"""Every shipped workflow has its twin, thumbnail and pictures, and each check bites on a bad example."""

import json

import pytest

from editkit.tests.house import pack, twin, workflow_checks

FOLDER = pack.ROOT / "workflows"


@pytest.mark.parametrize("path", pack.workflows(), ids=lambda p: p.stem)
def test_a_workflow_is_complete(path):
    own = set(pack.node_classes())
    assert workflow_checks.workflow_problems(path, pack.classes(), pack.all_names(), own) == []


def test_no_twin_or_thumbnail_is_left_over():
    assert workflow_checks.stray_twins(FOLDER) == []


def test_only_these_systems_workflows_need_weights_that_are_downloaded():
    twins = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (FOLDER / "api").glob("*.json")}
    left_out = {name for name, prompt in twins.items() if workflow_checks.downloads(prompt)}
    assert left_out == {
        "editmgt_instruction", "editmgt_localise", "editmgt_masked", "kontext_local_edit", "kontext_multi_turn",
        "kontext_style_reference", "kontext_text_edit", "kontext_two_references", "kontext_visual_cue",
        "icedit_early_filter", "icedit_instruction", "icedit_masked", "icedit_training_free",
        "swiftedit_graph", "swiftedit_one_step", "swiftedit_scale_sweep",
    }  # fmt: skip


@pytest.mark.parametrize("path", pack.workflows(), ids=lambda p: p.stem)
def test_nodes_lie_in_their_groups_without_overlap_and_links_run_to_the_right(path):
    assert workflow_checks.layout_problems(json.loads(path.read_text(encoding="utf-8"))) == []


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
    load["properties"] = {"cnr_id": "comfy-core", "ver": "0.3.64"}
    said = "**Weights.** None to download.\n\n[dog.jpg](./api/workflow_templates/editkit/media/dog.jpg)"
    note = {"id": 3, "type": "MarkdownNote", "widgets_values": [said], "inputs": [], "outputs": []}
    workflow = {"nodes": [load, save | {"properties": ours}, note], "links": [[1, 1, 0, 2, 0, "IMAGE"]]}
    workflow["extra"] = {"editkit_samples": ["dog.jpg"]}
    workflow["id"] = "6f9d4e0a-0f6c-5d3c-8f1e-3b2a1c0d9e8f"
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


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("lacking", ["cnr_id", "ver"])
def test_a_node_without_its_registry_id_or_version_is_found(example, number, lacking):
    _, workflow, problems = example
    del workflow["nodes"][number]["properties"][lacking]
    assert len(problems()) == 1 and "cnr_id" in problems()[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w["nodes"].pop(), "no note"),
        (lambda w: w["nodes"][2].update(widgets_values=["**Weights.** None to download."]), "does not link the sample"),
        (lambda w: w["nodes"][2]["widgets_values"].insert(0, "**Weights.** (media/dog.jpg)"), "wrong about whether"),
        (lambda w: w["nodes"].append({"id": 4, "type": "VAELoader", "widgets_values": ["b.gguf"]}), "loads b.gguf"),
        (lambda w: w["extra"].clear(), "extra.editkit_samples"),
    ],
)
def test_a_note_that_says_too_little_is_found(example, change, said):
    workflow = example[1]
    assert workflow_checks.note_problems(workflow) == []
    change(workflow)
    assert any(said in line for line in workflow_checks.note_problems(workflow))


@pytest.mark.parametrize("url", ["https://example.org/b.safetensors", "https://huggingface.co/a/resolve/main/b"])
def test_a_model_that_the_canvas_could_not_fetch_is_found(example, url):
    _, workflow, problems = example
    workflow["nodes"][1]["properties"]["models"] = [{"name": "b.safetensors", "url": url, "directory": "vae"}]
    assert "names a model that it does not load" in problems()[0]


@pytest.mark.parametrize("name", [None, 3, "editkit-tone", "6F9D4E0A-0F6C-5D3C-8F1E-3B2A1C0D9E8F"])
def test_an_id_that_the_canvas_warns_of_is_found(example, name):
    _, workflow, problems = example
    assert "no UUID" in problems(workflow | {"id": name})[0]


def test_a_disorderly_canvas_is_found():
    one = {"id": 1, "type": "A", "pos": [0, 40], "size": [100, 50]}
    two = {"id": 2, "type": "B", "pos": [90, 60], "size": [100, 50]}
    groups = [{"bounding": [-10, 0, 120, 200], "title": "1. A"}, {"bounding": [-20, 100, 50, 200], "title": "3. B"}]
    said = workflow_checks.layout_problems({"nodes": [one, two], "links": [[1, 2, 0, 1, 0, "X"]], "groups": groups})
    assert len(said) == 6
    parts = ("nodes 1 and 2 overlap", "runs to the left", "no group", "'3. B'", "left of the one", "group 1 overlaps")
    assert all(any(part in line for line in said) for part in parts)


def test_left_over_files_are_found(example):
    folder = example[0]
    assert len(workflow_checks.stray_twins(folder)) == 2  # edit.json itself was not written yet
