"""`queue` against a server that fails in every way a real one may; the real one is in tests/comfyui."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from editkit.headless import cli, record
from editkit.tests.headless.fake_comfyui import RESULT, Fake

ROOT = Path(__file__).resolve().parents[2]
GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "image"}},
    "2": {"class_type": "Painted", "inputs": {"image": ["1", 0], "steps": 4}, "_meta": {"title": "edit"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x/better"},
          "_meta": {"title": "result"}},
}  # fmt: skip


@pytest.fixture
def fake(tmp_path):
    made = Fake(tmp_path / "server")
    yield made
    if not made.stopped.is_set():
        made.stop()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a workflow, one photo, and a folder of five."""
    folder = tmp_path / "work"
    (folder / "photos").mkdir(parents=True)
    (folder / "w.json").write_text(json.dumps(GRAPH))
    picture(folder / "a.png", 0)
    for number in range(5):
        picture(folder / "photos" / f"p{number}.png", number + 1)
    monkeypatch.chdir(folder)
    return folder


def picture(path, shade):
    Image.new("RGB", (4, 3), (shade, 10, 20)).save(path)


def change(**nodes):
    """The workflow with other inputs, by node title; further nodes by an id of their own."""
    graph = json.loads(json.dumps(GRAPH))
    ids = {node["_meta"]["title"]: i for i, node in graph.items()}
    for name, inputs in nodes.items():
        if name in ids:
            graph[ids[name]]["inputs"].update(inputs)
        else:
            graph[name] = inputs
    Path("w.json").write_text(json.dumps(graph))


def queue(fake, *arguments, patience="20"):
    return cli.main(["queue", "w.json", "--server", fake.url, "--patience", patience, *arguments])


def results(folder="out"):
    """File name -> content, without the record."""
    return {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.name != record.NAME}


def wanted(folder="photos"):
    return {p.name: RESULT + p.read_bytes() for p in Path(folder).iterdir()}


def test_a_picture_goes_up_and_its_result_comes_back_under_the_prefix(fake, place, capsys):
    assert queue(fake, "--set", "image=photos/p1.png") == 0
    assert results() == {"better.png": RESULT + Path("photos/p1.png").read_bytes()}
    assert capsys.readouterr().out.splitlines() == [str(Path("out/better.png"))]
    (body,) = fake.bodies
    assert set(body) == {"prompt", "prompt_id", "client_id", "extra_data"}
    name = body["prompt"]["1"]["inputs"]["image"]
    assert name.startswith("editkit/") and (fake.folder / "input" / name).is_file()


def test_the_client_needs_the_standard_library_alone(fake, place):
    done = client(fake, "--batch", "photos", flags=["-I", "-S"])
    assert done.wait(60) == 0, done.stderr.read()
    assert results() == wanted()


def test_every_file_that_a_node_shows_is_fetched_and_named_after_its_node(fake, place):
    change(**{"4": {"class_type": "Compare", "inputs": {"images": ["2", 0]}, "_meta": {"title": "before / after"}}})
    assert queue(fake, "--batch", "photos") == 0
    names = {f"p{n}{end}.png" for n in range(5) for end in ("", "_before_after_a", "_before_after_b")}
    assert set(results()) == names
    assert results()["p3_before_after_b.png"] == wanted()["p3.png"]


def test_painted_masks_are_uploaded_and_masks_are_paired(fake, place):
    Path("masks").mkdir()
    for number in range(5):
        picture(Path("masks") / f"p{number}_mask.png", 100 + number)
    change(edit={"mask_paint": "a.png", "mask": ["5", 0]},
           **{"5": {"class_type": "LoadImageMask", "inputs": {"image": "a.png", "channel": "red"},
                    "_meta": {"title": "mask"}}})  # fmt: skip
    assert queue(fake, "--batch", "photos", "--masks", "masks") == 0
    sent = [b["prompt"] for b in fake.bodies]
    painted = {s["2"]["inputs"]["mask_paint"] for s in sent}
    assert len(painted) == 1 and (fake.folder / "input" / painted.pop()).read_bytes() == Path("a.png").read_bytes()
    masks = [(fake.folder / "input" / s["5"]["inputs"]["image"]).read_bytes() for s in sent]
    assert masks == [(Path("masks") / f"p{n}_mask.png").read_bytes() for n in range(5)]
    assert len(list((fake.folder / "input/editkit").iterdir())) == 11  # each content once


