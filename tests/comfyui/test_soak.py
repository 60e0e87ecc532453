"""Many prompts one after the other on one server: all succeed, and neither memory nor loaded models pile up."""

import json
from pathlib import Path

import pytest

from editkit.tests.comfyui.test_memory import ours
from editkit.tests.comfyui.test_workflows import TWINS, needed_packages, read, upload_pictures

GROWTH = 200e6  # bytes above what the server held once every workflow had run


def resident(process: int) -> int:
    """Bytes that a process holds now; the test is skipped where the system does not say."""
    status = Path(f"/proc/{process}/status")
    if not status.is_file():
        pytest.skip("this system does not tell another process's memory in /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def prompts(server) -> list[dict]:
    """The shipped workflows that need no downloaded weights, with their pictures uploaded."""
    out = []
    for twin in TWINS:
        prompt = read(twin)
        if needed_packages(prompt):
            continue  # an export takes a minute each time, and is tested on its own
        upload_pictures(server, prompt)
        out.append(prompt)
    return out


def reseeded(prompt: dict, seed: int) -> dict:
    """The prompt with other noise and another file name, so that nothing of it is cached from the run before."""
    prompt = json.loads(json.dumps(prompt))
    for node in prompt.values():
        if "seed" in node["inputs"]:
            node["inputs"]["seed"] = seed
        if node["class_type"] == "SaveImage":
            node["inputs"]["filename_prefix"] = f"soak{seed}"
    return prompt


@pytest.mark.long
def test_prompts_in_a_row_succeed_and_leave_nothing_behind(server, at_length):
    queue, count = prompts(server), at_length(20, 200)
    settled, models = 0, 0
    for number in range(count):
        entry = server.run(reseeded(queue[number % len(queue)], number))
        assert entry["status"]["status_str"] == "success", entry["status"]
        saved = [output for output in entry["outputs"].values() if output.get("images")]
        assert saved, "nothing was saved"
        if number == 2 * len(queue) - 1:
            settled, models = resident(server.process.pid), len(ours(server))
    assert models == 1  # one set of weights, however many prompts used it
    assert len(ours(server)) == models
    assert resident(server.process.pid) < settled + GROWTH
