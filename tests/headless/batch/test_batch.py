"""`batch` on Ray: one worker is as two, and what is killed loses and doubles nothing."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from editkit.headless import cli
from editkit.headless.batch import chunks, cluster, command, driver, job
from editkit.headless.batch.driver import Resources
from editkit.headless.batch.progress import Progress
from editkit.headless.batch.task import Report, Task
from editkit.headless.batch.wire import Desk, rows
from editkit.headless.editor import Editor
from editkit.headless.errors import EditError

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes as Linux shows them")

QUIET = {"OMP_NUM_THREADS": "1", "RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}
PATIENCE = 3600.0  # seconds for one driver, on a machine that others use too


@pytest.fixture(scope="module")
def workflow(root):
    return root / "workflows" / "api" / "batch_example.json"


def photos(folder: Path, number: int, root: Path) -> Path:
    """Small crops of a sample photograph, every third one folder deeper; no two alike."""
    (folder / "more").mkdir(parents=True)
    with Image.open(root / "workflows" / "media" / "mountain_path.jpg") as whole:
        for n in range(number):
            x, y = n * 7 % (whole.width - 64), n * 11 % (whole.height - 64)
            crop = whole.crop((x, y, x + 64, y + 64)).convert("RGB")
            crop.save(folder / ("more" if n % 3 == 0 else "") / f"p{n:04}.png")
    return folder


@pytest.fixture(scope="module")
def ray_head():
    """The address and process of a Ray of three CPUs, for all drivers of these tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = tempfile.mkdtemp(prefix="ek")
    options = f"--head --block --port={port} --temp-dir={place} --num-cpus=3 --num-gpus=0 --include-dashboard=false"
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *options.split(), "--object-store-memory=100000000"],
        env={**os.environ, **QUIET}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: listens(port), 120)
        yield f"127.0.0.1:{port}", head
    finally:
        for pid in [head.pid, *descendants(head.pid)]:  # asked to end, it takes twenty seconds and more
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(place, ignore_errors=True)


def listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def wait_for(condition, seconds: float):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"nothing in {seconds:.0f} s"
        time.sleep(0.05)
    return found


def parents() -> dict[int, int]:
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return found


def descendants(pid: int) -> list[int]:
    parent, below = parents(), [pid]
    for one in below:
        below += [child for child, of in parent.items() if of == one]
    return below[1:]