def test_what_is_done_is_not_done_again(fake, place, capsys):
    assert queue(fake, "--batch", "photos") == 0
    assert queue(fake, "--batch", "photos") == 0
    assert len(fake.executed()) == 5 and "5 of 5 were done before" in capsys.readouterr().out
    picture(Path("photos/p6.png"), 66)
    picture(Path("photos/p2.png"), 67)  # another picture of the same name: neither result may go
    old = results()
    assert queue(fake, "--batch", "photos") == 0
    assert len(fake.executed()) == 7
    assert results() == old | {"p6.png": wanted()["p6.png"], "p2_2.png": wanted()["p2.png"]}
    Path("out/p1.png").unlink()
    assert queue(fake, "--batch", "photos") == 0
    assert len(fake.executed()) == 8 and results()["p1.png"] == wanted()["p1.png"]
    assert queue(fake, "--batch", "photos", "--again") == 0
    assert len(fake.executed()) == 14 and len(results()) == 7


def test_another_setting_is_another_job_and_no_file_of_others_is_overwritten(fake, place):
    Path("out").mkdir()
    Path("out/P0.png").write_text("mine")
    assert queue(fake, "--batch", "photos") == queue(fake, "--batch", "photos", "--set", "edit.steps=5") == 0
    found = results()
    assert found.pop("P0.png") == b"mine" and len(found) == 10 and len(fake.executed()) == 10


def test_equal_photos_of_two_folders_are_two_items(fake, place):
    Path("more").mkdir()
    Path("more/p1.png").write_bytes(Path("photos/p1.png").read_bytes())
    Path("more/copy.png").write_bytes(Path("photos/p1.png").read_bytes())
    for _ in range(2):
        assert queue(fake, "--batch", "photos", "--batch", "more") == 0
        assert sorted(results()) == ["copy.png", *(f"p{n}.png" for n in range(2)), "p1_2.png",
                                     *(f"p{n}.png" for n in range(2, 5))]  # fmt: skip


def test_a_failed_photo_is_reported_the_others_are_done_and_it_can_be_retried(fake, place, capsys):
    (Path("photos") / "p2.png").write_bytes(b"no picture")
    assert queue(fake, "--batch", "photos") == 1
    said = capsys.readouterr().err
    assert "[3/5] p2.png: 'image' (LoadImage): Cannot read" in said and "1 of 5 failed." in said
    assert sorted(results()) == ["p0.png", "p1.png", "p3.png", "p4.png"]
    assert queue(fake, "--batch", "photos") == 1
    assert "--retry-failed tries it again" in capsys.readouterr().err
    assert queue(fake, "--batch", "photos", "--retry-failed") == 1 and len(fake.executed()) == 4
    assert "tries it again" not in capsys.readouterr().err


def test_a_node_that_fails_is_said_as_the_runner_says_it(fake, place, capsys):
    change(result={"filename_prefix": "fail"})
    assert queue(fake) == 1
    assert capsys.readouterr().err == "error: 'result' (SaveImage): It is broken.\n"
    assert queue(fake, "--batch", "photos") == 1
    assert capsys.readouterr().err.count("'result' (SaveImage): It is broken.") == 5
    assert results() == {}


def test_what_is_wrong_with_the_workflow_is_said_once_and_stops_the_batch(fake, place, capsys):
    change(edit={"steps": 0})
    assert queue(fake, "--batch", "photos") == 1
    assert capsys.readouterr().err == "error: Node 2 (Painted): Value 0 smaller than min of 1: steps\n"
    assert len(fake.bodies) == 1
    change()  # once it is corrected, nothing has to be retried by name
    assert queue(fake, "--batch", "photos") == 0 and results() == wanted()


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"class_type": "KSampler", "inputs": {}}, "KSampler is not a node of this server"),
        ({"class_type": "EditKitNo", "inputs": {}}, "EditKitNo is not a node of this EditKit: update"),
        ({"inputs": {}}, "missing the class_type"),
    ],
)
def test_unknown_nodes_are_refused_before_anything_is_sent(fake, place, capsys, node, said):
    change(**{"9": node})
    assert queue(fake) == 1
    assert said in capsys.readouterr().err and not fake.bodies and not Path("out").exists()


