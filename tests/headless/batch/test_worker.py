"""A worker by itself, on small fake edits that invert the picture: what it writes, and what it does not do again."""

import contextlib
import errno
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.headless import shipped
from editkit.headless.batch import job, worker
from editkit.headless.batch.chunks import Chunk, Folder, Parquet
from editkit.headless.batch.ledger import DEATHS, Row
from editkit.headless.batch.task import Report, Task
from editkit.headless.batch.wire import Desk, rows
from editkit.headless.cli import main
from editkit.headless.editor import Editor
from editkit.headless.files import write
from editkit.headless.queueing import Options
from editkit.tests.headless.fake_comfyui import RESULT, Fake

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "image"}},
    "2": {"class_type": "Painted", "inputs": {"image": ["1", 0], "steps": 4}, "_meta": {"title": "edit"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}, "_meta": {"title": "result"}},
}

pytestmark = pytest.mark.usefixtures("fake_pack")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A working folder with in/ (three pictures, one of them twice, one broken) and out/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "more").mkdir(parents=True)
    for n, name in enumerate(("a.png", "b.png", "more/c.png")):
        Image.new("RGB", (6, 4), (10 * n, 20, 30)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "a again.png").write_bytes((tmp_path / "in" / "a.png").read_bytes())
    (tmp_path / "in" / "bad.jpg").write_text("text")
    return tmp_path


@pytest.fixture
def made(places):
    """made(**settings): a Worker of the workflow `tone` in that folder, as the driver would make it."""

    def make(out="out", c2pa=False, **settings):
        editor = Editor(shipped.WORKFLOWS / "tone.json", c2pa=c2pa)
        job.prepare(places / out)
        job.pin(places / out, job.Job(editor.workflow_hash, "in", None, 8), editor.work)
        given = {"input": "in", "out": out, "folder": str(places), "block": 8, "stamp": 5, "leg": 9, **settings}
        return worker.Worker(Task(workflow_hash=editor.workflow_hash, **given))

    return make


def whole(places):
    """The folder as one chunk."""
    items = list(Folder(places / "in", places / "out").items())
    return Chunk("c0", items)


def numbers(report):
    return report.edited, report.found, report.failed, report.stop


def test_every_picture_gets_a_row_and_a_result_of_its_own_content(made, places, ledger_of, results_of):
    assert numbers(made().edit(whole(places))) == (3, 1, 1, None)
    rows, files = ledger_of("out"), results_of(places / "out")
    assert set(rows) == {"a.png", "a again.png", "b.png", "bad.jpg", "more/c.png"}
    assert rows["a.png"]["result"] == rows["a again.png"]["result"] and len(files) == 3
    row = rows["b.png"]
    assert row["input_hash"] == hashlib.sha256((places / "in" / "b.png").read_bytes()).hexdigest()
    assert row["status"] == "done" and row["bytes"] == len(files[row["result"]]) and row["seconds"] > 0
    assert np.array(Image.open(places / "out" / row["result"]))[0, 0].tolist() == [245, 235, 225]
    bad = rows["bad.jpg"]
    assert bad["status"] == "failed" and bad["result"] is None and "\n" not in bad["error"]
    assert "it is not a picture in a format that can be read" in bad["error"]
    assert os.listdir(places / "out" / ".work") == []


def test_the_file_is_the_one_that_run_writes(made, places, results_of):
    made().edit(Chunk("c0", [i for i in whole(places).items if i.path == "more/c.png"]))
    file = str(shipped.WORKFLOWS / "tone.json")
    assert main(["run", file, "--set", "image=in/more/c.png", "--out", "run"]) == 0
    assert list(results_of(places / "out").values()) == [(places / "run" / "some" / "x_00001_.png").read_bytes()]


def test_a_second_time_nothing_is_edited(made, places, ledger_of, monkeypatch):
    made().edit(whole(places))
    before = ledger_of("out")
    monkeypatch.setattr(Editor, "save", None)
    again = made(stamp=77)
    assert numbers(again.edit(whole(places))) == (0, 4, 1, None)
    assert ledger_of("out") == before and again.ledger.part("c0").stat().st_mtime_ns == 77
    assert again._editor is None, "no model was loaded"


def test_what_is_missing_is_made_again_and_no_more(made, places, ledger_of, results_of):
    made().edit(whole(places))
    before, files = ledger_of("out"), results_of(places / "out")
    (places / "out" / before["b.png"]["result"]).unlink()
    (places / "out" / before["a.png"]["result"]).write_bytes(b"")
    Image.new("RGB", (6, 4), (99, 99, 99)).save(places / "in" / "more" / "c.png")
    assert numbers(made().edit(whole(places))) == (3, 1, 1, None)
    after = results_of(places / "out")
    assert {k: after[k] for k in files} == files and len(after) == 4, "the changed picture has a result beside its old"
    assert ledger_of("out")["more/c.png"]["input_hash"] != before["more/c.png"]["input_hash"]


