"""The ledger, the journal of a chunk under way, and what an output folder belongs to."""

import json
import os
import subprocess
import sys
import time

import pytest

from editkit.headless.batch import job
from editkit.headless.batch.chunks import Item
from editkit.headless.batch.job import Job
from editkit.headless.batch.ledger import DONE, FAILED, Ledger, Row
from editkit.headless.errors import EditError
from editkit.headless.workflow import Workflow

WORK = Workflow({"1": {"class_type": "LoadImage", "inputs": {}}}, {"extra_pnginfo": {"workflow": {"nodes": []}}})
JOB = Job("f" * 64, "/photos", None, 32)


@pytest.fixture
def ledger(tmp_path):
    job.prepare(tmp_path)
    (tmp_path / "results").mkdir()
    return Ledger(tmp_path, stamp=1_700_000_000_000_000_000)


def row(path="a.jpg", status=DONE, **more):
    return Row(path, status, **{"input_size": 3, "input_changed": 4, **more})


def test_rows_come_back_as_they_were(ledger, ledger_of):
    rows = [row("ä/b c.jpg", seed=2**64 - 1, seconds=0.25, result="results/x.png"), row("b", FAILED, error="why")]
    ledger.write("c0", rows)
    assert ledger.read("c0") == rows and ledger.read("c1") == []
    assert ledger_of(ledger.out)["b"]["error"] == "why"
    assert os.listdir(ledger.out / "ledger") == ["c0.parquet"], "no temporary file is left"


def test_a_chunk_written_twice_is_there_once(ledger, ledger_of):
    for _ in range(2):
        ledger.write("c0", [row("a"), row("b")])
    assert len(ledger_of(ledger.out)) == 2


@pytest.mark.parametrize("content", [b"", b"PAR1 no more", b"text"])
def test_a_damaged_part_is_one_sentence(ledger, content):
    ledger.part("c0").write_bytes(content)
    with pytest.raises(EditError, match="c0.parquet is damaged; delete it and run again"):
        ledger.read("c0")


def test_a_part_of_something_else_is_damaged_too(ledger):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"path": ["a"], "other": [1]}), ledger.part("c0"))
    with pytest.raises(EditError, match="is damaged"):
        ledger.read("c0")


def test_a_chunk_is_finished_when_its_results_are_there_whole(ledger):
    (ledger.out / "results" / "x.png").write_bytes(b"12345")
    rows = [row("a", result="results/x.png", bytes=5), row("b", FAILED)]
    assert ledger.finished("c0", retry=False) is None, "there is no such chunk yet"
    ledger.write("c0", rows)
    assert ledger.finished("c0", retry=False) == [Item("a", 3, 4), Item("b", 3, 4)]
    assert ledger.finished("c0", retry=True) is None
    (ledger.out / "results" / "x.png").write_bytes(b"123")
    assert ledger.finished("c0", retry=False) is None


def test_the_sweep_takes_what_this_run_has_not_met(ledger):
    killed = Ledger(ledger.out, stamp=1)
    for name in ("old", "met", "late"):
        killed.write(name, [row()])
    (ledger.out / "ledger" / ".old.parquet.x.part").write_bytes(b"half")
    time.sleep(0.02)  # more than a tick of the file system's clock
    ledger.begin()
    time.sleep(0.02)
    ledger.write("new", [row()])
    ledger.touch("met")
    ledger.touch("late")
    killed.write("late", [row()])  # by a worker that outlived its driver
    ledger.sweep()
    assert sorted(os.listdir(ledger.out / "ledger")) == ["late.parquet", "met.parquet", "new.parquet"]


def test_a_journal_survives_its_writer(ledger):
    first = ledger.journal("c0")
    first.begin("a")
    first.end(row("a", seconds=1.5))
    first.begin("b")
    with first.path.open("ab") as file:
        file.write(b'\n{"path": "c", "sta')  # killed in the middle of a line
    again = ledger.journal("c0")
    assert list(again.rows) == ["a"] and again.rows["a"].seconds == 1.5
    assert again.deaths("b") == 1 and again.deaths("a") == 0
    again.begin("b")
    assert ledger.journal("c0").deaths("b") == 2
    again.end(row("b"))
    assert ledger.journal("c0").deaths("b") == 0, "the broken line did no harm to the next one"
    again.close()
    assert ledger.journal("c0").rows == {}


def test_a_folder_keeps_to_its_job(tmp_path):
    job.prepare(tmp_path)
    job.pin(tmp_path, JOB, WORK)
    job.pin(tmp_path, JOB, WORK)
    assert json.loads((tmp_path / job.WORKFLOW).read_text()) == {"prompt": WORK.prompt, "extra_data": WORK.extra_data}
    for other, said in [
        (Job("0" * 64, "/photos", None, 32), "another workflow, or of other settings of it"),
        (Job("f" * 64, "/others", None, 32), "another --input"),
        (Job("f" * 64, "/photos", 7, 32), "another --seed"),
        (Job("f" * 64, "/photos", None, 8), "another --block"),
        (Job("f" * 64, "/photos", None, 32, "other"), "another --column"),
    ]:
        with pytest.raises(EditError, match=f"holds the results of {said}; choose another folder with --out"):
            job.pin(tmp_path, other, WORK)


def test_a_damaged_note_and_a_lost_one_are_one_sentence(tmp_path, ledger):
    (tmp_path / job.JOB).write_text("{")
    with pytest.raises(EditError, match="job.json is damaged; delete it"):
        job.pin(tmp_path, JOB, WORK)
    (tmp_path / job.JOB).unlink()
    ledger.write("c0", [row()])
    with pytest.raises(EditError, match="has a ledger but no job.json"):
        job.pin(tmp_path, JOB, WORK)


def test_what_killed_workers_left_goes_and_journals_stay(tmp_path):
    job.prepare(tmp_path)
    (tmp_path / ".work" / "abc" / "made").mkdir(parents=True)
    (tmp_path / ".work" / "c0.jsonl").write_text("")
    job.clear(tmp_path)
    assert os.listdir(tmp_path / ".work") == ["c0.jsonl"]
    job.clear(tmp_path, journals=True)
    assert os.listdir(tmp_path / ".work") == []


HOLD = """
import sys, time
sys.path.insert(0, {root!r})
import importlib.util
spec = importlib.util.spec_from_file_location("editkit", {init!r}, submodule_search_locations=[{root!r}])
sys.modules["editkit"] = importlib.util.module_from_spec(spec)
from pathlib import Path
from editkit.headless.batch import job
with job.alone(Path({out!r})):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_drivers_do_not_share_a_folder_and_a_dead_one_does_not_hold_it(tmp_path, root):
    job.prepare(tmp_path)
    code = HOLD.format(root=str(root), init=str(root / "__init__.py"), out=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            said = rf"Another batch \(process {other.pid} on .+\) is writing to .+; wait until it ends"
            with pytest.raises(EditError, match=said), job.alone(tmp_path):
                pass
        finally:
            other.kill()
    with job.alone(tmp_path):
        pass


def test_a_lease_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    job.prepare(tmp_path)
    monkeypatch.setattr(job, "_lock", lambda file, out: False)
    with job.alone(tmp_path):
        with pytest.raises(EditError, match=rf"process {os.getpid()} on .+ is writing"), job.alone(tmp_path):
            pass
        assert (tmp_path / job.LEASE).exists(), "the one refused did not take the lease away"
        long_ago = time.time() - job.STALE - 1
        os.utime(tmp_path / job.LEASE, (long_ago, long_ago))
        with job.alone(tmp_path):
            pass
