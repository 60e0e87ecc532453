"""What the tests of `queue` share: a workflow, the command, and what came of it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from editkit.headless import cli, record
from editkit.tests.headless.fake_comfyui import RESULT

ROOT = Path(__file__).resolve().parents[2]
GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "image"}},
    "2": {"class_type": "Painted", "inputs": {"image": ["1", 0], "steps": 4}, "_meta": {"title": "edit"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x/better"},
          "_meta": {"title": "result"}},
}  # fmt: skip


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
