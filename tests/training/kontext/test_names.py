"""Weights under BFL's and diffusers' names: there and back, against diffusers' own reader, and what is refused."""

import pytest
import torch
from safetensors.torch import save_file

from editkit.models.errors import EditError
from editkit.models.kontext import names
from editkit.training.kontext import flux


def same(one, two):
    return set(one) == set(two) and all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("guided", [True, False])
def test_names_go_there_and_back(network, guided):
    state = network(guidance_embeds=guided).state_dict()
    bfl = names.to_bfl(state)
    assert names.is_bfl(bfl) and not names.is_bfl(state)
    assert any("guidance" in name for name in bfl) == guided
    assert same(names.to_diffusers(bfl), state)
    prefixed = {f"{names.PREFIX}{name}": value for name, value in bfl.items()}
    assert names.is_bfl(prefixed) and same(names.to_diffusers(prefixed), state)


def test_diffusers_own_reader_finds_the_same():
    """It reads BFL's names at a width of 3072 alone: biases and scales tell the order, matrices the shapes."""
    from diffusers.loaders.single_file_utils import (
        convert_flux_transformer_checkpoint_to_diffusers as convert,
    )

    config = {"num_layers": 1, "num_single_layers": 2, "num_attention_heads": 24, "attention_head_dim": 128,
              "joint_attention_dim": 8, "pooled_projection_dim": 8, "guidance_embeds": True}  # fmt: skip
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        state = FluxTransformer2DModel(**config).state_dict()
    drawn = {k: torch.randn(v.shape) if v.ndim == 1 else v for k, v in state.items()}
    found = convert(dict(names.to_bfl(drawn)))
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in state.items()}
    assert all(torch.equal(found[k], v) for k, v in drawn.items() if v.ndim == 1)


@pytest.mark.parametrize("kind", ["folder", "pipeline", "bfl", "diffusers"])
def test_a_model_is_read_as_any_of_its_forms(network, tmp_path, kind):
    net = network()
    state, config = net.state_dict(), flux.config_of(net)
    if kind in ("folder", "pipeline"):
        net.save_pretrained(tmp_path / "transformer")
        path = tmp_path / "transformer" if kind == "folder" else tmp_path
    else:
        path = tmp_path / "one.safetensors"
        save_file(names.to_bfl(state) if kind == "bfl" else state, path)
        net.save_config(tmp_path)
    found_config, found = flux.read(str(path))
    assert same(found, state)
    assert flux.config_of(flux.build(found_config, found)) == config


def test_a_released_file_tells_its_config():
    """Heads of 128: everything else is in the shapes."""
    from diffusers import FluxTransformer2DModel

    config = {"num_layers": 2, "num_single_layers": 3, "num_attention_heads": 2, "guidance_embeds": True}
    with torch.device("meta"):
        net = FluxTransformer2DModel(**config, out_channels=64)
    assert flux.infer(net.state_dict(), "it") == flux.config_of(net)


@pytest.mark.parametrize(
    ("said", "changed"),
    [
        ("is missing", lambda state: state.pop("single_blocks.0.linear2.weight")),
        ("belong to no FLUX", lambda state: state.update({"double_blocks.0.img_attn.qkv.scale_weight": torch.ones(1)})),
    ],
)
def test_weights_that_are_not_whole_are_refused(network, tmp_path, said, changed):
    state = names.to_bfl(network().state_dict())
    changed(state)
    save_file(state, tmp_path / "one.safetensors")
    with pytest.raises(EditError, match=said):
        flux.read(str(tmp_path / "one.safetensors"))


def test_what_is_no_model_is_refused(network, tmp_path):
    with pytest.raises(EditError, match="no weights"):
        flux.read(str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(EditError, match=r"holds no config\.json"):
        flux.read(str(tmp_path))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(EditError, match="not readable as safetensors"):
        flux.read(str(tmp_path / "bad.safetensors"))
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(EditError, match="does not hold a FLUX"):
        flux.read(str(tmp_path / "other.safetensors"))
    save_file(network().state_dict(), tmp_path / "small.safetensors")
    with pytest.raises(EditError, match="heads of 16"):
        flux.read(str(tmp_path / "small.safetensors"))
    with pytest.raises(EditError, match="do not fit"):
        flux.build(flux.config_of(network(num_layers=2)), network().state_dict())
