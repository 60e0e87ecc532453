"""Each shipped workflow gives the same picture queued on a server as run by the headless runner."""

import json
import os
import subprocess

import numpy as np
import pytest

from editkit.tests.comfyui.server import pixels
from editkit.tests.house import pack
from editkit.tests.house.workflow_checks import MEDIA_INPUTS, downloads


def read(twin) -> dict:
    return json.loads(twin.read_text(encoding="utf-8"))


SHIPPED = sorted((pack.ROOT / "workflows/api").glob("*.json"))
TWINS = [p for p in SHIPPED if not downloads(read(p))]  # what runs right after install
OTHERS = [p for p in SHIPPED if downloads(read(p))]
MOST_DIFFERENCE = 1 / 255 + 1e-6


def prefixes(prompt: dict) -> dict[str, str]:
    """SaveImage id -> a file name prefix of its own, so that both sides' files can be matched."""
    return {
        node_id: f"node{node_id}" for node_id, node in prompt.items() if node["class_type"] == "SaveImage"
    }


def upload_pictures(server, prompt: dict) -> None:
    """Sends the sample photographs that a prompt names to the server."""
    for node in prompt.values():
        name = MEDIA_INPUTS.get(node["class_type"])
        if name and isinstance(node["inputs"].get(name), str):
            node["inputs"][name] = server.upload(pack.ROOT / "workflows/media" / node["inputs"][name])


def on_server(server, prompt: dict) -> dict[str, list[np.ndarray]]:
    """Uploads the pictures, queues the prompt, and downloads what each SaveImage saved."""
    upload_pictures(server, prompt)
    for node_id, prefix in prefixes(prompt).items():
        prompt[node_id]["inputs"]["filename_prefix"] = prefix
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    return {i: [server.picture(stored) for stored in entry["outputs"][i]["images"]] for i in prefixes(prompt)}


def headless(python, twin, prompt: dict, out) -> dict[str, list[np.ndarray]]:
    """Runs the same file with `python FOLDER run`, and reads what each SaveImage saved."""
    command = [str(python), str(pack.ROOT), "run", str(twin), "--out", str(out)]
    environment = os.environ | {"XDG_CACHE_HOME": str(out.parent / "cache"), "LOCALAPPDATA": str(out.parent / "cache")}
    for node_id, prefix in prefixes(prompt).items():
        command += ["--set", f"{node_id}.filename_prefix={prefix}"]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    return {
        i: [pixels(p) for p in sorted(out.glob(f"{prefix}_*.png"))] for i, prefix in prefixes(prompt).items()
    }


def needed_packages(prompt: dict) -> list[str]:
    """What a workflow needs beside requirements.txt."""
    kinds = {node["class_type"] for node in prompt.values()}
    return ["litert_torch", "ai_edge_quantizer", "ai_edge_litert"] if "EditKitExportMobileBundle" in kinds else []


def has_package(python, name: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([str(python), "-c", code], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("twin", TWINS, ids=lambda p: p.stem)
def test_the_server_and_the_headless_runner_give_the_same_picture(server, checkout, twin, tmp_path):
    prompt = read(twin)
    lacking = [p for p in needed_packages(prompt) if not has_package(checkout.python, p)]
    if lacking:
        pytest.skip(f"{checkout.python} lacks {', '.join(lacking)} (requirements-mobile.txt)")
    alone = headless(checkout.python, twin, prompt, tmp_path / "out")
    queued = on_server(server, prompt)
    assert queued and queued.keys() == alone.keys()
    for node_id, pictures in queued.items():
        assert [p.shape for p in pictures] == [p.shape for p in alone[node_id]]
        worst = max(float(np.abs(a - b).max()) for a, b in zip(pictures, alone[node_id], strict=True))
        assert worst <= MOST_DIFFERENCE, f"node {node_id} differs by {worst * 255:.1f}/255"


# Our loaders, what each says is missing, and where it looks. ComfyUI's own loaders complain of their list alone.
OURS = {
    "EditKitLoadSwiftEdit": ("ip_adapter.bin", "editkit"), "EditKitLoadEditMGT": ("llm_encoder/", "editkit"),
    "EditKitICEditLoRA": ("ICEdit-MoE-LoRA.safetensors", "loras"),
}  # fmt: skip
CORES_ALONE = {
    "icedit_training_free", "kontext_local_edit", "kontext_multi_turn", "kontext_style_reference", "kontext_text_edit",
    "kontext_two_references", "kontext_visual_cue",
}  # fmt: skip


IN_PART = {"kontext_visual_cue"}  # shows the cue without any weights; the server runs that part


@pytest.mark.parametrize("twin", OTHERS, ids=lambda p: p.stem)
def test_without_the_weights_the_server_complains_of_nothing_but_the_loaders(server, twin):
    prompt = read(twin)
    upload_pictures(server, prompt)
    status, reply = server.post("/prompt", {"prompt": prompt})
    assert status == (200 if twin.stem in IN_PART else 400)
    assert sorted(reply["node_errors"]) == sorted(downloads(prompt))
    said = {prompt[i]["class_type"]: found["errors"] for i, found in reply["node_errors"].items()}
    mine = {name: said.pop(name) for name in OURS if name in said}
    assert {error["type"] for errors in said.values() for error in errors} <= {"value_not_in_list"}
    assert len(mine) == (twin.stem not in CORES_ALONE)
    for name, (ours,) in mine.items():
        assert ours["type"] == "custom_validation_failed"
        assert all(part in ours["details"] for part in OURS[name])