def test_a_lost_ledger_is_made_from_the_results(made, places, ledger_of, monkeypatch):
    made().edit(whole(places))
    before = ledger_of("out")
    made().ledger.part("c0").unlink()
    monkeypatch.setattr(Editor, "save", None)
    assert numbers(made().edit(whole(places))) == (0, 4, 1, None)
    keys = ("path", "status", "result", "bytes", "input_hash", "seed")
    again = ledger_of("out")
    assert [[again[p][k] for k in keys] for p in again] == [[before[p][k] for k in keys] for p in again]


def test_failed_pictures_are_tried_again_on_request_only(made, places, ledger_of):
    made().edit(whole(places))
    Image.new("RGB", (6, 4)).save(places / "good.png")
    stat = (places / "in" / "bad.jpg").stat()
    (places / "in" / "bad.jpg").write_bytes((places / "good.png").read_bytes()[: stat.st_size])
    os.utime(places / "in" / "bad.jpg", ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    assert numbers(made().edit(whole(places)))[2] == 1
    tried = []
    retrying = made(retry=True)
    retrying._edited = lambda file, row: tried.append(row.path) or row
    retrying.edit(whole(places))
    assert tried == ["bad.jpg"]


def test_signed_results_keep_the_chain_of_signed_pictures(made, places, ledger_of, settings, monkeypatch):
    pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")
    from editkit.models.provenance import keys, reading

    keys.make("Jane Doe")
    assert numbers(made(c2pa=True).edit(whole(places))) == (3, 1, 1, None)
    row = ledger_of("out")["b.png"]
    found = reading.read(places / "out" / row["result"], "image/png")
    assert (found.state, found.entry.signer, found.entry.sources[0].title) == ("valid", "Jane Doe", "b.png")
    (places / "in" / "signed.png").write_bytes((places / "out" / row["result"]).read_bytes())
    again = Chunk("c1", [i for i in whole(places).items if i.path == "signed.png"])
    assert made(c2pa=True).edit(again).edited == 1
    second = reading.read(places / "out" / ledger_of("out")["signed.png"]["result"], "image/png").entry
    assert [s.title for s in (second.sources[0], second.sources[0].entry.sources[0])] == ["signed.png", "b.png"]
    one = made(c2pa=True)
    (settings / keys.SELF_MADE).write_text("damaged meanwhile")
    Image.new("RGB", (6, 4)).save(places / "in" / "later.png")
    late = Chunk("c2", [i for i in whole(places).items if i.path == "later.png"])
    assert "self-signed certificate is damaged" in one.edit(late).stop, "no picture is blamed"
    assert not one.ledger.part("c2").exists()


class Killed(BaseException):
    """Ends a worker where it stands, as a kill does."""


def test_a_worker_that_dies_loses_nothing_and_doubles_nothing(made, places, ledger_of, results_of, monkeypatch):
    saves, real = [], Editor.save

    def save(self, image, folder, **rest):
        saves.append(str(image))
        if saves.count("in/more/c.png") == 1:
            raise Killed
        return real(self, image, folder, **rest)

    monkeypatch.setattr(Editor, "save", save)
    with pytest.raises(Killed):
        made().edit(whole(places))
    assert not list((places / "out" / "ledger").iterdir()), "a part is there when its chunk is"
    assert numbers(made().edit(whole(places))) == (3, 1, 1, None), "what the dead one edited counts once"
    assert saves == ["in/a again.png", "in/b.png", "in/bad.jpg", "in/more/c.png", "in/more/c.png"]
    assert len(ledger_of("out")) == 5 and len(results_of(places / "out")) == 3


@pytest.mark.parametrize("step", ["_made", "_found"])
def test_a_kill_between_any_two_steps_leaves_whole_files_only(made, places, results_of, monkeypatch, step):
    """A kill before each replacement, after it, and before the row is written."""
    good = made(out="good")
    good.edit(whole(places))
    expected = set(results_of(places / "good").values())
    real = os.replace
    for at in range(4):
        calls = []

        def replace(a, b, at=at, calls=calls):
            calls.append(b)
            if step == "_made" and len(calls) == at:
                raise Killed
            real(a, b)
            if step == "_found" and len(calls) == at:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(worker.os, "replace", replace)
            with contextlib.suppress(Killed):
                made().edit(whole(places))
        assert set(results_of(places / "out").values()) <= expected
    assert made().edit(whole(places)).stop is None
    assert set(results_of(places / "out").values()) == expected


def test_nothing_comes_into_results_or_ledger_but_by_a_move(made, places, results_of, monkeypatch):
    moved, real = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: moved.append(str(b)) or real(a, b))
    made().edit(whole(places))
    parts = {f"ledger/{name}" for name in os.listdir(places / "out" / "ledger")}
    assert {str(Path("out") / name) for name in {*results_of(places / "out"), *parts}} <= set(moved)


