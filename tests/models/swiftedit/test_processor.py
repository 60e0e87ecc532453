"""ARaM in diffusers' UNet."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention

from editkit.models.errors import EditError
from editkit.models.swiftedit import aram, processor
from editkit.models.swiftedit.aram import OFFICIAL, PRESETS, Aram
from editkit.tests.tiny_swiftedit import CONTEXT, tiny_unet

LAYERS = [  # diffusers' order: the middle last
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2",
    "up_blocks.1.attentions.0.transformer_blocks.0.attn2",
    "up_blocks.1.attentions.1.transformer_blocks.0.attn2",
    "mid_block.attentions.0.transformer_blocks.0.attn2",
]
WIDTH, SIDE = 32, 4


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def unet():
    return tiny_unet(with_branch=True)


@pytest.fixture
def layer():
    """An up block's cross-attention of random weights, for 4x4 pixels."""
    torch.manual_seed(0)
    made = processor.ImageAttention(CONTEXT, WIDTH, "up")
    return Attention(WIDTH, cross_attention_dim=CONTEXT, heads=2, dim_head=16, processor=made).requires_grad_(
        False
    )


def mask():
    return (draws(1, 2 * SIDE, 2 * SIDE) > 0).float()


def parts(layer, x, context):
    """(text attention, image attention, image values) of every row."""
    own, text, tokens = layer.processor, context[:, :-4], context[:, -4:]
    query, value = layer.to_q(x), own.to_v_ip(tokens)
    return (
        aram.attend(query, layer.to_k(text), layer.to_v(text), layer.heads),
        aram.attend(query, own.to_k_ip(tokens), value, layer.heads),
        value,
    )


def test_every_cross_attention_gets_a_copy_of_its_text_branch():
    unet = tiny_unet()
    made = processor.install(unet)
    assert list(made) == LAYERS
    for name, one in made.items():
        attention = unet.get_submodule(name)
        assert attention.processor is one
        for ours, theirs in ((one.to_k_ip, attention.to_k), (one.to_v_ip, attention.to_v)):
            assert torch.equal(ours.weight, theirs.weight) and ours.weight is not theirs.weight


def test_self_attentions_keep_their_processors():
    unet = tiny_unet()
    before = {k: v for k, v in unet.attn_processors.items() if "attn1" in k}
    processor.install(unet)
    assert {k: v for k, v in unet.attn_processors.items() if "attn1" in k} == before


def test_the_branch_has_the_numbers_of_its_unet():
    made = processor.install(tiny_unet().half())
    assert all(one.to_k_ip.weight.dtype == torch.float16 for one in made.values())


def test_groups_go_by_the_layers_path():
    assert [processor.group(name) for name in LAYERS] == ["down", "up", "up", "mid"]


def test_without_rescaling_the_image_is_added_as_it_is(layer):
    x, context = draws(2, SIDE**2, WIDTH), draws(2, 11, CONTEXT, seed=1)
    text, image, _ = parts(layer, x, context)
    torch.testing.assert_close(layer(x, context), layer.to_out[0](text + image))


def test_with_rescaling_the_rows_are_those_of_the_formulas(layer):
    x, context = draws(2, SIDE**2, WIDTH), draws(2, 11, CONTEXT, seed=1)
    text, image, value = parts(layer, x, context)
    inside = aram.fitted_mask(mask(), (SIDE, SIDE))
    target = 2.0 * text[1:] + 0.3 * inside * value[1:].mean(1) + 0.8 * (1 - inside) * image[:1]
    layer.processor.rescaling = processor.Rescaling(mask(), Aram(2.0, 0.3, 0.8))
    expected = torch.cat([text[:1] + image[:1], target])
    torch.testing.assert_close(layer(x, context), layer.to_out[0](expected))


def test_eq_9_to_the_letter_needs_nothing_of_the_source_row(layer):
    x, context = draws(2, SIDE**2, WIDTH), draws(2, 11, CONTEXT, seed=1)
    layer.processor.rescaling = processor.Rescaling(mask(), PRESETS["eq9"])
    first = layer(x, context)
    second = layer(torch.cat([draws(1, SIDE**2, WIDTH, seed=9), x[1:]]), context)
    assert torch.equal(first[1], second[1]) and not torch.equal(first[0], second[0])


def test_several_edits_in_one_batch_are_those_alone(layer):
    x, context = draws(4, SIDE**2, WIDTH), draws(4, 11, CONTEXT, seed=1)
    masks = (draws(2, 8, 8) > 0).float()
    scales = (2.0, 0.3, 0.8), (1.0, 0.6, 0.1)
    columns = (aram.scales(*column) for column in zip(*scales, strict=True))
    layer.processor.rescaling = processor.Rescaling(masks, Aram(*columns))
    together = layer(x, context)
    for row, three in enumerate(scales):
        rows = [row, row + 2]
        layer.processor.rescaling = processor.Rescaling(masks[row : row + 1], Aram(*three))
        torch.testing.assert_close(together[rows], layer(x[rows], context[rows]))


