"""`queue` stopped, killed and started again, and its server too: each result comes exactly once."""

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from editkit.headless import record
from editkit.tests.headless.queued import GRAPH, change, client, picture, queue, results, until, wanted


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_takes_our_prompts_off_the_server_and_nobody_elses(fake, place):
    fake.seconds = 60
    fake.pending.append(("theirs", GRAPH, "them"))
    until(lambda: fake.running)
    process = client(fake, "--batch", "photos")
    until(lambda: len(fake.pending) == 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and "Run the same command again to go on." in said and "Traceback" not in said
    assert not fake.pending and not fake.interrupted and fake.running[0] == "theirs"
    fake.interrupted.add("theirs")
    process = client(fake, "--batch", "photos")
    until(lambda: fake.running and fake.running[0] != "theirs")
    ours = fake.running[0]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert fake.interrupted == {"theirs", ours}
    fake.seconds = 0.01
    assert queue(fake, "--batch", "photos") == 0 and results() == wanted()


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_two_clients_do_not_share_a_folder(fake, place, capsys):
    fake.seconds = 60
    process = client(fake, "--batch", "photos")
    until(lambda: fake.pending)
    assert queue(fake, "--batch", "photos") == 1
    assert "Another `queue` is writing to out" in capsys.readouterr().err
    process.kill()
    process.communicate()
    fake.seconds, fake.interrupted = 0.01, {fake.running[0]}
    assert queue(fake, "--batch", "photos") == 0 and results() == wanted()


def test_results_that_came_while_the_client_was_dead_are_fetched_not_made_again(fake, place):
    fake.seconds, fake.steps = 60, 100
    process = client(fake, "--batch", "photos")
    until(lambda: len(fake.bodies) == 2)
    process.kill()
    process.communicate()
    fake.seconds = 0.1
    until(lambda: len(fake.history) == 2)
    assert not results()
    fake.seconds = 0.01
    assert queue(fake, "--batch", "photos") == 0
    assert results() == wanted() and len(fake.executed()) == 5


@pytest.mark.long
def test_a_client_killed_at_any_instant_goes_on_without_losing_or_repeating_anything(fake, place, at_length):
    """Each result is there once, and the server has run each photo once: it was never away."""
    count, rng = at_length(20, 200), random.Random(7)
    for number in range(5, at_length(12, 60)):
        picture(Path("photos") / f"p{number}.png", number + 1)
    fake.seconds = 0.03
    for kill in range(count):
        process = client(fake, "--batch", "photos", flags=["-S"], out=f"out{kill % 4}")
        before = length(kill % 4)
        while process.poll() is None and length(kill % 4) == before:
            time.sleep(0.002)
        time.sleep(0.25 * rng.random())
        process.kill()
        process.communicate()
    for folder in range(4):
        before = {name: stat(folder, name) for name in finished(folder)}
        process = client(fake, "--batch", "photos", out=f"out{folder}")
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert results(f"out{folder}") == wanted()
        assert all(stat(folder, name) == kept for name, kept in before.items())  # written once
        ids = [e["prompt_id"] for e in events(folder) if e["state"] == "queued"]
        assert len(set(ids)) == len(wanted())
    runs = fake.executed()
    assert len(runs) == len(set(runs)) == 4 * len(wanted())


def events(folder):
    lines = Path(f"out{folder}", record.NAME).read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def length(folder):
    written = Path(f"out{folder}", record.NAME)
    return written.stat().st_size if written.exists() else 0


def finished(folder):
    return [e["files"][0]["name"] for e in events(folder) if e["state"] == "done"]


def stat(folder, name):
    found = Path(f"out{folder}", name).stat()
    return found.st_ino, found.st_mtime_ns


@pytest.mark.long
def test_a_server_killed_at_any_instant_costs_nothing_but_time(fake, place, at_length, monkeypatch):
    from editkit.headless import patience

    monkeypatch.setattr(patience, "FIRST", 0.02)
    change(**{"4": {"class_type": "Compare", "inputs": {"images": ["2", 0]}, "_meta": {"title": "pair"}}})
    for number in range(5, at_length(15, 100)):
        picture(Path("photos") / f"p{number}.png", number + 1)
    fake.seconds, rng, over, lives = 0.05, random.Random(5), threading.Event(), []

    def torment():
        while len(lives) < at_length(8, 60) and not over.wait(0.1 + 0.25 * rng.random()):
            fake.stop()
            lives.append(len(fake.executed()))
            time.sleep(0.05 * rng.random())
            fake.start()

    thread = threading.Thread(target=torment)
    thread.start()
    try:
        assert queue(fake, "--batch", "photos", patience="60") == 0
    finally:
        over.set()
        thread.join()
    assert len(lives) > 3
    found, expected = results(), wanted()
    for name, content in expected.items():
        for end in ("", "_pair_a", "_pair_b"):
            assert found.pop(name.replace(".png", f"{end}.png")) == content
    assert not found