def test_a_picture_that_is_nowhere_is_said_with_the_places(fake, place, capsys):
    assert queue(fake, "--set", "image=no.png") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: Node 1 (LoadImage): image - Invalid image file: no.png (looked in ")
    assert said.endswith(f", {fake.url})\n") and str(place) in said
    picture(fake.folder / "input" / "no.png", 5)
    assert queue(fake, "--set", "image=no.png") == 0  # the server has one of its own


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "..\\secret.png", "C:\\secret.png", "~/x.png",
                                  "sub/../../secret.png", "../secret.png [input]"])  # fmt: skip
def test_a_workflow_does_not_choose_which_files_leave_the_machine(fake, place, capsys, name):
    picture(place.parent / "secret.png", 9)
    change(image={"image": name})
    assert queue(fake) == 1
    assert f"the workflow itself names the picture {name}" in capsys.readouterr().err
    assert not any(method == "POST" for method, _ in fake.requests)


def test_a_path_that_the_user_names_is_sent(fake, place):
    picture(place.parent / "mine.png", 9)
    assert queue(fake, "--set", "image=../mine.png") == 0
    assert results()["better.png"] == RESULT + (place.parent / "mine.png").read_bytes()
    assert queue(fake, "--set", "image=../nothing.png") == 1


def test_a_name_from_the_server_cannot_lead_out_of_the_folder(fake, place, monkeypatch):
    def save(*_):
        return {"images": [{"filename": "../../evil.sh/../x.p/g", "subfolder": "..", "type": "output"}]}

    monkeypatch.setattr(fake, "save", save)
    (fake.folder / "g").write_bytes(b"content")
    assert queue(fake) == 0
    assert results() == {"better.bin": b"content"} and not list(place.parent.glob("evil*"))


def test_a_saved_png_is_queued_with_its_canvas(fake, place):
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("prompt", json.dumps(GRAPH))
    texts.add_itxt("workflow", json.dumps({"nodes": ["Straße"]}), zip=True)
    Image.new("RGB", (2, 2)).save("saved.png", pnginfo=texts)
    assert cli.main(["queue", "saved.png", "--server", fake.url]) == 0
    assert fake.bodies[0]["extra_data"] == {"extra_pnginfo": {"workflow": {"nodes": ["Straße"]}}}


# -- servers that are not there, or not what they seem ----------------------------------------------------


def test_no_server_is_one_sentence_at_once(fake, place, capsys):
    fake.stop()
    began = time.monotonic()
    assert queue(fake) == 1
    assert time.monotonic() - began < 5
    said = capsys.readouterr().err
    assert said.startswith(f"error: There is no ComfyUI server at {fake.url} (") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda m, p: 401 if p == "/object_info" else None, "set EDITKIT_SERVER_HEADER to the header"),
        (lambda m, p: 404, "check that this is the address of a ComfyUI server"),
        (lambda m, p: 302, "give --server the address that it redirects to"),
        (lambda m, p: 403 if p == "/prompt" else None, "answered 403"),
        (lambda m, p: 413 if p == "/upload/image" else None, "larger than"),
        (lambda m, p: 500 if p == "/prompt" else None, "The server failed (it answered 500"),
    ],
)
def test_a_server_that_says_no_is_one_sentence(fake, place, capsys, fault, said):
    fake.fault = fault
    assert queue(fake, patience="3") == 1
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and results() == {} if Path("out").exists() else said in error


def test_something_else_on_that_port_is_one_sentence(fake, place, capsys):
    fake.fault = lambda m, p: 200
    assert queue(fake) == 1
    assert "is no ComfyUI server" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999", "http://x?y=1", "", "http://[::1"])
def test_what_is_no_address_is_refused(place, capsys, url):
    assert cli.main(["queue", "w.json", "--server", url]) == 1
    assert "write it as http://127.0.0.1:8188" in capsys.readouterr().err


