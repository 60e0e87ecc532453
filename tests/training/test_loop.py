import json

import numpy as np
import pytest
import torch
from torch import nn

from editkit.training import loop
from editkit.training.store import Store


class Line(loop.Stage):
    """Learns y = 3x."""

    name = "line"

    def __init__(self, score=None):
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.scores = iter(score or [])

    def parts(self):
        return {"net": self.net}

    def batch(self, rng, count, size):
        x = torch.from_numpy(rng.standard_normal((count, 1)).astype(np.float32))
        return x, 3 * x

    def forward(self, role, x, y):
        return {"loss": (self.net(x) - y).square().mean()}

    def validate(self):
        return {"score": next(self.scores, float(abs(self.net.weight.item() - 3)))}


def options(**changes):
    return loop.Options(
        **{"minutes": 1, "batch": 16, "lr": 0.05, "warmup": 2, "precision": "fp32", **changes}
    )


def log(store):
    return [json.loads(line) for line in (store.stage("line") / "log.jsonl").read_text().splitlines()]


def test_a_stage_learns_and_stops_at_its_step(tmp_path):
    store = Store(tmp_path, "toy")
    summary = loop.run(Line(), store, options(steps=200, ema=0.9))
    assert summary["step"] == 200 and summary["score"] < 0.1
    assert store.has("net") and not list(tmp_path.rglob("*.part"))


def test_a_run_goes_on_where_it_stopped(tmp_path):
    store = Store(tmp_path, "toy")
    loop.run(Line(), store, options(steps=40))
    first = store.load_state("line")
    assert first["step"] == 40
    loop.run(Line(), store, options(steps=60))
    second = store.load_state("line")
    assert second["step"] == 60
    moved = int(next(iter(second["optimizers"]["main"]["state"].values()))["step"])
    assert moved == 60  # the optimiser's own count went on too
    assert [row["step"] for row in log(store) if "loss" in row] == [1, 20, 40, 60]
    # an early measure to compare with, and one at the end of each run
    assert [row["step"] for row in log(store) if "validation_score" in row] == [20, 40, 60]


class Noisy(Line):
    """Draws from torch's chance too, and measures before it learns."""

    first_validation = 0

    def forward(self, role, x, y):
        return {"loss": (self.net(x + 0.1 * torch.randn_like(x)) - y).square().mean()}


def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path):
    logs, weights = [], []
    for name, stops in (("whole", [40]), ("halves", [20, 40])):
        store = Store(tmp_path, name)
        for i, steps in enumerate(stops):
            torch.manual_seed(i)  # what the second half starts with, and draws before, must not matter
            loop.run(Noisy(), store, options(steps=steps, warmup=30))
        logs.append([(row["step"], row["loss"]) for row in log(store) if "loss" in row])
        weights.append(store.read_part("net"))
    assert logs[0] == logs[1] and len(logs[0]) == 3
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_a_stage_may_be_measured_before_it_learns(tmp_path):
    store = Store(tmp_path, "toy")
    for steps in (3, 5):
        loop.run(Noisy(), store, options(steps=steps))
    assert [row["step"] for row in log(store) if "validation_score" in row] == [0, 3, 5]


def test_a_stage_may_choose_its_optimiser(tmp_path):
    class Plain(Line):
        def optimizer(self, parameters, lr, weight_decay):
            return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay)

    store = Store(tmp_path, "toy")
    loop.run(Plain(), store, options(steps=2, lr=0.01, weight_decay=0.3))
    group = store.load_state("line")["optimizers"]["main"]["param_groups"][0]
    assert group["weight_decay"] == 0.3 and "betas" not in group


def test_minutes_end_a_run(tmp_path):
    summary = loop.run(Line(), Store(tmp_path, "toy"), options(minutes=0.01))
    assert 0 < summary["step"] < 5000


def test_ctrl_c_saves(tmp_path):
    class Interrupted(Line):
        def batch(self, rng, count, size):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 8:
                raise KeyboardInterrupt
            return super().batch(rng, count, size)

    store = Store(tmp_path, "toy")
    loop.run(Interrupted(), store, options(steps=100))
    assert store.load_state("line")["step"] == 7 and store.has("net")


def test_keep_best_keeps_the_best(tmp_path):
    store = Store(tmp_path, "toy")
    loop.run(Line(score=[0.5]), store, options(steps=5, keep_best=True))
    best = Line()
    store.load_part("net", best.net)
    loop.run(Line(score=[0.9, 0.9]), store, options(steps=50, keep_best=True))
    after = Line()
    store.load_part("net", after.net)
    assert torch.equal(best.net.weight, after.net.weight)
    loop.run(Line(score=[0.1]), store, options(steps=60, keep_best=True))
    store.load_part("net", after.net)
    assert not torch.equal(best.net.weight, after.net.weight)


def test_the_rate_warms_up_holds_and_falls():
    o = options(warmup=10, decay=0.5)
    assert loop.learning_rate(0, 0.0, o) == pytest.approx(0.1)
    assert loop.learning_rate(50, 0.4, o) == 1
    assert loop.learning_rate(50, 0.75, o) == pytest.approx(0.5)
    assert loop.learning_rate(50, 1.0, o) == pytest.approx(0.05)


def test_a_step_with_infinite_gradients_is_skipped(tmp_path):
    class Bad(Line):
        def forward(self, role, x, y):
            return {"loss": self.net(x).sum() * float("inf")}

    stage = Bad()
    before = stage.net.weight.detach().clone()
    loop.run(stage, Store(tmp_path, "toy"), options(steps=3))
    assert torch.equal(stage.net.weight, before)


def test_gathered_gradients_are_those_of_one_large_batch(tmp_path):
    """Two batches of 8 before a step are one of 16: the toy draws its numbers one after the other."""
    weights = []
    for batch, accumulate in ((16, 1), (8, 2)):
        torch.manual_seed(0)
        line = Line()
        loop.run(line, Store(tmp_path / str(batch), "toy"), options(steps=5, batch=batch, accumulate=accumulate))
        weights.append(torch.cat([p.detach().flatten() for p in line.parameters()]))
    assert torch.allclose(*weights, atol=1e-6)
