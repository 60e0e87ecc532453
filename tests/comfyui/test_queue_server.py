"""What goes wrong is said in the same words by `run`, in its own process, and by `queue`, on a real server."""

import json
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from editkit.headless import cli, record
from editkit.tests.comfyui.server import pixels
from editkit.tests.comfyui.test_errors import FAULTY, failures, painted
from editkit.tests.house import pack

TONE = pack.ROOT / "workflows/api/tone.json"
LIMIT = 600_000  # bytes that a file may have, of a result that is larger
needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="sets another process's limits")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def both(server, place, capsys):
    """both(workflow, *arguments): the exit codes and the errors of `run` and of `queue`."""

    def run(file, *arguments):
        answers = []
        for command in (["run"], ["queue", "--server", server.url]):
            code = cli.main([command[0], str(file), *command[1:], "--out", f"out_{command[0]}", *arguments])
            answers.append((code, complaint(capsys.readouterr().err)))
        return answers

    return run


def complaint(said: str) -> str:
    """Without what else is told on the way, such as which engine runs."""
    return "".join(line for line in said.splitlines(keepends=True) if line.startswith("error: "))


def written(graph: dict) -> Path:
    Path("graph.json").write_text(json.dumps(graph))
    return Path("graph.json")


@pytest.mark.parametrize("fault", FAULTY)
def test_a_refused_workflow_is_refused_in_the_same_words(both, fault):
    ours, theirs = both(written(FAULTY[fault]))
    assert ours == theirs and ours[0] == 1 and ours[1].startswith("error: ")


@pytest.mark.parametrize("case", [c for c in failures() if c != "core"])
def test_a_node_that_fails_says_the_same(both, case):
    ours, theirs = both(written(failures()[case]))
    assert ours == theirs and ours[0] == 1


