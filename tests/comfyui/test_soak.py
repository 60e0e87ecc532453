"""Many prompts on one server, stopped at random moments: none is lost, and neither memory nor loaded models pile up."""

import json
import random
import time
import uuid

import pytest

from editkit.tests.comfyui.test_memory import ours
from editkit.tests.comfyui.test_workflows import TWINS, needed_packages, read, upload_pictures

AHEAD = 4  # prompts in the queue at once
SHARE = 0.4  # interrupts per prompt that has succeeded
GROWTH = 0.05  # of what the server held after the first fifty prompts
SHORT_GROWTH = 200e6  # bytes, where there are too few prompts for the memory to have settled


def at_rest(server, prompt: dict) -> int:
    """Bytes that the server holds after this prompt, with nothing queued. The same one each time, as ComfyUI keeps what
    the last prompt's nodes made. Skips where the system does not say."""
    assert server.run(prompt)["status"]["status_str"] == "success"
    held = server.get("/probe/memory")
    if held is None:
        pytest.skip("this system does not tell a process's memory in /proc")
    return held


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

    def run(self, numbers: range, rng: random.Random) -> None:
        """Sends these prompts, a few ahead, and stops some of what runs at random moments, until all have succeeded."""
        left, began = list(numbers), time.monotonic()
        stops, next_stop, before = 0, began, len(self.succeeded)
        while left or self.waiting:
            if left and len(self.waiting) < AHEAD:
                self.send(left.pop(0))
            done = len(self.succeeded) - before
            if stops <= SHARE * done and time.monotonic() > next_stop:
                self.stop_one(rng)
                stops += 1
                next_stop = time.monotonic() + rng.uniform(0, 3 * (time.monotonic() - began) / max(done, 1))
            self.look()
            time.sleep(0.05)

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
    queue, rng = prompts(server), random.Random(5)
    line, same = Line(server, queue), reseeded(queue[0], 0)
    line.run(range(at_length(10, 50)), rng)
    settled = at_rest(server, same)
    count = at_length(20, 500)
    line.run(range(at_length(10, 50), count), rng)
    grown = at_rest(server, same) - settled
    print(f"{line.stopped} of {count} prompts were stopped; {grown / settled:+.1%} of {settled / 1e9:.2f} GB")
    assert line.succeeded == set(range(count)) and line.stopped >= at_length(1, 20)
    assert len(ours(server)) == 1  # one set of weights, however many prompts used it
    assert grown < at_length(SHORT_GROWTH, GROWTH * settled)