def test_three_rows_are_source_edit_and_an_auxiliary_picture(layer):
    x, context = draws(3, SIDE**2, WIDTH), draws(3, 11, CONTEXT, seed=1)
    text, image, value = parts(layer, x, context)
    inside, options = aram.fitted_mask(mask(), (SIDE, SIDE)), Aram(1.5, 0.4, 0.9)
    layer.processor.rescaling = processor.Rescaling(mask(), options)
    rows = aram.auxiliary_rows(text.split(1), (value[1:2], value[2:]), image[:1], inside, options)
    expected = torch.cat([text[:1] + image[:1], *rows])
    torch.testing.assert_close(layer(x, context), layer.to_out[0](expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_image_logits_leave_the_masked_edit_in_half_precision_as_in_fp32(layer, dtype):
    layer.processor.to_k_ip.weight *= 1000
    layer.to(dtype).float()  # the same numbers in both
    x, context = (v.to(dtype).float() for v in (draws(2, SIDE**2, WIDTH), draws(2, 11, CONTEXT, seed=1)))
    layer.processor.rescaling = processor.Rescaling(torch.ones(1, SIDE, SIDE))
    full = layer(x, context)[1]
    half = layer.to(dtype)(x.to(dtype), context.to(dtype))[1]
    torch.testing.assert_close(half.float(), full, atol=4 * torch.finfo(dtype).eps, rtol=0)


@pytest.mark.parametrize("layers, groups", [("up", ["up"] * 2), ("mid+up", ["mid", *["up"] * 2]),
                                            ("all", ["down", "mid", *["up"] * 2])])  # fmt: skip
def test_only_the_chosen_layers_are_rescaled(unet, monkeypatch, layers, groups):
    seen, real = [], processor.ImageAttention._rescaled
    spy = lambda self, *a: seen.append(self.group) or real(self, *a)  # noqa: E731
    monkeypatch.setattr(processor.ImageAttention, "_rescaled", spy)
    with processor.rescaled(unet, mask(), Aram(layers=layers)):
        unet(draws(2, 4, 8, 8), 999, draws(2, 11, CONTEXT, seed=1))
    assert seen == groups


@pytest.mark.parametrize("size", [(16, 16), (9, 13), (5, 24)])
def test_any_size_of_latent_is_rescaled(unet, size):
    sample, context = draws(2, 4, *size), draws(2, 11, CONTEXT, seed=1)
    plain = unet(sample, 999, context).sample
    with processor.rescaled(unet, torch.ones(1, *size)):
        out = unet(sample, 999, context).sample
    assert out.shape == sample.shape
    torch.testing.assert_close(out[0], plain[0])  # reconstruction is not touched
    assert not torch.allclose(out[1], plain[1], atol=1e-4)


def test_a_mask_of_another_size_than_the_latent_is_refused(unet):
    with pytest.raises(EditError, match="does not belong to a latent"), processor.rescaled(unet, mask()):
        unet(draws(2, 4, 6, 6), 999, draws(2, 11, CONTEXT, seed=1))


def test_a_global_image_scale_takes_the_masks_place_in_both_rows_and_all_layers(unet):
    sample, context = draws(2, 4, 8, 8), draws(2, 11, CONTEXT, seed=1)
    plain, outputs = unet(sample, 999, context).sample, []
    for black_or_white in (torch.zeros(1, 8, 8), torch.ones(1, 8, 8)):
        with processor.rescaled(unet, black_or_white, Aram(image_scale=0.4)):
            outputs.append(unet(sample, 999, context).sample)
    assert torch.equal(*outputs)
    assert all(not torch.allclose(outputs[0][row], plain[row], atol=1e-4) for row in (0, 1))


def test_a_global_image_scale_may_differ_from_edit_to_edit(unet):
    sample, context = draws(4, 4, 8, 8), draws(4, 11, CONTEXT, seed=1)
    with processor.rescaled(unet, mask(), Aram(image_scale=aram.scales(0.4, 0.9))):
        together = unet(sample, 999, context).sample
    for row, scale in enumerate((0.4, 0.9)):
        rows = [row, row + 2]
        with processor.rescaled(unet, mask(), Aram(image_scale=scale)):
            torch.testing.assert_close(together[rows], unet(sample[rows], 999, context[rows]).sample)


def test_rescaling_ends_with_its_block_even_by_an_exception(unet):
    states = lambda: [(p.rescaling, p.scale) for p in unet.attn_processors.values() if hasattr(p, "scale")]  # noqa: E731
    with pytest.raises(RuntimeError), processor.rescaled(unet, mask(), replace(OFFICIAL, image_scale=0.5)):
        assert all(scale == 0.5 for _, scale in states())
        raise RuntimeError
    assert states() == [(None, 1.0)] * 4


def test_an_inner_rescaling_gives_way_to_the_outer_one(unet):
    own = unet.attn_processors[f"{LAYERS[0]}.processor"]
    with processor.rescaled(unet, mask(), PRESETS["paper"]):
        with processor.rescaled(unet, mask(), PRESETS["eq9"]):
            assert own.rescaling.aram is PRESETS["eq9"]
        assert own.rescaling.aram is PRESETS["paper"]
