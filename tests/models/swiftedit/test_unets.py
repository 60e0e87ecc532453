"""What a UNet is, from its weights alone."""

import pytest
import torch

from editkit.benchmarks.stable_diffusion import SD21
from editkit.models.errors import EditError
from editkit.models.swiftedit import unets
from editkit.tests.tiny_swiftedit import CONFIG, tiny_unet

SD15 = SD21 | {"cross_attention_dim": 768, "attention_head_dim": 8, "use_linear_projection": False}


def on_meta(config):
    """The state dict of a UNet that takes no memory."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(**config).state_dict()


def plain(config):
    return {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}


@pytest.mark.parametrize("config", [SD21, SD15, CONFIG], ids=["SD2.1", "SD1.5", "tiny"])
def test_the_config_is_inferred_from_the_shapes(config):
    assert unets.infer_config(on_meta(config)) == plain(config)


def test_the_inferred_config_takes_every_weight():
    state = on_meta(SD21)
    rebuilt = on_meta(unets.infer_config(state))
    assert {k: v.shape for k, v in rebuilt.items()} == {k: v.shape for k, v in state.items()}


def test_cross_attentions_come_in_diffusers_order_with_the_middle_last():
    names = unets.attn2_layers(on_meta(SD21))
    assert len(names) == 16
    assert [n.split("_")[0] for n in names] == ["down"] * 6 + ["up"] * 9 + ["mid"]
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        theirs = UNet2DConditionModel(**SD21).attn_processors
    assert [f"{n}.processor" for n in names] == [n for n in theirs if "attn2" in n]


def test_numbers_in_names_are_ordered_as_numbers():
    names = ["up_blocks.10.attn2", "up_blocks.2.attn2", "mid_block.attn2", "down_blocks.3.attn2"]
    assert unets.ordered(names) == [
        "down_blocks.3.attn2",
        "up_blocks.2.attn2",
        "up_blocks.10.attn2",
        "mid_block.attn2",
    ]


def test_sdxl_is_refused_by_its_weights():
    state = tiny_unet().state_dict() | {"add_embedding.linear_1.weight": torch.zeros(1)}
    with pytest.raises(EditError, match="SDXL's; SwiftEdit needs a UNet of the SD2.1 or SD1.5 family"):
        unets.infer_config(state)


def test_a_network_without_cross_attention_is_refused():
    with pytest.raises(EditError, match="not those of a diffusers UNet with cross-attention"):
        unets.infer_config({"conv_in.weight": torch.zeros(4, 4, 3, 3)})


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"addition_embed_type": "text_time"}, "the UNet is an SDXL UNet"),
        ({"cross_attention_dim": 2048}, "the UNet is an SDXL UNet"),
        ({"in_channels": 9}, "not a text-to-image UNet of 4 latent channels"),
        ({"class_embed_type": "timestep"}, "not a text-to-image UNet of 4 latent channels"),
    ],
)
def test_a_config_of_another_kind_is_refused(change, reason):
    unets.check(CONFIG, "the UNet")
    with pytest.raises(EditError, match=reason):
        unets.check(CONFIG | change, "the UNet")


def test_families_are_called_by_their_names():
    assert [unets.family(n) for n in (768, 1024, 2048)] == ["SD1.5", "SD2.1", "SDXL"]
    assert unets.family(640) == "a model of text width 640"
