"""The loop where weights are spread over processes: it learns the same, and saves and resumes whole states."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from editkit.tests.training.spreading import spread
from editkit.tests.training.test_loop import Noisy, log, options
from editkit.training import loop, sharding
from editkit.training.store import Store

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch has no distributed part here")


class Wide(Noisy):
    """With a part that is spread by itself, and a frozen one that is not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.frozen = nn.Linear(1, 1).requires_grad_(False)

    def validate(self):
        x = torch.linspace(-1, 1, 9)[:, None]
        return {"score": float((self.net(x) - 3 * x).square().mean()) + 0 * float(self.frozen(x).sum())}


def trained(tmp_path, name, stops):
    store = Store(tmp_path, name)
    for steps in stops:
        stage = Wide()
        loop.run(stage, store, options(steps=steps, ema=0.9))
    return stage, store


def spread_net():
    return spread(lambda module: isinstance(module, nn.Sequential))


def test_a_spread_run_is_the_one_that_is_not(tmp_path):
    _, alone = trained(tmp_path, "alone", [20])
    with spread_net():
        stage, store = trained(tmp_path, "spread", [20])
    assert all(sharding._is_spread(p) for p in stage.net.parameters())
    one, two = alone.read_part("net"), store.read_part("net")
    assert all(torch.allclose(one[k], two[k], atol=1e-6) for k in one)
    losses = [[row[k] for row in log(s) for k in ("loss", "validation_score") if k in row] for s in (alone, store)]
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_spread_run_goes_on_where_it_stopped_spread_or_not(tmp_path):
    """What is saved is whole: the state of a spread run is an ordinary one, and the other way round."""
    _, first = trained(tmp_path, "mixed", [7])
    with spread_net():
        _, whole = trained(tmp_path, "whole", [20])
        _, halves = trained(tmp_path, "halves", [7, 20])
        _, mixed = trained(tmp_path, "mixed", [15])
    _, mixed = trained(tmp_path, "mixed", [20])
    wanted = whole.read_part("net")
    for store in (halves, mixed):
        found = store.read_part("net")
        assert all(torch.allclose(wanted[k], found[k], atol=1e-6) for k in wanted)
        state = store.load_state("line")
        assert state["step"] == 20 and not any(sharding._is_spread(v) for v in state["stage"].values())