def test_a_picture_that_kills_its_workers_is_a_row_in_the_end(made, places, ledger_of, monkeypatch):
    def save(self, image, folder, **rest):
        raise Killed

    monkeypatch.setattr(Editor, "save", save)
    chunk = Chunk("c0", whole(places).items[1:2])
    for _ in range(DEATHS):
        with pytest.raises(Killed):
            made().edit(chunk)
    assert numbers(made().edit(chunk)) == (0, 0, 1, None)
    assert ledger_of("out")["a.png"]["error"].startswith(f"{DEATHS} workers died while they edited this picture")


@pytest.mark.parametrize("where", ["replace", "ledger", "scratch", "journal"])
def test_a_full_disk_stops_the_job_and_blames_no_picture(made, places, ledger_of, monkeypatch, where):
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_, **__):
        raise full

    one = made()
    with monkeypatch.context() as patch:
        if where == "replace":
            patch.setattr(worker.os, "replace", fail)
        elif where == "ledger":
            patch.setattr("editkit.headless.batch.ledger.write", lambda path, fill: write(path, fail))
        elif where == "scratch":
            patch.setattr("editkit.headless.pictures.write", lambda path, fill: write(path, fail))
        else:
            patch.setattr("editkit.headless.batch.ledger.os.open", fail)
        report = one.edit(whole(places))
    assert "No space left on device" in report.stop and "\n" not in report.stop
    assert not list((places / "out" / "ledger").iterdir())
    assert made().edit(whole(places)).stop is None and len(ledger_of("out")) == 5
    assert [r["path"] for r in ledger_of("out").values() if r["status"] == "failed"] == ["bad.jpg"]


def test_a_workflow_that_is_refused_stops_the_job(made, places):
    prompt = json.loads((shipped.WORKFLOWS / "tone.json").read_text())
    prompt["3"]["inputs"]["strength"] = 7
    (shipped.WORKFLOWS / "tone.json").write_text(json.dumps(prompt))
    report = made().edit(whole(places))
    assert "bigger than max of 1.0" in report.stop and not list((places / "out" / "ledger").iterdir())


@pytest.fixture
def server(tmp_path):
    made = Fake(tmp_path / "server")
    yield made
    if not made.stopped.is_set():
        made.stop()


def test_a_server_edits_what_a_worker_gives_it(made, places, server, ledger_of, results_of):
    task = replace(made().task, input="in")
    (places / "out" / job.WORKFLOW).write_text(json.dumps({"prompt": GRAPH, "extra_data": {}}))
    one = worker.Worker(task, server.url)
    report = one.edit(whole(places))
    assert numbers(report) == (3, 1, 1, None) and 0 < report.model <= report.busy
    row = ledger_of("out")["b.png"]
    assert results_of(places / "out")[row["result"]] == RESULT + (places / "in" / "b.png").read_bytes()
    assert "bad.jpg" in ledger_of("out")["bad.jpg"]["error"]


def test_a_server_that_stays_away_stops_the_job(made, places, server, monkeypatch):
    from editkit.headless import editor as module

    monkeypatch.setattr(module, "Options", lambda: Options(patience=0.1))
    one = made()
    (places / "out" / job.WORKFLOW).write_text(json.dumps({"prompt": GRAPH, "extra_data": {}}))
    one = worker.Worker(one.task, server.url)
    assert one.edit(Chunk("c0", whole(places).items[:1])).edited == 1
    server.stop()
    report = one.edit(Chunk("c1", whole(places).items[2:]))
    assert "has been away" in report.stop and not (places / "out" / "ledger" / "c1.parquet").exists()


def test_a_worker_that_outlives_its_driver_blames_no_picture(made, places, monkeypatch):
    """The next driver clears the folders away in which it works."""
    real = Editor.save

    def save(self, image, folder, **rest):
        saved = real(self, image, folder, **rest)
        job.clear(places / "out")
        return saved

    monkeypatch.setattr(Editor, "save", save)
    one = made()
    assert one.edit(whole(places)).stop and not list((places / "out" / "ledger").iterdir())
    assert one.ledger.journal("c0").rows == {}


def test_a_damaged_ledger_stops_the_job(made, places):
    one = made()
    one.ledger.part("c0").write_bytes(b"text")
    assert "c0.parquet is damaged" in one.edit(whole(places)).stop


def seeded(places):
    """The workflow `tone` with a node that holds a seed."""
    prompt = json.loads((shipped.WORKFLOWS / "tone.json").read_text())
    prompt["9"] = {"class_type": "PrimitiveInt", "inputs": {"value": 7}, "_meta": {"title": "seed"}}
    (shipped.WORKFLOWS / "tone.json").write_text(json.dumps(prompt))


