"""Many prompts on one server, stopped at random moments: none is lost, and neither memory nor loaded models pile up."""

import json
import random
import statistics
import time
import uuid
from pathlib import Path

import pytest

from editkit.tests.comfyui.test_memory import ours
from editkit.tests.comfyui.test_workflows import TWINS, needed_packages, read, upload_pictures

AHEAD = 4  # prompts in the queue at once
SHARE = 0.4  # interrupts per prompt that has succeeded
GROWTH = 0.05  # of what the server held after the first fifty prompts
SHORT_GROWTH = 200e6  # bytes, where there are too few prompts for the memory to have settled


def resident(process: int) -> int:
    """Bytes that a process holds now; the test is skipped where the system does not say."""
    status = Path(f"/proc/{process}/status")
    if not status.is_file():
        pytest.skip("this system does not tell another process's memory in /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def median(held: list[tuple[int, int]], start: int, end: int) -> float:
    """Of the memory while the prompts from `start` to `end` ran. A single reading tells by a tenth of the whole which
    step of which edit it fell into; what piles up moves the median."""
    return statistics.median(memory for done, memory in held if start <= done <= end)


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


class Line:
    """Prompts sent with ids of their own, and what became of each."""

    def __init__(self, server, queue: list[dict]):
        self.server, self.queue, self.waiting = server, queue, {}
        self.succeeded, self.stopped = set(), 0

    def send(self, number: int) -> None:
        prompt_id = str(uuid.uuid4())
        prompt = reseeded(self.queue[number % len(self.queue)], number)
        status, reply = self.server.post("/prompt", {"prompt": prompt, "prompt_id": prompt_id, "client_id": "soak"})
        assert status == 200 and reply["prompt_id"] == prompt_id and not reply["node_errors"], reply
        self.waiting[prompt_id] = number

    def stop_one(self, rng: random.Random) -> None:
        """Interrupts what runs now: sometimes by its name, sometimes whatever it is."""
        running = [item[1] for item in self.server.get("/queue")["queue_running"]]
        named = {"prompt_id": running[0]} if running and rng.random() < 0.5 else {}
        assert self.server.post("/interrupt", named)[0] == 200

    def look(self) -> int:
        """Takes in what has ended, and sends again what was stopped. Returns how many prompts are under way."""
        queued = self.server.get("/queue")
        known = {item[1] for part in queued.values() for item in part}
        for prompt_id, number in list(self.waiting.items()):
            entry = self.server.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is None:
                assert prompt_id in known or self.server.get(f"/history/{prompt_id}"), "a prompt was lost"
                continue
            del self.waiting[prompt_id]
            self.take(number, entry)
        return len(self.waiting)

    def take(self, number: int, entry: dict) -> None:
        kinds = [kind for kind, _ in entry["status"]["messages"]]
        if entry["status"]["status_str"] == "success":
            assert any(output.get("images") for output in entry["outputs"].values()), "nothing was saved"
            self.succeeded.add(number)
        else:
            assert "execution_interrupted" in kinds, entry["status"]
            self.stopped += 1
            self.send(number)


@pytest.mark.long
def test_prompts_stopped_at_random_are_never_lost_and_leave_nothing_behind(server, at_length):
    line, rng = Line(server, prompts(server)), random.Random(5)
    count, first = at_length(20, 500), at_length(10, 50)
    sent, stops, held, began = 0, 0, [], time.monotonic()
    next_stop = began
    while len(line.succeeded) < count:
        if sent < count and len(line.waiting) < AHEAD:
            line.send(sent)
            sent += 1
        if stops <= SHARE * len(line.succeeded) and time.monotonic() > next_stop:
            line.stop_one(rng)
            stops += 1
            each = (time.monotonic() - began) / max(len(line.succeeded), 1)
            next_stop = time.monotonic() + rng.uniform(0, 3 * each)
        line.look()
        held.append((len(line.succeeded), resident(server.process.pid)))
        time.sleep(0.05)
    settled, last = median(held, first, 2 * first), median(held, count - first, count)
    grown = last - settled
    print(f"{line.stopped} of {count} prompts were stopped; {grown / settled:+.1%} of {settled / 1e9:.2f} GB")
    assert line.succeeded == set(range(count)) and line.stopped >= at_length(1, 20)
    assert len(ours(server)) == 1  # one set of weights, however many prompts used it
    assert grown < at_length(SHORT_GROWTH, GROWTH * settled)