def broken_pictures(folder: Path) -> dict[str, bytes]:
    Image.effect_noise((64, 64), 60).save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    head = whole.index(b"IHDR")
    side = (30000).to_bytes(4, "big")
    bomb = whole[:head] + b"IHDR" + side + side + whole[head + 12 : head + 17]
    bomb += zlib.crc32(bomb[head:]).to_bytes(4, "big") + whole[head + 21 :]
    return {"empty.png": b"", "text.png": b"no picture", "cut.png": whole[: len(whole) // 2], "bomb.png": bomb}


@pytest.mark.parametrize("name", ["empty.png", "text.png", "cut.png", "bomb.png"])
def test_a_picture_that_cannot_be_read_is_said_alike_and_never_sent(both, place, server, name):
    (place / name).write_bytes(broken_pictures(place)[name])
    before = sorted(p for p in (server.base / "input").rglob("*"))
    ours, theirs = both(TONE, "--set", f"image={name}")
    assert ours == theirs and ours[1].startswith(f"error: 'image' (LoadImage): Cannot read {name}: ")
    assert sorted((server.base / "input").rglob("*")) == before


@pytest.mark.parametrize("name", ["empty.png", "text.png", "cut.png", "bomb.png"])
def test_a_painted_mask_that_is_damaged_is_said_alike_by_the_name_that_the_user_gave_it(both, place, name):
    (place / name).write_bytes(broken_pictures(place)[name])
    ours, theirs = both(written(painted(name)))
    assert ours == theirs and f"The painted mask '{name}' " in ours[1]


@pytest.mark.parametrize("name", ["nowhere.png", "../nowhere.png", "editkit/gone.png [input]", " "])
def test_a_picture_that_is_not_there_is_said_alike(both, server, name):
    (code, ours), (other, theirs) = both(TONE, "--set", f"image={name}")
    assert (code, other) == (1, 1)
    if name.startswith("../"):  # named by the user, so it is a file of this machine, and not there
        assert "Cannot read ../nowhere.png: there is no such file" in theirs
    elif name.strip():
        assert theirs == ours.replace(")\n", f", {server.url})\n") and "Invalid image file: " in ours
    else:
        assert "Invalid image file" in ours and "Invalid image file" in theirs


def test_a_server_that_is_not_there_is_one_sentence(place, capsys):
    assert cli.main(["queue", str(TONE), "--server", "http://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err.startswith("error: There is no ComfyUI server at http://127.0.0.1:9 (")


def client(server, *arguments, limit=None, command="queue", **options):
    """The command in a process of its own; limit: the most bytes that it may write into a file."""
    there = ["--server", server.url] if command == "queue" else []

    def limited():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, str(pack.ROOT), command, str(TONE), *there, *arguments], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, preexec_fn=limited if limit else None, **options,
    )  # fmt: skip


def ended(process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@needs_limits
def test_a_full_disk_is_said_alike_by_runner_server_and_client_and_leaves_nothing_half_written(server, place):
    import resource

    code, _, said = ended(client(server, "--out", "alone", limit=LIMIT, command="run"))
    alone = complaint(said).replace(str(place / "alone/EditKit/tone_00001_.png"), "FILE")
    assert code == 1 and alone.startswith("error: 'result' (SaveImage): Cannot write FILE: File too large; choose")
    old = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (LIMIT, old[1]))
    try:
        saved = set((server.base / "output").rglob("*.png"))
        code, _, said = ended(client(server, "--set", "result=full/x", "--out", "sent"))
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, old)
    assert code == 1 and said == alone.replace("FILE", "the result")
    assert set((server.base / "output").rglob("*.png")) == saved
    code, _, said = ended(client(server, "--set", "result=full/x", "--out", "sent", limit=LIMIT))
    assert code == 1 and said.startswith("error: Cannot write sent/x.png: File too large; choose another place")
    for folder in ("alone", "sent"):
        assert [p.name for p in Path(folder).rglob("*") if p.is_file()] == [record.NAME] * (folder == "sent")
    runs = server.log().count("Prompt executed")
    assert ended(client(server, "--set", "result=full/x", "--out", "sent"))[0] == 0
    assert Path("sent/x.png").stat().st_size > LIMIT and server.log().count("Prompt executed") == runs


@needs_limits
def test_ctrl_c_clears_the_real_queue_and_the_batch_goes_on(server, place):
    photos = batch(place, 4)
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = client(server, "--batch", "photos", "--out", "out")
    finally:
        signal.signal(signal.SIGINT, heard)
    while not server.get("/queue")["queue_running"]:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, _, said = ended(process)
    assert code == 130 and "Run the same command again to go on." in said
    end = time.monotonic() + 30
    while any(server.get("/queue").values()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(server.get("/queue").values())
    assert ended(client(server, "--batch", "photos", "--out", "out"))[0] == 0
    assert names() == photos


def batch(place: Path, count: int) -> list[str]:
    """A folder of small photographs; returns the names of what will come of them."""
    (place / "photos").mkdir()
    with Image.open(pack.ROOT / "workflows/media/dandelions.jpg") as photo:
        for number in range(count):
            box = (number * 10, 0, number * 10 + 320, 240)
            photo.crop(box).save(place / "photos" / f"p{number:02}.png")
    return [f"p{number:02}.png" for number in range(count)]


def names(folder="out") -> list[str]:
    return sorted(p.name for p in Path(folder).iterdir() if p.name != record.NAME)


@pytest.mark.long
def test_client_and_server_killed_at_random_each_result_comes_exactly_once(serve, place, at_length):
    photos, rng = batch(place, at_length(4, 60)), random.Random(11)
    with serve() as server:
        for _ in range(at_length(1, 20)):
            process = client(server, "--batch", "photos", "--out", "out")
            time.sleep(3 * rng.random() + at_length(3, 0))
            server.kill()
            time.sleep(rng.random())
            server.start()
            server.wait_until_ready()
            time.sleep(3 * rng.random())
            process.kill()
            process.communicate()
        code, _, said = ended(client(server, "--batch", "photos", "--out", "out"))
        assert code == 0, said
    assert names() == photos
    for name in photos:
        assert pixels(Path("out", name)).shape == pixels(Path("photos", name)).shape
    done = [json.loads(line)["item"] for line in Path("out", record.NAME).read_text().splitlines() if '"done"' in line]
    assert sorted(done) == photos
