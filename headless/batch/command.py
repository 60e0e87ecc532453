"""`batch`: the command, its options and what it says at the end."""

import argparse
import os
import time
from contextlib import suppress
from pathlib import Path

from ..errors import EditError

HELP = "Edit any number of pictures with a workflow, on Ray."
EXAMPLES = """\
The workflow (API format) says by titles what it works on: its node titled image reads the picture, the one titled
result saves the edited one. Results lie under OUT/results, and OUT/ledger is a Parquet data set with a row per picture:
its result or why there is none. Run it again after anything, and it does what is missing.

examples:
  {me} batch --workflow workflows/api/batch_example.json --input photos/ --out edited/
  {me} batch --workflow my_graph.json --input photos.parquet --column path --out edited/ --set edit.strength=0.5
  {me} batch --workflow my_graph.json --input photos/ --out edited/ --workers 4 --gpus-per-worker 0.5
  {me} batch --workflow my_graph.json --input photos/ --out edited/ --server http://a:8188 --server http://b:8188
  {me} batch --workflow my_graph.json --input photos/ --out signed/ --c2pa
  {me} batch --workflow /nfs/graph.json --input /nfs/photos --out /nfs/edited --ray head:6379 --workers 64
It needs more packages: pip install -r requirements-batch.txt. headless/batch/README.md tells of clusters and of a
billion pictures."""


def arguments(made: argparse.ArgumentParser) -> None:
    """The options of `batch`."""
    made.add_argument("--workflow", type=Path, required=True, metavar="FILE.json", help="in API format")
    made.add_argument(
        "--input", type=Path, required=True, metavar="FOLDER|PARQUET", help="pictures below a folder, or in a table"
    )
    made.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for results and ledger")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as in run; may be repeated")
    made.add_argument("--seed", type=int, help="give each picture a seed of its own, which follows from this one")
    made.add_argument("--column", metavar="NAME", help="the Parquet column of paths or bytes")
    made.add_argument("--retry", action="store_true", help="try pictures again that failed in an earlier run")
    made.add_argument("--ray", metavar="ADDRESS", help="HOST:PORT of a Ray cluster, or auto (started here)")
    made.add_argument("--workers", type=_whole, help="one per GPU or server, or one per CPU up to 8")
    made.add_argument("--cpus-per-worker", type=_positive, default=1.0, metavar="N", help="1")
    made.add_argument("--gpus-per-worker", type=_share, metavar="N", help="1 where there are GPUs; 0.5 lets two share")
    made.add_argument("--server", action="append", default=[], metavar="URL", help="edit on ComfyUI; may be repeated")
    made.add_argument("--block", type=_whole, default=32, metavar="N", help="pictures per ledger file, about (32)")
    made.add_argument(
        "--c2pa", action="store_true", help="sign results with content credentials (see inspect --help)"
    )


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) < 1e6:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")


def _positive(text: str) -> float:
    if _share(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is too little; a worker needs a part of a CPU")
    return float(text)


def command(options: argparse.Namespace) -> int:
    """Runs it. Returns 0 when every picture has a row, whatever that says."""
    from . import cluster, driver, job

    cluster.imported()
    task, work = _task(options)
    job.prepare(options.out)
    with job.alone(options.out):
        job.clear(options.out)
        job.pin(options.out, _job(task, options), work)
        pool = driver.Resources(
            options.workers, options.cpus_per_worker, options.gpus_per_worker, tuple(options.server)
        )
        done = driver.run(task, pool, options.ray)
        job.clear(options.out, journals=True)
    _say(done, options.out)
    return 0


def _task(options: argparse.Namespace):
    """The task, and the workflow with its settings; everything that can be wrong with either is found here."""
    from ..editor import Editor
    from . import chunks
    from .task import Task

    server = options.server[0] if options.server else None
    editor = Editor(options.workflow, server=server, sets=options.set, c2pa=options.c2pa)
    if options.seed is not None and not editor.seeds:
        raise EditError(f"{options.workflow} has no seed to set; title one `seed`, or leave --seed out.")
    source = chunks.source(options.input, options.out, options.column)
    if not any(source.chunks(1, None, lambda name: None)):
        raise EditError(f"There are no pictures in {options.input}.")
    own = {value for value in editor.seeds.values() if 0 <= value < 1 << 64}
    task = Task(
        str(options.input), str(options.out), os.getcwd(), options.block, time.time_ns(), seed=options.seed,
        own_seed=own.pop() if len(own) == 1 else None, column=source.column, retry=options.retry,
        workflow_hash=editor.workflow_hash,
    )  # fmt: skip
    return task, editor.work


def _job(task, options: argparse.Namespace):
    from .job import Job

    return Job(task.workflow_hash, str(options.input.absolute()), task.seed, task.block, task.column)


def _say(done, out: Path) -> None:
    print(done.line())
    print(done.shares())
    if done.sum.failed:
        many = "1 picture" if done.sum.failed == 1 else f"{done.sum.failed:,} pictures"
        print(f"{many} could not be edited; {out / 'ledger'} says why (column error).")
    print(out)