def workers(head: int) -> list[int]:
    """The processes of the actors that edit, below a process."""
    found = []
    for pid in descendants(head):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::MapWorker(MapBatches(Edit"):
                found.append(pid)
    return found


@pytest.fixture
def drive(root, workflow, tmp_path):
    """drive(input, out, *options): a driver as a process of its own, in the folder of the test."""
    started = []

    def start(given, out, *options):
        arguments = ["--workflow", workflow, "--input", given, "--out", out, "--block", "4", *options]
        process = subprocess.Popen(
            [sys.executable, str(root), "batch", *map(str, arguments)], cwd=tmp_path,
            env={**os.environ, **QUIET}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def here(tmp_path, monkeypatch, capsys, workflow):
    """here(input, out, *options): what a driver in this process says; nothing went wrong, unless `code` is 1."""
    monkeypatch.chdir(tmp_path)

    def run(given, out, *options, code=0):
        arguments = ["--workflow", workflow, "--input", given, "--out", out, "--block", "4", *options]
        assert cli.main(["batch", *map(str, arguments)]) == code
        said = capsys.readouterr()
        assert ("error: " in said.err) == (code != 0), said.err
        return said.err if code else said.out

    return run


def ended(process) -> str:
    """What a driver said, which must have gone well."""
    said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert all(" pictures: " in line for line in errors.splitlines()), errors  # how far it is, once a minute
    return said


def made(out: Path) -> int:
    return sum(1 for _ in (out / "results").rglob("*.png"))


def rss(pid: int) -> int:
    """Resident memory in bytes; 0 when the process is gone."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def memory(process, out: Path) -> list[tuple[int, int]]:
    """(results so far, the driver's memory) until it ends."""
    samples = []
    while process.poll() is None:
        samples.append((made(out), rss(process.pid)))
        time.sleep(0.25)
    return [(n, size) for n, size in samples if size]


def until(process, condition):
    """What a condition gives as soon as it gives something; a driver that ends before that is at fault."""

    def met():
        found = condition()
        assert found or process.poll() is None, process.communicate()[1]
        return found

    return wait_for(met, PATIENCE)


def kill_at_random(drive, given, out, head, *, workers_killed: int, drivers_killed: int, options) -> str:
    """Runs to the end while workers and drivers are killed at random moments. Returns what the last driver said."""
    whole, chance = len(list((out.parent / given).rglob("*.png"))), random.Random(3)
    moments = sorted(chance.sample(range(1, whole - 2), workers_killed + drivers_killed))
    drivers = set(chance.sample(moments, drivers_killed))
    process = drive(given, out, *options)
    for moment in moments:
        until(process, lambda moment=moment: made(out) >= moment)
        time.sleep(chance.random() * 0.2)
        if moment in drivers:
            process.kill()
            process.communicate()
            process = drive(given, out, *options)
        else:
            victim = chance.choice(until(process, lambda: workers(head.pid)))
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
    return ended(process)


PLAIN = ("path", "status", "input_hash", "workflow_hash", "result", "bytes", "error", "input_changed")


@pytest.mark.long
def test_one_worker_is_as_two_and_what_is_killed_loses_and_doubles_nothing(
    at_length, ray_head, drive, here, tmp_path, root, ledger_of, results_of, workflow, monkeypatch,
    capsys,
):  # fmt: skip
    number, (address, head) = at_length(24, int(os.environ.get("EDITKIT_BATCH", "2000"))), ray_head
    (photos(tmp_path / "in", number, root) / "bad.jpg").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    one = at_length(without_ray, watched)(drive, tmp_path, workflow)
    expected, ledger = results_of(tmp_path / "one"), ledger_of(tmp_path / "one")
    assert len(expected) == number and len(ledger) == number + 1
    assert {row["result"] for row in ledger.values()} - {None} == set(expected)
    if at_length(False, True):
        two = ended(drive("in", "two", "--workers", "2", "--ray", address))
        with capsys.disabled():
            print(f"\none worker: {one}two workers: {two}")
        assert results_of(tmp_path / "two") == expected
    kills = {"workers_killed": at_length(1, 20), "drivers_killed": at_length(1, 3)}
    options = ("--workers", "2", "--ray", address)
    kill_at_random(drive, "in", tmp_path / "killed", head, options=options, **kills)
    assert results_of(tmp_path / "killed") == expected
    killed = ledger_of(tmp_path / "killed")
    assert {path: [row[k] for k in PLAIN] for path, row in killed.items()} == {
        path: [row[k] for k in PLAIN] for path, row in ledger.items()
    }
    assert os.listdir(tmp_path / "killed" / ".work") == []
    parts = list((tmp_path / "killed" / "ledger").iterdir())
    assert {p.suffix for p in parts} == {".parquet"}, "what the killed left half-written is gone"
    if at_length(False, True):
        parts[0].write_bytes(b"")
        said = here("in", "killed", "--ray", address, "--workers", "1", code=1)
        assert f"{parts[0].name} is damaged; delete it and run again" in said
        assert results_of(tmp_path / "killed") == expected, "nothing is lost"


def without_ray(drive, tmp_path, workflow) -> None:
    """One worker in this process, in whose place a Ray with one comes at length."""
    editor = Editor(workflow)
    job.prepare(tmp_path / "one")
    job.pin(tmp_path / "one", job.Job(editor.workflow_hash, "in", None, 4), editor.work)
    task = Task("in", "one", str(tmp_path), 4, 1, 10, workflow_hash=editor.workflow_hash)
    desk = Desk(task.text(), None)
    assert all(Report.read(desk.edit(row)).stop is None for row in rows(task.text(), None))


def watched(drive, tmp_path, workflow) -> str:
    """One worker in a Ray of its own, whose driver may not grow by more than a tenth after 200 pictures."""
    alone = drive("in", "one", "--workers", "1")
    samples = memory(alone, tmp_path / "one")
    said = ended(alone)
    assert ", 0 there already, 1 failed" in said
    first = next(size for n, size in samples if n >= 200)
    most = max(size for n, size in samples if n >= 200)
    assert most <= 1.1 * first
    return f"{said}driver: {first >> 20} MiB after 200 pictures, at most {most >> 20} MiB later\n"


def test_a_table_in_a_ray_of_its_own_and_again_when_it_has_changed(
    ray_head, here, tmp_path, root, ledger_of, results_of, workflow, capsys, monkeypatch
):
    given, table = photos(tmp_path / "in", 9, root), tmp_path / "t.parquet"
    contents = [p.read_bytes() for p in sorted(given.rglob("*.png"))] + [b"no picture", None]
    parquet.write_table(pa.table({"image": contents}), table, row_group_size=5)
    monkeypatch.setattr(driver, "LEG", 3)  # of five chunks
    assert "11 pictures: 9 edited, 0 there already, 2 failed" in here("t.parquet", "table", "--workers", "1")
    assert not workers(os.getpid()), "the Ray that it started has ended"
    rows = ledger_of(tmp_path / "table")
    assert rows["t.parquet#10"]["error"].startswith("Row 10 of t.parquet holds no picture")
    row = rows["t.parquet#3"]
    (tmp_path / "stored").mkdir()
    (tmp_path / "stored" / row["input_hash"]).write_bytes(contents[3])
    picture = f"image={row['input_hash']}"
    assert cli.main(["run", str(workflow), "--input", "stored", "--set", picture, "--out", "run"]) == 0
    assert results_of(tmp_path / "table")[row["result"]] == next((tmp_path / "run").rglob("*.png")).read_bytes()
    capsys.readouterr()
    parquet.write_table(pa.table({"image": contents[:5] + contents[9:]}), table, row_group_size=5)
    said = here("t.parquet", "table", "--workers", "1", "--ray", ray_head[0])
    assert "7 pictures: 0 edited, 5 there already, 2 failed" in said
    assert len(ledger_of(tmp_path / "table")) == 7, "rows of pictures that are gone went with them"
    assert len(results_of(tmp_path / "table")) == 9, "results stay"


def reports(*chunks, end):
    """What a leg reports of chunks (name, pictures), and of its end."""
    return [Report(name, edited=edited) for name, edited in chunks] + [Report(end=end)]


def test_a_leg_ends_well_only_if_what_was_read_came_back_once(monkeypatch):
    total = chunks.Total()
    total.add("a" * 24, 3)
    total.add("b" * 24, 2)
    end = {"cursor": ["more"], "total": total.plain()}

    def leg(*came):
        monkeypatch.setattr(driver, "_reports", lambda *_: iter(came))
        return driver._leg(None, Task("in", "out", ".", 4, 1), Resources(), 0, None, Progress(1))

    good = reports(("b" * 24, 2), ("a" * 24, 3), end=end)
    assert leg(*good) == ["more"] and leg(*reversed(good)) == ["more"], "in any order"
    for bad in (good[1:], [*good, good[0]], good[:-1], [*good[1:], Report("c" * 24, edited=2)]):
        with pytest.raises(EditError, match="in changed while it was read; run again"):
            leg(*bad)
    with pytest.raises(EditError, match="c.parquet is damaged"):
        leg(good[0], Report("a" * 24, stop="c.parquet is damaged."), good[-1])


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys, workflow):
    """refused(*options): the one sentence with which `batch` refuses; nothing but a folder may be left of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "in" / "a.png")

    def refuse(*options, work=workflow):
        arguments = ["--workflow", str(work), "--input", "in", "--out", "out", *map(str, options)]
        assert cli.main(["batch", *arguments]) == 1
        said = capsys.readouterr().err.strip()
        assert said.startswith("error: ") and "\n" not in said
        assert not list(tmp_path.glob("out/results/*")) and not list(tmp_path.glob("out/ledger/*"))
        return said

    return refuse


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_what_cannot_begin_is_one_sentence(refused, tmp_path, root):
    for name, change in {"image": "photo", "result": "saved"}.items():
        text = (root / "workflows" / "api" / "batch_example.json").read_text()
        (tmp_path / "w.json").write_text(text.replace(f'"title": "{name}"', f'"title": "{change}"'))
        assert f"has no node titled '{name}'" in refused(work=tmp_path / "w.json")
    assert "There is no workflow gone.json" in refused(work="gone.json")
    assert "needs a ComfyUI server" in refused(work=root / "workflows/api/kontext_text_edit.json")
    assert "has nothing called 'no title'" in refused("--set", "no title=1")
    assert "has no seed to set" in refused("--seed", 1)
    assert "--column x belongs to a .parquet file" in refused("--column", "x")
    (tmp_path / "none").mkdir()
    assert "There are no pictures in none." in refused("--input", "none")
    assert "--input gone is neither a folder" in refused("--input", "gone")
    assert "choose another one for the results" in refused("--out", "in")
    assert "There is no Ray at 127.0.0.1:" in refused("--ray", f"127.0.0.1:{closed_port()}")
    assert "is no address; write HOST:PORT" in refused("--ray", "localhost:ray")


def test_what_cannot_sign_is_said_before_an_edit(refused, settings):
    pytest.importorskip("c2pa", reason="needs requirements-c2pa.txt")
    assert "There is no certificate to sign with" in refused("--c2pa")
    from editkit.models.provenance import keys

    keys.make()
    certificate = settings / keys.SELF_MADE
    certificate.write_bytes(certificate.read_bytes()[:300])
    assert "self-signed certificate is damaged" in refused("--c2pa")


def test_a_damaged_note_and_another_driver_are_one_sentence(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / job.JOB).write_text("{")
    assert "job.json is damaged" in refused()
    with job.alone(tmp_path / "out"):
        assert f"Another batch (process {os.getpid()} on" in refused()


def test_without_ray_it_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "which is not installed: pip install -r requirements-batch.txt" in refused()


@pytest.mark.parametrize(
    "options",
    [
        ("--workers", "0"), ("--cpus-per-worker", "0"), ("--cpus-per-worker", "x"), ("--gpus-per-worker", "-1"),
        ("--gpus-per-worker", "nan"), ("--block", "x"),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense(options, capsys):
    assert cli.main(["batch", "--workflow", "w", "--input", "i", "--out", "o", *options]) == 2
    said = capsys.readouterr().err
    assert options[0] in said and options[1] in said and "invalid _" not in said


def test_the_pool_takes_what_the_cluster_has():
    class Ray:
        def __init__(self, **has):
            self.cluster_resources = lambda: has

    def fitted(wanted=None, local=False, **has):
        pool = cluster.fitted(Ray(**has), wanted or Resources(), local)
        return pool.workers, pool.gpus

    assert fitted(CPU=5) == (4, 0) and fitted(CPU=65) == (cluster.MOST_WORKERS, 0) and fitted(CPU=1) == (1, 0)
    assert fitted(CPU=5, GPU=3) == (3, 1)
    assert fitted(Resources(gpus=0.5), CPU=9, GPU=3) == (6, 0.5)
    assert fitted(Resources(cpus=2), CPU=9) == (4, 0)
    assert fitted(Resources(workers=7), CPU=2) == (7, 0)
    assert fitted(Resources(servers=("a", "b")), CPU=9, GPU=3) == (2, 0)
    with pytest.raises(cluster.EditError, match="This machine has 1 GPUs; lower --gpus-per-worker 2"):
        fitted(Resources(gpus=2), local=True, CPU=9, GPU=1)


def test_servers_are_dealt_out_evenly_and_kept():
    from editkit.headless.batch.shipping import Servers

    servers = Servers(["a", "b", "c"])
    dealt = {worker: servers.of(worker) for worker in "123456"}
    assert sorted(dealt.values()) == list("aabbcc") and servers.of("4") == dealt["4"]


def test_help_teaches_by_example(capsys):
    assert cli.main(["batch", "--help"]) == 0
    assert all(line.format(me=cli._me()) in capsys.readouterr().out for line in [command.EXAMPLES.splitlines()[0]])


def test_the_cluster_of_the_readme_is_one_to_ray_and_has_all_its_workers(root):
    """Ray's own check, before it would start machines; KubeRay's is in Kubernetes."""
    import re

    yaml = pytest.importorskip("yaml")
    util = pytest.importorskip("ray.autoscaler._private.util")
    text = (root / "headless" / "batch" / "README.md").read_text(encoding="utf-8")
    cluster_yaml, ray_job = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    config = util.prepare_config(cluster_yaml)
    util.validate_config(config)
    asked = int(re.search(r"--workers (\d+)", text[text.index("ray exec") :])[1])
    gpu = config["available_node_types"]["gpu"]
    assert min(config["max_workers"], gpu["max_workers"]) * gpu["resources"]["GPU"] >= asked
    (group,) = ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert group["replicas"] * limits["nvidia.com/gpu"] == int(
        re.search(r"--workers (\d+)", ray_job["spec"]["entrypoint"])[1]
    )
