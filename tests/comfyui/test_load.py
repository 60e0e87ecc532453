"""A real ComfyUI loads the pack under an arbitrary folder name and shows every node with its tooltips."""

import json
import urllib.request

import pytest

import editkit
from editkit.tests.house import pack


def test_the_pack_loads_without_an_error(server):
    log = server.log()
    assert "/my.pack" in log.replace("\\", "/")  # the line with its import time
    for complaint in ("IMPORT FAILED", "Traceback", "Cannot import", "Skip "):
        lines = [line for line in log.splitlines() if complaint in line and "my.pack" in line]
        assert not lines, lines


def test_the_pack_appears_in_object_info_with_every_node(server):
    missing = set(editkit.NODE_CLASS_MAPPINGS) - set(server.get("/object_info"))
    assert not missing


def test_every_input_and_output_has_a_tooltip_in_object_info(server):
    for name in editkit.NODE_CLASS_MAPPINGS:
        info = server.get(f"/object_info/{name}")[name]
        assert info["description"] and info["category"].startswith("EditKit/"), name
        tips = [o[1]["tooltip"] for g in ("required", "optional") for o in info["input"].get(g, {}).values()]
        tips += info["output_tooltips"]
        assert all(tips), name
        assert len(info["output_tooltips"]) == len(info["output"]), name


def test_help_pages_and_templates_are_served(server):
    templates = server.get("/workflow_templates").get("my.pack", [])
    assert sorted(templates) == sorted(p.stem for p in pack.workflows())
    for name in editkit.NODE_CLASS_MAPPINGS:
        with urllib.request.urlopen(f"{server.url}/extensions/my.pack/docs/{name}.md") as page:
            assert page.status == 200


@pytest.mark.parametrize("name", sorted(pack.CORE_NODES))
def test_the_table_of_core_nodes_is_true(server, name):
    info = server.get(f"/object_info/{name}")[name]
    assert pack.CORE_NODES[name] == json.loads(json.dumps(pack.table_entry(info)))
