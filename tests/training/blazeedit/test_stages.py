"""Every stage runs a few steps on the tiny configuration; the user's finetuning ends in a model that loads."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.models.blazeedit import checkpoint, config, pipeline
from editkit.tests.tiny import CONFIG, tiny_model
from editkit.training import cli
from editkit.training.blazeedit import codec, distill, sources, stages
from editkit.training.store import Store

ORDER = ["autoencoder", "decoder", "pretrain", "finetune", "distill", "relight", "shadow"]


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
    return cli.main(["--precision", "fp32", "--batch", "4", "--seed", "1", *map(str, arguments)])


def test_all_stages_run_in_order_and_the_export_loads(tiny, photos, tmp_path):
    for stage in ORDER:
        assert (
            train(
                stage, "--config", "tiny", "--photos", photos, "--state", tmp_path, "--steps", 2, "--size", 64
            )
            == 0
        )
    distilled = tiny_model(7)
    for part in ("condition", "denoiser"):  # as a student that passed the gates would be
        Store(tmp_path, "tiny").save_part(f"distilled_{part}", getattr(distilled, part).state_dict())
    assert (
        cli.main(["export", "--config", "tiny", "--state", str(tmp_path), "--out", str(tmp_path / "out")])
        == 0
    )
    model = checkpoint.load(tmp_path / "out")
    image = torch.rand(1, 3, 64, 64)
    assert pipeline.relight(model, image).image.shape == image.shape
    assert torch.allclose(distilled.denoiser.stem.weight, model.denoiser.stem.weight, atol=1e-3)


@pytest.mark.long
def test_the_autoencoder_learns_from_every_seed(tiny, photos, tmp_path, at_length):
    """What is learnt in a few dozen steps is more than any seed's luck."""
    for seed in range(at_length(1, 3)):
        state = tmp_path / str(seed)
        for steps in (1, 40):
            assert train("autoencoder", "--config", "tiny", "--photos", photos, "--state", state, "--steps", steps,
                         "--size", 64, "--lr", 0.003, "--seed", seed) == 0  # fmt: skip
        rows = [json.loads(line) for line in (state / "tiny/autoencoder/log.jsonl").read_text().splitlines()]
        first, *_, last = (row["validation_psnr"] for row in rows if "validation_loss" in row)
        assert last > first + 0.5, (seed, first, last)


def test_the_decoder_stage_whitens_the_latents_of_the_encoder_it_finds(tiny, photos, tmp_path):
    """An encoder's latents may have grown a hundredfold since it began; unseen, they would drown the noise."""
    plain = replace(CONFIG, **{
        part: replace(getattr(CONFIG, part), linear_path=False) for part in ("encoder", "decoder", "light_decoder")
    })  # fmt: skip
    bank, store = sources.open_sources([str(photos)], None), Store(tmp_path, "tiny")
    trained = codec.AutoencoderStage(plain, bank, store).autoencoder
    with torch.no_grad():
        for parameter in trained.encoder.out.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    store.save_part("autoencoder", trained.state_dict())
    light = codec.DecoderStage(plain, bank, store).autoencoder
    latents = light.encode(torch.from_numpy(sources.crops(bank.photos, np.random.default_rng(9), 16, 128)))
    assert float((trained.std / light.std).log().abs().max()) > 1  # they were those of the untrained encoder
    assert bool((latents.std((0, 2, 3)) > 0.5).all() and (latents.std((0, 2, 3)) < 2).all())


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


def test_a_student_that_tiles_or_loses_too_much_is_never_kept():
    stage = SimpleNamespace(held=("remove", "outpaint", "tone"))
    good = {"remove_1": 0.2, "remove_2": 0.0, "outpaint_1": 0.1, "outpaint_2": 0.1,
            "remove_2_lattice": 1.1, "outpaint_2_lattice": 1.2,
            "remove_2_gradient_ratio": 0.5, "outpaint_2_gradient_ratio": 0.3}  # fmt: skip
    gated = distill.DistillStage.gated
    assert gated(stage, good) == {"score": pytest.approx(-0.4)}
    assert (
        gated(stage, {**good, "remove_2": -0.2}) == {}
        and gated(stage, {**good, "outpaint_2_lattice": 1.4}) == {}
    )


def test_a_student_that_goes_too_far_ships_part_of_its_way(tiny, photos, tmp_path, monkeypatch):
    bank = sources.open_sources([str(photos)], None)
    stage = distill.DistillStage(CONFIG, bank, Store(tmp_path, "tiny"))
    teacher = stage.teacher[1].stem.weight.clone()
    with torch.no_grad():
        stage.model.denoiser.stem.weight += 1.0

    def measured():
        way = float((stage.model.denoiser.stem.weight - teacher).mean())
        fill = {"_1": 0.0, "_2": -0.5 * way - 0.01, "_2_lattice": 1.0, "_2_gradient_ratio": way}
        return {f"{name}{k}": v for name in distill.FILLS for k, v in fill.items()}

    monkeypatch.setattr(stage, "measured", measured)
    out = stage.validate()
    assert out["way"] == 0.5 and out["score"] == pytest.approx(-0.5)
    assert out["remove_2"] == pytest.approx(-0.51) and out["mixed_remove_2"] == pytest.approx(-0.26)
    kept = stage.to_keep()["distilled_denoiser"]["stem.weight"]
    assert torch.allclose(kept, teacher + 0.5, atol=1e-5)
    assert torch.allclose(stage.model.denoiser.stem.weight, teacher + 1.0, atol=1e-5)


def test_mixing_reaches_what_autocast_computes_with(tiny, photos, tmp_path):
    """Autocast keeps casted weights while its context lasts; a mixture measured there must not be the old one."""
    stage = distill.DistillStage(CONFIG, sources.open_sources([str(photos)], None), Store(tmp_path, "tiny"))
    with torch.no_grad():
        for parameter in stage.teacher[1].parameters():
            parameter.normal_(std=0.1)
    student = {name: {k: v.clone() for k, v in m.state_dict().items()} for name, m in stage.parts().items()}
    x = torch.randn(1, stage.model.denoiser.stem.in_channels, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        stage.mix(student, 1.0)
        own = stage.model.denoiser(x, torch.ones(1))
        stage.mix(student, 0.0)
        assert torch.equal(stage.model.denoiser(x, torch.ones(1)), stage.teacher[1](x, torch.ones(1)))
    assert not torch.equal(own, stage.teacher[1](x, torch.ones(1)))
