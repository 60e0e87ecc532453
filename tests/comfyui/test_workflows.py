"""Each shipped workflow gives the same picture queued on a server as run by the headless runner."""

import json
import os
import subprocess

import numpy as np
import pytest

from editkit.tests.comfyui.server import pixels
from editkit.tests.house import pack
from editkit.tests.house.workflow_checks import MEDIA_INPUTS

TWINS = sorted((pack.ROOT / "workflows/api").glob("*.json"))
MOST_DIFFERENCE = 1 / 255 + 1e-6


def prefixes(prompt: dict) -> dict[str, str]:
    """SaveImage id -> a file name prefix of its own, so that both sides' files can be matched."""
    return {
        node_id: f"node{node_id}" for node_id, node in prompt.items() if node["class_type"] == "SaveImage"
    }


def on_server(server, prompt: dict) -> dict[str, list[np.ndarray]]:
    """Uploads the pictures, queues the prompt, and downloads what each SaveImage saved."""
    for node in prompt.values():
        name = MEDIA_INPUTS.get(node["class_type"])
        if name and isinstance(node["inputs"].get(name), str):
            node["inputs"][name] = server.upload(pack.ROOT / "workflows/media" / node["inputs"][name])
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
    prompt = json.loads(twin.read_text(encoding="utf-8"))
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
