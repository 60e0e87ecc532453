"""Every stage runs a few steps on the tiny configuration; the user's finetuning ends in a model that loads."""

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.models.blazeedit import checkpoint, config, pipeline
from editkit.tests.tiny import CONFIG, tiny_model
from editkit.training import cli
from editkit.training.blazeedit import sources, stages
from editkit.training.blazeedit.store import Store

ORDER = ["autoencoder", "decoder", "pretrain", "finetune", "distill", "gain", "tone"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(10):
        small = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(small).resize((400, 300), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(config.CONFIGS, "tiny", CONFIG)
    monkeypatch.setattr(sources, "SCENES", 2)


def train(*arguments):
    return cli.main([*map(str, arguments), "--precision", "fp32", "--batch", "4", "--seed", "1"])


def test_all_stages_run_in_order_and_the_export_loads(tiny, photos, tmp_path):
    for stage in ORDER:
        assert (
            train(
                stage, "--config", "tiny", "--photos", photos, "--state", tmp_path, "--steps", 2, "--size", 64
            )
            == 0
        )
    assert (
        cli.main(["export", "--config", "tiny", "--state", str(tmp_path), "--out", str(tmp_path / "out")])
        == 0
    )
    model = checkpoint.load(tmp_path / "out")
    image = torch.rand(1, 3, 64, 64)
    assert pipeline.relight(model, image).image.shape == image.shape
    distilled = Store(tmp_path, "tiny")
    net = tiny_model().denoiser
    distilled.load_part("distilled_denoiser", net)
    assert torch.allclose(net.stem.weight, model.denoiser.stem.weight, atol=1e-3)


def test_export_names_the_stage_that_is_missing(tiny, tmp_path, capsys):
    assert cli.main(["export", "--config", "tiny", "--state", str(tmp_path)]) == 1
    assert "train the stage" in capsys.readouterr().out


def test_finetuning_on_own_triplets_registers_a_sixth_task(tmp_path, capsys):
    checkpoint.save(tiny_model(), tmp_path / "base")
    rng = np.random.default_rng(0)
    for kind in "xy":
        (tmp_path / "triplets/sepia" / kind).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 255, (140, 140, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "triplets/sepia" / kind / f"{i}.png")
    common = [
        "finetune",
        "--triplets",
        tmp_path / "triplets",
        "--base",
        tmp_path / "base",
        "--state",
        tmp_path / "state",
    ]
    assert (
        train(*common, "--register", "sepia=0.3", "--out", tmp_path / "mine", "--steps", 2, "--size", 64) == 0
    )
    model = checkpoint.load(tmp_path / "mine")
    assert model.config.extra_tasks == {"sepia": 0.3}
    image = torch.rand(1, 3, 40, 56)
    conditioning = pipeline.encode(model, image, None, "sepia")
    edit = pipeline.deliver(model, conditioning, pipeline.decode(model, pipeline.sample(model, conditioning)))
    assert edit.image.shape == image.shape
    assert train(*common, "--register", "sepia=0.6", "--out", tmp_path / "other", "--steps", 1) == 1
    assert "relight" in capsys.readouterr().out


def test_a_size_that_does_not_divide_is_refused(capsys):
    assert cli.main(["pretrain", "--size", "100"]) == 1
    assert "multiple of 32" in capsys.readouterr().out


def test_every_stage_has_its_defaults():
    assert set(stages.DEFAULTS) == set(ORDER)
