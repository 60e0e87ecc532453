"""ICEdit's nodes without ComfyUI: the diptych and the way back work, the others say what they need."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from editkit import NODE_CLASS_MAPPINGS as NODES
from editkit.models.errors import EditError
from editkit.models.icedit import lora as files
from editkit.nodes.host import loras

DIPTYCH = {"instruction": "make it snow", "preset": "icedit", "width": 64, "source": ""}


def node(name, **inputs):
    return NODES[f"EditKit{name}"]().run(**inputs)


def test_there_and_back_without_an_edit_changes_nothing_outside_and_little_inside():
    smooth = torch.nn.functional.interpolate(torch.rand(1, 4, 4, 5), (96, 120), mode="bicubic").clamp(0, 1)
    image, mask = smooth.movedim(1, -1).contiguous(), torch.zeros(1, 96, 120)
    mask[:, 30:60, 40:80] = 1
    made, where, prompt, record, panel = node("ICEditDiptych", image=image, mask=mask, **DIPTYCH)
    assert made.shape == (1, 48, 128, 3) and where.shape == (1, 48, 128) and panel.shape == (1, 48, 64, 3)
    assert prompt.endswith("but make it snow")
    back, changed = node("ICEditUncrop", diptych=made, record=record, feather=4)
    assert back.shape == image.shape and torch.equal(back[..., 3], image[..., 3])
    outside = (mask == 0)[..., None].expand_as(image)
    assert torch.equal(back[outside], image[outside]) and float((back - image).abs().max()) < 0.05
    assert torch.equal(changed > 0, mask > 0)


def test_loadimages_black_mask_of_64_px_stands_for_none():
    _, where, *_ = node("ICEditDiptych", image=torch.rand(1, 96, 96, 3), mask=torch.zeros(1, 64, 64), **DIPTYCH)
    assert bool((where[..., 64:] == 1).all())


def test_inputs_are_not_changed():
    image, mask = torch.rand(1, 60, 80, 3), torch.ones(1, 60, 80)
    copies = image.clone(), mask.clone()
    made, *_, record, _ = node("ICEditDiptych", image=image, mask=mask, **DIPTYCH)
    node("ICEditUncrop", diptych=made, record=record, feather=0)
    assert torch.equal(image, copies[0]) and torch.equal(mask, copies[1])


def test_the_schedule_needs_no_model():
    latent = {"samples": torch.zeros(1, 16, 64, 128)}
    sigmas, mu, model = node("ICEditSchedule", latent=latent, steps=28, base_shift=0.5, max_shift=1.15)
    assert len(sigmas) == 29 and mu == pytest.approx(0.80333, abs=1e-5) and model is None
    assert sigmas[0] == 1 and sigmas[-1] == 0 and bool((sigmas.diff() < 0).all())


def test_the_schedule_is_diffusers_own():
    import diffusers
    import numpy as np

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 28, 28), mu=0.5 + (2048 - 256) * 0.65 / 3840)
    latent = {"samples": torch.zeros(2, 16, 64, 128)}
    ours = node("ICEditSchedule", latent=latent, steps=28, base_shift=0.5, max_shift=1.15)[0]
    assert torch.allclose(ours, scheduler.sigmas, atol=1e-6)


NEEDS = {
    "ICEditConditioning": {"clip": None, "vae": None, "diptych": None, "mask": None, "prompt": "", "guidance": 50.0,
                           "lock_left_panel": False, "t5_length": 512, "negative": ""},
    "ICEditInvert": {"model": None, "conditioning": None, "latent": {"samples": None}, "sigmas": None,
                     "solver": "euler", "store": "cpu", "injected": 1.0},
}  # fmt: skip


class NoModel:
    def get_model_object(self, name):
        return torch.nn.Linear(1, 1)


@pytest.mark.parametrize("name", NEEDS)
def test_the_others_say_that_they_need_comfyui(name):
    with pytest.raises(EditError, match="run this workflow in ComfyUI"):
        node(name, **NEEDS[name])


def test_without_comfyui_there_are_no_loras_and_it_is_said_where_they_go():
    with pytest.raises(EditError, match="models/loras"):
        node("ICEditLoRA", model=NoModel(), lora="x.safetensors", strength=1.0, experts="routed", tie_experts=True,
             expert_strength=1.0, experts_per_token=1)  # fmt: skip
    assert "models/loras" in NODES["EditKitICEditLoRA"].VALIDATE_INPUTS("x.safetensors")
    assert NODES["EditKitICEditLoRA"].VALIDATE_INPUTS(None) is True


@pytest.fixture
def moe(root, tmp_path, monkeypatch):
    """The fixtures' mixture as a file in a folder for LoRAs."""
    source = root / "tests/fixtures/moelora/tiny_lora/pytorch_lora_weights.safetensors"
    path = tmp_path / "moe.safetensors"
    path.write_bytes(source.read_bytes())
    monkeypatch.setattr(loras.folders, "lora", lambda name: tmp_path / name)
    return path


def test_the_mean_is_written_whole_and_reads_back_as_a_plain_lora(moe):
    made = node("SaveICEditMeanLoRA", lora=moe.name)
    path = moe.with_name("moe_mean.safetensors")
    assert made["result"] == (str(path),) and made["ui"]["text"] == [str(path)]
    found, before = files.parse(load_file(path)), files.parse(load_file(moe))
    assert not found.experts and found.plain.keys() == before.plain.keys() | before.experts.keys()
    assert sorted(p.name for p in moe.parent.iterdir()) == ["moe.safetensors", "moe_mean.safetensors"]


def test_a_failed_write_leaves_nothing_behind(moe, monkeypatch):
    import safetensors.torch

    def full(state, path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(EditError, match="could not be written: No space left"):
        node("SaveICEditMeanLoRA", lora=moe.name)
    assert [p.name for p in moe.parent.iterdir()] == ["moe.safetensors"]


def test_a_plain_lora_has_no_mean(moe):
    state = {k: v for k, v in load_file(moe).items() if ".expert_" not in k and "lora_route" not in k}
    save_file(state, moe)
    with pytest.raises(EditError, match="is a plain LoRA already"):
        node("SaveICEditMeanLoRA", lora=moe.name)
