"""`queue` against a server that is not there, is another one, or fails in every way a real one may."""

import json
import random
import threading
import time
from pathlib import Path

import pytest

from editkit.headless import cli, record, remote
from editkit.tests.headless.fake_comfyui import RESULT
from editkit.tests.headless.queued import client, queue, results, until, wanted


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


def test_an_ipv6_address_stands_in_brackets():
    found = remote.address("https://[::1]:8188/comfy/")
    assert str(found) == "https://[::1]:8188/comfy" and found.place == "[::1]:8188"
    assert remote.address("[::1]").place == "[::1]" and remote.address("host:80").place == "host:80"


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
    from editkit.headless import patience

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
    assert len(fake.bodies) == 4 and "vanished from the server's queue 4 times" in capsys.readouterr().err


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


def test_a_server_that_starts_anew_again_and_again_is_no_such_case(fake, place):
    fake.seconds = 60

    def restart():
        for _ in range(6):
            until(lambda: fake.running)
            fake.stop()
            fake.start()
        fake.seconds = 0.01
        fake.stop()
        fake.start()

    thread = threading.Thread(target=restart)
    thread.start()
    assert queue(fake) == 0
    thread.join()
    assert list(results()) == ["better.png"] and len(set(fake.executed())) == 1


def test_a_prompt_whose_answer_was_lost_is_not_sent_twice(fake, place):
    told = iter(["after"])
    fake.fault = lambda m, p: next(told, None) if p == "/prompt" else None
    assert queue(fake) == 0
    assert len(fake.bodies) == len(fake.executed()) == 1 and list(results()) == ["better.png"]


def test_a_prompt_is_on_the_record_before_the_server_hears_of_it(fake, place):
    known = []

    def look(method, path):
        if path == "/prompt":
            lines = Path("out", record.NAME).read_text().splitlines()
            known.append([json.loads(line)["prompt_id"] for line in lines][-1])

    fake.fault = look
    assert queue(fake, "--batch", "photos") == 0
    assert known == [body["prompt_id"] for body in fake.bodies]


def test_a_result_that_came_by_half_is_not_there_under_its_name(fake, place):
    seen = []

    def cut(method, path):
        if not path.startswith("/view"):
            return None
        seen.append([p.name for p in Path("out").iterdir() if p.suffix == ".png"])
        return "half" if len(seen) < 3 else None

    fake.fault = cut
    assert queue(fake) == 0
    assert seen == [[], [], []] and results() == {"better.png": RESULT + Path("a.png").read_bytes()}


def test_what_a_killed_client_had_half_fetched_is_swept_away(fake, place):
    fake.fault = lambda m, p: "silent" if p.startswith("/view") else None
    process = client(fake)
    until(lambda: list(Path("out").glob(".*.part")) if Path("out").exists() else [])
    process.kill()
    process.communicate()
    assert list(Path("out").glob(".better.png.*.part"))
    fake.fault = lambda m, p: None
    assert queue(fake) == 0
    assert list(results()) == ["better.png"] and len(fake.executed()) == 1


def test_a_record_that_was_cut_off_anywhere_is_read_and_written_on(tmp_path):
    with record.Record(tmp_path) as made:
        made.put("a", state="done", files=[{"name": "a.png", "size": 3}])
        made.put("b", state="queued", prompt_id="äöü")
    whole = made.path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole) + 1):
        made.path.write_bytes(whole[:length])
        with record.Record(tmp_path) as again:
            assert (again.get("a") != {}) == (length >= first - 1)
            assert (again.get("b") != {}) == (length >= len(whole) - 1)
            again.put("c", state="done")
        with record.Record(tmp_path) as again:
            assert again.get("c") == {"state": "done"}


def test_a_record_cannot_lead_out_of_its_folder(tmp_path):
    (tmp_path / record.NAME).write_text('{"job": "a", "state": "saving", "files": [{"name": "../a.png"}]}\n[]\n"x"\n')
    with record.Record(tmp_path) as made:
        assert made.get("a") == {}


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
