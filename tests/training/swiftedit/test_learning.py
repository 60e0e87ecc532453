"""Both stages learn on tiny networks, from every seed: what is held out, and was never trained on, is the measure.

With EDITKIT_LOGS=FOLDER the logs are kept there; training/swiftedit/logs holds those of the full runs.
"""

import os
import shutil
from pathlib import Path

import pytest
import torch

from editkit.tests.training.swiftedit import tiny

BAR = 0.7  # of the held-out loss before training


def generator(folder, seed, family="swiftbrush_v2"):
    """A pipeline whose UNet makes latents of noise, as a one-step generator does."""
    tiny.write_pipeline(folder, seed)
    torch.manual_seed(seed)
    tiny.as_generator(tiny.unet(), family).save_pretrained(folder / "unet")
    tiny.as_autoencoder(tiny.vae()).save_pretrained(folder / "vae")
    return folder


def first_and_last(rows, name):
    values = [row[f"validation_{name}"] for row in rows if f"validation_{name}" in row]
    return values[0], values[-1]


def keep(state, name):
    if folder := os.environ.get("EDITKIT_LOGS"):
        for path in state.rglob("log.jsonl"):
            shutil.copy(path, Path(folder) / f"{name}_{path.parent.name}.jsonl")


@pytest.mark.long
def test_both_stages_learn_from_every_seed(
    train, log, captions, photos, teacher, random_dists, tmp_path, at_length
):
    """Stage 2 goes on from what stage 1 left; a run that is interrupted goes on too."""
    for seed in range(at_length(1, 3)):
        folder, state = generator(tmp_path / f"generator{seed}", seed), tmp_path / f"state{seed}"
        common = ["--generator", folder, "--state", state, "--seed", seed]
        for steps in at_length([60], [100, 200]):
            assert train("stage1", *common, "--captions", captions, "--size", 16, "--steps", steps) == 0
        for steps in at_length([40], [60, 120]):
            assert (
                train(
                    "stage2",
                    *common,
                    "--photos",
                    photos,
                    "--teacher",
                    teacher,
                    "--size",
                    32,
                    "--steps",
                    steps,
                )
                == 0
            )
        keep(state, f"tiny_seed{seed}")
        one, two = log(state, "stage1"), log(state, "stage2")
        for rows in (one, two):
            start, end = first_and_last(rows, "loss")
            assert end <= BAR * start, (seed, start, end)
        for name in ("inversion_error", "reconstruction_error"):
            start, end = first_and_last(one, name)
            assert end < start, (seed, name, start, end)
        start, end = first_and_last(two, "psnr")
        assert end > start, (seed, start, end)


@pytest.mark.long
def test_other_generators_are_inverted_too(train, log, captions, tmp_path, at_length):
    runs = at_length(
        [("instaflow", 0)], [(family, seed) for family in ("dmd2", "instaflow") for seed in range(3)]
    )
    for family, seed in runs:
        folder, state = (
            generator(tmp_path / f"{family}{seed}", seed, family),
            tmp_path / f"state_{family}{seed}",
        )
        assert train("stage1", "--generator", folder, "--captions", captions, "--state", state, "--size", 16,
                     "--family", family, "--seed", seed, "--steps", at_length(40, 200)) == 0  # fmt: skip
        keep(state, f"tiny_{family}_seed{seed}")
        for name, bar in (("loss", BAR), ("inversion_error", 1.0)):
            start, end = first_and_last(log(state, "stage1"), name)
            assert end < bar * start, (family, seed, name, start, end)
