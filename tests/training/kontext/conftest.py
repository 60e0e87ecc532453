"""The small world, tiny networks, and the command line."""

import pytest
import torch

from editkit.tests.training.kontext import tiny
from editkit.training import cli
from editkit.training.kontext import flux, world
from editkit.training.kontext.stages import Flow, Recipe

TINY = world.CONFIG | {
    "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
    "axes_dims_rope": [4, 6, 6],
}  # fmt: skip


@pytest.fixture
def network():
    """network(**changes): an untrained transformer for the small world, smaller than its own."""

    def make(seed=0, **changes):
        return flux.build(TINY | changes, None, seed)

    return make


@pytest.fixture
def flow(network):
    """flow(**recipe): stage 1 on the small world."""

    def make(net=None, lora=None, **recipe):
        return Flow("flow", net or network(), world.World(), Recipe(**recipe), lora)

    return make


@pytest.fixture
def train(monkeypatch):
    """train("flow", …): the command line on the small world with a tiny network, four pictures a step; more flags win.

    own=True: the small world's own network, and all that it holds out. On one thread: for networks this small, threads
    mostly wait for each other.
    """

    def run(stage, *arguments, own=False):
        quick = ["--config", "tiny", "--batch", "4", "--precision", "fp32", "--threads", "1"]
        with monkeypatch.context() as patched:
            if not own:
                patched.setattr(world, "CONFIG", TINY)
                patched.setattr(world, "HELD", {"edit": 8, "pair": 4})
            words = [] if stage in ("export", "prepare") else quick
            return cli.main(["kontext", stage, *words, *map(str, arguments)])

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A FLUX.1 folder with tiny encoders."""
    return tiny.write_encoders(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """(folder with a table of edits, folder of captioned pictures)."""
    return tiny.write_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="session")
def prepared(published, tables, tmp_path_factory):
    """What `train kontext prepare` makes of both."""
    out = tmp_path_factory.mktemp("prepared")
    flags = ["--area", "64", "--text-tokens", "7", "--dtype", "fp32"]
    given = ["--edits", str(tables[0]), "--pairs", str(tables[1]), "--out", str(out)]
    assert cli.main(["kontext", "prepare", "--model", str(published), *given, *flags]) == 0
    return out
