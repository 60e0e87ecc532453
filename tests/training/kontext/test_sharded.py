"""All stages where every block of every transformer is spread, as the README's settings for FSDP2 have it."""

import pytest
import torch
import torch.distributed as dist

from editkit.tests.training.spreading import spread

BLOCKS = ("FluxTransformerBlock", "FluxSingleTransformerBlock")

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch has no distributed part here")


@pytest.mark.parametrize(
    ("stage", "more"),
    [
        ("flow", ["--lora", 2]), ("ladd", ["--distillation", 0.5, "--r1", 0.1, "--critic-width", 16]),
    ],
)  # fmt: skip
def test_a_spread_stage_learns_what_an_unspread_one_does(train, parts, log, tmp_path, stage, more):
    def run(name, steps):
        assert train(stage, "--state", tmp_path / name, "--steps", steps, "--accumulate", 2, "--sample", 1, *more) == 0

    run("alone", 3)
    with spread(lambda module: type(module).__name__ in BLOCKS):
        run("spread", 2)
        run("spread", 3)
    one, two = (parts(tmp_path / name) for name in ("alone", "spread"))
    assert set(one) == set(two)
    assert all(torch.allclose(one[part][k], two[part][k], atol=1e-5) for part in one for k in one[part])
    ends = [log(tmp_path / name, stage)[-1]["validation_loss"] for name in ("alone", "spread")]
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)
