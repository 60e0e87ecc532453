"""Tiny pipelines on disk, and a DISTS whose VGG is random: nothing is fetched."""

from types import SimpleNamespace

import pytest

from editkit.tests.training.swiftedit import tiny
from editkit.training import cli

# stands for every number that the paper has for 866 million weights, and the tests for ten thousand
QUICK = ["--precision", "fp32", "--lr", "0.003", "--ema", "0.9", "--batch", "2"]


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """A generator with all that belongs to it, in one folder; the weights are random."""
    return tiny.write_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    return tiny.write_pipeline(tmp_path_factory.mktemp("teacher"), seed=1, prediction="v_prediction")


@pytest.fixture(scope="session")
def captions(tmp_path_factory):
    path = tmp_path_factory.mktemp("captions") / "captions.txt"
    path.write_text("\n".join(tiny.captions(40)))
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return tiny.write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture
def random_dists(monkeypatch):
    """torchmetrics' DISTS on a VGG of random weights, whether torchvision is installed or not."""
    dists = pytest.importorskip("torchmetrics.functional.image.dists", reason="torchmetrics is not installed")
    monkeypatch.setattr(dists, "vgg16", tiny.random_vgg16, raising=False)
    monkeypatch.setattr(dists, "VGG16_Weights", SimpleNamespace(DEFAULT=None), raising=False)
    monkeypatch.setattr(dists, "_TORCHVISION_AVAILABLE", True)
    return dists


@pytest.fixture
def train():
    """train("stage1", "--generator", …): the command line with the tiny networks' learning rate."""

    def run(stage, *arguments):
        quick = [] if stage == "export" else QUICK
        return cli.main(["swiftedit", stage, *quick, *map(str, arguments)])

    return run
