"""The small world with tiny networks, and the command line."""

import pytest
import torch

from editkit.tests.training.kontext import tiny as encoders
from editkit.training import cli
from editkit.training.icedit import adapters, world
from editkit.training.icedit.stages import ADAMW, Diptychs, Recipe
from editkit.training.kontext import flux

TINY = world.CONFIG | {
    "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
    "axes_dims_rope": [4, 6, 6],
}  # fmt: skip
MIXTURE = adapters.Choice(3, 4)


@pytest.fixture
def network():
    """network(choice, **changes): an untrained transformer for the small world, smaller than its own, or with a LoRA
    or mixture that has learnt something."""

    def make(choice=None, **changes):
        net = flux.build(TINY | changes, None)
        if choice is None:
            return net
        adapters.attach(net, choice, 0)
        torch.manual_seed(5)
        for p in net.parameters():
            if p.requires_grad and not p.any():
                torch.nn.init.normal_(p, std=0.2)
        return net

    return make


@pytest.fixture
def stage(network):
    """stage(choice, **recipe): a stage on the small world."""

    def make(choice=MIXTURE, **recipe):
        return Diptychs("mixture", network(choice), world.World(), Recipe(**{"optimizer": ADAMW, **recipe}), choice)

    return make


@pytest.fixture
def train(monkeypatch):
    """train("lora", …): the command line on the small world with a tiny network, four diptychs a step; more flags win.

    own=True: the small world's own network, and all that it holds out.
    """

    def run(stage, *arguments, own=False):
        quick = ["--batch", "4", "--precision", "fp32", "--threads", "1"]
        quick += ["--config", "tiny"] if stage in ("lora", "mixture") else []
        with monkeypatch.context() as patched:
            if not own:
                patched.setattr(world, "CONFIG", TINY)
                patched.setattr(world, "HELD", 8)
            words = [] if stage in ("export", "prepare") else quick
            return cli.main(["icedit", stage, *words, *map(str, arguments)])

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A FLUX.1 folder with tiny encoders, whose autoencoder has 4 pixels a side of a latent."""
    return encoders.write_encoders(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def edits(tmp_path_factory):
    """A folder with a table of ten edits."""
    return encoders.write_tables(tmp_path_factory.mktemp("tables"))[0]


@pytest.fixture(scope="session")
def prepared(published, edits, tmp_path_factory):
    """What `train icedit prepare` makes of them."""
    out = tmp_path_factory.mktemp("prepared")
    flags = ["--width", "32", "--text-tokens", "7", "--dtype", "fp32", "--edits", str(edits), "--out", str(out)]
    assert cli.main(["icedit", "prepare", "--model", str(published), *flags]) == 0
    return out
