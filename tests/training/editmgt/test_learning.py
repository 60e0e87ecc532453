"""All three phases learn the small world from every seed, and λ does what the paper's Fig. 4 shows.

With EDITKIT_LOGS=FOLDER the logs are kept there; training/editmgt/logs holds those of the full runs.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from editkit.models.editmgt.options import Options
from editkit.models.editmgt.transformer import EditMGT
from editkit.training.editmgt import measuring, running, world
from editkit.training.editmgt.examples import Texts
from editkit.training.store import Store

BAR = 0.7  # of the held-out loss before training
SEEDS = 16  # of the sampling, for each λ
MICRO = (world.SIDE * world.PATCH, world.SIDE * world.PATCH, 0, 0, 6)


def first_and_last(rows, name):
    values = [row[f"validation_{name}"] for row in rows if f"validation_{name}" in row]
    return values[0], values[-1]


def keep(state, name, measured):
    if folder := os.environ.get("EDITKIT_LOGS"):
        for path in state.rglob("log.jsonl"):
            shutil.copy(path, Path(folder) / f"{name}_{path.parent.name}.jsonl")
        (Path(folder) / f"{name}_sampling.json").write_text(json.dumps(measured, indent=1) + "\n")


def trained(state):
    """The averages of the last phase."""
    store = Store(state, "editmgt")
    net = EditMGT(running.replace(world.CONFIG, connector="linear")).requires_grad_(False)
    assert store.load_part("phase3_transformer", net)
    return net


@pytest.mark.long
def test_all_phases_learn_from_every_seed(train, log, tmp_path, at_length):
    """What is held out, and was never trained on, is the measure. A run that is interrupted goes on."""
    for seed in range(at_length(1, 3)):
        state = tmp_path / f"state{seed}"
        common = ["--state", state, "--seed", seed, "--batch", 32]
        follow = ["--follow", at_length(16, 96), "--follow-steps", 8, "--follow-guidance", 2]
        for phase, stops, more in (
            ("phase1", at_length([30], [100, 200]), []), ("phase2", at_length([110], [600, 1200]), follow),
            ("phase3", at_length([5], [50, 100]), [*follow, "--lr", 5e-4]),
        ):  # fmt: skip
            for steps in stops:
                assert train(phase, *common, "--steps", steps, *more) == 0
        for phase in ("phase1", "phase2"):
            start, end = first_and_last(log(state, phase), "loss")
            assert end <= BAR * start, (seed, phase, start, end)
        before, after = first_and_last(log(state, "phase2"), "followed")
        assert after >= before + at_length(0.05, 0.3), (seed, before, after)
        assert first_and_last(log(state, "phase3"), "loss")[1] <= BAR * start
        assert first_and_last(log(state, "phase3"), "followed")[1] >= 0.8 * after
        measured = sweep_and_times(trained(state), at_length(True, False))
        keep(state, f"tiny_seed{seed}", measured)
        levels = measured["l1"]
        assert all(one >= two for one, two in zip(levels, levels[1:])), (seed, levels)
        assert levels[0] > 0.005 and levels[-1] == 0


def sweep_and_times(net, short):
    """Fig. 4's L1 to the source for each λ, and what it does to tell the sampling another time than the training."""
    encoders, held = world.World(), world.Drawn(world.edited).held(world.SIDE)
    edits, texts = held[: 4 if short else 16], Texts(encoders)
    thresholds = (0, 0.35, 1.01) if short else (0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.01)
    options = Options(steps=4 if short else 8, guidance=2.0, gamma=1.0, time="ratio")
    levels = measuring.sweep(net, texts, encoders, edits, options, thresholds, range(SEEDS), micro=MICRO)
    out = {"lambda": thresholds, "l1": levels, "seeds": SEEDS, "edits": len(edits)}
    for time in () if short else ("ratio", "step"):
        made = measuring.edit(net, texts, held, replace(options, time=time), micro=MICRO)
        out[f"told {time}"] = measuring.followed(made, held)
    return out
