"""Every mobile form computes what its original computes, in double precision, where a slip cannot hide in rounding."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from editkit.models.blazeedit.codec import Decoder, Encoder
from editkit.models.blazeedit.config import CodecConfig, UViTConfig
from editkit.models.blazeedit.denoiser import UViT
from editkit.models.blazeedit.layers import AttentionBlock, Upsample
from editkit.models.mobile import forms, graphs
from editkit.models.mobile.samples import schedule_rows

PATCHED = CodecConfig((8, 12), 2, patch=4, norm=False, linear_path=True)
PLAIN = CodecConfig((8, 12, 20, 20), 1)  # as the paper's model: normed, no patches, no linear path
UVIT = UViTConfig((8, 12, 16), (1, 2, 1), head_channels=8)


def random(module: nn.Module) -> nn.Module:
    """Every weight random, those that start at zero or one too."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().requires_grad_(False).eval()


def picture(*shape) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_same(module, form, *inputs):
    wanted = module(*inputs)
    assert wanted.std() > 0.01, "an original that makes nothing proves nothing"
    torch.testing.assert_close(form(*inputs), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cfg", [PATCHED, PLAIN, replace(PATCHED, linear_path=False)])
def test_an_encoder_in_mobile_form_is_the_encoder(cfg):
    module = random(Encoder(3, 6, cfg))
    assert_same(module, forms.mobile(module), picture(1, 3, 64, 32))


@pytest.mark.parametrize("cfg", [PATCHED, PLAIN, replace(PATCHED, linear_path=False)])
def test_a_decoder_in_mobile_form_is_the_decoder(cfg):
    module = random(Decoder(6, cfg))
    assert_same(module, forms.mobile(module), picture(1, 6, 8, 4))


@pytest.mark.parametrize("patch", [1, 2])
def test_a_u_vit_without_time_is_the_u_vit(patch):
    module = random(UViT(7, 3, replace(UVIT, patch=patch)))
    assert_same(module, forms.mobile(module), picture(1, 7, 16, 8))


@pytest.mark.parametrize("t", [1.0, 0.5, 0.0])
def test_a_u_vit_with_time_is_the_u_vit_at_every_time(t):
    module = random(UViT(7, 3, replace(UVIT, time_channels=16)))
    assert_same(module, forms.mobile(module), picture(1, 7, 8, 16), torch.tensor([t]))


@pytest.mark.parametrize(("groups", "channels"), [(1, 7), (3, 9), (5, 35), (7, 7), (4, 64)])
def test_a_group_norm_of_any_group_size_far_from_zero(groups, channels):
    module = random(nn.GroupNorm(groups, channels))
    level = 10 * torch.arange(channels, dtype=torch.float64)[None, :, None, None]
    x = picture(1, channels, 6, 5) * (1 + level) + level  # every channel at a level and spread of its own
    assert_same(module, forms.GroupNorm(module), x)


@pytest.mark.parametrize("time_channels", [0, 16])
def test_attention_with_separate_projections_is_the_attention(time_channels):
    module = random(AttentionBlock(24, head_channels=8, mlp_ratio=2, time_channels=time_channels))
    time = picture(1, time_channels) if time_channels else None
    form = forms.Attention(module)
    assert_same(module, form, picture(1, 24, 6, 4), time)
    assert {"q", "k", "v"} <= set(form._modules) and "qkv" not in form._modules


def test_an_upsampling_by_one_transpose_is_the_pixel_shuffle():
    module = random(Upsample(6, 5))
    assert_same(module, forms.ToSpace(module.conv, 2), picture(1, 6, 4, 6))


def test_making_the_form_leaves_the_original_alone():
    module = random(UViT(7, 3, replace(UVIT, time_channels=16, patch=2)))
    before, kinds = {k: v.clone() for k, v in module.state_dict().items()}, [type(m) for m in module.modules()]
    form = forms.mobile(module).requires_grad_(False)
    for parameter in form.parameters():
        parameter.zero_()
    assert [type(m) for m in module.modules()] == kinds
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_no_layer_is_left_in_a_form_that_delegates_refuse():
    module = random(UViT(7, 3, replace(UVIT, time_channels=16)))
    kinds = {type(m) for m in forms.mobile(module).modules()}
    assert not kinds & {nn.GroupNorm, AttentionBlock, Upsample}


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def test_the_encoders_file_computes_the_condition_and_the_guess_of_the_model(tiny):
    image, guess, mask = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64), torch.zeros(1, 64, 64)
    mask[:, 10:30, 20:50] = 1
    wanted, latent = tiny.conditions(image, mask, 0.4, guess)
    made = graphs.Encode(tiny)(nhwc(image), mask[..., None], torch.full((1, 1), 0.4), nhwc(guess))
    torch.testing.assert_close(made["features"], nhwc(wanted), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made["guess_latent"], nhwc(latent), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
def test_the_denoisers_file_adds_the_noise_itself(tiny, prediction):
    model = copy.deepcopy(tiny)
    model.config = replace(model.config, prediction=prediction, schedule="scaled_linear")
    c, f = model.config.latent_channels, model.config.condition_channels
    latent, noise, guess = (torch.randn(1, c, 8, 8) for _ in range(3))
    features = torch.randn(1, f, 8, 8)
    t, alpha, sigma = schedule_rows("scaled_linear", 2)[1]
    wanted = model.denoise(alpha * latent + sigma * noise, torch.tensor([t]), features, guess)
    made = graphs.Denoise(model)(
        nhwc(latent), nhwc(noise), torch.tensor([[t, alpha, sigma]]), nhwc(features), nhwc(guess)
    )["latent"]
    torch.testing.assert_close(made, nhwc(wanted), rtol=1e-5, atol=2e-5)


def test_the_decoders_and_the_heads_files_compute_what_the_model_computes(tiny):
    latent = torch.randn(1, tiny.config.latent_channels, 8, 8)
    made = graphs.Decode(tiny)(nhwc(latent))["image"]
    torch.testing.assert_close(made, nhwc(tiny.autoencoder.decode(latent)), rtol=1e-5, atol=1e-5)
    image, mask = torch.rand(1, 3, 32, 32), (torch.rand(1, 32, 32) > 0.5).float()
    made = graphs.Gain(tiny.shadow_head)(nhwc(image), mask[..., None], torch.full((1, 1), 0.3))["log_gain"]
    torch.testing.assert_close(made, nhwc(tiny.shadow_head(image, mask * 0.3)), rtol=1e-5, atol=1e-5)
