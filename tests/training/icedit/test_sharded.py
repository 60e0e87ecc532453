"""The mixture where every block of the transformer is spread, as the README's settings for FSDP2 have it."""

import pytest
import torch
import torch.distributed as dist

from editkit.tests.training.spreading import spread

BLOCKS = ("FluxTransformerBlock", "FluxSingleTransformerBlock")

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch has no distributed part here")


def test_a_spread_mixture_learns_what_an_unspread_one_does(train, parts, log, tmp_path):
    flags = ["--rank", 2, "--optimizer", "adamw", "--lr", 0.01, "--accumulate", 2, "--sample", 1, "--sample-steps", 2,
             "--balance", 0.01, "--softmax-first"]  # fmt: skip

    def run(name, steps):
        assert train("mixture", "--state", tmp_path / name, "--steps", steps, *flags) == 0

    for name in ("alone", "spread"):
        assert train("base", "--state", tmp_path / name, "--steps", 1) == 0
    run("alone", 3)
    with spread(lambda module: type(module).__name__ in BLOCKS):
        run("spread", 2)
        run("spread", 3)
    one, two = (parts(tmp_path / name)["mixture"] for name in ("alone", "spread"))
    assert set(one) == set(two) and any("router" in name for name in one)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    ends = [log(tmp_path / name, "mixture")[-1]["validation_loss"] for name in ("alone", "spread")]
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)


def test_prodigy_is_refused_where_weights_are_spread(train, tmp_path, capsys):
    """What it keeps of each weight is flattened and so in no weight's shape: a resumed run would fail."""
    pytest.importorskip("prodigyopt", reason="Prodigy is prodigyopt's; see requirements-train.txt")
    assert train("base", "--state", tmp_path, "--steps", 1) == 0
    with spread(lambda module: type(module).__name__ in BLOCKS):
        assert train("lora", "--state", tmp_path, "--steps", 1, "--rank", 2) == 1
    assert "--optimizer adamw" in capsys.readouterr().out
