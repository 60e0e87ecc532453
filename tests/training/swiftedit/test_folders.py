"""A missing or unfitting folder is named in one sentence, before a network is loaded."""

import json
import shutil

import pytest

from editkit.models.errors import EditError
from editkit.models.swiftedit.generators import generator
from editkit.training.swiftedit import folders

FAMILY = generator("swiftbrush_v2")


@pytest.fixture
def configs(pipeline, tmp_path):
    """The pipeline's folder without its weights: all is found wrong from the configs."""
    ignored = shutil.ignore_patterns("*.safetensors", "tokenizer.json")
    return shutil.copytree(pipeline, tmp_path / "pipeline", ignore=ignored)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def resolve(folder, **named):
    return folders.resolve(str(folder), FAMILY, **named)


def test_a_pipeline_and_its_unet_lead_to_the_same_folders(configs):
    whole = resolve(configs, teacher=str(configs))
    assert whole == resolve(configs / "unet", teacher=str(configs / "unet"))
    assert (whole.generator, whole.vision) == (configs / "unet", configs / "image_encoder")
    assert whole.prediction == "epsilon"


def test_each_part_may_lie_elsewhere(configs, tmp_path):
    away = tmp_path / "away"
    for name in ("vae", "text_encoder", "tokenizer", "image_encoder"):
        shutil.move(configs / name, away / name)
    found = resolve(configs, text=str(away), vae=str(away / "vae"), vision=str(away))
    assert (found.text, found.vae, found.vision) == (
        away / "text_encoder",
        away / "vae",
        away / "image_encoder",
    )


@pytest.mark.parametrize(
    ("part", "what", "flag"),
    [("text_encoder", "text encoder", "--text"), ("tokenizer", "tokenizer", "--text"), ("vae", "VAE", "--vae"),
     ("image_encoder", "CLIP image encoder", "--vision"), ("unet", "config.json", "--generator")],
)  # fmt: skip
def test_a_missing_part_is_named_with_its_flag(configs, part, what, flag):
    shutil.rmtree(configs / part)
    with pytest.raises(EditError) as caught:
        resolve(configs)
    assert what in str(caught.value) and flag in str(caught.value)


def test_without_the_image_branch_no_image_encoder_is_asked_for(configs):
    shutil.rmtree(configs / "image_encoder")
    assert resolve(configs, image_branch=False).vision is None


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        ("unet/config.json", {"cross_attention_dim": 2048}, "SDXL"),
        ("unet/config.json", {"cross_attention_dim": 768}, "SD1.5.*--family"),
        ("text_encoder/config.json", {"hidden_size": 32}, "32 wide.*16"),
        ("vae/config.json", {"latent_channels": 16}, "16 latent channels"),
    ],
)
def test_networks_that_do_not_fit_are_refused(configs, path, changes, said):
    edit(configs / path, **changes)
    with pytest.raises(EditError, match=said):
        resolve(configs)


def test_a_teacher_of_another_width_is_refused(configs, tmp_path):
    other = shutil.copytree(configs, tmp_path / "other")
    edit(other / "unet/config.json", cross_attention_dim=24)
    with pytest.raises(EditError, match="24 wide.*teacher"):
        resolve(configs, teacher=str(other))


def test_what_a_teacher_predicts_is_read_or_said(configs):
    scheduler = configs / "scheduler/scheduler_config.json"
    edit(scheduler, prediction_type="v_prediction")
    assert resolve(configs, teacher=str(configs)).prediction == "v_prediction"
    assert resolve(configs, teacher=str(configs), prediction="epsilon").prediction == "epsilon"
    edit(scheduler, prediction_type="sample")
    with pytest.raises(EditError, match="'sample'"):
        resolve(configs, teacher=str(configs))
    scheduler.unlink()
    with pytest.raises(EditError, match="--teacher-prediction"):
        resolve(configs, teacher=str(configs))


def test_a_damaged_config_is_named(configs):
    (configs / "vae/config.json").write_text("{")
    with pytest.raises(EditError, match="vae/config.json"):
        resolve(configs)
