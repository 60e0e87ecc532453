"""All three stages learn the small world from every seed, and few steps are as good as many.

With EDITKIT_LOGS=FOLDER the logs are kept there; training/kontext/logs holds those of the full runs.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from editkit.training.kontext import flux, measuring, running, world
from editkit.training.kontext.stages import Flow, Recipe
from editkit.training.store import Store

BAR = 0.7  # of the held-out loss before training
NEAR = 1.1  # of the teacher's error in 28 steps
GUIDANCE = 1.5  # told in sampling
LADD = ["--guidance", GUIDANCE, "--critic-every", 1, "--critic-width", 64, "--critic-mu", -1, "--distillation", 2.5,
        "--adversarial", 0.3, "--ema", 0.97]  # fmt: skip


def first_and_last(rows, name):
    values = [row[f"validation_{name}"] for row in rows if f"validation_{name}" in row]
    return values[0], values[-1]


def keep(state, name, measured):
    if folder := os.environ.get("EDITKIT_LOGS"):
        for path in state.rglob("log.jsonl"):
            shutil.copy(path, Path(folder) / f"{name}_{path.parent.name}.jsonl")
        (Path(folder) / f"{name}_sampling.json").write_text(json.dumps(measured, indent=1) + "\n")


def sampled(state, part, counts, seeds):
    """For each number of steps, what `measuring.compared` says of all held-out edits from so many noises."""
    store, edits = Store(state, "kontext"), [e for e in world.World().held() if e.references]
    net = flux.build(running.card_of(store)["stages"][part], store.read_part(f"{part}_transformer"))
    stage, out = Flow("flow", net.requires_grad_(False), world.World(), Recipe()), {}
    for steps in counts:
        made = [measuring.edit(stage, net, edits, steps, GUIDANCE, seed=seed) for seed in range(seeds)]
        out[f"{part} in {steps}"] = measuring.compared([x for one in made for x in one], edits * seeds)
    return out


@pytest.mark.long
def test_all_stages_learn_from_every_seed(train, log, tmp_path, at_length):
    """What is held out, and was never trained on, is the measure. A run that is interrupted goes on."""
    for seed in range(at_length(1, 3)):
        state = tmp_path / f"state{seed}"
        common = ["--state", state, "--seed", seed, "--batch", at_length(16, 32), "--sample", at_length(8, 48)]
        for stage, stops, more in (
            ("flow", at_length([25, 50], [900, 1800]), []), ("guidance", at_length([30], [200, 400]), []),
            ("ladd", at_length([2], [100]), LADD),
        ):  # fmt: skip
            for steps in stops:
                assert train(stage, *common, "--steps", steps, *more, own=True) == 0
        for stage in ("flow", "guidance"):
            start, end = first_and_last(log(state, stage), "loss")
            assert end <= BAR * start, (seed, stage, start, end)
        untrained, learnt = first_and_last(log(state, "flow"), "error")
        assert learnt <= at_length(0.9, 0.4) * untrained, (seed, untrained, learnt)
        counts, seeds = at_length((28, 4), (28, 4, 2, 1)), at_length(1, 3)
        measured = sampled(state, "guidance", counts, seeds) | sampled(state, "ladd", counts[1:], seeds)
        keep(state, f"tiny_seed{seed}", measured)
        teacher, student = (measured[name]["error"] for name in ("guidance in 28", "ladd in 4"))
        assert student <= NEAR * teacher, (seed, measured)
