"""LoRA files of the official trainer."""

import json

import pytest
import torch
from safetensors.torch import save_file

from editkit.models.editmgt import lora
from editkit.models.editmgt.transformer import EditMGT
from editkit.models.errors import EditError
from editkit.tests.tiny_editmgt_release import TRANSFORMER, randomised

MODULES = ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.attn.to_v")
WIDTH = TRANSFORMER.width


def halves(rank=4, width=WIDTH):
    draw = torch.Generator().manual_seed(0)
    return {
        m: (torch.randn(rank, width, generator=draw), torch.randn(width, rank, generator=draw))
        for m in MODULES
    }


def official(prefix="unet._orig_mod.", middle=""):
    state = {}
    for name, (down, up) in halves().items():
        state[f"{prefix}{name}.lora_A{middle}.weight"], state[f"{prefix}{name}.lora_B{middle}.weight"] = (
            down,
            up,
        )
    return state


@pytest.fixture(scope="module")
def state():
    return randomised(EditMGT(TRANSFORMER), 0)


@pytest.mark.parametrize(
    "prefix", ["unet._orig_mod.", "unet.", "transformer.", "base_model.model.", "unet.module.", ""]
)
@pytest.mark.parametrize("middle", ["", ".default"])
def test_names_of_trainers(prefix, middle):
    found = lora.parse(official(prefix, middle), {"r": 4, "lora_alpha": 8})
    assert set(found) == set(MODULES)
    for name, (down, up) in halves().items():
        assert torch.equal(found[name].A, down) and torch.equal(found[name].B, up) and found[name].scale == 2


@pytest.mark.parametrize(("settings", "scale"), [
    ({}, 1.0), ({"alpha": 2}, 0.5), ({"lora_alpha": 16, "r": 4}, 4.0), ({"lora_alpha": 8, "use_rslora": True}, 4.0),
])  # fmt: skip
def test_the_scale(settings, scale):
    assert {one.scale for one in lora.parse(official(), settings).values()} == {scale}


def test_another_loras_config_beside_the_file_is_said():
    with pytest.raises(EditError, match="rank 4, and the lora_config.json beside the file is of one of rank 16"):
        lora.parse(official(), {"r": 16, "lora_alpha": 16})
    assert lora.parse(official(), {"r": 16, "rank_pattern": {"to_q": 4}})


@pytest.mark.parametrize(("config", "part"), [
    (None, "all"), ({"r": 4}, "all"), ({"lora_part_enable": False}, "all"), ({"lora_part_enable": True}, "reference"),
])  # fmt: skip
def test_the_part_that_was_trained(tmp_path, config, part):
    save_file(official(), tmp_path / "one.safetensors")
    if config is not None:
        (tmp_path / "lora_config.json").write_text(json.dumps(config))
    assert lora.part(tmp_path) == lora.part(tmp_path / "one.safetensors") == part


def test_an_alpha_in_the_file_comes_first():
    state = official() | {f"unet.{MODULES[0]}.alpha": torch.tensor(1.0)}
    found = lora.parse(state, {"alpha": 8})
    assert [found[name].scale for name in MODULES] == [0.25, 2.0]


def test_kohyas_names_of_the_halves():
    state = {"unet.a.lora_down.weight": torch.ones(1, 3), "unet.a.lora_up.weight": torch.ones(2, 1)}
    assert lora.delta(lora.parse(state)["a"]).shape == (2, 3)


def test_merging_adds_what_the_lora_says(state):
    loras = lora.parse(official(), {"r": 4, "alpha": 2})
    made = lora.merged(state, loras, 0.5)
    for name, (down, up) in halves().items():
        expected = state[f"{name}.weight"] + 0.5 * 0.5 * up @ down
        assert torch.allclose(made[f"{name}.weight"], expected, atol=1e-6)
    changed = {k for k in state if not torch.equal(made[k], state[k])}
    assert changed == {f"{name}.weight" for name in MODULES}
    assert torch.equal(lora.merged(state, loras, 0)[f"{MODULES[0]}.weight"], state[f"{MODULES[0]}.weight"])


def test_merging_keeps_the_precision(state):
    half = {k: v.bfloat16() for k, v in state.items()}
    assert {v.dtype for v in lora.merged(half, lora.parse(official())).values()} == {torch.bfloat16}


def test_files_and_folders(tmp_path):
    save_file(official(), tmp_path / "pytorch_lora_weights.safetensors")
    (tmp_path / "lora_config.json").write_text(
        json.dumps({"r": 4, "lora_alpha": 8, "target_modules": ["to_q"]})
    )
    (tmp_path / "._pytorch_lora_weights.safetensors").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "pytorch_lora_weights.safetensors"):
        assert {one.scale for one in lora.read(path).values()} == {2.0}


@pytest.mark.parametrize(("state", "words"), [
    ({"a.weight": torch.ones(2)}, "is no weight of a LoRA"),
    ({}, "holds no LoRA"),
    ({"unet.a.lora_A.weight": torch.ones(1, 2)}, "only one half"),
    ({"a.lora_A.weight": torch.ones(1, 2), "a.lora_B.weight": torch.ones(3, 2)}, "do not belong together"),
])  # fmt: skip
def test_what_is_no_lora_is_refused_with_its_file(tmp_path, state, words):
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(EditError, match=words) as error:
        lora.read(tmp_path / "wrong.safetensors")
    assert "wrong.safetensors" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_and_a_broken_file(tmp_path):
    with pytest.raises(EditError, match="is missing"):
        lora.read(tmp_path / "gone.safetensors")
    with pytest.raises(EditError, match="holds 0 .safetensors files"):
        lora.read(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    with pytest.raises(EditError, match="truncated"):
        lora.read(tmp_path / "bad.safetensors")


def test_another_models_lora_is_refused(state):
    with pytest.raises(EditError, match="'elsewhere', which this transformer does not have"):
        lora.merged(state, {"elsewhere": lora.Lora(torch.ones(1, 2), torch.ones(2, 1))})
    with pytest.raises(EditError, match="5x7 weights"):
        lora.merged(state, {MODULES[0]: lora.Lora(torch.ones(1, 7), torch.ones(5, 1))})
