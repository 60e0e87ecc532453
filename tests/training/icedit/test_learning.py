"""LoRA and mixture learn the small world's edits from every seed, by the released recipe, on a base that knows none.

With EDITKIT_LOGS=FOLDER the logs are kept there; training/icedit/logs holds those of the full runs.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from editkit.models.icedit import lora as files
from editkit.models.icedit import transformer
from editkit.training.icedit import measuring, running, world
from editkit.training.kontext import flux
from editkit.training.store import Store

BAR = 0.7  # of the held-out loss before training


def first_and_last(rows, name):
    values = [row[f"validation_{name}"] for row in rows if f"validation_{name}" in row]
    return values[0], values[-1]


def keep(state, name, measured):
    if folder := os.environ.get("EDITKIT_LOGS"):
        for path in state.rglob("log.jsonl"):
            shutil.copy(path, Path(folder) / f"{name}_{path.parent.name}.jsonl")
        (Path(folder) / f"{name}_sampling.json").write_text(json.dumps(measured, indent=1) + "\n")


def sampled(state, loras, steps, seeds):
    """What `measuring.compared` says of all held-out edits from so many noises: of the base, and with each file."""
    store, edits, out = Store(state, "icedit"), world.World().held(), {}
    net = flux.build(running.card_of(store)["stages"]["base"], store.read_part("base")).eval().requires_grad_(False)
    for name, lora in ({"base": files.Lora()} | loras).items():
        with transformer.attached(net, lora):
            made = [measuring.edit(net, edits, world.SCALE, steps, 1.0, seed=seed) for seed in range(seeds)]
        out[name] = measuring.compared([x for one in made for x in one], edits * seeds)
    return out


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_learn_from_every_seed(train, log, tmp_path, at_length, seed):
    """What is held out, and was never trained on, is the measure. A run that is interrupted goes on.

    In short with AdamW, because Prodigy takes 60 steps to find its rate.
    """
    if seed and at_length(True, False):
        pytest.skip("one seed is enough here; all of them: make test-long")
    if at_length(False, True):
        pytest.importorskip("prodigyopt", reason="Prodigy is prodigyopt's; see requirements-train.txt")
    loras, common = {}, ["--state", tmp_path, "--seed", seed, "--batch", at_length(8, 32)]
    more = at_length(["--optimizer", "adamw", "--lr", 0.01], [])
    base = at_length(["--warmup", 10, "--ema", 0.9], [])
    assert train("base", *common, *base, "--steps", at_length(50, 600), own=True) == 0
    for stage in ("lora", "mixture"):
        for steps in at_length([20, 40], [400, 800]):
            assert train(stage, *common, *more, "--steps", steps, "--rank", 8, own=True) == 0
        start, end = first_and_last(log(tmp_path, stage), "loss")
        assert end <= at_length(0.9, BAR) * start, (stage, start, end)
        out = tmp_path / f"{stage}.safetensors"
        assert train("export", "--state", tmp_path, "--trained", stage, "--out", out) == 0
        loras[stage] = files.parse(load_file(out))
    measured = sampled(tmp_path, loras, at_length(10, 28), at_length(1, 3))
    keep(tmp_path, f"tiny_seed{seed}", measured)
    for stage in loras:
        near, untrained = measured[stage]["error"], measured["base"]["error"]
        assert near < at_length(1.0, 0.8) * untrained, measured