def test_each_picture_has_a_seed_that_follows_from_it(made, places, ledger_of):
    seeded(places)
    made(seed=1).edit(whole(places))
    seeds = {path: row["seed"] for path, row in ledger_of("out").items()}
    assert seeds["a.png"] == seeds["a again.png"] != seeds["b.png"] and seeds["bad.jpg"] is not None
    for out, seed in (("again", 1), ("other", 2)):
        made(seed=seed, out=out).edit(whole(places))
    assert {path: row["seed"] for path, row in ledger_of("again").items()} == seeds
    assert ledger_of("other")["b.png"]["seed"] != seeds["b.png"]
    with Image.open(places / "out" / ledger_of("out")["b.png"]["result"]) as picture:
        assert int(json.loads(picture.info["prompt"])["9"]["inputs"]["value"]) == seeds["b.png"]
    made(own_seed=7, out="own").edit(whole(places))
    assert ledger_of("own")["b.png"]["seed"] == 7


def test_bytes_from_a_table(made, places, ledger_of, results_of):
    import pyarrow as pa
    from pyarrow import parquet

    contents = [(places / "in" / name).read_bytes() for name in ("a.png", "bad.jpg", "b.png")]
    parquet.write_table(pa.table({"image": contents}), places / "t.parquet")
    one = made(input="t.parquet")
    for _, chunk in Parquet(places / "t.parquet").chunks(8, None, lambda name: None):
        assert numbers(one.edit(chunk)) == (2, 0, 1, None)
    found = ledger_of("out")
    digest = hashlib.sha256(contents[2]).hexdigest()
    assert found["t.parquet#2"]["input_hash"] == digest and found["t.parquet#1"]["status"] == "failed"
    (places / "stored").mkdir()
    (places / "stored" / digest).write_bytes(contents[2])
    file = str(shipped.WORKFLOWS / "tone.json")
    assert main(["run", file, "--input", "stored", "--set", f"image={digest}", "--out", "run"]) == 0
    ran = (places / "run" / "some" / "x_00001_.png").read_bytes()
    assert results_of(places / "out")[found["t.parquet#2"]["result"]] == ran


def test_frames_are_files_side_by_side(made, places, ledger_of, results_of):
    frames = [Image.new("RGB", (4, 4), (n, n, n)) for n in (0, 255)]
    frames[0].save(places / "in" / "many.png", save_all=True, append_images=frames[1:])
    made().edit(whole(places))
    row = ledger_of("out")["many.png"]
    assert row["frames"] == 2 and row["result"].replace(".png", "_2.png") in results_of(places / "out")
    made().ledger.part("c0").unlink()
    made().edit(whole(places))
    assert ledger_of("out")["many.png"]["frames"] == 2


def test_a_name_that_is_no_unicode(made, places, ledger_of):
    odd = os.fsencode(places / "in") + b"/caf\xe9.png"
    with open(odd, "wb") as file:
        file.write((places / "in" / "b.png").read_bytes())
    one = made()
    assert numbers(one.edit(whole(places)))[2:] == (1, None)
    assert ledger_of("out")["caf\\udce9.png"]["status"] == "done"
    assert one.edit(whole(places)).found == 5


def test_chunks_and_reports_travel_as_text(made, places, ledger_of):
    one = made()
    sent = list(rows(one.task.text(), None))
    assert [row["name"] for row in sent][-1] == "" and json.loads(sent[-1]["end"])["cursor"] is None
    desk = Desk(one.task.text(), None)
    reports = [Report.read(desk.edit(row)) for row in sent]
    assert sum(r.edited for r in reports) == 3 and reports[-1].end["total"][1] == 5
    assert len(ledger_of("out")) == 5


def test_what_stops_the_reading_comes_as_its_end(made, places):
    (row,) = rows(replace(made().task, input="gone").text(), None)
    assert "gone is neither a folder" in json.loads(row["end"])["stop"]


def test_a_working_folder_that_another_machine_lacks(made):
    row = next(rows(made(folder="/no such folder").task.text(), None))
    assert "has no folder /no such folder; give --input and --out as full paths" in json.loads(row["end"])["stop"]


def test_a_result_has_one_place_that_depends_on_picture_workflow_and_seed():
    row = Row("a", "done", input_hash="1", workflow_hash="2", seed=3)
    others = [{"input_hash": "x"}, {"workflow_hash": "x"}, {"seed": 4}, {"seed": None}]
    assert len({worker.result_name(r) for r in (row, *(replace(row, **other) for other in others))}) == 5
    assert worker.result_name(replace(row, path="b", error="c")) == worker.result_name(row)
