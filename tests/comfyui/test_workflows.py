"""Each shipped workflow gives the same picture queued on a server, by `queue`, as run by `run` in its own process."""

import json
import os
import re
import shutil
import subprocess
import sys

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
RACES_SHEET = ("EditKit_race_", "_Edit_Race")  # what it is called here, and by `queue` after its node
MOST_DIFFERENCE = 1 / 255 + 1e-6
MEASURED = re.compile(r" *[\d.]+ (ms|MB)\b")  # of an export's report: times and memory (a file's size has no unit)


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


def said(command: list, folder) -> tuple[list[np.ndarray], list[str]]:
    """Runs `python FOLDER …`: the pictures that it says it made, in its order, and the other lines.

    What is measured of time and memory is no part of its result: its sheet and those columns are left out.
    """
    cache = {"XDG_CACHE_HOME": str(folder / "cache"), "LOCALAPPDATA": str(folder / "cache"), "TMPDIR": str(folder)}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, timeout=900, env=os.environ | cache
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    files = [line for line in lines if line.endswith(".png") and (folder / line).is_file()]
    texts = [untimed(line) for line in lines if line not in files]
    timed = [file for file in files if any(name in file for name in RACES_SHEET)]
    return [pixels(folder / file) for file in files if file not in timed], texts


def untimed(line: str) -> str:
    """A line of a race's table without its columns of seconds and memory, however wide; any other without its own."""
    if not line.startswith("|"):
        return MEASURED.sub(r" \1", line)
    cells = [cell.strip(" -") for cell in line.split("|")]
    return "|".join(cells[:7] + cells[9:])


def headless(python, twin, folder, settings):
    """What `run` makes of a workflow, in a process of its own."""
    return said([python, pack.ROOT, "run", twin, "--out", "alone", *settings], folder)


def sent(server, twin, folder, settings):
    """What `queue` makes of it on the server, with the standard library alone."""
    client = [sys.executable, "-I", "-S", pack.ROOT, "queue", twin, "--server", server.url, "--out", "sent"]
    return said([*client, *settings], folder)


@pytest.fixture
def settings(server, tiny_weights, tmp_path, at_length):
    """settings(prompt): none, but that an export is of a tiny model, and small, unless at length."""

    def made(prompt) -> list[str]:
        if not needed_packages(prompt) or at_length(False, True):
            return []
        for base in (server.base, tmp_path):
            shutil.copytree(tiny_weights, base / "models/editkit/tiny", dirs_exist_ok=True)
        return ["--set", "Load BlazeEdit.model=tiny", "--set", "Export Mobile Bundle.canvas=96"]

    return made


def needed_packages(prompt: dict) -> list[str]:
    """What a workflow needs beside requirements.txt."""
    kinds = {node["class_type"] for node in prompt.values()}
    return ["litert_torch", "ai_edge_quantizer", "ai_edge_litert"] if "EditKitExportMobileBundle" in kinds else []


def has_package(python, name: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
    return subprocess.run([str(python), "-c", code], capture_output=True, timeout=60).returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("twin", TWINS, ids=lambda p: p.stem)
def test_the_server_and_the_headless_runner_give_the_same_picture(server, checkout, twin, tmp_path, settings):
    lacking = [p for p in needed_packages(read(twin)) if not has_package(checkout.python, p)]
    if lacking:
        pytest.skip(f"{checkout.python} lacks {', '.join(lacking)} (requirements-mobile.txt)")
    more = settings(read(twin))
    alone, texts = headless(checkout.python, twin, tmp_path, more)
    queued, their_texts = sent(server, twin, tmp_path, more)
    assert alone and [p.shape for p in queued] == [p.shape for p in alone]
    assert texts == their_texts
    worst = max(float(np.abs(a - b).max()) for a, b in zip(queued, alone, strict=True))
    assert worst <= MOST_DIFFERENCE, f"differs by {worst * 255:.1f}/255"


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