def test_a_prefix_and_a_header_go_with_every_request_and_the_header_is_never_shown(
    fake, place, monkeypatch, capsys
):
    monkeypatch.setenv("EDITKIT_SERVER_HEADER", "X-Key: s3cret-99")
    fake.prefix = "/comfy/a"
    assert queue(fake) == 0
    assert all(h.get("X-Key") == "s3cret-99" for h in fake.headers) and len(fake.headers) > 4
    fake.fault = lambda m, p: 401
    assert queue(fake, "--again") == 1
    written = "".join(capsys.readouterr()) + Path("out", record.NAME).read_text()
    monkeypatch.setenv("EDITKIT_SERVER_HEADER", "s3cret-99")
    assert queue(fake) == 1
    assert cli.main(["queue", "w.json", "--server", "http://me:s3cret-99@x"]) == 1
    assert "s3cret-99" not in written + "".join(capsys.readouterr())


@pytest.mark.parametrize("fault", ["drop", "half", 503, 500, "silent"])
def test_answers_that_break_off_are_asked_for_again(fake, place, monkeypatch, fault):
    from editkit.headless import patience, remote

    monkeypatch.setattr(patience, "FIRST", 0.01)
    monkeypatch.setattr(remote, "SILENCE", 0.2)
    rng, before = random.Random(3), []

    def now_and_then(method, path):
        hit = path != "/object_info" and rng.random() < 0.25 and before[-1:] != [path]
        before.append(path)
        return fault if hit else None  # not twice in a row, so that 500 is no standing answer

    fake.fault = now_and_then
    assert queue(fake, "--batch", "photos") == 0
    assert results() == wanted() and not list(Path("out").glob(".*"))


def test_a_server_that_stays_away_ends_the_batch_and_says_how_to_go_on(fake, place, capsys):
    fake.fault = lambda m, p: "drop" if len(fake.executed()) > 2 else None
    assert queue(fake, "--batch", "photos", patience="0.5") == 1
    said = capsys.readouterr().err
    assert "of 5 are done. Start it, and run the same command again" in said
    fake.fault = lambda m, p: None
    assert queue(fake, "--batch", "photos") == 0
    assert results() == wanted() and sorted(set(fake.executed())) == sorted(fake.executed())


def test_a_prompt_that_somebody_deletes_is_sent_again_a_few_times_only(fake, place, capsys):
    fake.seconds = 30
    assert queue(fake, "--set", "edit.steps=9", patience="3") == 1 if forever_deleting(fake) else None
    assert "vanished from the server's queue 4 times" in capsys.readouterr().err


def forever_deleting(fake):
    def fault(method, path):
        if method == "GET":
            with fake.lock:
                fake.pending.clear()
                if fake.running:
                    fake.interrupted.add(fake.running[0])
                    fake.running = ("another", {}, "")
                fake.history.clear()

    fake.fault = fault
    return True


def test_a_result_that_is_gone_from_the_server_is_said(fake, place, capsys):
    fake.fault = lambda m, p: 404 if p.startswith("/view") else None
    assert queue(fake) == 1
    assert "its file is gone from the server's folder" in capsys.readouterr().err and results() == {}


def test_the_bar_follows_the_servers_steps(fake, place, monkeypatch):
    from editkit.headless import progress

    bars = []

    class Bar:
        def __init__(self, total, label):
            bars.append([label, total, 0])

        def update(self, n=1):
            bars[-1][2] += n

        def close(self):
            pass

    monkeypatch.setattr(progress, "bar", Bar)
    fake.steps, fake.seconds = 8, 0.4
    assert queue(fake, "--batch", "photos") == 0
    assert {label for label, *_ in bars} == {f"[{n}/5] p{n - 1}.png" for n in range(1, 6)}
    assert all(total == 8 for _, total, _ in bars) and sum(done == 8 for *_, done in bars) >= 4


# -- interruptions ----------------------------------------------------------------------------------------


def client(fake, *arguments, flags=(), out="out"):
    """The command in a process of its own."""
    command = [sys.executable, *flags, str(ROOT), "queue", "w.json", "--server", fake.url, "--out", out, *arguments]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heard)


def until(told, seconds=30):
    end = time.monotonic() + seconds
    while not (found := told()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)
    return found


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
