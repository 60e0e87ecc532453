"""The small world as networks and as files, and the command line."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.models.editmgt.transformer import EditMGT
from editkit.training import cli
from editkit.training.editmgt import release, running, world


@pytest.fixture
def train():
    """train("phase2", …): the command line on the small world, four pictures a step; more flags win.

    On one thread: for networks this small, threads mostly wait for each other.
    """

    def run(stage, *arguments):
        quick = ["--config", "tiny", "--batch", "4", "--precision", "fp32", "--threads", "1"]
        return cli.main(["editmgt", stage, *([] if stage == "export" else quick), *map(str, arguments)])

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def network():
    """network(connector): an untrained transformer of the small world whose every path counts."""

    def make(connector="linear", seed=0):
        torch.manual_seed(seed)
        return EditMGT(running.replace(world.CONFIG, connector=release.CONNECTORS[connector])).requires_grad_(False)

    return make


@pytest.fixture(scope="session")
def edits(tmp_path_factory):
    """A folder with forty edits as pictures, and edits.csv with masks and scores."""
    folder = tmp_path_factory.mktemp("edits")
    rng, encoders, rows = np.random.default_rng(3), world.World(), []
    for i in range(40):
        example = world.edited(rng)
        row = {"instruction": example.text, "aesthetic": f"{(i * 7) % 40 / 4:.2f}"}
        for name in ("source", "target"):
            row[name] = f"{i}_{name}.png"
            save(encoders.picture(getattr(example, name)[None])[0], folder / row[name])
        row["mask"] = f"{i}_mask.png"
        mask = example.region.repeat_interleave(world.PATCH, 0).repeat_interleave(world.PATCH, 1)
        Image.fromarray(mask.numpy().astype(np.uint8) * 255).save(folder / row["mask"])
        rows.append(row)
    write(folder / "edits.csv", rows)
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """A folder with twenty pictures, each with its caption beside it."""
    folder = tmp_path_factory.mktemp("pairs")
    rng, encoders = np.random.default_rng(4), world.World()
    for i in range(20):
        example = world.described(rng)
        save(encoders.picture(example.target[None])[0], folder / f"{i:02d}.png")
        (folder / f"{i:02d}.txt").write_text(example.text)
    return folder


def save(image, path):
    Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
